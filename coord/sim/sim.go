package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

const ms = int64(time.Millisecond)

// machine is one computer that runs a box. Twins are two machines with one identity.
type machine struct {
	idx     int
	ids     []int // who it is, by number; the last one is the newest
	inc     int
	box     *site.Box // nil while it is down
	disk    *disk
	queue   []pending // waiting for the disk, in order
	writing int       // how many of queue the running sync covers
	wakeAt  int64
	liar    liar.Kind
	lies    *liar.Liar // with liar
	applied uint64     // highest height seen applied, across restarts
	round   uint64     // highest round seen, across restarts
	install *installing
	clock   clock
	ears    map[coord.BoxID]*ear
	heard   []int // by machine: the newest incarnation that a message came from; its connection replaced older ones

	// What is wrong with it now.
	slow, cost int64 // added to every sync, taken by every step
	slowState  int64 // added to every commit
	busyUntil  int64 // it does nothing before
	stuck      bool  // no sync ends
	full       bool  // and no commit
	eio        bool  // the next sync fails
	failed     bool  // a sync failed: the box is silent until it is restarted
	forgot     bool  // its disk was not whole once: it counts as faulty
	lost       bool  // at the next start its log is not whole, and it does not know that
	undecided  bool  // it has not voted since
	old        *disk // an image taken earlier

	members *coord.Members    // what its site.json says
	given   []*coord.Handover // what it was told when it joined
	says    *site.Epoch       // whose members it is linked with, and who it is there
	left    uint64            // the last epoch that it has been seen to leave
	joins   bool              // it is no member yet
	asked   bool              // but asked to be one
	gone    bool              // its disk and key are lost
	worded  int64             // its operator waits until then
}

// name is what others know the machine by now.
func (s *Sim) name(m *machine) coord.BoxID {
	if m.says != nil && m.says.Self >= 0 {
		return m.says.Me()
	}
	return s.ids[m.ids[len(m.ids)-1]]
}

// id is the number of the identity that the machine began with.
func (m *machine) id() int { return m.ids[0] }

// pending is the effects of a Step and what the box then took for final: it counts when they
// become visible, for until then a power cut undoes it.
type pending struct {
	site.Effects
	height uint64
	final  coord.Digest
}

// Sim is one site under test.
type Sim struct {
	o        Options
	rng      *rand.Rand
	q        queue
	seq      uint64
	now      int64
	n        int // boxes at first
	total    int // and those that may come
	ids      []coord.BoxID
	numbers  map[coord.BoxID]int
	epochs   map[uint64]*coord.Members // that honest boxes work with
	top      uint64                    // the last of them
	founders *coord.Members
	change   *changing
	trapped  map[int]int // how often a trap of the plan went off
	todo     []*Change
	etcd     *kvClient     // in a third of the trials
	decide   *decideClient // in a quarter
	nodes    []*machine
	honest   []*machine
	plan     *Plan
	endAt    int64    // of the faults
	cut      [][]bool // machine i cannot reach machine j
	flapped  [][]bool // nor then
	linked   [][]bool // what the boxes were told
	linkedAs map[[2]int]coord.BoxID
	cutBy    *Fault
	loss     float64
	dup      float64
	jitter   int64
	spike    int64
	clients  []*client
	acked    uint64
	evidence int // handed up by honest boxes
	suspects []Suspicion
	healed   bool
	used     map[FaultKind]int
	check    checker

	events uint64
	fail   string
	digest digest
}

func newSim(o Options) *Sim {
	s := &Sim{
		o: o, rng: newRand(o.Seed, 0x486f6c6466617374), n: o.N, used: map[FaultKind]int{},
		numbers: map[coord.BoxID]int{}, trapped: map[int]int{}, linkedAs: map[[2]int]coord.BoxID{}, epochs: map[uint64]*coord.Members{}, top: 1,
	}
	if s.o.Term == 0 {
		s.o.Term = []uint64{1, 3, 8, 64, 1000}[o.Seed%5]
	}
	if s.o.Plan == nil {
		s.o.Plan = NewPlan(s.o)
	}
	s.plan = s.o.Plan
	s.endAt, s.loss = int64(s.plan.End), s.plan.Net.Loss
	s.total = o.N + len(s.plan.Fresh)
	s.founders = &coord.Members{Site: coord.SiteID{1, 2, 3}, Epoch: 1}
	for range s.total {
		s.addMachine(s.newIdentity())
	}
	for i := range o.N {
		s.founders.List = append(s.founders.List, s.member(i))
		s.nodes[i].members = s.founders
	}
	s.epochs[1] = s.founders
	for i, k := range s.plan.Fresh {
		s.nodes[o.N+i].joins, s.nodes[o.N+i].liar = true, k
	}
	for _, l := range s.plan.Liars {
		s.nodes[l.Box].liar = l.Kind
		if l.Kind == liar.Twins {
			t := s.addMachine(l.Box)
			t.liar, t.members = liar.Twins, s.founders
		}
	}
	for _, m := range s.nodes {
		m.heard = make([]int, len(s.nodes))
		if m.liar == "" {
			s.honest = append(s.honest, m)
		}
	}
	s.check = newChecker(s)
	return s
}

func (s *Sim) addMachine(id int) *machine {
	m := &machine{ids: []int{id}, idx: len(s.nodes), disk: newDisk()}
	s.nodes = append(s.nodes, m)
	grow := func(x *[][]bool) {
		for i := range *x {
			(*x)[i] = append((*x)[i], false)
		}
		*x = append(*x, make([]bool, len(s.nodes)))
	}
	grow(&s.cut)
	grow(&s.flapped)
	grow(&s.linked)
	return m
}

func (s *Sim) site() coord.SiteID { return s.founders.Site }

func (s *Sim) bad(format string, args ...any) {
	if s.fail == "" {
		s.fail = fmt.Sprintf(format, args...)
		s.log(-1, "FAILED", "%s", s.fail)
	}
}

// eventsMax ends a trial that goes on and on: about a thousand times an ordinary one.
const eventsMax = 5_000_000

// timeout of the boxes under test; the product's default.
const timeout = 500 * time.Millisecond

func (s *Sim) tuning() site.Tuning {
	return site.Tuning{
		TermRounds: s.o.Term, Timeout: timeout, CommitEvery: 200 * time.Millisecond, CommitBytes: 2 << 10,
		SegmentBytes: 6 << 10, BlockBytes: 4 << 10, PendingMax: 64,
		// Blocks on blocks that are not final yet: always, by how much there is to say, and hardly ever.
		PipelineBytes: [...]int{1, 512, 64 << 10}[s.o.Seed%3],
		// Small enough that a trial sees several checkpoints, pruned logs and fetched states.
		Checkpoint: state.Rule{BytesMin: 8 << 10, GapBlocks: 4},
	}
}

// boot starts a box from its disk.
func (s *Sim) boot(m *machine) {
	if m.joins || m.gone {
		return
	}
	m.inc++
	m.queue, m.writing, m.wakeAt, m.install = nil, 0, 0, nil
	m.failed, m.eio, m.busyUntil = false, false, 0
	m.disk.sync() // the store makes durable what it reads from the page cache of a killed process
	box, err := site.NewBox(site.BoxConfig{
		Nonce:   s.rng.Uint64() | 1,
		Members: m.members, KeysOf: s.keysOf(m), Tuning: s.tuning(), Handovers: append(slices.Clone(m.given), m.disk.ended()...),
	}, m.disk.back, m.disk.back.Committed())
	if err != nil {
		s.bad("START: box %d does not start: %v", m.idx, err)
		return
	}
	for _, seg := range m.disk.segments {
		for i := range seg {
			box.Replay(&seg[i])
		}
	}
	box.Start()
	m.box = box
	s.log(m.idx, "start", "at height %d, round %d, epoch %d", box.State().Height(), box.Core().Round(), box.Epoch().Members.Epoch)
	if m.liar == "" { // perhaps it lost power when that was durable and nobody had seen it yet
		s.known(m, box.Epoch())
		s.check.entered(m, box.Epoch())
	}
	s.says(m, box.Epoch())
	if m.forgot { // what it sent before it went away is gone from the network
		for _, t := range s.nodes {
			t.heard[m.idx] = m.inc
		}
		if m.lost {
			s.check.forgets(m)
			m.undecided = true
		}
		m.lost = false
	}
	s.step(m, site.Input{})
	if s.o.Suspicion {
		s.listen(m)
	}
	for _, t := range s.nodes {
		s.relink(m, t)
		s.relink(t, m)
	}
}

// says links a machine with the members of an epoch.
func (s *Sim) says(m *machine, ep *site.Epoch) {
	m.says = ep
	m.lies = nil
	if m.liar != "" && ep.Self >= 0 {
		m.lies = s.newLiar(m)
	}
	for _, t := range s.nodes {
		s.relink(t, m)
	}
}

// stop ends a box. What is being written may be there in part.
func (s *Sim) stop(m *machine) bool {
	if m.box == nil {
		return false
	}
	m.inc++
	m.round = max(m.round, m.box.Core().Round())
	m.box = nil
	for i := range m.queue {
		if i >= max(m.writing, s.rng.IntN(2)) {
			break
		}
		m.disk.append(s.site(), m.queue[i].Persist)
	}
	m.queue, m.disk.snap = nil, nil
	for _, t := range s.nodes {
		s.relink(t, m)
	}
	return true
}

// powerCut loses what was not synced, in part.
func (s *Sim) powerCut(m *machine) bool {
	if !s.stop(m) {
		return false
	}
	s.log(m.idx, "down", "loses power")
	m.disk.powerCut(s.site(), s.rng)
	return true
}

// kill ends the process alone: what was written stays in the page cache.
func (s *Sim) kill(m *machine) bool {
	if !s.stop(m) {
		return false
	}
	s.log(m.idx, "down", "is killed")
	return true
}

// reach says whether a message from a to b can arrive now.
func (s *Sim) reach(a, b *machine) bool {
	return a.box != nil && b.box != nil && !s.cut[a.idx][b.idx] && !s.flapped[a.idx][b.idx] && a.liar != liar.Dead && b.liar != liar.Dead
}

// relink tells a whether its link to b is up, some time after it changed.
func (s *Sim) relink(a, b *machine) {
	if a.id() == b.id() || a.box == nil {
		return
	}
	s.callFor(a, s.now+s.rng.Int64N(20*ms)+ms, func() {
		up := s.reach(a, b) && s.reach(b, a)
		at, name := [2]int{a.idx, b.idx}, s.name(b)
		if was := s.linkedAs[at]; was != name && s.linked[a.idx][b.idx] { // it has another key now: the link to the old one is gone
			s.linked[a.idx][b.idx] = false
			s.step(a, site.Input{Link: &site.Link{Peer: was}})
		}
		if s.linked[a.idx][b.idx] != up {
			s.linked[a.idx][b.idx], s.linkedAs[at] = up, name
			s.step(a, site.Input{Link: &site.Link{Peer: name, Up: up}})
		}
	})
}

// step gives a box one input and queues what it wants done.
func (s *Sim) step(m *machine, in site.Input) {
	e := pending{Effects: m.box.Step(in, m.clock.now(s.now))}
	final, d := m.box.Final()
	e.height, e.final = final.Height, d
	if e.Fault != "" && m.liar == "" {
		s.bad("FAULT: box %d: %s", m.idx, e.Fault)
	}
	if e.Wake > 0 {
		e.Wake = m.clock.when(e.Wake)
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
	if len(m.queue) == 0 && !e.Sync && e.Roll == nil && e.Stable == nil && !m.stuck {
		m.disk.append(s.site(), e.Persist)
		s.release(m, &e)
		return
	}
	m.queue = append(m.queue, e)
	s.kick(m)
}

// kick starts a sync of everything that waits: group commit.
func (s *Sim) kick(m *machine) {
	if m.writing > 0 || len(m.queue) == 0 || m.stuck {
		return
	}
	m.writing = len(m.queue)
	d := 1 + s.rng.Int64N(2*ms) + m.slow
	if s.rng.IntN(100) == 0 {
		d += s.rng.Int64N(60 * ms)
	}
	s.post(s.now+d, event{node: m.idx, inc: m.inc, kind: evSynced})
}

func (s *Sim) synced(m *machine) {
	switch {
	case m.stuck:
		m.writing = 0
		return
	case m.eio:
		s.log(m.idx, "fault", "a sync fails: the box is silent from here on")
		m.eio, m.failed = false, true
		for _, t := range s.nodes {
			s.relink(t, m)
		}
		return
	}
	es := m.queue[:m.writing]
	m.queue = append([]pending(nil), m.queue[m.writing:]...)
	m.writing = 0
	prune := false
	for i := range es {
		m.disk.append(s.site(), es[i].Persist)
		prune = prune || es[i].Stable != nil || es[i].Roll != nil
		if es[i].Roll != nil {
			m.disk.roll(s.site(), es[i].Roll)
		}
	}
	m.disk.sync()
	if f, p := m.disk.back.Committed(), m.box.Core().Stable(); prune && f != nil && p != nil {
		m.disk.prune(s.site(), min(f.Header.Height, p.Header.Height))
	}
	for i := range es {
		if es[i].Epoch != nil && s.springs(m, TrapRecord) {
			return
		}
		if s.release(m, &es[i]); m.box == nil { // a trap
			return
		}
	}
	s.kick(m)
}

// release makes visible what waited for the log.
func (s *Sim) release(m *machine, e *pending) {
	s.check.visible(m, e)
	inc := m.inc
	if e.Epoch != nil {
		s.log(m.idx, "epoch", "%d, member %d", e.Epoch.Members.Epoch, e.Epoch.Self)
		if m.liar == "" {
			s.known(m, e.Epoch)
		}
		if s.rng.IntN(3) > 0 { // site.json is written, or not yet
			m.members = e.Epoch.Members
		}
	}
	if e.Reach != nil {
		s.says(m, e.Reach)
	}
	for _, o := range e.Send {
		if m.liar == "" {
			s.check.sends(m, o.Msg)
		}
		s.send(m, o)
	}
	if s.decide != nil && m.liar == "" {
		s.decide.decided(m, e.Decided)
	}
	if e.Epoch != nil && m.liar == "" && m.inc == inc {
		s.check.entered(m, e.Epoch)
	}
	for _, a := range e.Answers {
		s.check.answers(m, a.Reply)
		a.Request.Done(a.Reply)
	}
	if c := e.Commit; c != nil && m.inc == inc && (c.Handover == nil || !s.springs(m, TrapCommit)) {
		s.commit(m, c)
	}
}

// commit is the background write of state.
func (s *Sim) commit(m *machine, c *coord.Commit) {
	s.callFor(m, s.now+s.rng.Int64N(20*ms)+1+m.slowState, func() {
		if m.full {
			s.commit(m, c)
			return
		}
		if err := m.disk.back.Commit(c); err != nil {
			s.bad("COMMIT: box %d: %v", m.idx, err)
			return
		}
		if c.Handover != nil {
			m.disk.handovers[c.Handover.Members.Epoch] = c.Handover
			if s.springs(m, TrapSigned) {
				return
			}
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
		k := m.box.Epoch().Keys
		s.callFor(m, s.now+ms/10, func() {
			s.step(m, site.Input{Checked: &bft.Checked{Digest: h.Digest, OK: k.VerifyBatch(h.Batch)}})
		})
	}
	for _, h := range e.Handovers {
		s.callFor(m, s.now+1+s.rng.Int64N(40*ms), func() { m.disk.handovers[h.Members.Epoch] = h })
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
	for i := range e.Trust {
		s.suspicion(m, &e.Trust[i])
	}
	for _, ev := range e.Evidence {
		s.check.evidence(m, ev)
	}
}

func (s *Sim) serve(m *machine, v site.Serve) {
	for _, d := range v.Batches {
		if b := m.disk.batches[d]; b != nil {
			s.send(m, coord.Parcel{To: v.To, Msg: &coord.PeerMsg{Epoch: v.Epoch, Batch: b}})
		}
	}
	if !v.Blocks {
		return
	}
	bs, x := m.disk.after(v.After, 16)
	if len(bs) > 0 && bs[0].Epoch < v.Epoch {
		s.offer(m, v.To)
		return
	}
	if bs, x = site.OfEpoch(bs, x, v.Epoch); x == nil && v.Epoch == m.box.Epoch().Members.Epoch {
		bs = nil
	}
	if len(bs) == 0 {
		if m.disk.low > v.After+1 {
			s.offer(m, v.To)
		}
		return
	}
	s.send(m, coord.Parcel{To: v.To, Msg: &coord.PeerMsg{Epoch: v.Epoch, CatchUp: &coord.CatchUp{Blocks: bs, Cert: x}}})
	for _, b := range bs {
		for i := range b.Refs {
			if bt := m.disk.batches[b.Refs[i].Digest]; bt != nil {
				s.send(m, coord.Parcel{To: v.To, Msg: &coord.PeerMsg{Epoch: v.Epoch, Batch: bt}})
			}
		}
	}
}

// send is what a box says; a liar may say something else.
func (s *Sim) send(m *machine, p coord.Parcel) {
	if m.liar != "" {
		s.lie(m, p)
		return
	}
	s.tell(m, p)
}

// tell puts a message on the wire to its receivers.
func (s *Sim) tell(m *machine, p coord.Parcel) {
	for _, t := range s.nodes {
		switch {
		case t.id() == m.id(), t.joins, t.gone:
		case p.To != (coord.BoxID{}):
			if s.is(t, p.To) {
				s.wire(m, t, p.Msg)
			}
		case m.says != nil && s.place(t, m.says.Members) >= 0:
			s.wire(m, t, p.Msg)
		}
	}
}

func (s *Sim) delay() int64 {
	d := int64(s.plan.Net.DelayLo) + s.rng.Int64N(int64(s.plan.Net.DelayHi)+1)
	if s.jitter > 0 {
		d += s.rng.Int64N(s.jitter)
	}
	if s.spike > 0 && s.rng.IntN(50) == 0 {
		d += s.rng.Int64N(s.spike)
	}
	return d
}

func (s *Sim) wire(m, t *machine, p *coord.PeerMsg) {
	if !s.reach(m, t) || (s.loss > 0 && s.rng.Float64() < s.loss) {
		return
	}
	if p = s.check.onWire(m, p); p == nil {
		return
	}
	e := event{node: t.idx, inc: t.inc, kind: evMessage, from: m.idx, fromInc: m.inc, name: s.name(m), msg: p}
	s.post(s.now+s.delay(), e)
	if s.dup > 0 && s.rng.Float64() < s.dup {
		s.post(s.now+s.delay()+s.rng.Int64N(200*ms), e)
	}
}

// run until a time, or until stop says so.
func (s *Sim) run(until int64, stop func() bool) {
	for len(s.q) > 0 && s.fail == "" {
		if s.q[0].at > until {
			s.now = until
			return
		}
		e := s.q.pop()
		s.now = e.at
		if s.events++; s.events == eventsMax {
			s.bad("BUSY: %d events and no end", eventsMax)
		}
		s.digest.add(&e)
		if e.node < 0 {
			e.fn()
		} else if m := s.nodes[e.node]; m.box != nil && m.inc == e.inc && !m.failed {
			s.happen(m, &e)
		}
		if stop != nil && s.events%8 == 0 && stop() {
			return
		}
	}
}

// happen does one event of a machine that is up.
func (s *Sim) happen(m *machine, e *event) {
	if late := m.busyUntil > s.now; late && !e.ready || m.cost > 0 && e.kind == evMessage && !e.ready {
		e.ready = m.cost > 0
		at := max(m.busyUntil, s.now)
		if e.kind == evWake {
			if m.wakeAt != e.at {
				return
			}
			m.wakeAt = at
		}
		if e.kind == evMessage {
			m.busyUntil = at + m.cost
		}
		s.post(at, *e)
		return
	}
	switch e.kind {
	case evCall:
		e.fn()
	case evMessage:
		if e.fromInc < m.heard[e.from] {
			return
		}
		m.heard[e.from] = e.fromInc
		if m.liar != "" {
			s.hear(m, e.name, e.msg)
		}
		m.hears(e.name, e.msg)
		s.step(m, site.Input{From: e.name, Peer: e.msg})
	case evWake:
		if m.wakeAt == e.at {
			s.step(m, site.Input{})
		}
	case evSynced:
		s.synced(m)
	}
}
