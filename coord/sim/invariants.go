package sim

import (
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
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
//  10. whatever quorum of boxes is asked which round it claims, one claims a round at or above that of every block that
//     a client was told of;
//  11. decisions end alike on all boxes, each once, and take effect with the words of a quorum and on what they knew only (decideclient.go).
//
// At the end (trial.go), within HealMax: everything that clients asked took effect exactly once on every
// honest box, and all boxes have the same state; then, within RestMax, nobody has anything to do.
type checker struct {
	s       *Sim
	shown   map[coord.Digest]bool // the blocks of canon
	canon   map[uint64]coord.Digest
	notar   map[voteKey]coord.Digest
	fin     map[voteKey]coord.Digest
	finTop  map[voteKey]uint64         // by term: highest finalize vote
	empty   map[voteKey]uint64         // by term: level
	votes   map[certKey]uint64         // which honest boxes sent that vote, by bit
	level   map[voteKey]uint64         // by term: the lowest level that a box ever sent
	faulty  int                        // liars
	past    map[int][]coord.Vote       // by box: what it signed and does not know
	known   map[int]map[certKey]uint64 // by box: who knew which votes of its own when it last started, by bit
	excused map[int]bool               // boxes that may have voted twice without knowing
	acked   []uint64                   // by machine: the highest height that it told a client of
	seen    []progress                 // by machine
	wires   uint64
	rounds  map[uint64]uint64 // by height: the round of a block that was delivered
	told    uint64            // the highest of those that a client was told of
	claims  []uint64          // reused
}

type voteKey struct {
	id int
	at uint64
}

type certKey struct {
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
		s: s, canon: map[uint64]coord.Digest{}, rounds: map[uint64]uint64{}, shown: map[coord.Digest]bool{}, notar: map[voteKey]coord.Digest{}, fin: map[voteKey]coord.Digest{},
		finTop: map[voteKey]uint64{}, empty: map[voteKey]uint64{}, votes: map[certKey]uint64{}, level: map[voteKey]uint64{},
		acked: make([]uint64, len(s.nodes)), seen: make([]progress, len(s.nodes)), faulty: len(s.plan.Liars),
		past: map[int][]coord.Vote{}, excused: map[int]bool{}, known: map[int]map[certKey]uint64{},
	}
}

// A box that lost its log, and does not know that it did, may vote again where nobody who answers its question
// knows that it voted. From the first answer that names such a vote it must not.

// forgets puts what a box signed and its log does not have aside, until it could know that it did.
func (c *checker) forgets(m *machine) {
	has, final := m.disk.votes(uint8(m.id))
	c.excused[m.id] = true
	c.known[m.id] = c.knows(m)
	c.past[m.id] = nil // what it forgot before and nobody told it stays forgotten
	take := func(kind coord.VoteKind, seen map[voteKey]coord.Digest) {
		for k, d := range seen {
			if x := (certKey{kind, k.at, d}); k.id == m.id && k.at > final && !has[x] {
				delete(seen, k)
				c.past[m.id] = append(c.past[m.id], coord.Vote{Kind: kind, Round: k.at, Digest: d})
			}
		}
	}
	take(coord.VoteNotarize, c.notar)
	take(coord.VoteFinalize, c.fin)
	for k, l := range c.empty {
		if x := (certKey{kind: coord.VoteEmpty, round: l}); k.id == m.id && k.at >= final/c.s.o.Term && !has[x] {
			delete(c.empty, k)
			c.past[m.id] = append(c.past[m.id], coord.Vote{Kind: coord.VoteEmpty, Round: l})
		}
	}
	for k := range c.finTop {
		if k.id == m.id {
			delete(c.finTop, k)
		}
	}
	for k := range c.fin {
		if term := (voteKey{m.id, k.at / c.s.o.Term}); k.id == m.id {
			c.finTop[term] = max(c.finTop[term], k.at)
		}
	}
}

// knows says which honest others know which votes of a box, by bit.
func (c *checker) knows(m *machine) map[certKey]uint64 {
	known := map[certKey]uint64{}
	for _, o := range c.s.honest {
		if o.box == nil || o.id == m.id {
			continue
		}
		for _, v := range o.box.Core().Known(m.id) {
			known[certKey{v.Kind, v.Round, v.Digest}] |= 1 << o.id
		}
	}
	return known
}

// decides: a box that does not know that it forgot sends its first vote. If more than f honest others knew one of its
// votes when it started, and the same ones do, then nobody can ask a quorum without hearing of it: it must not
// contradict any.
func (c *checker) decides(m *machine) {
	past, now := c.past[m.id], c.knows(m)
	for i := range past {
		v := &past[i]
		if k := (certKey{v.Kind, v.Round, v.Digest}); bits.OnesCount64(now[k]&c.known[m.id][k]) > c.s.f {
			delete(c.past, m.id)
			for k := range past {
				past[k].Voter = uint8(m.id)
				c.sent(m, &past[k])
			}
			return
		}
	}
}

// voteOf is the vote that a message is, if it is one.
func (s *Sim) voteOf(m *machine, p *coord.PeerMsg) *coord.Vote {
	if q := p.Proposal; q != nil && q.Block != nil {
		return &coord.Vote{Kind: coord.VoteNotarize, Round: q.Block.Round, Digest: q.Block.Digest(), Voter: uint8(m.id)}
	}
	return p.Vote
}

// HealMax is how long after all faults have ended everything must be done. A leader is given up after at
// most 32 timeouts, when five in a row failed before. Then up to f liars lead one after the other, two terms pass
// for a box that does not know what it signed, and one honest leader orders what waits; a client
// waits clientTry for each box.
func HealMax(o *Options) time.Duration {
	return time.Duration(coord.MaxFaulty(o.N)+3)*32*timeout + time.Duration(o.N)*time.Duration(clientTry) + slow(o)
}

// slow is what the network's delay adds: catching up takes many round trips.
func slow(o *Options) time.Duration { return 50 * (o.Plan.Net.DelayLo + o.Plan.Net.DelayHi) }

// liveMax bounds what a core remembers: a few windows of votes and the pending batches of all boxes.
func (c *checker) liveMax() int { return 2000 + 400*c.s.n }

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
	final, _ := m.box.Core().Final()
	c.rounds[final.Height] = final.Round
	if c.s.events&7 == 0 {
		c.claimed()
	}
}

// claimed checks the quorum that claims least: liars and boxes with a disk that forgot say 0, also while they are down.
func (c *checker) claimed() {
	c.claims = c.claims[:0]
	for _, m := range c.s.nodes {
		round, ok := uint64(0), m.id == m.idx // twins are one member, and lie
		if m.liar == "" && !m.forgot && !c.excused[m.id] {
			if m.box == nil {
				continue
			}
			round, ok = m.box.Core().Claim()
		}
		if ok {
			c.claims = append(c.claims, round)
		}
	}
	slices.Sort(c.claims)
	if q := coord.Quorum(c.s.n); len(c.claims) >= q && c.claims[q-1] < c.told {
		c.s.bad("STALE: a quorum claims rounds up to %d, a client was told of one in %d", c.claims[q-1], c.told)
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
	if x.Epoch != c.s.members.Epoch {
		c.s.bad("CERTIFICATE: box %d takes one of epoch %d", m.idx, x.Epoch)
	}
	k := c.faulty + 1
	switch x.Kind {
	case coord.VoteEmpty:
		for _, h := range c.s.honest {
			if l, ok := c.level[voteKey{h.id, x.Round / c.s.o.Term}]; ok && l <= x.Round {
				k++
			}
		}
	case coord.VoteNotarize, coord.VoteFinalize:
		if x.Kind == coord.VoteFinalize && c.shown[x.Digest] { // as the ancestor of a final block: f+1 boxes may say so
			return
		}
		k += bits.OnesCount64(c.votes[certKey{x.Kind, x.Round, x.Digest}])
	default:
		return
	}
	if k < coord.Quorum(c.s.n) {
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
	if r := c.rounds[p.Height]; r > c.told {
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
	if int(v.Voter) != m.id {
		c.s.bad("VOICE: box %d sent a vote of box %d", m.id, v.Voter)
	}
	if m.undecided && m.box != nil {
		if _, asking := m.box.Core().Silent(); !asking {
			m.undecided = false
			c.decides(m)
		}
	}
	c.sent(m, v)
}

func (c *checker) sent(m *machine, v *coord.Vote) {
	at, term := voteKey{m.id, v.Round}, voteKey{m.id, v.Round / c.s.o.Term}
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
		c.votes[certKey{v.Kind, v.Round, v.Digest}] |= 1 << m.id
		if term := (voteKey{m.id, v.Round / c.s.o.Term}); v.Kind == coord.VoteFinalize {
			c.finTop[term] = max(c.finTop[term], v.Round)
		}
		if m.liar == "" {
			c.s.log(m.idx, "vote", "%v round %d %v", v.Kind, v.Round, v.Digest.Short())
		}
	}
}

func (c *checker) twice(m *machine, format string, args ...any) {
	c.s.bad("TWICE: box %d "+format, append([]any{m.id}, args...)...)
}

func (c *checker) evidence(m *machine, e coord.Evidence) {
	if m.liar == "" {
		c.s.evidence++
	}
	for _, x := range c.s.honest {
		// A box with an old disk that voted again where those who answered it knew of no vote has signed two things: what
		// it is convicted of is true, and the operator's doing (docs/decisions/0002).
		if x.id == int(e.A.Voter) && m.liar == "" && !c.excused[x.id] {
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
	if len(c.s.plan.Liars)+len(c.s.plan.Weak) == 0 {
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
		if !v.Field(i).IsZero() {
			return fmt.Sprintf("%s %+v", v.Type().Field(i).Name, v.Field(i))
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
	for _, m := range s.honest {
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
