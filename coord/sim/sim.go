package sim

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/rand/v2"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

const ms = int64(time.Millisecond)

// machine is one computer that runs a box. Twins are two machines with one identity.
type machine struct {
	id, idx int
	inc     int
	box     *site.Box // nil while it is down
	disk    *disk
	queue   []pending // waiting for the disk, in order
	writing int       // how many of queue the running sync covers
	wakeAt  int64
	slow    int64 // added to every sync
	liar    liar
	applied uint64 // highest height seen applied, across restarts
	install *installing
	old     *disk // liarOldDisk: an image taken earlier
}

// pending is the effects of a Step and what the box then took for final: it counts when they
// become visible, for until then a power cut undoes it.
type pending struct {
	site.Effects
	height uint64
	final  coord.Digest
}

// Options of one trial.
type Options struct {
	N    int
	Seed uint64
	// Term is K; 0 picks 1, 3, 8, 64 or 1000 by the seed.
	Term uint64
	// Liars is how many boxes lie at most; -1: f.
	Liars  int
	Mutant bft.Mutant
	Calm   bool // no faults at all, fixed delay
	// Log, when set, gets a line for every event worth a look.
	Log func(format string, args ...any)
}

// Sim is one site under test.
type Sim struct {
	o       Options
	rng     *rand.Rand
	q       queue
	seq     uint64
	now     int64
	n, f    int
	members *coord.Members
	nodes   []*machine
	honest  []*machine
	cut     [][]bool // machine i cannot reach machine j
	linked  [][]bool // what the boxes were told
	loss    float64
	dup     float64
	delayLo int64
	delayHi int64
	spikes  bool
	clients []*client
	acked   uint64
	healed  bool
	check   checker
	events  uint64
	fail    string
	digest  hash.Hash
}

func newSim(o Options) *Sim {
	s := &Sim{o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x486f6c6466617374)), n: o.N, f: coord.MaxFaulty(o.N), digest: sha256.New()}
	if s.o.Term == 0 {
		s.o.Term = []uint64{1, 3, 8, 64, 1000}[o.Seed%5]
	}
	s.members = &coord.Members{Site: coord.SiteID{1, 2, 3}, Epoch: 1}
	for i := range o.N {
		s.members.List = append(s.members.List, coord.Member{ID: coord.BoxID{byte(i + 1), 0xb0}, Name: fmt.Sprintf("box-%d", i)})
	}
	s.check = newChecker(s)
	for i := range o.N {
		s.addMachine(i)
	}
	return s
}

func (s *Sim) addMachine(id int) *machine {
	m := &machine{id: id, idx: len(s.nodes), disk: newDisk()}
	s.nodes = append(s.nodes, m)
	for i := range s.cut {
		s.cut[i], s.linked[i] = append(s.cut[i], false), append(s.linked[i], false)
	}
	s.cut, s.linked = append(s.cut, make([]bool, len(s.nodes))), append(s.linked, make([]bool, len(s.nodes)))
	return m
}

func (s *Sim) logf(format string, args ...any) {
	if s.o.Log != nil {
		s.o.Log("%8.1f ms  "+format, append([]any{float64(s.now) / float64(ms)}, args...)...)
	}
}

func (s *Sim) bad(format string, args ...any) {
	if s.fail == "" {
		s.fail = fmt.Sprintf(format, args...)
		s.logf("FAILED: %s", s.fail)
	}
}

// timeout of the boxes under test; the product's default.
const timeout = 500 * time.Millisecond

func (s *Sim) tuning() site.Tuning {
	return site.Tuning{
		TermRounds: s.o.Term, Timeout: timeout, CommitEvery: 200 * time.Millisecond, CommitBytes: 2 << 10,
		SegmentBytes: 6 << 10, BlockBytes: 4 << 10, PendingMax: 64,
		// Small enough that a trial sees several checkpoints, pruned logs and fetched states.
		Checkpoint: state.Rule{BytesMin: 8 << 10, GapBlocks: 4},
	}
}

// boot starts a box from its disk.
func (s *Sim) boot(m *machine) {
	m.inc++
	m.queue, m.writing, m.wakeAt, m.install = nil, 0, 0, nil
	box, err := site.NewBox(site.BoxConfig{
		Nonce:   s.rng.Uint64() | 1,
		Members: s.members, Self: m.id, Keys: keys{m.id, s.members}, Tuning: s.tuning(), Mutant: s.mutant(m),
	}, m.disk.back, m.disk.back.Committed())
	if err != nil {
		s.bad("box %d does not start: %v", m.idx, err)
		return
	}
	for _, seg := range m.disk.segments {
		for i := range seg {
			box.Replay(&seg[i])
		}
	}
	box.Start()
	m.box = box
	s.logf("box %d starts at height %d, round %d", m.idx, box.State().Height(), box.Core().Round())
	s.step(m, site.Input{})
	for _, t := range s.nodes {
		s.relink(m, t)
		s.relink(t, m)
	}
}

func (s *Sim) mutant(m *machine) bft.Mutant {
	if m.liar != "" {
		return 0
	}
	return s.o.Mutant
}

// crash is a power cut of one machine.
func (s *Sim) crash(m *machine) {
	if m.box == nil {
		return
	}
	s.logf("box %d loses power", m.idx)
	m.inc++
	m.box = nil
	// What was being written may be there in part.
	for i := range m.queue {
		if i >= max(m.writing, s.rng.IntN(2)) {
			break
		}
		m.disk.append(s.members.Site, m.queue[i].Persist)
	}
	m.queue = nil
	m.disk.powerCut(s.members.Site, s.rng)
	m.disk.snap = nil
	for _, t := range s.nodes {
		s.relink(t, m)
	}
}

// reach says whether a message from a to b can arrive now.
func (s *Sim) reach(a, b *machine) bool {
	return a.box != nil && b.box != nil && !s.cut[a.idx][b.idx] && a.liar != liarDead && b.liar != liarDead
}

// relink tells a whether its link to b is up, some time after it changed.
func (s *Sim) relink(a, b *machine) {
	if a.id == b.id || a.box == nil {
		return
	}
	s.callFor(a, s.now+s.rng.Int64N(20*ms)+ms, func() {
		up := s.reach(a, b) && s.reach(b, a)
		if s.linked[a.idx][b.idx] != up {
			s.linked[a.idx][b.idx] = up
			s.step(a, site.Input{Link: &bft.Link{Peer: b.id, Up: up}})
		}
	})
}

// step gives a box one input and queues what it wants done.
func (s *Sim) step(m *machine, in site.Input) {
	e := pending{Effects: m.box.Step(in, s.now)}
	final, d := m.box.Core().Final()
	e.height, e.final = final.Height, d
	if e.Fault != "" && m.liar == "" {
		s.bad("box %d: %s", m.idx, e.Fault)
	}
	if e.Wake > 0 && (m.wakeAt <= s.now || e.Wake < m.wakeAt) {
		m.wakeAt = max(e.Wake, s.now+1)
		s.post(m.wakeAt, event{node: m.idx, inc: m.inc, kind: evWake})
	}
	s.check.stepped(m)
	s.sideEffects(m, &e.Effects)
	if !e.Visible() {
		if len(m.queue) == 0 {
			s.check.visible(m, &e)
		}
		return
	}
	if len(m.queue) == 0 && !e.Sync && e.Roll == nil {
		m.disk.append(s.members.Site, e.Persist)
		s.release(m, &e)
		return
	}
	m.queue = append(m.queue, e)
	s.kick(m)
}

// kick starts a sync of everything that waits: group commit.
func (s *Sim) kick(m *machine) {
	if m.writing > 0 || len(m.queue) == 0 {
		return
	}
	m.writing = len(m.queue)
	d := ms / 5
	if !s.o.Calm {
		d = 1 + s.rng.Int64N(2*ms)
		if s.rng.IntN(100) == 0 {
			d += s.rng.Int64N(60 * ms)
		}
		d += m.slow
	}
	s.post(s.now+d, event{node: m.idx, inc: m.inc, kind: evSynced})
}

func (s *Sim) synced(m *machine) {
	es := m.queue[:m.writing]
	m.queue = append([]pending(nil), m.queue[m.writing:]...)
	m.writing = 0
	for i := range es {
		m.disk.append(s.members.Site, es[i].Persist)
		if es[i].Roll != nil {
			low := uint64(0)
			if f := m.disk.back.Committed(); f != nil {
				low = f.Header.Height
			}
			if p := m.box.Core().Stable(); p == nil {
				low = 0
			} else {
				low = min(low, p.Header.Height)
			}
			m.disk.roll(s.members.Site, es[i].Roll, low)
		}
	}
	m.disk.sync()
	for i := range es {
		s.release(m, &es[i])
	}
	s.kick(m)
}

// release makes visible what waited for the log.
func (s *Sim) release(m *machine, e *pending) {
	s.check.visible(m, e)
	inc := m.inc
	for _, o := range e.Send {
		if m.liar != "" {
			s.lie(m, o)
			continue
		}
		s.check.sends(m, o.Msg)
		s.send(m, o)
	}
	for _, a := range e.Answers {
		s.check.answers(m, a.Reply)
		a.Request.Done(a.Reply)
	}
	if c := e.Commit; c != nil && m.inc == inc {
		s.commit(m, c)
	}
}

// commit is the background write of state.
func (s *Sim) commit(m *machine, c *coord.Commit) {
	s.callFor(m, s.now+s.rng.Int64N(20*ms)+1, func() {
		if err := m.disk.back.Commit(c); err != nil {
			s.bad("box %d: commit: %v", m.idx, err)
			return
		}
		if c.Checkpoint {
			m.disk.takeSnapshot(c.Header)
			st := &bft.State{Header: c.Header, Digest: m.disk.snap.state}
			s.callFor(m, s.now+s.rng.Int64N(50*ms), func() { s.step(m, site.Input{State: st}) })
		}
		s.step(m, site.Input{Committed: true})
	})
}

// sideEffects does what needs no log: checks of signatures, reading the log for others, snapshots.
func (s *Sim) sideEffects(m *machine, e *site.Effects) {
	for _, h := range e.Verify {
		k := keys{m.id, s.members}
		s.callFor(m, s.now+ms/10, func() {
			s.step(m, site.Input{Checked: &bft.Checked{Digest: h.Digest, OK: k.VerifyBatch(h.Batch)}})
		})
	}
	for _, v := range e.Serve {
		s.serve(m, v)
	}
	for _, a := range e.ServeSnap {
		s.servePiece(m, a)
	}
	for i := range e.Install {
		s.installStep(m, &e.Install[i])
	}
	for _, ev := range e.Evidence {
		s.check.evidence(m, ev)
	}
}

func (s *Sim) serve(m *machine, v bft.Serve) {
	for _, d := range v.Batches {
		if b := m.disk.batches[d]; b != nil {
			s.send(m, coord.Out{To: v.To, Msg: &coord.PeerMsg{Batch: b}})
		}
	}
	if !v.Blocks {
		return
	}
	bs, x := m.disk.after(v.After, 16)
	if len(bs) == 0 {
		if m.disk.low > v.After+1 {
			s.offer(m, v.To)
		}
		return
	}
	s.send(m, coord.Out{To: v.To, Msg: &coord.PeerMsg{CatchUp: &coord.CatchUp{Blocks: bs, Cert: x}}})
	for _, b := range bs {
		for i := range b.Refs {
			if bt := m.disk.batches[b.Refs[i].Digest]; bt != nil {
				s.send(m, coord.Out{To: v.To, Msg: &coord.PeerMsg{Batch: bt}})
			}
		}
	}
}

// send puts a message on the wire to its receivers.
func (s *Sim) send(m *machine, o coord.Out) {
	for _, t := range s.nodes {
		if t.id != m.id && (o.To == coord.ToAll || o.To == t.id) {
			s.wire(m, t, o.Msg)
		}
	}
}

func (s *Sim) delay() int64 {
	if s.o.Calm {
		return s.delayLo
	}
	if s.spikes && s.rng.IntN(50) == 0 {
		return s.delayLo + s.rng.Int64N(400*ms)
	}
	return s.delayLo + s.rng.Int64N(s.delayHi)
}

func (s *Sim) wire(m, t *machine, p *coord.PeerMsg) {
	if !s.reach(m, t) || (s.loss > 0 && s.rng.Float64() < s.loss) {
		return
	}
	p = s.check.onWire(p)
	s.post(s.now+s.delay(), event{node: t.idx, inc: t.inc, kind: evMessage, from: m.id, msg: p})
	if s.dup > 0 && s.rng.Float64() < s.dup {
		s.post(s.now+s.delay()+s.rng.Int64N(200*ms), event{node: t.idx, inc: t.inc, kind: evMessage, from: m.id, msg: p})
	}
}

// run until a time, or until stop says so.
func (s *Sim) run(until int64, stop func() bool) {
	for len(s.q) > 0 && s.fail == "" {
		if s.q[0].at > until {
			s.now = until
			return
		}
		e := heap.Pop(&s.q).(event)
		s.now = e.at
		s.events++
		var a [24]byte
		binary.BigEndian.PutUint64(a[:], uint64(e.at))
		binary.BigEndian.PutUint64(a[8:], e.seq)
		a[16], a[17], a[18] = byte(e.node), byte(e.kind), byte(e.from)
		s.digest.Write(a[:])
		if e.node < 0 {
			e.fn()
		} else if m := s.nodes[e.node]; m.box != nil && m.inc == e.inc {
			switch e.kind {
			case evCall:
				e.fn()
			case evMessage:
				if m.liar != "" {
					s.hear(m, e.from, e.msg)
				}
				s.step(m, site.Input{From: e.from, Peer: e.msg})
			case evWake:
				if m.wakeAt == e.at {
					s.step(m, site.Input{})
				}
			case evSynced:
				s.synced(m)
			}
		}
		if stop != nil && s.events%8 == 0 && stop() {
			return
		}
	}
}
