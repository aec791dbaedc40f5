package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// model is what the state promises, in maps: each numbered message of an open session
// has its effect the first time that it comes, in the order of arrival.
type model struct {
	keys     map[string]string
	counters map[uint64]uint64
	did      map[[2]uint64]bool
	batches  map[uint64]bool
	revision uint64
}

func (m *model) apply(c *coord.Columns) (results []coord.Result) {
	for i := range c.Len() {
		id := [2]uint64{c.Sessions[i], c.Seqs[i]}
		key, value := string(c.Key(i)), string(c.Value(i))
		r := coord.Result{Duplicate: m.did[id]}
		m.did[id] = true
		switch c.Kinds[i] {
		case coord.KindPut:
			if !r.Duplicate {
				m.keys[key] = value
				m.revision++
			}
		case coord.KindDelete:
			if _, ok := m.keys[key]; ok && !r.Duplicate {
				delete(m.keys, key)
				m.revision++
				r.Found = true
			}
		case coord.KindGet:
			var v string
			if v, r.Found = m.keys[key]; r.Found {
				r.Value = []byte(v)
			}
		case coord.KindObserve:
			if !r.Duplicate {
				n, _ := binary.Uvarint([]byte(value))
				m.counters[binary.BigEndian.Uint64([]byte(key))] += n
			}
		}
		r.Revision = m.revision
		results = append(results, r)
	}
	return results
}

func (m *model) top() (total uint64, top []Count) {
	for o, n := range m.counters {
		total += n
		top = append(top, Count{o, n})
	}
	slices.SortFunc(top, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Object, b.Object))
	})
	return total, top
}

// traffic makes batches as clients and boxes under fault do: several sessions, messages
// repeated in other batches, by other boxes, late and out of order.
type traffic struct {
	rng   *rand.Rand
	sent  []*coord.Columns
	next  map[uint64]uint64
	seqs  [3]uint64
	mixed []batchIn
}

type batchIn struct {
	author coord.BoxID
	seq    uint64
	cols   *coord.Columns
}

func (tr *traffic) request() *coord.Columns {
	if len(tr.sent) > 0 && tr.rng.IntN(3) == 0 {
		return tr.sent[tr.rng.IntN(len(tr.sent))] // a retry, of anything ever sent
	}
	c := new(coord.Columns)
	session := 1 + tr.rng.Uint64N(5)
	for range 1 + tr.rng.IntN(12) {
		tr.next[session]++
		if tr.rng.IntN(20) == 0 {
			tr.next[session]++ // a message that is lost, perhaps for good
		}
		kind := coord.Kind(coord.KindPut + coord.Kind(tr.rng.IntN(4)))
		key, value := fmt.Appendf(nil, "key-%d", tr.rng.IntN(40)), fmt.Appendf(nil, "%d", tr.rng.Uint64())
		if kind == coord.KindObserve {
			key, value = key64(tr.rng.Uint64N(60)), []byte(count(1+tr.rng.Uint64N(300)))
		}
		c.Add(kind, session, tr.next[session], 0, key, value)
	}
	tr.sent = append(tr.sent, c)
	return c
}

// block is a few batches, some of them repeated from earlier.
func (tr *traffic) block() (in []batchIn) {
	for range tr.rng.IntN(4) {
		if len(tr.mixed) > 0 && tr.rng.IntN(4) == 0 {
			in = append(in, tr.mixed[tr.rng.IntN(len(tr.mixed))])
			continue
		}
		box := tr.rng.IntN(len(tr.seqs))
		tr.seqs[box] += 1 + tr.rng.Uint64N(3) // gaps mean nothing
		b := batchIn{coord.BoxID{byte(box + 1)}, tr.seqs[box], new(coord.Columns)}
		for range 1 + tr.rng.IntN(3) {
			b.cols.Append(tr.request())
		}
		in = append(in, b)
		tr.mixed = append(tr.mixed, b)
	}
	return in
}

// Two boxes apply the same blocks. One commits seldom; the other commits at random
// points, with blocks applied while the commit is under way, and is restarted at random
// points, losing what was not durable and applying it again. Both agree with the model at
// every message and with each other on every byte.
func TestExactlyOnceAndTheSameOnEveryBox(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			tr := &traffic{rng: rng, next: map[uint64]uint64{}}
			mod := &model{map[string]string{}, map[uint64]uint64{}, map[[2]uint64]bool{}, map[uint64]bool{}, 1}
			steady, shaky := newRig(t), newRig(t)
			var blocks [][]batchIn
			opens := new(coord.Columns)
			for s := range uint64(5) {
				opens.Add(coord.KindOpen, s+1, 0, 0, nil, nil)
			}
			blocks = append(blocks, []batchIn{{coord.BoxID{9}, 1, opens}})
			applyTo(steady.m, blocks[0])
			applyTo(shaky.m, blocks[0])
			var inFlight *coord.Commit
			for range 400 {
				in := tr.block()
				blocks = append(blocks, in)
				checkAgainst(t, mod, in, applyTo(steady.m, in))
				applyTo(shaky.m, in)
				switch rng.IntN(6) {
				case 0, 1: // a commit starts, or ends
					if inFlight == nil {
						inFlight = &coord.Commit{Header: &coord.Block{Height: shaky.m.Height()}, Changes: shaky.m.Take()}
						break
					}
					if err := shaky.back.Commit(inFlight); err != nil {
						t.Fatal(err)
					}
					shaky.m.Committed()
					inFlight = nil
				case 2: // a power cut, before or after the commit under way is durable
					if inFlight != nil && rng.IntN(2) == 0 {
						if err := shaky.back.Commit(inFlight); err != nil {
							t.Fatal(err)
						}
					}
					inFlight = nil
					shaky.restart()
					for _, b := range blocks[shaky.m.Height():] {
						applyTo(shaky.m, b)
					}
				}
			}
			if inFlight != nil {
				if err := shaky.back.Commit(inFlight); err != nil {
					t.Fatal(err)
				}
				shaky.m.Committed()
			}
			compareEnd(t, mod, steady, shaky)
		})
	}
}

func applyTo(m *Machine, in []batchIn) (out [][]coord.Result) {
	m.Begin(&coord.Block{Height: m.Height() + 1})
	for _, b := range in {
		res, ok := m.Batch(b.author, b.seq, 0, b.cols, nil)
		if !ok {
			res = nil
		}
		out = append(out, res)
	}
	m.End()
	return out
}

func checkAgainst(t *testing.T, mod *model, in []batchIn, got [][]coord.Result) {
	t.Helper()
	for i, b := range in {
		id := uint64(b.author[0])<<32 | b.seq
		if mod.batches[id] {
			if got[i] != nil {
				t.Fatal("a batch took effect twice")
			}
			continue
		}
		mod.batches[id] = true
		want := mod.apply(b.cols)
		for j, w := range want {
			g := got[i][j]
			if w.Duplicate && b.cols.Kinds[j] != coord.KindGet { // its outcome is that of the first time
				w.Revision, w.Found = g.Revision, g.Found
			}
			if g.Code != coord.CodeOK || g.Duplicate != w.Duplicate || g.Found != w.Found || g.Revision != w.Revision || !bytes.Equal(g.Value, w.Value) {
				t.Fatalf("message %d (kind %d): got %+v, want %+v", j, b.cols.Kinds[j], g, w)
			}
		}
	}
}

func compareEnd(t *testing.T, mod *model, a, b *rig) {
	t.Helper()
	total, top := mod.top()
	for _, r := range []*rig{a, b} {
		for range 2 { // as it runs, and after a restart
			if err := r.m.Err(); err != nil {
				t.Fatal(err)
			}
			gotTotal, distinct, gotTop := r.m.Top(TopMax)
			if gotTotal != total || distinct != uint64(len(mod.counters)) || !slices.Equal(gotTop, top) {
				t.Fatalf("total %d of %d, distinct %d of %d, top %v, want %v", gotTotal, total, distinct, len(mod.counters), gotTop, top)
			}
			for i := range 40 {
				k := fmt.Sprintf("key-%d", i)
				kv, found, err := r.m.Get([]byte(k))
				want, ok := mod.keys[k]
				if err != nil || found != ok || string(kv.Value) != want {
					t.Fatalf("%s: %q %v %v, want %q %v", k, kv.Value, found, err, want, ok)
				}
			}
			r.commit()
			if n := r.m.Pending(); n != 0 {
				t.Fatalf("%d writes are pending after the commit of all", n)
			}
			r.restart()
		}
	}
	if !bytes.Equal(dump(t, a.back), dump(t, b.back)) {
		t.Fatal("the boxes' states differ")
	}
}

// The rule's inputs are part of the state, so a box that starts from a snapshot, or was
// restarted, sees every later checkpoint at the same height.
func TestBoxesAgreeOnCheckpointsAfterARestart(t *testing.T) {
	rule := Rule{BytesMin: 8 << 20, GapBlocks: 256}
	a, b := newRig(t), newRig(t)
	for _, r := range []*rig{a, b} {
		r.m.SetRule(rule)
		r.open(1)
	}
	big := make([]byte, 300<<10)
	var due []uint64
	for i := range uint64(1200) {
		c := new(coord.Columns)
		switch {
		case i < 120: // grows beyond the minimum, so that the state's size decides
			c.Add(coord.KindPut, 1, i+1, 0, key64(i), big)
		case i == 600 || i == 700:
			c.Add(KindCheckpoint, 0, 0, 0, nil, nil)
		default:
			c.Add(coord.KindObserve, 1, i+1, 0, key64(i), nil)
		}
		a.block(c)
		b.block(c)
		if a.due != b.due {
			t.Fatalf("block %d: %v and %v", i, a.due, b.due)
		}
		if a.due {
			due = append(due, i)
		}
		if i%97 == 0 {
			b.commit()
			b.restart()
			b.m.SetRule(rule)
		}
	}
	// 8 MiB of 301 KiB each: with block 27; then as much again as the state had by then, twice;
	// then the request in block 600, at once, and that in 700 when 256 blocks have passed.
	if want := []uint64{27, 55, 111, 600, 856}; !slices.Equal(due, want) {
		t.Fatalf("due after blocks %v, want %v", due, want)
	}
}
