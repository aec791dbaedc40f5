package cause

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

// past is a site's order that a test writes, applied by the real state.
type past struct {
	t       *testing.T
	st      *state.Machine
	blocks  []*Block
	revised []trace.Revised
	forgot  bool // the history is compacted
}

func newPast(t *testing.T) *past {
	st, err := state.New(state.NewMemBackend())
	if err != nil {
		t.Fatal(err)
	}
	p := &past{t: t, st: st}
	p.order(1, func(c *coord.Columns) { c.Add(coord.KindOpen, 7, 0, 0, []byte("client"), nil) })
	return p
}

// order makes a block of one batch an author, 1 and up; nil: that author has none.
func (p *past) order(author int, batches ...func(c *coord.Columns)) {
	p.t.Helper()
	h := uint64(len(p.blocks)) + 1
	b := &Block{Block: &coord.Block{Round: h, ParentRound: h - 1, Height: h}, Digest: coord.Digest{byte(h)}, CertAt: h}
	p.st.Begin(b.Block)
	for i, fill := range batches {
		cols := new(coord.Columns)
		fill(cols)
		id := coord.BoxID{byte(author + i)}
		bt := &coord.Batch{Author: id, Seq: h, Count: uint32(cols.Len())}
		b.Refs = append(b.Refs, coord.BatchRef{Author: id, Seq: h})
		b.Batches = append(b.Batches, Batch{Batch: bt, Cols: cols})
		from := p.st.Revision()
		if _, took := p.st.Batch(id, h, 0, cols, nil); !took {
			p.t.Fatal("a batch did not take effect")
		}
		if to := p.st.Revision(); to > from {
			p.revised = append(p.revised, trace.Revised{From: from, To: to, Height: h, Batch: uint32(i)})
		}
	}
	p.st.End()
	p.blocks = append(p.blocks, b)
}

func (p *past) Locate(rev uint64) (trace.Revised, bool) { return trace.Locate(p.revised, rev) }

func (p *past) Block(height uint64) (*Block, error) {
	if height == 0 || height > uint64(len(p.blocks)) {
		return nil, nil
	}
	return p.blocks[height-1], nil
}

func (p *past) Events(from, to uint64) []kv.Revision {
	if p.forgot {
		return nil
	}
	revs, _, err := p.st.Events(from, 1<<20)
	if err != nil {
		p.t.Fatal(err)
	}
	return slices.DeleteFunc(revs, func(r kv.Revision) bool { return r.Revision > to })
}

func (p *past) Read(key, end []byte, rev uint64, limit int) []kv.KeyValue {
	return p.st.Range(&kv.Range{Key: key, End: end, Revision: int64(rev), Limit: int64(limit)}).KVs
}

func put(key, value string) func(*coord.Columns) {
	return func(c *coord.Columns) {
		op := kv.Op{Put: &kv.Put{Key: []byte(key), Value: []byte(value)}}
		c.Add(coord.KindKV, 0, 0, 0, []byte(key), op.Append(nil, true))
	}
}

func txn(t kv.Txn) func(*coord.Columns) {
	return func(c *coord.Columns) { op := kv.Op{Txn: &t}; c.Add(coord.KindKV, 0, 0, 0, nil, op.Append(nil, false)) }
}

func together(fills ...func(*coord.Columns)) func(*coord.Columns) {
	return func(c *coord.Columns) {
		for _, f := range fills {
			f(c)
		}
	}
}

// say is a graph's data edges and what else is below node 0, as text.
func say(t *testing.T, p *past, rev uint64, depth int) (*Graph, string) {
	t.Helper()
	g, err := Explain(p, rev, depth)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range g.Edges {
		if g.Nodes[e.To].Rank <= g.Nodes[e.From].Rank {
			t.Errorf("an edge leads from rank %d to %d", g.Nodes[e.From].Rank, g.Nodes[e.To].Rank)
		}
		names := map[Why]string{Reads: "reads", Writes: "writes", Session: "session"}
		if n := names[e.Why]; n != "" {
			lines = append(lines, fmt.Sprintf("%d %s %s of %d", g.Nodes[e.From].Revision, n, e.Label, g.Nodes[e.To].Revision))
		}
	}
	slices.Sort(lines)
	return g, strings.Join(lines, "; ")
}

func TestARevisionDependsOnWhatItComparedReadAndReplaced(t *testing.T) {
	p := newPast(t)
	p.order(1, put("a", "1"), put("b", "1")) // 2, 3
	p.order(2, together(put("c", "1")))      // 4
	p.order(1, txn(kv.Txn{                   // 5
		Compares: []kv.Compare{{Key: []byte("a"), Target: kv.TargetVersion, Number: 1}},
		Then:     []kv.Op{{Put: &kv.Put{Key: []byte("b"), Value: []byte("2")}}, {Range: &kv.Range{Key: []byte("c")}}},
	}))
	g, got := say(t, p, 5, 3)
	if want := "5 reads a of 2; 5 reads c of 4; 5 writes b of 3"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if n := g.Nodes[0]; n.Op != "txn" || n.Block.Height != 4 || len(n.Keys) != 1 || string(n.Keys[0]) != "b" {
		t.Errorf("%+v", n)
	}
	kinds := map[Why]int{}
	for _, e := range g.Edges {
		kinds[e.Why]++
	}
	if kinds[In] < 6 || kinds[Author] == 0 || kinds[Parent] == 0 {
		t.Errorf("%v", kinds)
	}
	if g, _ := say(t, p, 5, 1); !g.More || len(g.Nodes) >= 8 {
		t.Errorf("one step back: more %v, %d nodes", g.More, len(g.Nodes))
	}
}

// What had no effect (a retry) and what made no revision stands between.
func TestTheMessageThatMadeARevisionIsFoundAmongOthers(t *testing.T) {
	p := newPast(t)
	session := func(seq uint64, kind coord.Kind, key string) func(*coord.Columns) {
		return func(c *coord.Columns) { c.Add(kind, 7, seq, 0, []byte(key), []byte("v")) }
	}
	p.order(1, together(session(1, coord.KindPut, "x"))) // 2
	p.order(1, together(                                 // 3 and 4
		session(1, coord.KindPut, "x"), session(2, coord.KindDelete, "none"), session(3, coord.KindGet, "x"), session(4, coord.KindDelete, "x"), session(5, coord.KindPut, "y"),
	))
	g, got := say(t, p, 4, 3)
	if g.Nodes[0].Index != 4 || !strings.Contains(got, "4 session  of ") {
		t.Errorf("message %d; %s", g.Nodes[0].Index, got)
	}
	if g, got = say(t, p, 3, 3); g.Nodes[0].Index != 3 || !strings.Contains(got, "3 writes x of 2") {
		t.Errorf("message %d; %s", g.Nodes[0].Index, got)
	}
	p.forgot = true
	if g, _ := say(t, p, 3, 3); g.Nodes[0].Index != -1 || g.Nodes[0].Block.Height != 3 {
		t.Errorf("without a history the message is guessed: %d", g.Nodes[0].Index)
	}
}

func TestNothingIsSaidOfARevisionThatIsNotKnown(t *testing.T) {
	p := newPast(t)
	p.order(1, put("a", "1"))
	for _, rev := range []uint64{0, 1, 3, 1 << 60} {
		if g, err := Explain(p, rev, 3); !errors.Is(err, ErrUnknown) {
			t.Errorf("revision %d: %v, %v", rev, g, err)
		}
	}
	p.order(1, put("a", "2"))
	p.revised = p.revised[1:]
	g, got := say(t, p, 3, 3)
	if got != "3 writes a of 2" || !g.More {
		t.Errorf("%s, more %v", got, g.More)
	}
}

func TestAGraphIsBounded(t *testing.T) {
	p := newPast(t)
	for i := range 300 {
		p.order(i%4+1, put("counter", fmt.Sprint(i)), put("other", "x"))
	}
	g, err := Explain(p, p.st.Revision(), 200)
	if err != nil || len(g.Nodes) != NodesMax || !g.More {
		t.Errorf("%d nodes, more %v, %v", len(g.Nodes), g.More, err)
	}
}
