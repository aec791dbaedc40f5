package bft

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// ErrConfig says that a Config cannot work.
var ErrConfig = errors.New("bft: configuration")

// voteWindow is how many rounds ahead of its own a box remembers votes: more than any
// honest box can be ahead without certificates having been sent.
const voteWindow = 64

// badCertsMax is how many certificates with bad signatures a box looks at from one sender between two
// retransmissions: each costs it a quorum of verifications (about 0.1 ms each).
const badCertsMax = 8

type slot struct {
	has    bool
	good   bool   // the signature was checked
	round  uint64 // VoteEmpty: the level
	digest coord.Digest
	sig    coord.Signature
}

type roundState struct {
	votes, fins []slot
	notar, fin  *coord.Cert
	notarAt     int64 // when notar formed here
	// proven: notar can be shown to every honest box, see prove.go.
	proven     bool
	prop       *coord.Block
	propDigest coord.Digest
	proposedAt int64 // by this box; 0: not
	propAt     int64 // when prop came
	votedAt    int64 // when this box voted for prop, and to make it final
	finedAt    int64
}

type termState struct {
	empties []slot
	end     *coord.Cert
}

// stash is a proposal whose proof we have not seen form ourselves yet.
type stash struct {
	from int
	p    *coord.Proposal
	at   int64 // when we check its signatures after all
}

// Core is one box's view of the protocol. Not safe for concurrent use.
type Core struct {
	cfg     Config
	n, f, q int
	index   map[coord.BoxID]int

	cur       uint64 // the round we are in: our level, never lower again
	enteredAt int64
	termAt    int64 // when we entered cur's term
	rounds    map[uint64]*roundState
	terms     map[uint64]*termState
	blocks    map[coord.Digest]*coord.Block // not final, whole; and the final one's header

	hi       *coord.Cert // of the highest notarized block; nil: the base
	hiRound  uint64
	hiDigest coord.Digest

	proven       uint64      // the highest round whose notarization is proven, or the final one
	provenCert   *coord.Cert // nil: the base
	provenDigest coord.Digest
	finTop       uint64 // the highest round that we voted to finalize
	absent       []bool // by member: its votes come late or not at all, so do not wait for them
	liar         []bool // by member: it sent a bad signature, so each is checked

	final       *coord.Block // header of the last delivered block
	finalRound  uint64       // its round; of the root, the round before the epoch's first
	finalDigest coord.Digest
	root        coord.Digest // the block that this epoch builds on, when it is known
	rootRound   uint64
	muted       bool
	blank       bool        // the base is not known: nothing is delivered, and we do not vote
	last        *coord.Cert // what ends the epoch, once we are told: nothing above it is delivered
	finalCert   *coord.Cert
	target      *coord.Cert // final, not delivered yet; may have no signatures (vouched for)

	partial *coord.Cert // the last catch-up's end: final too, and below target

	pool   pool
	claims claims
	ckpt   checkpoints
	want   want

	recall recall

	lead       int    // who is to lead (Lead)
	leadBefore uint64 // until this term
	aside      uint32 // who should not (SetAside)
	court      court

	pullAt   int64 // not before this do we ask for final blocks again
	pullTo   int   // whom to ask next when an answer could not be believed
	catching int   // the member, plus one, that gave us final blocks now
	finalAt  int64 // when a block was delivered last
	dropped  []coord.Digest
	stash    *stash
	company  company
	down     []bool
	upAt     []int64 // by member: since when its link is up
	seen     []Seen
	heard    []coord.Status
	badCerts []int

	slow   int64 // how many times the time-out is doubled, see learn
	inTime int

	armedAt  int64 // since when work waits for finality; 0: none does
	nextRetx int64
	started  bool

	now        int64
	rd         Ready
	progressed bool
	stats      Stats
}

// Stats count since New.
type Stats struct {
	Signed, Verified, EmptyVotes, Terms uint64
	Bad                                 []uint64 // by member: things that did not hold
}

// New makes a core whose last delivered block is base (Round and Height 0 for a new site)
// with its certificate, if there is one. Replay the log into it, then Start.
func New(cfg Config, base *coord.Block, cert *coord.Cert) (*Core, error) {
	n := len(cfg.Members)
	switch {
	case n < 1 || n > coord.MembersMax:
		return nil, fmt.Errorf("%w: %d members, want 1 to %d", ErrConfig, n, coord.MembersMax)
	case cfg.Self < -1 || cfg.Self >= n:
		return nil, fmt.Errorf("%w: self %d of %d", ErrConfig, cfg.Self, n)
	case cfg.TermRounds < 1 || cfg.Timeout <= 0 || cfg.LeaderDown <= 0 || cfg.Retransmit <= 0 || cfg.IdleStatus <= 0 ||
		cfg.FetchDelay <= 0 || cfg.Starve <= 0 || cfg.DepthMax < 1 || cfg.PipelineDelay < 0 || cfg.Spacing < 0 || cfg.BlockBytes < 1 || cfg.PendingMax < 1:
		return nil, fmt.Errorf("%w: a limit or time is not positive", ErrConfig)
	case cfg.Keys == nil || cfg.Done == nil || base == nil:
		return nil, fmt.Errorf("%w: no keys, no done or no base", ErrConfig)
	}
	c := &Core{
		cfg: cfg, n: n, f: coord.MaxFaulty(n), q: coord.Quorum(n),
		index:  make(map[coord.BoxID]int, n),
		rounds: map[uint64]*roundState{}, terms: map[uint64]*termState{}, blocks: map[coord.Digest]*coord.Block{},
		down: make([]bool, n), upAt: make([]int64, n), absent: make([]bool, n), liar: make([]bool, n), heard: make([]coord.Status, n), badCerts: make([]int, n),
		claims: claims{by: make([]said, n)}, ckpt: checkpoints{votes: make([]ckptVotes, n)},
	}
	c.stats.Bad = make([]uint64, n)
	c.company.of = make([]companion, n)
	for i, id := range cfg.Members {
		c.index[id] = i
	}
	c.recall = recall{from: cfg.VotesFrom, by: make([]recalled, n), known: make([][coord.VoteEmpty + 1]*coord.Vote, n)}
	c.recall.kept = make([][coord.VoteEmpty + 1]*coord.Vote, n)
	c.court = court{doubts: make([]int, n), exposed: make([][]contradiction, n)}
	c.pool = pool{held: map[coord.Digest]*Held{}, perAuthor: make([]int, n), need: map[coord.Digest]*need{}}
	c.blank = cfg.Blank
	c.setBase(base.Header(), cert)
	return c, nil
}

// setBase makes b the last delivered block. One of an earlier epoch is the root of this one: it needs no certificate, and the rounds go
// on with the first of the next term, so that they never go back.
func (c *Core) setBase(b *coord.Block, x *coord.Cert) {
	root := b.Height == 0
	c.final, c.finalDigest, c.finalCert, c.finalRound = b, b.Digest(), x, b.Round
	if b.Epoch < c.cfg.Epoch {
		root = true
		c.finalCert, c.finalRound = nil, c.first(c.term(b.Round)+1)-1
	}
	if root && !c.blank {
		c.root, c.rootRound = c.finalDigest, c.finalRound
	}
	c.blocks[c.finalDigest] = b
	if c.finalRound >= c.hiRound {
		c.hi, c.hiRound, c.hiDigest = c.finalProof(), c.finalRound, c.finalDigest
	}
	if c.finalRound >= c.proven {
		c.proven, c.provenCert, c.provenDigest = c.finalRound, c.finalProof(), c.finalDigest
	}
	c.cur = max(c.cur, c.finalRound+1)
}

// finalProof is the certificate that others need for a block on the last delivered one: none for one on the root.
func (c *Core) finalProof() *coord.Cert {
	switch x := c.finalCert; {
	case c.finalDigest == c.root || c.blank:
		return nil
	case x == nil || x.Kind == coord.VoteCheckpoint || x.Digest != c.finalDigest:
		return vouched(coord.VoteFinalize, c.cfg.Epoch, c.finalRound, c.finalDigest)
	default:
		return x
	}
}

// Replay takes one record of the log, in order, before Start.
func (c *Core) Replay(r *coord.Record) {
	switch {
	case r.Batch != nil:
		// What is in the log was accepted once; what it is worth was judged then.
		if !c.cfg.Done(r.Batch.Author, r.Batch.Seq) {
			c.keepBatch(r.Batch, r.Batch.Digest(c.cfg.Site), false)
		}
	case r.Block != nil:
		if r.Block.Epoch == c.cfg.Epoch && r.Block.Height > c.final.Height {
			c.blocks[r.Block.Digest()] = r.Block
		}
	case r.Vote != nil && (r.Vote.Epoch != c.cfg.Epoch || int(r.Vote.Voter) >= c.n || r.Vote.Kind > coord.VoteEmpty):
	case r.Vote != nil && int(r.Vote.Voter) != c.cfg.Self:
		c.remember(r.Vote)
	case r.Vote != nil:
		v := r.Vote
		if v.Kind != coord.VoteEmpty && v.Round <= c.finalRound || c.term(v.Round) < c.term(c.finalRound) {
			c.cur = max(c.cur, v.Round)
			return
		}
		c.put(v)
		if b := c.blocks[v.Digest]; v.Kind == coord.VoteNotarize && b != nil {
			rs := c.round(v.Round)
			rs.prop, rs.propDigest = b, v.Digest
		}
		if v.Kind == coord.VoteFinalize { // we had proof of its notarization then
			c.round(v.Round).proven = true
			c.finTop = max(c.finTop, v.Round)
			c.prove()
		} else {
			c.cur = max(c.cur, v.Round)
		}
	case r.Cert != nil:
		if r.Cert.Epoch != c.cfg.Epoch {
			break
		}
		c.rememberCert(r.Cert)
		if c.useful(r.Cert) {
			c.takeCert(r.Cert)
		}
	case r.Final != nil:
		if r.Final.Header.Epoch != c.cfg.Epoch {
			break
		}
		if r.Final.Cert != nil {
			c.rememberCert(r.Final.Cert)
		}
		if h := r.Final.Header; h.Height > c.final.Height {
			x := r.Final.Cert
			if x == nil {
				x = vouched(coord.VoteFinalize, h.Epoch, h.Round, h.Digest())
			}
			if x.Kind == coord.VoteFinalize && c.useful(x) {
				c.takeCert(x)
			}
		}
	case r.Stable != nil:
		if r.Stable.Cert.Epoch == c.cfg.Epoch {
			c.ckpt.stable = r.Stable
		}
	case r.Silent != nil:
		c.replaySilence(r.Silent)
	}
	c.enter()
}

// Mute keeps the box from voting in this epoch for good: it knows that it was in a later one.
func (c *Core) Mute() { c.muted = true }

// Blank says whether the box still lacks the state that the epoch builds on.
func (c *Core) Blank() bool { return c.blank }

// Adopt takes batches over from the core of the epoch before, before Start: those that still wait are ordered in this one.
func (c *Core) Adopt(hs []*Held) {
	for _, h := range hs {
		if _, member := c.index[h.Batch.Author]; member && !c.cfg.Done(h.Batch.Author, h.Batch.Seq) {
			c.keepBatch(h.Batch, h.Digest, h.verified)
		}
	}
}

// Held is the batches that the core holds: those that wait, oldest first, then the others in the order of their digests.
func (c *Core) Held() []*Held {
	var waiting, rest []*Held
	for _, h := range c.pool.order {
		if h.pending {
			waiting = append(waiting, h)
		}
	}
	for _, h := range c.pool.held {
		if !h.pending {
			rest = append(rest, h)
		}
	}
	slices.SortFunc(rest, func(a, b *Held) int { return slices.Compare(a.Digest[:], b.Digest[:]) })
	return append(waiting, rest...)
}

// replaySilence: what a log says of an epoch that is over does not hold in this one.
func (c *Core) replaySilence(s *coord.Silence) {
	switch s.Epoch {
	case 0, c.cfg.Epoch:
		c.recall.from = s.From
	default:
		c.recall.from = c.cfg.VotesFrom
	}
}

// Start ends the replay; the first Step follows.
func (c *Core) Start() { c.rd = Ready{} }

// Round is the round that the box is in, Height that of the last delivered block.
func (c *Core) Round() uint64 { return c.cur }

// Height is that of the last delivered block.
func (c *Core) Height() uint64 { return c.final.Height }

// Final is the header of the last delivered block and its digest.
func (c *Core) Final() (*coord.Block, coord.Digest) { return c.final, c.finalDigest }

// Root is the round before the epoch's first, when the last delivered block is the one that the epoch builds on; 0 while that is not known.
func (c *Core) Root() uint64 { return c.rootRound }

// Stable is the newest checkpoint that a quorum signed, or nil.
func (c *Core) Stable() *coord.Checkpoint { return c.ckpt.stable }

// Offer is the newest checkpoint that f+1 members signed, or nil.
func (c *Core) Offer() *coord.Checkpoint { return c.ckpt.offer }

// Stats is a copy of the counters.
func (c *Core) Stats() Stats {
	s := c.stats
	s.Bad = append([]uint64(nil), s.Bad...)
	return s
}

// Heard is the last status of a member.
func (c *Core) Heard(i int) coord.Status { return c.heard[i] }

// Live is how many things the core remembers, for bounds in tests.
func (c *Core) Live() int {
	return len(c.rounds) + len(c.blocks) + len(c.terms) + len(c.pool.held) + len(c.pool.need)
}

// Pending is how many batches wait to be ordered.
func (c *Core) Pending() int { return c.pool.pending }

// Suspect counts what a member said that did not hold.
func (c *Core) Suspect(i int) uint64 { return c.stats.Bad[i] }

// Working says whether something waits to become final.
func (c *Core) Working() bool { return c.work() }

// Overdue says that work has waited for finality longer than a leader is given.
func (c *Core) Overdue(now int64) bool { return c.work() && c.armedAt != 0 && now >= c.deadline() }

// Leader is the index of the leader of a round.
func (c *Core) Leader(r uint64) int { return int(c.term(r) % uint64(c.n)) }

// Term is the term of a round.
func (c *Core) Term(r uint64) uint64 { return c.term(r) }

func (c *Core) term(r uint64) uint64  { return r / c.cfg.TermRounds }
func (c *Core) first(t uint64) uint64 { return max(t*c.cfg.TermRounds, 1) }
func (c *Core) leads() bool           { return c.Leader(c.cur) == c.cfg.Self }

func (c *Core) persist(r coord.Record) { c.rd.Persist = append(c.rd.Persist, r) }
func (c *Core) send(to int, m *coord.PeerMsg) {
	m.Epoch = c.cfg.Epoch
	c.rd.Send = append(c.rd.Send, coord.Out{To: to, Msg: m})
}
func (c *Core) bad(from int) { c.stats.Bad[from]++ }

func (c *Core) round(r uint64) *roundState {
	rs := c.rounds[r]
	if rs == nil {
		s := make([]slot, 2*c.n)
		rs = &roundState{votes: s[:c.n:c.n], fins: s[c.n:]}
		c.rounds[r] = rs
	}
	return rs
}

func (c *Core) termOf(t uint64) *termState {
	ts := c.terms[t]
	if ts == nil {
		ts = &termState{empties: make([]slot, c.n)}
		c.terms[t] = ts
	}
	return ts
}

// Step takes one input at one time (which never goes back). It is the only entry after Start.
func (c *Core) Step(in Input, now int64) Ready {
	c.now, c.rd, c.seen = now, Ready{Wake: math.MaxInt64}, c.seen[:0]
	if !c.started {
		c.started, c.enteredAt, c.termAt, c.nextRetx = true, now, now, now
		for _, h := range c.pool.order {
			h.since = now
		}
		c.startRecall()
	}
	for _, d := range c.dropped {
		c.drop(d)
	}
	c.dropped = c.dropped[:0]
	from := in.From
	switch {
	case in.Batch != nil:
		c.onBatch(from, in.Batch, in.BatchDigest, in.Verified)
	case in.Checked != nil:
		c.onChecked(*in.Checked)
	case in.Link != nil:
		c.onLink(*in.Link)
	case in.State != nil:
		c.onState(in.State)
	case in.Installed != nil:
		c.onInstalled(in.Installed)
	case in.Last != nil:
		c.onLast(from, in.Last)
	case in.Msg != nil && from != c.cfg.Self && from >= 0 && from < c.n:
		c.handle(from, in.Msg)
	case in.Msg != nil && from < 0 && in.Msg.CatchUp != nil:
		c.onForeignCatchUp(in.Msg.CatchUp)
	}
	c.progress()
	c.fetch()
	if now >= c.nextRetx {
		c.retransmit()
		if c.work() {
			c.nextRetx = now + c.cfg.Retransmit
		} else {
			c.nextRetx = now + c.cfg.IdleStatus
		}
	} else if c.work() {
		c.nextRetx = min(c.nextRetx, now+c.cfg.Retransmit)
	}
	c.wake(c.nextRetx)
	if c.stash != nil {
		c.wake(c.stash.at)
	}
	c.wake(c.pool.wake)
	c.rd.Seen = c.seen
	return c.rd
}

func (c *Core) wake(at int64) {
	if at > 0 {
		c.rd.Wake = min(c.rd.Wake, max(at, c.now+1))
	}
}

func (c *Core) handle(from int, m *coord.PeerMsg) {
	switch {
	case m.Vote != nil:
		c.onVote(from, m.Vote)
	case m.Proposal != nil:
		c.onProposal(from, m.Proposal)
	case m.Certs != nil:
		for _, x := range m.Certs {
			c.believe(from, x, true)
		}
	case m.Status != nil:
		c.onStatus(from, m.Status)
	case m.Announce != nil:
		c.onAnnounce(from, m.Announce)
	case m.Fetch != nil:
		c.onFetch(from, m.Fetch)
	case m.FetchFrom != nil:
		c.rd.Serve = append(c.rd.Serve, Serve{To: from, Blocks: true, After: *m.FetchFrom})
	case m.FetchBlock != nil:
		if b := c.blocks[*m.FetchBlock]; b != nil && b.Height > c.final.Height {
			c.send(from, &coord.PeerMsg{Block: b})
		} else { // perhaps it is final here, so that the log has it and what follows
			c.rd.Serve = append(c.rd.Serve, Serve{To: from, Blocks: true, After: c.heard[from].Height})
		}
	case m.Block != nil:
		c.onBlock(m.Block)
	case m.CatchUp != nil:
		c.onCatchUp(from, m.CatchUp)
	case m.Recall != nil:
		c.onRecall(from, m.Recall)
	case m.Recalled != nil:
		c.onRecalled(from, m.Recalled)
	}
}
