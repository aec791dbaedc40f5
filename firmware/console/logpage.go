package console

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// What the pages of the log show, and how much of the log they read for it.
const (
	logRowsMax     = 40
	logScanBlocks  = 400 // read for one page: they may have few rows that match
	logChunk       = 50  // read at a time, as the log is read upwards and shown downwards
	logSaysMax     = 4   // messages named in a row
	blockRowsMax   = 100
	certWithin     = 256 // how many blocks up the certificate of one can be
	messageClip    = 120
	actionLog      = "log.read"
	pageOfLog      = "/log"
	messageKeyClip = 200
)

// logPage is what the page of the log shows.
type logPage struct {
	Kind, Author, Key, To string
	Kinds                 []string
	Members               []site.MemberView
	Rows                  []logRow
	Oldest, Newest        uint64
	From, Upto            uint64 // what was looked through
	Older, Now            string // paths
	Filtered              bool
}

type logRow struct {
	Height   uint64
	Leader   string
	Authors  string
	Messages int
	Matching int
	Says     []string
}

var errStop = errors.New("enough")

func (c *Console) logData(l *look) (any, error) {
	v := l.View
	d := &logPage{Kind: l.value("kind"), Author: l.value("author"), Key: l.value("key"), To: l.value("to"), Members: v.Members, Oldest: max(v.LogFrom, 1), Newest: v.Height}
	d.Kinds = kindNames[:]
	key, err := readBytes(d.Key)
	if err != nil {
		return nil, err
	}
	d.Filtered = d.Kind != "" || d.Author != "" || d.Key != ""
	to := v.Height
	if d.To != "" {
		if to, err = strconv.ParseUint(d.To, 10, 64); err != nil {
			return nil, fmt.Errorf("%w: a height is a number", ErrBad)
		}
		to = min(to, v.Height)
		d.Now = d.path("")
	}
	d.Upto = to
	match := matcher{kind: d.Kind, author: d.Author, key: string(key)}
	scanned := 0
	for to >= d.Oldest && to > 0 && len(d.Rows) < logRowsMax && scanned < logScanBlocks {
		from := max(to-min(to, logChunk-1), d.Oldest)
		var chunk []logRow
		err := c.cfg.Site.Log(from, to, func(b *site.LogBlock) error {
			if row, ok := match.row(v, b); ok || !d.Filtered {
				chunk = append(chunk, row)
			}
			return l.ctx.Err()
		})
		if err != nil {
			return nil, err
		}
		for i := len(chunk) - 1; i >= 0 && len(d.Rows) < logRowsMax; i-- {
			d.Rows = append(d.Rows, chunk[i])
		}
		scanned += int(to - from + 1)
		to = from - 1
	}
	d.From = to + 1
	if n := len(d.Rows); n == logRowsMax {
		d.From = d.Rows[n-1].Height
	}
	if d.From > d.Oldest {
		d.Older = d.path(strconv.FormatUint(d.From-1, 10))
	}
	return d, nil
}

// path is this page of the log from a height down.
func (d *logPage) path(to string) string {
	q := url.Values{}
	for name, value := range map[string]string{"kind": d.Kind, "author": d.Author, "key": d.Key, "to": to} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return pageOfLog
	}
	return pageOfLog + "?" + q.Encode()
}

// matcher chooses messages; empty fields match all.
type matcher struct{ kind, author, key string }

// row is a block in short, and whether any of its messages matches.
func (m *matcher) row(v *site.View, b *site.LogBlock) (logRow, bool) {
	row := logRow{Height: b.Block.Height, Leader: first(b.LeaderName(), nameOf(v, b.Leader))}
	var authors []string
	each(b, func(batch int, who coord.BoxID, msg *api.Message) bool {
		row.Messages++
		if m.author != "" && who.String() != m.author || m.kind != "" && msg.Kind != m.kind || m.key != "" && !m.about(msg) {
			return true
		}
		row.Matching++
		if len(row.Says) < logSaysMax {
			row.Says = append(row.Says, say(msg))
		}
		return true
	})
	for _, batch := range b.Batches {
		if name := nameOf(v, batch.Author); len(authors) == 0 || authors[len(authors)-1] != name {
			authors = append(authors, name)
		}
	}
	row.Authors = clip(strings.Join(authors, ", "), messageClip)
	return row, row.Matching > 0
}

// about says whether a message names a key with the prefix.
func (m *matcher) about(msg *api.Message) bool {
	key := []byte(msg.Key)
	if msg.Kind == "kv" {
		_, key = sayOp(msg)
	}
	return strings.HasPrefix(string(key), m.key)
}

// say is a message in a few words.
func say(m *api.Message) string {
	what, key := m.Kind, m.Key
	switch {
	case m.Object != nil && m.Count != nil && *m.Count == 1:
		return fmt.Sprintf("%s object %d", m.Kind, *m.Object)
	case m.Object != nil && m.Count != nil:
		return fmt.Sprintf("%s object %d, %d times", m.Kind, *m.Object, *m.Count)
	case m.Kind == "kv":
		what, key = sayOp(m)
	}
	if len(key) == 0 {
		return what
	}
	return what + " " + clip(bytesText(key[:min(len(key), messageKeyClip)]), messageClip)
}

// sayOp says what an operation of the etcd API does, and on which key.
func sayOp(m *api.Message) (what string, key []byte) {
	o, err := kv.Decode(m.Key, m.Value)
	switch {
	case err != nil:
		return "malformed operation", nil
	case o.Put != nil:
		return "put", o.Put.Key
	case o.Delete != nil && len(o.Delete.End) > 0:
		return "delete from", o.Delete.Key
	case o.Delete != nil:
		return "delete", o.Delete.Key
	case o.Txn != nil:
		for _, then := range o.Txn.Then { // what it is about, most often
			switch {
			case then.Put != nil:
				return "transaction: put", then.Put.Key
			case then.Delete != nil:
				return "transaction: delete", then.Delete.Key
			}
		}
		return "transaction", nil
	}
	return "read", nil
}

// each calls fn for the messages of a block until it gives false. A batch that cannot be read has none.
func each(b *site.LogBlock, fn func(batch int, author coord.BoxID, m *api.Message) bool) {
	w := newLogWriter(nil)
	for i, batch := range b.Batches {
		if w.decoder.DecodeBody(batch.Body, &w.cols) != nil {
			continue
		}
		for k := range w.cols.Len() {
			m := message(&w.cols, k, i)
			if !fn(i, batch.Author, &m) {
				return
			}
		}
	}
}

// blockPage is what the page of one block shows.
type blockPage struct {
	Height, Epoch, Round   uint64
	Digest, Parent         string
	Leader                 string
	Older, Newer           string
	Batches                []batchRow
	Messages               []messageRow
	Count, First, Last     int
	Next                   string
	Signers                []signer
	CertKind, CertDigest   string
	CertHeight, CertRound  uint64
	Needed, Signed         int
	NoCertificate, Unknown bool
}

type batchRow struct {
	Author, Digest, Error string
	Seq                   uint64
	Count                 uint32
}

type messageRow struct {
	Number                    int
	Kind, Author, Key, Value  string
	Path, Session, Time, Note string
	Seq                       uint64
}

type signer struct {
	Name   string
	Signed bool
	Text   string // the signature
}

func (c *Console) blockData(l *look) (any, error) {
	v := l.View
	h, err := strconv.ParseUint(l.value("height"), 10, 64)
	if err != nil || h == 0 || h > v.Height {
		return nil, fmt.Errorf("%w: this box has blocks up to height %d", errNotFound, v.Height)
	}
	if oldest := max(v.LogFrom, 1); h < oldest {
		return nil, fmt.Errorf("%w: blocks below height %d are no longer in this box's log", errNotFound, oldest)
	}
	skip, _ := strconv.Atoi(l.value("skip")) // what is no number skips nothing
	d := &blockPage{Height: h, First: max(skip, 0)}
	var cert *coord.Cert
	err = c.cfg.Site.Log(h, min(h+certWithin, v.Height), func(b *site.LogBlock) error {
		if b.Block.Height == h {
			d.fill(v, b)
		}
		if cert = b.Cert; cert != nil {
			d.CertHeight = b.Block.Height
			return errStop
		}
		return l.ctx.Err()
	})
	if err != nil && !errors.Is(err, errStop) {
		return nil, err
	}
	if d.Digest == "" {
		return nil, fmt.Errorf("%w: this box's log has no block of height %d", errNotFound, h)
	}
	if h > max(v.LogFrom, 1) {
		d.Older = pageOfLog + "/" + strconv.FormatUint(h-1, 10)
	}
	if h < v.Height {
		d.Newer = pageOfLog + "/" + strconv.FormatUint(h+1, 10)
	}
	return d, d.certificate(c, v, cert)
}

func (d *blockPage) fill(v *site.View, b *site.LogBlock) {
	d.Epoch, d.Round, d.Digest, d.Parent, d.Leader = b.Block.Epoch, b.Block.Round, b.Digest.String(), b.Block.Parent.String(), first(b.LeaderName(), nameOf(v, b.Leader))
	w := newLogWriter(nil)
	for i, batch := range b.Batches {
		row := batchRow{Author: nameOf(v, batch.Author), Seq: batch.Seq, Count: batch.Count}
		if i < len(b.Block.Refs) {
			row.Digest = b.Block.Refs[i].Digest.Short()
		}
		if err := w.decoder.DecodeBody(batch.Body, &w.cols); err != nil {
			row.Error = err.Error()
		}
		d.Batches = append(d.Batches, row)
	}
	each(b, func(_ int, author coord.BoxID, m *api.Message) bool {
		if d.Count++; d.Count > d.First && len(d.Messages) < blockRowsMax {
			d.Messages = append(d.Messages, messageOf(d.Count, nameOf(v, author), m))
		}
		return true
	})
	if d.Last = d.First + len(d.Messages); d.Last < d.Count {
		d.Next = fmt.Sprintf("%s/%d?skip=%d", pageOfLog, d.Height, d.Last)
	}
}

func messageOf(n int, author string, m *api.Message) messageRow {
	row := messageRow{Number: n, Kind: m.Kind, Author: author, Session: m.Session, Seq: m.Seq}
	if m.Time.Unix() > 0 { // what boxes order by themselves has none
		row.Time = clockText(m.Time)
	}
	switch {
	case m.Object != nil && m.Count != nil:
		row.Key, row.Value = fmt.Sprintf("object %d", *m.Object), fmt.Sprintf("+ %d", *m.Count)
	case m.Kind == "kv":
		what, key := sayOp(m)
		row.Kind, row.Key = what, clip(bytesText(key[:min(len(key), messageKeyClip)]), messageClip)
		if len(key) > 0 && len(key) <= messageKeyClip {
			row.Path = keyPath(key)
		}
	case len(m.Key) > 0:
		row.Key = clip(bytesText(m.Key[:min(len(m.Key), messageKeyClip)]), messageClip)
		if len(m.Key) <= messageKeyClip && (m.Kind == "put" || m.Kind == "delete" || m.Kind == "get") {
			row.Path = keyPath(m.Key)
		}
		row.Value = preview(m.Value)
	default:
		row.Value = preview(m.Value)
	}
	return row
}

// certificate says who signed. Voters are numbered as the members of the block's epoch are.
func (d *blockPage) certificate(c *Console, v *site.View, cert *coord.Cert) error {
	if d.NoCertificate = cert == nil; d.NoCertificate {
		return nil
	}
	d.CertKind, d.CertRound, d.CertDigest, d.Signed = cert.Kind.String(), cert.Round, cert.Digest.String(), len(cert.Sigs)
	members, err := c.membersOf(v, cert.Epoch)
	if err != nil {
		return err
	}
	d.Unknown = members == nil
	d.Needed = coord.Quorum(len(members))
	for i := range members {
		d.Signers = append(d.Signers, signer{Name: first(members[i].Name, members[i].ID.String())})
	}
	for _, s := range cert.Sigs {
		for int(s.Voter) >= len(d.Signers) {
			d.Signers = append(d.Signers, signer{Name: fmt.Sprintf("member %d", len(d.Signers))})
		}
		d.Signers[s.Voter].Signed, d.Signers[s.Voter].Text = true, fmt.Sprintf("%x", s.Sig)
	}
	return nil
}

// membersOf are the members of an epoch, nil when this box does not know them any more.
func (c *Console) membersOf(v *site.View, epoch uint64) ([]coord.Member, error) {
	if epoch == v.Epoch {
		list := make([]coord.Member, len(v.Members))
		for i := range v.Members {
			list[i] = v.Members[i].Member
		}
		return list, nil
	}
	chain, err := c.chain()
	if err != nil {
		return nil, err
	}
	if chain.From.Epoch == epoch {
		return chain.From.List, nil
	}
	for i := range chain.Steps {
		if chain.Steps[i].Next.Epoch == epoch {
			return chain.Steps[i].Next.List, nil
		}
	}
	return nil, nil
}
