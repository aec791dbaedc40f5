package traces

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/cause"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/coord/wire"
	"github.com/holdfast-edge/holdfast/firmware/console"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/store"
)

// Past is what a Keeper asks of the log and the state; *site.Site is one.
type Past interface {
	Block(height uint64) (b *site.LogBlock, certAt uint64, err error)
	State() *state.Machine
}

// eventsBytesMax bounds the history of one batch that is looked at.
const eventsBytesMax = 8 << 20

// source is the site's log and history for one question. Blocks that were read are kept: a search goes over the same ones again.
type source struct {
	k      *Keeper
	ctx    context.Context
	dec    *wire.BodyDecoder
	blocks map[uint64]*cause.Block
}

func (s *source) Locate(revision uint64) (trace.Revised, bool) { return s.k.locate(revision) }

func (s *source) Block(height uint64) (*cause.Block, error) {
	if b, ok := s.blocks[height]; ok {
		return b, nil
	}
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	lb, certAt, err := s.k.site.Block(height)
	if errors.Is(err, store.ErrNotFound) || err == nil && lb == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := &cause.Block{Block: lb.Block, Digest: lb.Digest, Members: lb.Members, Leader: lb.Leader, Cert: lb.Cert, CertAt: certAt}
	for i, bt := range lb.Batches {
		c := cause.Batch{Batch: bt, Digest: lb.Block.Refs[i].Digest, Cols: new(coord.Columns)}
		if bt == nil || s.dec.DecodeBody(bt.Body, c.Cols) != nil {
			c.Cols = nil
		}
		b.Batches = append(b.Batches, c)
	}
	s.blocks[height] = b
	return b, nil
}

func (s *source) Events(from, to uint64) []kv.Revision {
	bytesMax := 1 // one revision
	if to > from {
		bytesMax = eventsBytesMax
	}
	revs, next, err := s.k.site.State().Events(from, bytesMax)
	if err != nil || next <= to {
		return nil
	}
	i := slices.IndexFunc(revs, func(r kv.Revision) bool { return r.Revision > to })
	if i >= 0 {
		revs = revs[:i]
	}
	return revs
}

func (s *source) Read(key, end []byte, revision uint64, limit int) []kv.KeyValue {
	if revision == 0 {
		return nil
	}
	a := s.k.site.State().Range(&kv.Range{Key: key, End: end, Revision: int64(revision), Limit: int64(limit), KeysOnly: true, Uncounted: true})
	if a.Err != nil {
		return nil
	}
	return a.KVs
}

// Why says what a revision depends on, depth steps back. Errors: console.ErrNoTrace, those of the log, ctx's.
func (k *Keeper) Why(ctx context.Context, revision uint64, depth int) (*api.Why, error) {
	v := k.site.View()
	g, err := cause.Explain(&source{k: k, ctx: ctx, dec: wire.NewBodyDecoder(), blocks: map[uint64]*cause.Block{}}, revision, depth)
	if errors.Is(err, cause.ErrUnknown) && revision > v.Revision {
		return nil, fmt.Errorf("revision %d is %w: there is none yet, the newest is %d", revision, console.ErrNoTrace, v.Revision)
	}
	if errors.Is(err, cause.ErrUnknown) {
		return nil, fmt.Errorf("revision %d: its block is %w to this box (its log begins at height %d, the state is at revision %d)", revision, console.ErrNoTrace, v.LogFrom, v.Revision)
	}
	if err != nil {
		return nil, err
	}
	w := &api.Why{Revision: revision, Depth: depth, Truncated: g.More, LogFrom: v.LogFrom}
	e := explainer{k: k, view: v, names: k.names(), shift: k.site.Clock()}
	order := make([]int, len(g.Nodes)) // by rank
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return g.Nodes[a].Rank - g.Nodes[b].Rank })
	for _, i := range order {
		w.Nodes = append(w.Nodes, e.node(i, &g.Nodes[i]))
	}
	for _, x := range g.Edges {
		w.Edges = append(w.Edges, api.WhyEdge{From: nodeID(x.From), To: nodeID(x.To), Kind: edgeKinds[x.Why], Label: text(x.Label)})
	}
	w.Sentence = e.sentence(g)
	return w, nil
}

var edgeKinds = map[cause.Why]string{
	cause.In: api.WhyIn, cause.Reads: api.WhyReads, cause.Writes: api.WhyWrites, cause.Session: api.WhySession, cause.Author: api.WhyAuthor, cause.Parent: api.WhyParent,
}

func nodeID(i int) string { return "n" + strconv.Itoa(i) }

func text(key []byte) string {
	b, _ := api.Bytes(key).MarshalText() // never fails
	return string(b)
}

// explainer puts a graph into words.
type explainer struct {
	k     *Keeper
	view  *site.View
	names names
	shift int64
}

func (e *explainer) node(i int, n *cause.Node) api.WhyNode {
	j := api.WhyNode{ID: nodeID(i), Rank: n.Rank, Revision: n.Revision, Op: n.Op}
	if n.Block == nil {
		j.Kind, j.Label = api.WhyMessage, fmt.Sprintf("revision %d", n.Revision)
		return j
	}
	switch j.Height = n.Block.Height; n.Kind {
	case cause.Message:
		e.message(&j, n)
	case cause.InBatch:
		e.batch(&j, n)
	default:
		e.block(&j, n)
	}
	return j
}

func (e *explainer) message(j *api.WhyNode, n *cause.Node) {
	j.Kind, j.Label = api.WhyMessage, n.Op
	for _, key := range n.Keys {
		j.Keys = append(j.Keys, key)
	}
	if len(n.Keys) > 0 {
		j.Label += " " + text(n.Keys[0])
	}
	if len(n.Keys) > 1 {
		j.Label += fmt.Sprintf(" and %d more", len(n.Keys)-1)
	}
	if n.Revision > 0 {
		j.Label = strings.TrimSpace(fmt.Sprintf("revision %d %s", n.Revision, j.Label))
	}
	if n.Index < 0 {
		return
	}
	cols := n.Block.Batches[n.Batch].Cols
	if id := cols.Sessions[n.Index]; id != 0 {
		j.Session, j.Seq = fmt.Sprintf("%016x", id), cols.Seqs[n.Index]
	}
	if ms := cols.Times[n.Index]; ms > 0 {
		j.Time = time.UnixMilli(ms)
	}
}

func (e *explainer) batch(j *api.WhyNode, n *cause.Node) {
	b := &n.Block.Batches[n.Batch]
	author, id := b.Author, trace.BatchTrace(b.Digest)
	messages := int(b.Count)
	if cols := b.Cols; cols != nil && cols.Len() > 0 && cols.Kinds[cols.Len()-1] == coord.KindTrace {
		messages--
		if c, ok := trace.FirstContext(cols.Value(cols.Len() - 1)); ok {
			id = c.Trace
		}
	}
	j.Kind, j.Author, j.AuthorName, j.Seq, j.Digest, j.Messages, j.Trace = api.WhyBatch, &author, e.name(n.Block, author), b.Seq, b.Digest.String(), messages, &id
	what := "messages"
	if j.Messages == 1 {
		what = "message"
	}
	j.Label = fmt.Sprintf("batch of %s, %d %s", j.AuthorName, j.Messages, what)
	rs, err := e.k.stored(id)
	j.Kept = err == nil
	rs = e.k.cfg.Ring.Find(rs, id, e.shift)
	for i := range rs {
		if r := &rs[i]; r.Batch == b.Digest && r.Box == author && r.Part == 0 {
			j.Phases = phases(r)
			break
		}
	}
	if j.Phases == nil { // what this box itself knows is better than nothing
		for i := range rs {
			if rs[i].Batch == b.Digest && rs[i].Box == e.view.ID && rs[i].Part == 0 {
				j.Phases = phases(&rs[i])
				break
			}
		}
	}
}

func phases(r *trace.Record) (ps []api.WhyPhase) {
	for _, s := range r.Spans(nil) {
		if s.Name != trace.SpanMessage && s.Name != trace.SpanOrder {
			ps = append(ps, api.WhyPhase{Name: s.Name, Duration: s.End - s.Start})
		}
	}
	return ps
}

func (e *explainer) block(j *api.WhyNode, n *cause.Node) {
	b := n.Block
	j.Kind, j.Round, j.Epoch, j.Digest = api.WhyBlock, b.Round, b.Epoch, b.Digest.String()
	if b.Round > b.ParentRound+1 {
		j.Skipped = b.Round - b.ParentRound - 1
	}
	j.Label = fmt.Sprintf("block %d", b.Height)
	if b.Members != nil {
		leader := b.Leader
		j.Leader, j.LeaderName = &leader, e.name(b, leader)
		j.Label += ", proposed by " + j.LeaderName
	}
	if b.Cert != nil {
		j.CertHeight = b.CertAt
		for i := range b.Cert.Sigs {
			v := int(b.Cert.Sigs[i].Voter)
			name := fmt.Sprintf("member %d of epoch %d", v, b.Cert.Epoch)
			if b.Members != nil && b.Members.Epoch == b.Cert.Epoch && v < b.Members.N() {
				name = e.name(b, b.Members.List[v].ID)
			}
			j.Voters = append(j.Voters, name)
		}
	}
}

// name is what a box was called in a block's epoch, or is now.
func (e *explainer) name(b *cause.Block, id coord.BoxID) string {
	if b.Members != nil {
		if i := b.Members.Index(id); i >= 0 && b.Members.List[i].Name != "" {
			return b.Members.List[i].Name
		}
	}
	return e.names.of(id)
}

// sentence says the most important of it to a person.
func (e *explainer) sentence(g *cause.Graph) string {
	root := &g.Nodes[0]
	b := root.Block
	author := e.name(b, b.Batches[root.Batch].Author)
	s := fmt.Sprintf("Revision %d is a message of box %s in block %d", root.Revision, author, b.Height)
	var j api.WhyNode
	e.block(&j, &cause.Node{Kind: cause.InBlock, Block: b})
	if j.LeaderName != "" {
		s += ", which " + j.LeaderName + " proposed"
	}
	if len(j.Voters) > 0 {
		s += fmt.Sprintf(" and %s made final", strings.Join(j.Voters, ", "))
	}
	var on []string
	for _, x := range g.Edges {
		if x.From != 0 || x.Why != cause.Reads && x.Why != cause.Writes {
			continue
		}
		verb := "replaced"
		if x.Why == cause.Reads {
			verb = "looked at"
		}
		on = append(on, fmt.Sprintf("it %s %s of revision %d", verb, text(x.Label), g.Nodes[x.To].Revision))
	}
	if len(on) == 0 {
		return s + ". It depends on no earlier key."
	}
	return s + "; " + strings.Join(on, ", ") + "."
}
