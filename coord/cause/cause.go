package cause

import (
	"errors"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

// ErrUnknown says that nothing is known of a revision: it is too old, or does not exist yet.
var ErrUnknown = errors.New("cause: nothing is known of the revision")

const (
	// NodesMax bounds a graph: a picture with more says nothing.
	NodesMax = 120
	// lookBack is how many blocks a search for what a session or an author did before goes back.
	lookBack = 256
	// spanMax is how many keys of a span that a transaction compared are looked at.
	spanMax = 16
)

// Source is what the graph is made of. What it gives is immutable. Errors end the making of the graph; what is merely not known is nil,
// or false.
type Source interface {
	// Locate gives the batch that made a revision.
	Locate(revision uint64) (trace.Revised, bool)
	// Block gives the final block of a height.
	Block(height uint64) (*Block, error)
	// Events gives what revisions changed, from one to another, both included: all of them, or none.
	Events(from, to uint64) []kv.Revision
	// Read gives the keys of a span as they were at a revision, without values, at most limit.
	Read(key, end []byte, revision uint64, limit int) []kv.KeyValue
}

// Block is a final block with its batches, in the order of its Refs.
type Block struct {
	*coord.Block
	Digest  coord.Digest
	Members *coord.Members // of its epoch; nil: not known
	Leader  coord.BoxID    // if Members are known
	Cert    *coord.Cert    // that makes it final, of CertHeight
	CertAt  uint64
	Batches []Batch
}

// Batch is one with its messages; Cols is nil when they cannot be read.
type Batch struct {
	*coord.Batch
	Digest coord.Digest
	Cols   *coord.Columns
}

// Kind of a node.
type Kind uint8

// The kinds.
const (
	Message Kind = iota + 1
	InBatch
	InBlock
)

// Node is a message, a batch or a block. Block is nil for a message of which only the revision is known.
type Node struct {
	Kind  Kind
	Rank  int // 0: the revision asked for; what it depends on has higher ranks
	Block *Block
	Batch int // in Block; of messages and batches
	// Index is the message's place in its batch; -1: one of the batch's, it is not known which.
	Index    int
	Revision uint64 // of a message; 0: it made none
	Op       string
	Keys     [][]byte
}

// Edge leads from a node to one that it depends on; Label has the key for Reads and Writes.
type Edge struct {
	From, To int
	Why      Why
	Label    []byte
}

// Why is the reason of an edge.
type Why uint8

// The reasons; see the package comment.
const (
	In Why = iota + 1
	Reads
	Writes
	Session
	Author
	Parent
)

// Graph is what a revision, node 0, depends on. More: there is more, beyond the depth or NodesMax.
type Graph struct {
	Nodes []Node
	Edges []Edge
	More  bool
}

// Explain makes the graph of a revision, depth steps back. Errors: ErrUnknown, those of the Source.
func Explain(s Source, revision uint64, depth int) (*Graph, error) {
	g := &maker{s: s, at: map[place]int{}, seen: map[[2]int]bool{}}
	root, err := g.revision(revision, depth)
	if err == nil && (root < 0 || g.Nodes[root].Block == nil) {
		err = fmt.Errorf("%w: %d", ErrUnknown, revision)
	}
	for err == nil && len(g.todo) > 0 {
		t := g.todo[0]
		g.todo = g.todo[1:]
		err = g.expand(t)
	}
	if err != nil {
		return nil, err
	}
	g.rank()
	return &g.Graph, nil
}

// place names a node.
type place struct {
	kind     Kind
	height   uint64
	batch    int
	index    int
	revision uint64 // of a message that cannot be placed
}

type task struct{ node, depth int }

type maker struct {
	Graph
	s    Source
	at   map[place]int
	todo []task
	seen map[[2]int]bool
}

// node is the number of a node, new or not; -1: there is no room.
func (g *maker) node(p place, n Node, depth int) int {
	if i, ok := g.at[p]; ok {
		return i
	}
	if len(g.Nodes) >= NodesMax {
		g.More = true
		return -1
	}
	i := len(g.Nodes)
	g.at[p] = i
	g.Nodes = append(g.Nodes, n)
	if depth > 0 {
		g.todo = append(g.todo, task{i, depth})
	} else {
		g.More = true
	}
	return i
}

func (g *maker) edge(from, to int, why Why, label []byte) {
	if to < 0 || from == to || g.seen[[2]int{from, to}] {
		return
	}
	g.seen[[2]int{from, to}] = true
	g.Edges = append(g.Edges, Edge{From: from, To: to, Why: why, Label: label})
}

// revision is the node of the message that made a revision.
func (g *maker) revision(rev uint64, depth int) (int, error) {
	at, known := g.s.Locate(rev)
	if !known {
		return g.unknown(rev), nil
	}
	b, err := g.s.Block(at.Height)
	if err != nil {
		return -1, err
	}
	if b == nil || int(at.Batch) >= len(b.Batches) {
		return g.unknown(rev), nil
	}
	n := Node{Kind: Message, Block: b, Batch: int(at.Batch), Index: -1, Revision: rev}
	if cols := b.Batches[at.Batch].Cols; cols != nil {
		n.Index = match(cols, g.s.Events(at.From+1, at.To), at, rev)
		n.describe(cols)
	}
	p := place{kind: Message, height: at.Height, batch: int(at.Batch), index: n.Index}
	if n.Index < 0 {
		p.revision = rev
	}
	i := g.node(p, n, depth)
	if i >= 0 && g.Nodes[i].Revision == 0 { // it came as what a session sent before
		g.Nodes[i].Revision = rev
		g.todo = append(g.todo, task{i, depth})
	}
	return i, nil
}

// unknown is the node of a revision that is before all that is known.
func (g *maker) unknown(rev uint64) int {
	g.More = true
	return g.node(place{kind: Message, revision: rev}, Node{Kind: Message, Index: -1, Revision: rev}, 0)
}

func (g *maker) batch(b *Block, i, depth int) int {
	return g.node(place{kind: InBatch, height: b.Height, batch: i}, Node{Kind: InBatch, Block: b, Batch: i}, depth)
}

func (g *maker) block(b *Block, depth int) int {
	return g.node(place{kind: InBlock, height: b.Height}, Node{Kind: InBlock, Block: b}, depth)
}

// expand adds what a node depends on. Where a node is ordered is always told; what goes further back costs depth.
func (g *maker) expand(t task) error {
	if t.depth <= 0 {
		return nil
	}
	n := g.Nodes[t.node]
	switch n.Kind {
	case Message:
		g.edge(t.node, g.batch(n.Block, n.Batch, t.depth), In, nil)
		return g.message(t, &n)
	case InBatch:
		g.edge(t.node, g.block(n.Block, t.depth), In, nil)
		if t.depth <= 1 {
			g.More = true
			return nil
		}
		b, i, err := g.before(n.Block, n.Batch, func(b *Batch) bool { return b.Author == n.Block.Batches[n.Batch].Author })
		if err == nil && b != nil {
			g.edge(t.node, g.batch(b, i, t.depth-1), Author, nil)
		}
		return err
	}
	if n.Block.Height <= 1 || t.depth <= 1 {
		g.More = g.More || n.Block.Height > 1
		return nil
	}
	b, err := g.s.Block(n.Block.Height - 1)
	if err == nil && b != nil {
		g.edge(t.node, g.block(b, t.depth-1), Parent, nil)
	}
	return err
}

// before is the last batch before one for which is is true, within lookBack blocks; nil: there is none.
func (g *maker) before(b *Block, batch int, is func(*Batch) bool) (*Block, int, error) {
	for range lookBack {
		for i := batch - 1; i >= 0; i-- {
			if b.Batches[i].Batch != nil && is(&b.Batches[i]) {
				return b, i, nil
			}
		}
		if b.Height <= 1 {
			return nil, 0, nil
		}
		var err error
		if b, err = g.s.Block(b.Height - 1); err != nil || b == nil {
			return nil, 0, err
		}
		batch = len(b.Batches)
	}
	return nil, 0, nil
}

// message adds what a message compared, read, replaced and followed.
func (g *maker) message(t task, n *Node) error {
	if n.Revision > 0 {
		for _, d := range g.data(n) {
			to, err := g.revision(d.rev, t.depth-1)
			if err != nil {
				return err
			}
			g.edge(t.node, to, d.why, d.key)
		}
	}
	if n.Index < 0 {
		return nil
	}
	return g.session(t, n)
}

type datum struct {
	rev uint64
	why Why
	key []byte
}

// data is the revisions of the keys that a message replaced, and of those that a transaction compared or read.
func (g *maker) data(n *Node) (ds []datum) {
	for _, r := range g.s.Events(n.Revision, n.Revision) {
		for i := range r.Events {
			if e := &r.Events[i]; e.Prev != nil && e.Prev.Mod < n.Revision {
				ds = append(ds, datum{e.Prev.Mod, Writes, e.KV.Key})
			}
		}
	}
	if n.Index < 0 {
		return ds
	}
	cols := n.Block.Batches[n.Batch].Cols
	if cols.Kinds[n.Index] != coord.KindKV {
		return ds
	}
	op, err := kv.Decode(cols.Key(n.Index), cols.Value(n.Index))
	if err != nil || op.Txn == nil {
		return ds
	}
	for _, c := range looked(op.Txn, nil) {
		for _, k := range g.s.Read(c.Key, c.End, n.Revision-1, spanMax) {
			ds = append(ds, datum{k.Mod, Reads, k.Key})
		}
	}
	return ds
}

// looked is the spans that a transaction compares and reads, with those within it.
func looked(t *kv.Txn, spans []kv.Range) []kv.Range {
	for i := range t.Compares {
		spans = append(spans, kv.Range{Key: t.Compares[i].Key, End: t.Compares[i].End})
	}
	for _, ops := range [2][]kv.Op{t.Then, t.Else} {
		for i := range ops {
			switch o := &ops[i]; {
			case o.Range != nil:
				spans = append(spans, kv.Range{Key: o.Range.Key, End: o.Range.End})
			case o.Txn != nil:
				spans = looked(o.Txn, spans)
			}
		}
	}
	return spans
}

// session adds the message that the same client session sent before.
func (g *maker) session(t task, n *Node) error {
	cols := n.Block.Batches[n.Batch].Cols
	id, seq := cols.Sessions[n.Index], cols.Seqs[n.Index]
	if id == 0 || seq == 0 {
		return nil
	}
	index := -1
	find := func(b *Batch, to int) bool {
		if b.Cols == nil {
			return false
		}
		for index = to - 1; index >= 0; index-- {
			if b.Cols.Sessions[index] == id && b.Cols.Seqs[index] < seq {
				return true
			}
		}
		return false
	}
	b, i := n.Block, n.Batch
	if !find(&n.Block.Batches[n.Batch], n.Index) {
		var err error
		b, i, err = g.before(n.Block, n.Batch, func(b *Batch) bool { return b.Cols != nil && find(b, b.Cols.Len()) })
		if err != nil || b == nil {
			return err
		}
	}
	g.edge(t.node, g.earlier(b, i, index, t.depth-1), Session, nil)
	return nil
}

// earlier is the node of a message by its place; its revision is found by what is known of the batch.
func (g *maker) earlier(b *Block, batch, index, depth int) int {
	n := Node{Kind: Message, Block: b, Batch: batch, Index: index}
	n.describe(b.Batches[batch].Cols)
	return g.node(place{kind: Message, height: b.Height, batch: batch, index: index}, n, depth)
}

// rank gives each node the length of the longest way to it. Edges lead back in the order of the site, so there is no cycle; the passes are
// bounded all the same.
func (g *maker) rank() {
	for range len(g.Nodes) {
		changed := false
		for _, e := range g.Edges {
			if r := g.Nodes[e.From].Rank + 1; g.Nodes[e.To].Rank < r {
				g.Nodes[e.To].Rank, changed = r, true
			}
		}
		if !changed {
			return
		}
	}
}
