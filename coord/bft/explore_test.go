package bft

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// The exploration drives real cores 1..3; box 0 lies and leads the first term, core 1 the second. Messages of rounds
// above exploreRounds are lost. An honest core is a function of its inputs,
// so a core's state is explored once whatever the others do, and a state of the site is three of those.
// docs/model.md says what the bounds are.

const (
	exploreRounds = 2
	exploreLiar   = 0
)

// node is one state of one core: the inputs that lead to it first, and what that core has said.
type node struct {
	inputs []event
	sent   map[string]*coord.PeerMsg // votes, proposals and certificates, all that it ever sent
	votes  map[string]*coord.Vote
	final  []coord.Digest
	left   [2]int // time-outs and restarts that it may still have
	next   map[string]int
	round  uint64
}

// event is one input of a core: messages delivered together, or time, or a restart.
type event struct {
	name    string
	msgs    []parcel
	tick    bool
	restart bool
}

type explorer struct {
	t      *testing.T
	rig    *rig
	nodes  [4][]*node
	ids    [4]map[[32]byte]int
	liar   []*coord.PeerMsg
	bodies []*coord.Batch
	steps  int
}

func (x *explorer) vote(k coord.VoteKind, r uint64, d coord.Digest) *coord.Vote {
	return &coord.Vote{Kind: k, Epoch: 1, Round: r, Digest: d, Voter: exploreLiar, Sig: rigKeys{x.rig, exploreLiar}.SignVote(k, 1, r, d)}
}

// play makes a core anew from its inputs; the log is what its Steps wrote.
func (x *explorer) play(i int, events []event) (c *Core, n *node) {
	n = &node{inputs: events, sent: map[string]*coord.PeerMsg{}, votes: map[string]*coord.Vote{}, next: map[string]int{}}
	var log []coord.Record
	now := int64(1)
	take := func(rd Ready) {
		x.steps++
		if rd.Fault != "" {
			x.t.Fatalf("core %d: %s after %v", i, rd.Fault, names(events))
		}
		log = append(log, rd.Persist...)
		for k := range rd.Persist {
			if v := rd.Persist[k].Vote; v != nil && int(v.Voter) == i {
				if !rd.Sync {
					x.t.Fatalf("core %d: a vote without Sync after %v", i, names(events))
				}
				n.votes[fmt.Sprint(v.Kind, v.Round, v.Digest)] = v
			}
		}
		for _, d := range rd.Deliver {
			n.final = append(n.final, d.Digest)
		}
		for _, o := range rd.Send {
			x.keep(n, i, o.Msg)
		}
	}
	boot := func() {
		var err error
		if c, err = New(x.rig.config(i), &coord.Block{Epoch: 1}, nil); err != nil {
			x.t.Fatal(err)
		}
		n.final = nil
		for k := range log {
			c.Replay(&log[k])
		}
		c.Start()
		take(c.Step(Input{}, now))
	}
	boot()
	for _, b := range x.bodies {
		take(c.Step(Input{From: exploreLiar, Batch: b, BatchDigest: b.Digest(coord.SiteID{}), Verified: true}, now))
	}
	for _, e := range events {
		switch {
		case e.restart:
			n.left[1]++
			boot()
		case e.tick:
			n.left[0]++
			now += c.timeout() + 1
			take(c.Step(Input{}, now))
		default:
			for _, p := range e.msgs {
				take(c.Step(Input{From: p.from, Msg: p.msg}, now))
			}
			now += c.cfg.FetchDelay // what waits for a proof or for a late vote does not wait longer
			take(c.Step(Input{}, now))
		}
	}
	n.round = c.cur
	x.judgeCore(i, c, n, log, now)
	return c, n
}

// keep notes what a core said, as far as it concerns the rounds explored.
func (x *explorer) keep(n *node, i int, m *coord.PeerMsg) {
	switch {
	case m.Vote != nil && m.Vote.Round <= exploreRounds && m.Vote.Kind <= coord.VoteEmpty:
		n.sent[fmt.Sprint("v", i, m.Vote.Kind, m.Vote.Round, m.Vote.Digest)] = m
	case m.Proposal != nil && m.Proposal.Block.Round <= exploreRounds:
		n.sent[fmt.Sprint("p", i, m.Proposal.Block.Digest())] = m
	}
}

func names(es []event) (s []string) {
	for _, e := range es {
		s = append(s, e.name)
	}
	return s
}

// judgeCore checks the model's predicates on one core: one vote a round, finalize and empty votes exclude each other,
// its certificates hold, and a core made from its log has the same votes, is in no later round and knows its final block.
func (x *explorer) judgeCore(i int, c *Core, n *node, log []coord.Record, now int64) {
	fail := func(why string) { x.t.Fatalf("core %d: %s after %v\n%v", i, why, names(n.inputs), c) }
	for _, a := range n.votes {
		for _, b := range n.votes {
			if a != b && a.Kind == b.Kind && (a.Round == b.Round || (a.Kind == coord.VoteEmpty && c.term(a.Round) == c.term(b.Round))) {
				fail("two votes of a kind")
			}
			if a.Kind == coord.VoteFinalize && b.Kind == coord.VoteEmpty && c.term(a.Round) == c.term(b.Round) && a.Round >= b.Round {
				fail("finalize at or above the own empty level")
			}
		}
	}
	cert := func(y *coord.Cert) {
		if y == nil || len(y.Sigs) == 0 {
			return
		}
		seen, top := map[uint8]bool{}, uint64(0)
		for _, s := range y.Sigs {
			r := y.Round
			if y.Kind == coord.VoteEmpty {
				r, top = s.Level, max(top, s.Level)
			}
			if seen[s.Voter] = true; (rigKeys{x.rig, int(s.Voter)}).SignVote(y.Kind, 1, r, y.Digest) != s.Sig {
				fail("a certificate with a vote that nobody signed")
			}
		}
		if len(seen) < 3 || (y.Kind == coord.VoteEmpty && top != y.Round) {
			fail("a certificate that is none")
		}
	}
	for _, rs := range c.rounds {
		cert(rs.notar)
		cert(rs.fin)
	}
	for _, ts := range c.terms {
		cert(ts.end)
	}
	again, err := New(x.rig.config(i), &coord.Block{Epoch: 1}, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	for k := range log {
		again.Replay(&log[k])
	}
	again.Start()
	rd := again.Step(Input{}, now)
	for k := range rd.Persist {
		if v := rd.Persist[k].Vote; v != nil && int(v.Voter) == i {
			for _, o := range n.votes {
				if o.Kind == v.Kind && (o.Round != v.Round || o.Digest != v.Digest) && (o.Round == v.Round || (v.Kind == coord.VoteEmpty && c.term(o.Round) == c.term(v.Round))) {
					fail("a restart votes again")
				}
			}
		}
	}
	if again.final.Round < c.final.Round || (again.final.Round == c.final.Round && again.finalDigest != c.finalDigest) {
		fail("a restart forgets a final block")
	}
	for r, rs := range c.rounds {
		if r <= again.final.Round {
			continue
		}
		a := again.round(r)
		if rs.votes[i].has && (!a.votes[i].has || a.votes[i].digest != rs.votes[i].digest) ||
			rs.fins[i].has && (!a.fins[i].has || a.fins[i].digest != rs.fins[i].digest) {
			fail("a restart forgets a vote")
		}
	}
}

// state is the canonical form of a core and of what it said; limits are part of it.
func state(c *Core, n *node) [32]byte {
	h := sha256.New()
	var put func(v reflect.Value)
	num := func(u uint64) { var b [8]byte; binary.LittleEndian.PutUint64(b[:], u); h.Write(b[:]) }
	put = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Bool:
			if v.Bool() {
				num(1)
			} else {
				num(0)
			}
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			num(uint64(v.Int()))
		case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			num(v.Uint())
		case reflect.Pointer:
			if v.IsNil() {
				num(0)
				return
			}
			num(1)
			put(v.Elem())
		case reflect.Slice, reflect.Array:
			num(uint64(v.Len()))
			for i := range v.Len() {
				put(v.Index(i))
			}
		case reflect.Map:
			ks := v.MapKeys()
			sort.Slice(ks, func(a, b int) bool { return fmt.Sprint(ks[a]) < fmt.Sprint(ks[b]) })
			for _, k := range ks {
				put(k)
				put(v.MapIndex(k))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				switch v.Type().Field(i).Name {
				case "cfg", "stats", "rd": // fixed, counters, the last answer
				default:
					put(v.Field(i))
				}
			}
		case reflect.String:
			h.Write([]byte(v.String()))
		default:
			panic("bft: explore: " + v.Kind().String())
		}
	}
	put(reflect.ValueOf(c))
	for _, said := range []any{n.sent, n.votes} {
		ks := reflect.ValueOf(said).MapKeys()
		sort.Slice(ks, func(a, b int) bool { return ks[a].String() < ks[b].String() })
		for _, k := range ks {
			h.Write([]byte(k.String()))
		}
	}
	num(uint64(n.left[0]))
	num(uint64(n.left[1]))
	return [32]byte(h.Sum(nil))
}

// add gives the number of the core state that events lead to.
func (x *explorer) add(i int, events []event) int {
	c, n := x.play(i, events)
	k := state(c, n)
	if id, ok := x.ids[i][k]; ok {
		return id
	}
	x.ids[i][k] = len(x.nodes[i])
	x.nodes[i] = append(x.nodes[i], n)
	return len(x.nodes[i]) - 1
}

// after gives core i's state after an event.
func (x *explorer) after(i, id int, e event) int {
	n := x.nodes[i][id]
	if to, ok := n.next[e.name]; ok {
		return to
	}
	to := x.add(i, append(append([]event(nil), n.inputs...), e))
	n.next[e.name] = to
	return to
}

// events are what may happen to core i now: a proposal comes; the votes of one kind, round and digest that were sent so
// far come, the liar's first; time passes; the box restarts. What does not happen is lost or late.
func (x *explorer) events(i int, s [4]int, ticks, restarts int) (es []event) {
	votes := map[string]*event{}
	add := func(from int, m *coord.PeerMsg) {
		if v := m.Vote; v != nil {
			k := fmt.Sprint(v.Kind, v.Round, v.Digest.Short())
			e := votes[k]
			if e == nil {
				e = &event{name: k}
				votes[k] = e
			}
			e.name += fmt.Sprint("+", from)
			e.msgs = append(e.msgs, parcel{from, i, m})
			return
		}
		es = append(es, event{name: fmt.Sprint("proposal ", m.Proposal.Block.Digest().Short()), msgs: []parcel{{from, i, m}}})
	}
	for _, m := range x.liar {
		add(exploreLiar, m)
	}
	for from := 1; from < 4; from++ {
		if from == i {
			continue
		}
		sent := x.nodes[from][s[from]].sent
		ks := make([]string, 0, len(sent))
		for k := range sent {
			ks = append(ks, k)
		}
		sort.Strings(ks)
		for _, k := range ks {
			add(from, sent[k])
			if p := sent[k].Proposal; p != nil { // the liar has voted for it, and the proposer's vote is in it
				d := p.Block.Digest()
				for _, kind := range []coord.VoteKind{coord.VoteNotarize, coord.VoteFinalize} {
					add(exploreLiar, &coord.PeerMsg{Vote: x.vote(kind, p.Block.Round, d)})
				}
			}
		}
	}
	ks := make([]string, 0, len(votes))
	for k := range votes {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	for _, k := range ks {
		es = append(es, *votes[k])
	}
	n := x.nodes[i][s[i]]
	if n.left[0] < ticks {
		es = append(es, event{name: "time", tick: true})
	}
	if n.left[1] < restarts {
		es = append(es, event{name: "restart", restart: true})
	}
	return es
}

// With terms of two rounds round 2 is in the second term, so that it may follow a gap; with terms of three both rounds are in
// the first, so that an empty vote may be above a block.
func TestEveryOrderOfEventsKeepsTheModelsPredicates(t *testing.T) {
	for _, term := range []uint64{2, 3} {
		t.Run(fmt.Sprint("terms of ", term), func(t *testing.T) { explore(t, term) })
	}
}

func explore(t *testing.T, term uint64) {
	depth, limit := 6, 200_000
	if s := os.Getenv("HOLDFAST_EXPLORE"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		depth, limit = n, 50_000_000
	}
	x := &explorer{t: t, rig: &rig{t: t, n: 4, term: term, verifies: make([]int, 4), done: []map[uint64]bool{{}, {}, {}, {}}}}
	genesis := &coord.Block{Epoch: 1}
	for seq := uint64(1); seq <= 2; seq++ {
		b := &coord.Batch{Author: member(exploreLiar), Seq: seq, Count: 1, Body: []byte{byte(seq)}}
		x.bodies = append(x.bodies, b)
		refs := []coord.BatchRef{{Author: b.Author, Seq: seq, Digest: b.Digest(coord.SiteID{})}}
		block := &coord.Block{Epoch: 1, Round: 1, Height: 1, Parent: genesis.Digest(), Root: coord.RefsRoot(refs), Refs: refs}
		d := block.Digest()
		v := x.vote(coord.VoteNotarize, 1, d)
		x.liar = append(x.liar, &coord.PeerMsg{Proposal: &coord.Proposal{Block: block, Sig: v.Sig, Parent: genesis}},
			&coord.PeerMsg{Vote: v}, &coord.PeerMsg{Vote: x.vote(coord.VoteFinalize, 1, d)})
	}
	for r := uint64(1); r <= exploreRounds; r++ {
		x.liar = append(x.liar, &coord.PeerMsg{Vote: x.vote(coord.VoteEmpty, r, coord.Digest{})})
	}
	var start [4]int
	for i := 1; i < 4; i++ {
		x.ids[i] = map[[32]byte]int{}
		start[i] = x.add(i, nil)
	}
	seen := map[[4]int]bool{start: true}
	layer := [][4]int{start}
	finals, second, whole := 0, 0, 0
	for d := 1; d <= depth && len(layer) > 0 && len(seen) < limit; d++ {
		var next [][4]int
		for _, s := range layer {
			for i := 1; i < 4; i++ {
				for _, e := range x.events(i, s, 1, 1) {
					to := s
					to[i] = x.after(i, s[i], e)
					if !seen[to] {
						seen[to] = true
						x.agree(to)
						next = append(next, to)
						for k := 1; k < 4; k++ {
							if n := x.nodes[k][to[k]]; len(n.final) > 0 {
								finals++
								break
							}
						}
						if x.nodes[1][to[1]].round > 1 {
							second++
						}
					}
				}
			}
			if len(seen) >= limit {
				break
			}
		}
		layer = next
		if len(seen) < limit {
			whole = d
		}
		t.Logf("depth %d: %d states of the site (%d with a final block, %d with core 1 beyond round 1), %d of cores, %d Steps",
			d, len(seen), finals, second, len(x.nodes[1])+len(x.nodes[2])+len(x.nodes[3]), x.steps)
	}
	if finals == 0 || second == 0 {
		t.Fatalf("nothing became final or no second round in %d states: the exploration shows nothing", len(seen))
	}
	t.Logf("all orders of up to %d events", whole)
}

// agree: what two cores delivered is a prefix of one another.
func (x *explorer) agree(s [4]int) {
	for a := 1; a < 4; a++ {
		for b := a + 1; b < 4; b++ {
			p, q := x.nodes[a][s[a]], x.nodes[b][s[b]]
			for k := range min(len(p.final), len(q.final)) {
				if p.final[k] != q.final[k] {
					x.t.Fatalf("cores %d and %d disagree at height %d after\n%v\n%v", a, b, k+1, names(p.inputs), names(q.inputs))
				}
			}
		}
	}
}
