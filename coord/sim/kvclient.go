package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// kvClient sends operations of the etcd data model: transactions, deletes, leases, compactions, barriers. As programs do, it
// repeats none; what it was not answered may have taken effect. What an honest box acknowledged is found again at the end: under its
// revision, which no other operation has, or below the last compaction.
type kvClient struct {
	s       *Sim
	rng     *rand.Rand
	keys    []string
	sent    int
	lease   int64
	leases  int64
	rev     uint64            // the highest that was acknowledged
	written map[uint64]string // by acknowledged revision: the value that it put
}

func newKVClient(s *Sim) *kvClient {
	return &kvClient{
		s: s, rng: newRand(s.o.Seed, 0x6b76), keys: []string{"a", "a\x00", "b", "b1", "c"}, written: map[uint64]string{},
	}
}

// pump sends until the plan's end. Then the leases end, and with them the ticks of the site's clock.
func (c *kvClient) pump(gap int64) {
	if c.s.now >= c.s.endAt {
		return
	}
	c.add()
	c.s.call(c.s.now+1+c.rng.Int64N(2*gap), func() { c.pump(gap) })
}

// leasesEnd is how long after everything else the last lease may end: TTLs of 2 s, and time-outs of bad leaders between its ticks.
const leasesEnd = 30 * time.Second

// leaseRounds bounds how often another batch that a liar held back may grant a lease after that.
const leaseRounds = 5

func (c *kvClient) leasesEnded() bool {
	for _, m := range c.s.current() {
		if m.box == nil || len(m.box.State().Leases()) > 0 {
			return false
		}
	}
	return true
}

func (c *kvClient) key() []byte { return []byte(c.keys[c.rng.IntN(len(c.keys))]) }

func (c *kvClient) add() {
	c.sent++
	value := fmt.Sprint("value ", c.sent)
	put := kv.Op{Put: &kv.Put{Key: c.key(), Value: []byte(value)}}
	cols := new(coord.Columns)
	op := func(o kv.Op) { cols.Add(coord.KindKV, 0, 0, 0, nil, o.Append(nil, false)) }
	lease := func(a kv.LeaseAction, ttl int64) {
		cols.Add(coord.KindLease, 0, 0, 0, nil, kv.AppendLease(nil, a, c.lease, ttl))
	}
	switch n := c.rng.IntN(20); {
	case n < 7:
		if c.rng.IntN(3) == 0 {
			put.Put.Lease = c.lease
		}
		op(put)
	case n < 12: // puts the value in either branch, and reads and deletes in one
		k := c.key()
		t := &kv.Txn{
			Compares: []kv.Compare{{Key: k, Target: kv.TargetMod, Relation: kv.Less, Number: int64(c.rev)}},
			Then:     []kv.Op{put, {Range: &kv.Range{Key: []byte("a"), End: []byte("c")}}},
			Else:     []kv.Op{put},
		}
		if string(k) != string(put.Put.Key) {
			t.Then = append(t.Then, kv.Op{Delete: &kv.Delete{Key: k}})
		}
		op(kv.Op{Txn: t})
	case n < 14:
		value = ""
		op(kv.Op{Delete: &kv.Delete{Key: []byte("b"), End: []byte("c"), PrevKV: true}})
	case n < 16:
		value = ""
		c.leases++
		c.lease = c.leases
		lease(kv.LeaseGrant, 1+c.rng.Int64N(2))
	case n < 17:
		value = ""
		lease([]kv.LeaseAction{kv.LeaseKeepAlive, kv.LeaseRevoke}[c.rng.IntN(2)], 0)
	case n < 18:
		value = ""
		cols.Add(coord.KindCompact, 0, 0, 0, nil, kv.AppendNumber(nil, c.rev-min(c.rev, c.rng.Uint64N(20))))
	case n < 19:
		value = ""
		cols.Add(coord.KindBarrier, 0, 0, 0, nil, nil)
	default:
		value = ""
		m := c.s.nodes[c.rng.IntN(c.s.n)]
		id := c.s.name(m)
		cols.Add(coord.KindLead, 0, 0, 0, id[:], nil)
	}
	m := c.s.nodes[c.rng.IntN(c.s.n)]
	if m.box == nil || m.liar != "" {
		return
	}
	r := &site.Request{Cols: cols}
	r.Done = func(p coord.Reply) {
		if p.Code == coord.CodeOK && m.liar == "" && len(p.Results) == 1 {
			c.answer(&p.Results[0], value)
		}
	}
	c.s.step(m, site.Input{Request: r})
}

func (c *kvClient) answer(r *coord.Result, value string) {
	if r.KV == nil || r.KV.Err != nil {
		return
	}
	c.rev = max(c.rev, r.KV.Revision)
	if value == "" {
		return
	}
	if old, ok := c.written[r.KV.Revision]; ok {
		c.s.bad("TWICE: revision %d is that of %q and of %q", r.KV.Revision, old, value)
	}
	c.written[r.KV.Revision] = value
}

// ended looks for what was acknowledged in one box's history.
func (c *kvClient) ended(m *machine) {
	st := m.box.State()
	from := st.Compacted() + 1
	revs, next, err := st.Events(from, 1<<30)
	if err != nil || next != max(from, st.Revision()+1) {
		c.s.bad("HISTORY: box %d: events from %d to %d of %d: %v", m.idx, from, next, st.Revision(), err)
		return
	}
	has := map[uint64]map[string]bool{}
	for i := range revs {
		in := map[string]bool{}
		for j := range revs[i].Events {
			in[string(revs[i].Events[j].KV.Value)] = true
		}
		has[revs[i].Revision] = in
	}
	for rev, value := range c.written {
		if rev >= from && !has[rev][value] {
			c.s.bad("LOST: box %d has no %q in revision %d, which was acknowledged", m.idx, value, rev)
		}
	}
	if n := len(st.Leases()); n > 0 {
		c.s.bad("LEASE: box %d has %d leases long after their time", m.idx, n)
	}
}
