package console

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// What the pages of keys show: one screen, and what a phone loads in a moment.
const (
	keysPageMax    = 50
	versionsMax    = 20
	changesMax     = 12
	changesBack    = 256       // how many revisions are looked through for changes
	changesBytes   = 256 << 10 // and how much of them
	valueShownMax  = 64 << 10  // of a value, on its page; /api/v1/kv has the rest
	valueEditMax   = 32 << 10  // a larger value does not fit into a form beside its key
	previewMax     = 80
	pageOfKeys     = "/keys"
	pageOfOneKey   = "/keys/one"
	actionPut      = "kv.put"
	actionDelete   = "kv.delete"
	formPutKey     = "/kv/put"
	formDeleteKey  = "/kv/delete"
	asText, asHex  = "text", "hex"
	asJSON         = "json"
	everyKeyPrefix = "prefix:"
)

// keysPage is what the page of keys shows.
type keysPage struct {
	Prefix   api.Bytes
	Crumbs   []crumb
	Rows     []keyRow
	Hidden   int // keys that the viewer may not read
	Count    int64
	Next     string // where the list goes on; empty: nowhere
	Start    string // where it begins, when this is not it
	Revision uint64
	Changes  []keyChange
	MayPut   bool
}

type crumb struct{ Text, Path string }

type keyRow struct {
	Key                  api.Bytes
	Path                 string
	Create, Mod, Version uint64
	Lease                bool
}

type keyChange struct {
	Revision uint64
	Key      api.Bytes
	Path     string
	Deleted  bool
	Preview  string
}

// keyPath is the page of a key.
func keyPath(key []byte) string { return pageOfOneKey + "?key=" + url.QueryEscape(bytesText(key)) }

func bytesText(b []byte) string {
	text, _ := api.Bytes(b).MarshalText() // has no error
	return string(text)
}

// readBytes reads what bytesText wrote.
func readBytes(text string) ([]byte, error) {
	var b api.Bytes
	if err := b.UnmarshalText([]byte(text)); err != nil {
		return nil, fmt.Errorf("%w: what begins with 0x must go on with hexadecimal digits, two for each byte", ErrBad)
	}
	return b, nil
}

// keyResource is a key as policies know it. What is not UTF-8 has no name there: it is judged like all keys that begin as far as it is,
// so that no policy about these can be got round.
func keyResource(key []byte) string {
	if utf8.Valid(key) {
		return "key:" + string(key)
	}
	n := 0
	for n < len(key) {
		r, size := utf8.DecodeRune(key[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return everyKeyPrefix + string(key[:n])
}

// prefixEnd is the end of the span of keys that begin with prefix.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return kv.OpenEnded
}

// firstKey is the least key that there can be.
var firstKey = []byte{0}

func (c *Console) keysData(l *look) (any, error) {
	prefix, err := readBytes(l.value("prefix"))
	if err != nil {
		return nil, err
	}
	after, err := readBytes(l.value("after"))
	if err != nil {
		return nil, err
	}
	if len(prefix) > coord.KeyBytesMax || len(after) > coord.KeyBytesMax {
		return nil, fmt.Errorf("%w: a key has at most %d bytes", ErrBad, coord.KeyBytesMax)
	}
	all := c.maySeeOn(l, actionGet, everyKeyPrefix+string(prefix))
	if !all && len(prefix) == 0 && !c.maySeeOn(l, actionGet, "") {
		if err := c.need(l, actionGet, everyKeyPrefix); err != nil {
			return nil, err
		}
	}
	d := &keysPage{Prefix: prefix, Crumbs: crumbs(prefix), MayPut: c.mayDo(l.caller, actionPut, everyKeyPrefix+string(prefix))}
	r := &kv.Range{Key: prefix, End: prefixEnd(prefix), Limit: keysPageMax + 1, KeysOnly: true}
	if len(prefix) == 0 {
		r.Key = firstKey
	}
	if bytes.Compare(after, r.Key) >= 0 && len(after) > 0 {
		r.Key = append(bytes.Clone(after), 0)
		d.Start = pageOfKeys + "?prefix=" + url.QueryEscape(bytesText(prefix))
	}
	st := c.cfg.Site.State()
	a := st.Range(r)
	if a.Err != nil {
		return nil, a.Err
	}
	d.Revision, d.Count = a.Revision, a.Count
	if len(a.KVs) > keysPageMax {
		a.KVs = a.KVs[:keysPageMax]
		d.Next = pageOfKeys + "?prefix=" + url.QueryEscape(bytesText(prefix)) + "&after=" + url.QueryEscape(bytesText(a.KVs[keysPageMax-1].Key))
	}
	for i := range a.KVs {
		k := &a.KVs[i]
		if !all && !c.maySeeOn(l, actionGet, keyResource(k.Key)) {
			d.Hidden++
			continue
		}
		d.Rows = append(d.Rows, keyRow{k.Key, keyPath(k.Key), k.Create, k.Mod, k.Version, k.Lease != 0})
	}
	d.Changes, err = c.keyChanges(l, st, prefix, all)
	return d, err
}

// keyChanges are the last changes of keys with a prefix, the newest first.
func (c *Console) keyChanges(l *look, st *state.Machine, prefix []byte, all bool) (list []keyChange, err error) {
	now := st.Revision()
	from := max(now-min(now, changesBack), st.Compacted(), 1)
	for left := changesBytes; from <= now && left > 0; {
		revs, next, err := st.Events(from, left)
		if errors.Is(err, kv.ErrCompacted) { // it happened just now
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		for _, r := range revs {
			for i := range r.Events {
				e := &r.Events[i]
				left -= len(e.KV.Key) + len(e.KV.Value)
				if !bytes.HasPrefix(e.KV.Key, prefix) || !all && !c.maySeeOn(l, actionGet, keyResource(e.KV.Key)) {
					continue
				}
				list = append(list, keyChange{r.Revision, bytes.Clone(e.KV.Key), keyPath(e.KV.Key), e.Delete, preview(e.KV.Value)})
			}
		}
		if next <= from {
			break
		}
		from = next
	}
	slices.Reverse(list)
	return list[:min(len(list), changesMax)], nil
}

// preview is the beginning of a value on one line.
func preview(value []byte) string {
	short := value[:min(len(value), 4*previewMax)]
	for len(short) > 0 && len(short) < len(value) && !utf8.Valid(short) && len(value)-len(short) < utf8.UTFMax { // not in the middle of a character
		short = short[:len(short)-1]
	}
	return clip(strings.Join(strings.Fields(bytesText(short)), " "), previewMax)
}

// crumbs are the prefixes that lead to a prefix, cut at slashes.
func crumbs(prefix []byte) []crumb {
	list := []crumb{{"all keys", pageOfKeys}}
	if !utf8.Valid(prefix) {
		return append(list, crumb{bytesText(prefix), ""})
	}
	start := 0
	for i := range prefix {
		if prefix[i] == '/' && i > 0 || i == len(prefix)-1 {
			list = append(list, crumb{bytesText(prefix[start : i+1]), pageOfKeys + "?prefix=" + url.QueryEscape(bytesText(prefix[:i+1]))})
			start = i + 1
		}
	}
	return list
}

// keyPage is what the page of one key shows.
type keyPage struct {
	Key                  api.Bytes
	Prefix               string // the page of its neighbours
	Found                bool
	Now                  bool // the newest value is shown, not an old one
	As                   string
	Views                []keyView
	Text                 string
	Size, Cut            int
	Create, Mod, Version uint64
	Lease                int64
	Versions             []keyVersion
	Gone                 bool // older versions are compacted
	// Edit is what the form begins with, EditAs how it is written; EditLarge says that there is none because of its size.
	Edit, EditAs     string
	EditLarge        bool
	MayPut, MayClear bool
}

type keyView struct {
	Name, Path string
	Here       bool
}

type keyVersion struct {
	Mod, Version uint64
	Size         int
	Preview      string
	Path         string
	Here         bool
}

func (c *Console) keyData(l *look) (any, error) {
	key, err := readBytes(l.value("key"))
	if err != nil {
		return nil, err
	}
	if len(key) == 0 || len(key) > coord.KeyBytesMax {
		return nil, fmt.Errorf("%w: a key has 1 to %d bytes", ErrBad, coord.KeyBytesMax)
	}
	if err := c.need(l, actionGet, keyResource(key)); err != nil {
		return nil, err
	}
	rev := int64(0)
	if text := l.value("rev"); text != "" {
		if rev, err = strconv.ParseInt(text, 10, 64); err != nil || rev < 1 {
			return nil, fmt.Errorf("%w: rev must be a revision, a number from 1", ErrBad)
		}
	}
	d := &keyPage{Key: key, Prefix: neighbours(key), Now: rev == 0}
	st := c.cfg.Site.State()
	now := st.Range(&kv.Range{Key: key})
	if now.Err != nil {
		return nil, now.Err
	}
	shown := now
	if rev > 0 {
		switch shown = st.Range(&kv.Range{Key: key, Revision: rev}); {
		case errors.Is(shown.Err, kv.ErrCompacted), errors.Is(shown.Err, kv.ErrFutureRevision):
			return nil, fmt.Errorf("%w: revision %d cannot be read: %w", errNotFound, rev, shown.Err)
		case shown.Err != nil:
			return nil, shown.Err
		}
	}
	if d.Found = len(shown.KVs) > 0; d.Found {
		k := &shown.KVs[0]
		d.Create, d.Mod, d.Version, d.Lease, d.Size = k.Create, k.Mod, k.Version, k.Lease, len(k.Value)
		d.show(k.Value, l.value("as"), rev)
	}
	if len(now.KVs) > 0 {
		d.versions(st, &now.KVs[0], d.Mod)
		d.edit(now.KVs[0].Value)
	}
	d.MayPut, d.MayClear = c.mayDo(l.caller, actionPut, keyResource(key)), len(now.KVs) > 0 && c.mayDo(l.caller, actionDelete, keyResource(key))
	return d, nil
}

// neighbours is the page of the keys up to the key's last slash.
func neighbours(key []byte) string {
	if i := bytes.LastIndexByte(key, '/'); i > 0 && utf8.Valid(key) {
		return pageOfKeys + "?prefix=" + url.QueryEscape(bytesText(key[:i+1]))
	}
	return pageOfKeys
}

// show writes a value as text, hexadecimal digits or JSON.
func (d *keyPage) show(value []byte, as string, rev int64) {
	views := []string{asHex}
	if isText(value) {
		views = []string{asText, asHex}
	}
	var indented bytes.Buffer
	if len(value) <= valueShownMax && len(value) > 0 && (value[0] == '{' || value[0] == '[') && json.Indent(&indented, value, "", "  ") == nil && indented.Len() <= 4*valueShownMax {
		views = slices.Insert(views, 0, asJSON)
	}
	if d.As = as; !slices.Contains(views, as) {
		d.As = views[0]
	}
	for _, name := range views {
		path := keyPath(d.Key) + "&as=" + name
		if rev > 0 {
			path += "&rev=" + strconv.FormatInt(rev, 10)
		}
		d.Views = append(d.Views, keyView{name, path, name == d.As})
	}
	short := value[:min(len(value), valueShownMax)]
	d.Cut = len(value) - len(short)
	switch d.As {
	case asJSON:
		d.Text = indented.String()
	case asText:
		d.Text = strings.ToValidUTF8(string(short), "")
	default:
		d.Text = hex.Dump(short)
	}
}

// isText says whether a value can be shown, edited and written back as text.
func isText(value []byte) bool { return !strings.HasPrefix(bytesText(value), "0x") }

// versions are how a key became what it is, since it was created.
func (d *keyPage) versions(st *state.Machine, k *kv.KeyValue, shown uint64) {
	for range versionsMax {
		path := keyPath(d.Key)
		if len(d.Versions) > 0 {
			path += "&rev=" + strconv.FormatUint(k.Mod, 10)
		}
		d.Versions = append(d.Versions, keyVersion{k.Mod, k.Version, len(k.Value), preview(k.Value), path, k.Mod == shown})
		if k.Version <= 1 {
			return
		}
		a := st.Range(&kv.Range{Key: d.Key, Revision: int64(k.Mod - 1)})
		if a.Err != nil || len(a.KVs) == 0 {
			d.Gone = true
			return
		}
		k = &a.KVs[0]
	}
	d.Gone = true
}

func (d *keyPage) edit(value []byte) {
	switch {
	case len(value) > valueEditMax/2 && !isText(value), len(value) > valueEditMax:
		d.EditLarge = true
	case isText(value) && !bytes.ContainsRune(value, '\r'): // forms end lines with \r\n, whatever they were
		d.Edit, d.EditAs = string(value), asText
	default:
		d.Edit, d.EditAs = hex.EncodeToString(value), asHex
	}
}

// errConflict, wrapped, says that something is not any more what the caller saw.
var errConflict = errors.New("it has changed since you opened it")

// keyActs change keys. Each compares with the revision that its form was made of, so that nothing is overwritten unseen.
func (c *Console) keyActs() []*Act {
	if c.cfg.Submit == nil {
		return nil
	}
	on := func(p Params) string {
		key, err := readBytes(p["key"])
		if err != nil {
			return everyKeyPrefix
		}
		return keyResource(key)
	}
	return []*Act{
		{Path: formPutKey, Action: actionPut, Resource: on, Back: pageOfKeys, Run: func(ctx context.Context, _ *Caller, p Params) (any, error) {
			key, rev, err := keyAndRevision(p)
			if err != nil {
				return nil, err
			}
			value := []byte(strings.ReplaceAll(p["value"], "\r\n", "\n"))
			if p["as"] == asHex {
				if value, err = hex.DecodeString(strings.Join(strings.Fields(p["value"]), "")); err != nil {
					return nil, fmt.Errorf("%w: the value must be hexadecimal digits, two for each byte", ErrBad)
				}
			}
			keepLease := rev > 0
			put := kv.Op{Put: &kv.Put{Key: key, Value: value, IgnoreLease: keepLease}}
			return c.changeKey(ctx, key, rev, put)
		}},
		{Path: formDeleteKey, Action: actionDelete, Resource: on, Back: pageOfKeys, Run: func(ctx context.Context, _ *Caller, p Params) (any, error) {
			key, rev, err := keyAndRevision(p)
			if err != nil {
				return nil, err
			}
			return c.changeKey(ctx, key, rev, kv.Op{Delete: &kv.Delete{Key: key}})
		}},
	}
}

// keyAndRevision are what both forms name. Revision 0: there must be no such key.
func keyAndRevision(p Params) (key []byte, rev uint64, err error) {
	if key, err = readBytes(p["key"]); err != nil {
		return nil, 0, err
	}
	if len(key) == 0 || len(key) > coord.KeyBytesMax {
		return nil, 0, fmt.Errorf("%w: a key has 1 to %d bytes", ErrBad, coord.KeyBytesMax)
	}
	if rev, err = strconv.ParseUint(first(p["revision"], "0"), 10, 63); err != nil {
		return nil, 0, fmt.Errorf("%w: revision must be that of the key as you saw it, 0 if there was none", ErrBad)
	}
	return key, rev, nil
}

// changeKey executes op if the key is as it was at a revision.
func (c *Console) changeKey(ctx context.Context, key []byte, rev uint64, op kv.Op) (any, error) {
	txn := kv.Op{Txn: &kv.Txn{
		Compares: []kv.Compare{{Key: key, Target: kv.TargetMod, Relation: kv.Equal, Number: int64(rev)}},
		Then:     []kv.Op{op}, Else: []kv.Op{{Range: &kv.Range{Key: key, KeysOnly: true}}},
	}}
	if err := txn.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	a, err := c.order(ctx, coord.KindKV, nil, txn.Append(nil, false))
	switch {
	case err != nil:
		return nil, err
	case a.Succeeded:
		return map[string]uint64{"revision": a.Revision}, nil
	case rev == 0:
		return nil, fmt.Errorf("%w: there is such a key already; open it, and change it there", errConflict)
	case len(a.Answers) == 1 && len(a.Answers[0].KVs) == 0:
		return nil, fmt.Errorf("%w: somebody deleted the key meanwhile", errConflict)
	}
	return nil, fmt.Errorf("%w: the page shows what it is now. Do it again if you still want it", errConflict)
}

// maySeeOn says whether the viewer may see a resource; nothing is recorded.
func (c *Console) maySeeOn(l *look, action, resource string) bool {
	x := l.caller
	switch {
	case c.cfg.ViewOpen || x.Local:
		return true
	case x.Principal == "" || x.mustChange || x.Token != "": // a token was judged for what the request names, and no more
		return false
	case c.cfg.Access == nil:
		return true
	}
	ok, _ := c.cfg.Access.May(x.Principal, action, resource)
	return ok
}

// need is an error when the viewer may not see something, and records that.
func (c *Console) need(l *look, action, resource string) error {
	if c.cfg.ViewOpen {
		return nil
	}
	return c.may(l.ctx, l.caller, action, resource)
}
