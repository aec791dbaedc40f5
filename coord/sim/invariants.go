package sim

import (
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// checker holds the invariants. All the time, on honest boxes (whatever happens to their disks):
//
//  1. agreement: two boxes never deliver different blocks at one height;
//  2. no box contradicts what it signed, also across restarts: one notarize and one finalize vote a
//     round, one empty vote a term, no finalize at or above an own empty level, no empty at or below
//     an own finalize vote;
//  3. a box speaks only for itself;
//  4. a certificate that a box writes down holds: a quorum less the faulty boxes really sent that vote,
//     and had it on disk when they did;
//  5. acknowledged implies durable: a client is told of a height only when the box has shown it as final, so
//     that by 4 a quorum has what makes it final on disk; in the end the box has it again. (Right after a power cut it may
//     not: the block is final by what others have on disk too, and a box waits for its own votes only.)
//  6. heights and revisions never go back on a running box;
//  7. evidence convicts only liars, and without any nobody is suspected;
//  8. what a box remembers, and what its log keeps below a signed checkpoint, is bounded;
//  9. what travels survives the wire unchanged (sampled);
//  10. whatever quorum of an epoch's members is asked which round they claim in it, one claims a round at or above that of every
//     block of that epoch that a client was told of, and of the block that ended it before a client was told of a later one;
//  11. an epoch ends in one way, with one block and one next member set, and no box signs anything in an epoch that it was seen to
//     leave, whatever restarts;
//  12. decisions end alike on all boxes, each once, and take effect with the words of a quorum and on what they knew only (decideclient.go).
//
// At the end (trial.go), within HealMax: everything that clients asked took effect exactly once on every
// honest member, and all have the same state; every change of members took effect, every honest member is in the last epoch, and the
// boxes that were removed know it; then, within RestMax, nobody has anything to do.
type checker struct {
	s       *Sim
	shown   map[coord.Digest]bool // the blocks of canon
	canon   map[uint64]coord.Digest
	notar   map[voteKey]coord.Digest
	fin     map[voteKey]coord.Digest
	finTop  map[voteKey]uint64         // by term: highest finalize vote
	empty   map[voteKey]uint64         // by term: level
	ends    map[uint64]coord.Digest    // by epoch: how it ended
	lasts   map[uint64]uint64          // by epoch: the round of its last block
	votes   map[certKey]uint64         // which honest boxes sent that vote, by bit
	level   map[voteKey]uint64         // by term: the lowest level that a box ever sent
	past    map[int][]coord.Vote       // by box: what it signed and does not know
	known   map[int]map[certKey]uint64 // by box: who knew which votes of its own when it last started, by bit
	excused map[int]bool               // boxes that may have voted twice without knowing
	acked   []uint64                   // by machine: the highest height that it told a client of
	seen    []progress                 // by machine
	wires   uint64
	rounds  map[uint64]place // by height: that of a block that was delivered
	told    place            // the highest of those that a client was told of
	claims  []uint64         // reused
}

// place is a round of an epoch.
type place struct{ epoch, round uint64 }

func (p place) after(q place) bool {
	return p.epoch > q.epoch || p.epoch == q.epoch && p.round > q.round
}

type voteKey struct {
	id        int // of an identity
	epoch, at uint64
}

type certKey struct {
	epoch  uint64
	kind   coord.VoteKind
	round  uint64
	digest coord.Digest
}

// progress is what a running box showed last.
type progress struct {
	inc              int
	height, revision uint64
}

func newChecker(s *Sim) checker {
	return checker{
		s: s, canon: map[uint64]coord.Digest{}, rounds: map[uint64]place{}, ends: map[uint64]coord.Digest{}, lasts: map[uint64]uint64{}, shown: map[coord.Digest]bool{}, notar: map[voteKey]coord.Digest{}, fin: map[voteKey]coord.Digest{},
		finTop: map[voteKey]uint64{}, empty: map[voteKey]uint64{}, votes: map[certKey]uint64{}, level: map[voteKey]uint64{},
		acked: make([]uint64, len(s.nodes)), seen: make([]progress, len(s.nodes)),
		past: map[int][]coord.Vote{}, excused: map[int]bool{}, known: map[int]map[certKey]uint64{},
	}
}

// A box that lost its log, and does not know that it did, may vote again where nobody who answers its question
// knows that it voted. From the first answer that names such a vote it must not.

// forgets puts what a box signed and its log does not have aside, until it could know that it did.
func (c *checker) forgets(m *machine) {
	id := m.id()
	has, final := m.disk.votes(func(v *coord.Vote) bool { return c.s.number(v.Epoch, int(v.Voter)) == id })
	c.excused[id] = true
	c.known[id] = c.knows(m)
	c.past[id] = nil // what it forgot before and nobody told it stays forgotten
	take := func(kind coord.VoteKind, seen map[voteKey]coord.Digest) {
		for k, d := range seen {
			if x := (certKey{k.epoch, kind, k.at, d}); k.id == id && k.at > final[k.epoch] && !has[x] {
				delete(seen, k)
				c.past[id] = append(c.past[id], coord.Vote{Kind: kind, Epoch: k.epoch, Round: k.at, Digest: d})
			}
		}
	}
	take(coord.VoteNotarize, c.notar)
	take(coord.VoteFinalize, c.fin)
	for k, l := range c.empty {
		if x := (certKey{epoch: k.epoch, kind: coord.VoteEmpty, round: l}); k.id == id && k.at >= final[k.epoch]/c.s.o.Term && !has[x] {
			delete(c.empty, k)
			c.past[id] = append(c.past[id], coord.Vote{Kind: coord.VoteEmpty, Epoch: k.epoch, Round: l})
		}
	}
	for k := range c.finTop {
		if k.id == id {
			delete(c.finTop, k)
		}
	}
	for k := range c.fin {
		if term := (voteKey{id, k.epoch, k.at / c.s.o.Term}); k.id == id {
			c.finTop[term] = max(c.finTop[term], k.at)
		}
	}
}

// knows says which honest others know which votes of a box, by bit.
func (c *checker) knows(m *machine) map[certKey]uint64 {
	known := map[certKey]uint64{}
	for _, o := range c.s.live() {
		if o.box == nil || o == m {
			continue
		}
		if i := c.s.place(m, o.box.Epoch().Members); i >= 0 {
			for _, v := range o.box.Core().Known(i) {
				known[certKey{v.Epoch, v.Kind, v.Round, v.Digest}] |= 1 << o.id()
			}
		}
	}
	return known
}

// faulty is how many members of an epoch lie, or have a disk that forgets.
func (c *checker) faulty(ms *coord.Members, weak bool) (k int) {
	for _, m := range c.s.nodes {
		if (m.liar != "" && m.idx == m.id() || weak && m.forgot) && c.s.place(m, ms) >= 0 {
			k++
		}
	}
	return k
}

// decides: a box that does not know that it forgot sends its first vote. If more than f honest others knew one of its
// votes when it started, and the same ones do, then nobody can ask a quorum without hearing of it: it must not
// contradict any.
func (c *checker) decides(m *machine) {
	id := m.id()
	past, now := c.past[id], c.knows(m)
	for i := range past {
		v := &past[i]
		f := coord.MaxFaulty(c.s.epochs[v.Epoch].N())
		if k := (certKey{v.Epoch, v.Kind, v.Round, v.Digest}); bits.OnesCount64(now[k]&c.known[id][k]) > f {
			delete(c.past, id)
			for k := range past {
				c.sent(m, id, &past[k])
			}
			return
		}
	}
}

// voteOf is the vote that a message is, if it is one.
func (s *Sim) voteOf(m *machine, p *coord.PeerMsg) *coord.Vote {
	if q := p.Proposal; q != nil && q.Block != nil {
		return &coord.Vote{
			Kind: coord.VoteNotarize, Epoch: q.Block.Epoch, Round: q.Block.Round, Digest: q.Block.Digest(),
			Voter: uint8(s.place(m, s.epochs[q.Block.Epoch])),
		}
	}
	return p.Vote
}

// HealMax is how long after all faults have ended everything must be done. A leader is given up after at
// most 32 timeouts, when five in a row failed before. Then up to f liars lead one after the other, two terms pass
// for a box that does not know what it signed, and one honest leader orders what waits; a client
// waits clientTry for each box.
func HealMax(o *Options) time.Duration {
	n := o.N + len(o.Plan.Fresh)
	return time.Duration(coord.MaxFaulty(n)+3)*32*timeout*time.Duration(1+len(o.Plan.Changes)) + time.Duration(n)*time.Duration(clientTry) + slow(o)
}

// slow is what the network's delay adds: catching up takes many round trips.
func slow(o *Options) time.Duration { return 50 * (o.Plan.Net.DelayLo + o.Plan.Net.DelayHi) }

// liveMax bounds what a core remembers: a few windows of votes and the pending batches of all boxes.
func (c *checker) liveMax() int { return 2000 + 400*c.s.total }

const (
	// restMax bounds what a core remembers when nobody has anything to do: the newest of each.
	restMax = 150
	// logMax bounds the records of a log: what was ordered since the last signed checkpoint, with a window of votes.
	logMax = 2000
)

func (c *checker) stepped(m *machine) {
	if m.liar != "" || m.box == nil {
		return
	}
	if l := m.box.Core().Live(); l > c.liveMax() {
		c.s.bad("MEMORY: box %d remembers %d things", m.idx, l)
	}
	p, st := &c.seen[m.idx], m.box.State()
	if p.inc == m.inc && (st.Height() < p.height || st.Revision() < p.revision) {
		c.s.bad("BACK: box %d goes from height %d revision %d to %d %d", m.idx, p.height, p.revision, st.Height(), st.Revision())
	}
	*p = progress{m.inc, st.Height(), st.Revision()}
	final, _ := m.box.Final()
	c.rounds[final.Height] = place{final.Epoch, final.Round}
	if c.s.events&7 == 0 {
		c.claimed()
	}
}

// claimed checks, for each epoch, the quorum of its members that claims least: liars and boxes with a disk that forgot say 0, also while
// they are down. Who is in another epoch says nothing.
func (c *checker) claimed() {
	for epoch := uint64(1); epoch <= c.told.epoch; epoch++ {
		ms := c.s.epochs[epoch]
		need, ended := c.lasts[epoch]
		if epoch == c.told.epoch {
			need = c.told.round
		} else if !ended {
			continue
		}
		c.claims = c.claims[:0]
		for _, m := range c.s.nodes {
			if m.id() != m.idx || c.s.place(m, ms) < 0 { // twins are one member, and lie
				continue
			}
			round, ok := uint64(0), true
			if m.liar == "" && !m.forgot && !c.excused[m.id()] {
				if m.box == nil || m.box.Epoch().Members.Epoch != epoch || m.box.Removed() {
					continue
				}
				round, ok = m.box.Core().Claim()
			}
			if ok {
				c.claims = append(c.claims, round)
			}
		}
		slices.Sort(c.claims)
		if q := coord.Quorum(ms.N()); len(c.claims) >= q && c.claims[q-1] < need {
			c.s.bad("STALE: a quorum of epoch %d claims rounds up to %d, a client was told of %v", epoch, c.claims[q-1], c.told)
		}
	}
}

// entered: a box has begun an epoch, for all to see.
func (c *checker) entered(m *machine, ep *site.Epoch) {
	m.left = max(m.left, ep.Members.Epoch-1)
	for _, h := range m.box.Past() {
		e := h.Members.Epoch
		if d, ok := c.ends[e]; ok && d != h.Digest() {
			c.s.bad("HANDOVER: box %d has epoch %d end in another way", m.idx, e)
		}
		c.ends[e], c.lasts[e] = h.Digest(), h.Header.Round
		if len(h.Sigs) <= coord.MaxFaulty(h.Members.N()) {
			c.s.bad("HANDOVER: box %d left epoch %d with %d signatures", m.idx, e, len(h.Sigs))
		}
	}
}

// visible: what the box showed, or could have shown, as final, and what it wrote down.
func (c *checker) visible(m *machine, e *pending) {
	if m.liar != "" {
		return
	}
	for i := range e.Persist {
		r := &e.Persist[i]
		if r.Cert != nil {
			c.holds(m, r.Cert)
		}
		if r.Final != nil && r.Final.Cert != nil {
			c.holds(m, r.Final.Cert)
		}
	}
	if e.height == 0 {
		return
	}
	if o, ok := c.canon[e.height]; ok && o != e.final {
		c.s.bad("FORK at height %d on box %d", e.height, m.idx)
	}
	c.canon[e.height], c.shown[e.final] = e.final, true
	if e.height > m.applied {
		c.s.log(m.idx, "final", "height %d %v", e.height, e.final.Short())
	}
	m.applied = max(m.applied, e.height)
}

// holds: enough honest boxes sent the votes of a certificate; the box's own may be about to be sent.
func (c *checker) holds(m *machine, x *coord.Cert) {
	ms := c.s.epochs[x.Epoch]
	if ms == nil {
		c.s.bad("CERTIFICATE: box %d takes one of epoch %d", m.idx, x.Epoch)
		return
	}
	k := c.faulty(ms, false) + 1
	switch x.Kind {
	case coord.VoteEmpty:
		for i := range ms.List {
			if l, ok := c.level[voteKey{c.s.number(x.Epoch, i), x.Epoch, x.Round / c.s.o.Term}]; ok && l <= x.Round {
				k++
			}
		}
	case coord.VoteNotarize, coord.VoteFinalize:
		if x.Kind == coord.VoteFinalize && c.shown[x.Digest] { // as the ancestor of a final block: f+1 boxes may say so
			return
		}
		k += bits.OnesCount64(c.votes[certKey{x.Epoch, x.Kind, x.Round, x.Digest}])
	default:
		return
	}
	if k < coord.Quorum(ms.N()) {
		c.s.bad("CERTIFICATE: box %d takes %v of round %d, which too few boxes voted for", m.idx, x.Kind, x.Round)
	}
}

func (c *checker) answers(m *machine, p coord.Reply) {
	if m.liar != "" || p.Code != coord.CodeOK {
		return
	}
	if p.Height > m.applied {
		c.s.bad("EARLY: box %d acknowledges height %d, it has shown %d", m.idx, p.Height, m.applied)
	}
	c.acked[m.idx] = max(c.acked[m.idx], p.Height)
	if r := c.rounds[p.Height]; r.after(c.told) {
		c.told = r
		c.claimed()
	}
}

// sends is the monitor on every vote of an honest box.
func (c *checker) sends(m *machine, p *coord.PeerMsg) {
	v := c.s.voteOf(m, p)
	if v == nil {
		return
	}
	id := c.s.number(v.Epoch, int(v.Voter))
	if !slices.Contains(m.ids, id) {
		c.s.bad("VOICE: box %d sent a vote of box %d", m.idx, id)
	}
	if v.Epoch <= m.left && !m.forgot {
		c.s.bad("LEFT: box %d votes in epoch %d, which it has left", m.idx, v.Epoch)
	}
	if m.undecided && m.box != nil {
		if _, asking := m.box.Core().Silent(); !asking {
			m.undecided = false
			c.decides(m)
		}
	}
	c.sent(m, id, v)
}

func (c *checker) sent(m *machine, id int, v *coord.Vote) {
	at, term := voteKey{id, v.Epoch, v.Round}, voteKey{id, v.Epoch, v.Round / c.s.o.Term}
	switch v.Kind {
	case coord.VoteNotarize:
		c.once(m, c.notar, at, v)
	case coord.VoteFinalize:
		c.once(m, c.fin, at, v)
		if l, ok := c.empty[term]; ok && v.Round >= l {
			c.twice(m, "votes to finalize round %d after empty at %d", v.Round, l)
		}
		c.finTop[term] = max(c.finTop[term], v.Round)
	case coord.VoteEmpty:
		if l, ok := c.empty[term]; ok && l != v.Round {
			c.twice(m, "votes empty at %d and %d of a term", l, v.Round)
		}
		if l, ok := c.level[term]; !ok || v.Round < l {
			c.level[term] = v.Round
			c.s.log(m.idx, "vote", "empty from round %d", v.Round)
		}
		c.empty[term] = v.Round
		if r, ok := c.finTop[term]; ok && r >= v.Round {
			c.twice(m, "votes empty at %d after finalize at %d", v.Round, r)
		}
	}
}

func (c *checker) once(m *machine, seen map[voteKey]coord.Digest, k voteKey, v *coord.Vote) {
	o, ok := seen[k]
	if ok && o != v.Digest {
		c.twice(m, "votes to %v %v and %v in round %d", v.Kind, o.Short(), v.Digest.Short(), v.Round)
	}
	if !ok {
		seen[k] = v.Digest
		c.votes[certKey{v.Epoch, v.Kind, v.Round, v.Digest}] |= 1 << k.id
		if term := (voteKey{k.id, k.epoch, v.Round / c.s.o.Term}); v.Kind == coord.VoteFinalize {
			c.finTop[term] = max(c.finTop[term], v.Round)
		}
		if m.liar == "" {
			c.s.log(m.idx, "vote", "%v round %d %v", v.Kind, v.Round, v.Digest.Short())
		}
	}
}

func (c *checker) twice(m *machine, format string, args ...any) {
	c.s.bad("TWICE: box %d "+format, append([]any{m.idx}, args...)...)
}

func (c *checker) evidence(m *machine, e coord.Evidence) {
	if m.liar == "" {
		c.s.evidence++
	}
	for _, x := range c.s.honest {
		// A box with an old disk that voted again where those who answered it knew of no vote has signed two things: what
		// it is convicted of is true, and the operator's doing (docs/decisions/0002).
		if id := c.s.number(e.A.Epoch, int(e.A.Voter)); slices.Contains(x.ids, id) && m.liar == "" && !c.excused[x.id()] {
			c.s.bad("SLANDER: evidence of box %d convicts honest box %d", m.idx, x.idx)
		}
	}
}

// replaced: the new box has told nobody anything.
func (c *checker) replaced(m *machine) { c.acked[m.idx] = 0 }

// ended checks what a box has in the end.
func (c *checker) ended(m *machine) {
	if h := m.box.State().Height(); h < c.acked[m.idx] {
		c.s.bad("LOST: box %d told a client of height %d and is at %d", m.idx, c.acked[m.idx], h)
	}
	if l := m.box.Core().Live(); l > restMax {
		c.s.bad("MEMORY: box %d remembers %d things at rest", m.idx, l)
	}
	if c.s.plan.honest() {
		for i, n := range m.box.Core().Stats().Bad {
			if n > 0 {
				c.s.bad("SUSPICION: box %d says that honest box %d sent %d things that do not hold", m.idx, i, n)
			}
		}
	}
	n := 0
	for _, s := range m.disk.segments {
		n += len(s)
	}
	if n > logMax {
		c.s.bad("LOG: box %d keeps %d records", m.idx, n)
	}
}

// wireEvery is how often a message goes through the codec on its way.
const wireEvery = 16

// onWire is a message as its receiver gets it, nil when it cannot be decoded: then a liar sent it.
func (c *checker) onWire(m *machine, p *coord.PeerMsg) *coord.PeerMsg {
	odd := m.liar == liar.Garbage || m.liar == liar.Chaos
	if c.wires++; c.wires%wireEvery != 0 && !odd {
		return p
	}
	q, err := wire.DecodePeer(wire.AppendPeer(nil, p))
	if err != nil && !odd {
		c.s.bad("WIRE: a message does not survive the wire: %v: %s", err, describe(p))
	}
	return q
}

func describe(p *coord.PeerMsg) string {
	v := reflect.ValueOf(*p)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Epoch" && !v.Field(i).IsZero() {
			return fmt.Sprintf("%s %+v", name, v.Field(i))
		}
	}
	return "empty"
}

// finished says whether all that clients asked is done and every honest box has it, and if not, what is missing.
func (s *Sim) finished() (bool, string) {
	for _, c := range s.clients {
		if !c.finished() {
			return false, fmt.Sprintf("client %d still waits", c.session)
		}
	}
	want := map[uint64]uint64{}
	puts := uint64(0)
	for _, c := range s.clients {
		for _, o := range c.ops {
			if o.kind == coord.KindPut {
				puts++
			} else {
				want[o.object]++
			}
		}
	}
	var total uint64
	for _, n := range want {
		total += n
	}
	if ok, missing := s.changed(); !ok {
		return false, missing
	}
	for _, m := range s.current() {
		if m.box == nil {
			return false, fmt.Sprintf("box %d is down", m.idx)
		}
		st := m.box.State()
		sum, _, top := st.Top(len(want))
		if sum > total || s.etcd == nil && st.Revision() > puts+1 {
			s.bad("DOUBLE: box %d counts %d of %d accesses and %d of %d puts", m.idx, sum, total, st.Revision()-1, puts)
			return true, ""
		}
		if sum < total || st.Revision() < puts+1 {
			return false, fmt.Sprintf("box %d has %d of %d accesses, %d of %d puts, at height %d", m.idx, sum, total, st.Revision()-1, puts, m.applied)
		}
		for _, c := range top {
			if want[c.Object] != c.Count {
				s.bad("LOST: box %d counts %d for object %d, want %d", m.idx, c.Count, c.Object, want[c.Object])
			}
		}
	}
	if s.decide != nil {
		return s.decide.finished()
	}
	return true, ""
}
