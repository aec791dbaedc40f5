// Package liar is how dishonest boxes behave, as programs: what a liar sends in place of what its honest core wanted
// to send, and what it says because of what it hears. The simulator (coord/sim) and a real process
// (tools/chaos) lie with the same code. A liar signs for itself only: nobody can sign for another box.
//
// It does no I/O; chance comes from the Rand that it is given.
package liar

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Kind names how a box lies; empty: it is honest.
type Kind string

// The liars. Dead, Twins and OldDisk are a matter of who runs them: what they send is what an honest box sends.
const (
	Dead      Kind = "dead"      // never runs
	Silent    Kind = "silent"    // receives, says nothing
	Selective Kind = "selective" // speaks to some, changing whom
	Delayer   Kind = "delayer"   // holds back what it says, shows it late to some
	Equivocal Kind = "equivocal" // proposes two or three blocks in a round
	Double    Kind = "double"    // votes for everything it hears of
	BadSig    Kind = "badsig"    // its votes and batches carry bad signatures
	Forger    Kind = "forger"    // forges certificates, catch-up, claims, statuses and states
	Withhold  Kind = "withhold"  // its batches reach one box only; names batches that do not exist
	Twins     Kind = "twins"     // two machines with one identity
	OldDisk   Kind = "olddisk"   // comes back with an old disk image again and again
	Usurper   Kind = "usurper"   // proposes on an older parent, with the proof of another one or with none for the gap
	Favourite Kind = "favourite" // votes to one box only, with bad signatures: that one can prove nothing
	Historian Kind = "historian" // lies to those who catch up: other blocks, holes, certificates of other things, other states
	Garbage   Kind = "garbage"   // messages with absurd content
	Heckler   Kind = "heckler"   // votes empty in every term at once, at high levels, and claims rounds far ahead
	Replayer  Kind = "replayer"  // says again what it said long ago
	Late      Kind = "late"      // proposes just before it would be given up, and is quick with everything else
	Victim    Kind = "victim"    // one box gets nothing from it
	Starver   Kind = "starver"   // as a leader it orders everybody's batches but one author's
	Poisoner  Kind = "poisoner"  // its batches carry bad signatures and each misses one box; it neither votes nor leads
	Chaos     Kind = "chaos"     // all of it

	// The following are not among Kinds: what they do is done by others, too, or does nothing to the order, but not so
	// that one can tell for what a box is suspected.
	Misstate Kind = "misstate" // signs another state at each checkpoint
	Miser    Kind = "miser"    // names a batch that does not exist in all that it proposes, and gives none that it is asked for
)

// Kinds lists all liars.
func Kinds() []Kind {
	return []Kind{
		Dead, Silent, Selective, Delayer, Equivocal, Double, BadSig, Forger, Withhold, Twins, OldDisk, Usurper, Favourite,
		Historian, Garbage, Heckler, Replayer, Late, Victim, Starver, Poisoner, Chaos,
	}
}

// mixed are those that Chaos picks from for each message.
var mixed = []Kind{
	Selective, Delayer, Equivocal, Double, BadSig, Forger, Withhold, Usurper, Favourite, Historian, Garbage, Heckler, Replayer,
}

// Keys signs for the liar.
type Keys interface {
	SignVote(k coord.VoteKind, epoch, round uint64, d coord.Digest) coord.Signature
}

// Config is fixed for the life of a Liar; all of it is required.
type Config struct {
	Self    int
	Members *coord.Members
	Keys    Keys
	Rand    *rand.Rand
	// Timeout and TermRounds are the site's.
	Timeout    time.Duration
	TermRounds uint64
}

// Send is one message to one member, after a while. It is immutable.
type Send struct {
	To    int
	After time.Duration
	Msg   *coord.PeerMsg
}

// Liar is one dishonest box. Not safe for concurrent use.
type Liar struct {
	kind Kind
	c    Config
	r    *rand.Rand
	n    int

	round     uint64            // about where the site is
	proposals []*coord.Proposal // heard, newest last
	said      []*coord.PeerMsg
	out       []Send
}

// New makes a liar.
func New(k Kind, c Config) *Liar {
	return &Liar{kind: k, c: c, r: c.Rand, n: c.Members.N()}
}

// Out is what it sends in place of o. now is a time in nanoseconds that does not go back.
func (l *Liar) Out(o coord.Out, now int64) []Send {
	l.out = nil
	kind := l.kind
	if kind == Chaos {
		kind = mixed[l.r.IntN(len(mixed))]
	}
	if v := o.Msg.Vote; v != nil && v.Kind != coord.VoteCheckpoint {
		l.round = max(l.round, v.Round)
	}
	if !l.lie(kind, o, now) {
		l.send(o.To, o.Msg)
	}
	return l.out
}

// In is what it says because of what it hears.
func (l *Liar) In(from int, m *coord.PeerMsg) []Send {
	l.out = nil
	if p := m.Proposal; p != nil && p.Parent != nil && p.Block != nil {
		if len(l.proposals) == 8 {
			l.proposals = slices.Delete(l.proposals, 0, 1)
		}
		l.proposals = append(l.proposals, p)
	}
	all := l.kind == Chaos
	if (l.kind == Double || all) && m.Proposal != nil && m.Proposal.Block != nil {
		b := m.Proposal.Block
		d := b.Digest()
		l.send(coord.ToAll, l.vote(coord.VoteNotarize, b.Epoch, b.Round, d))
		l.send(coord.ToAll, l.vote(coord.VoteFinalize, b.Epoch, b.Round, d))
		l.send(l.any(), l.vote(coord.VoteEmpty, b.Epoch, b.Round, coord.Digest{}))
	}
	if (l.kind == Forger || all) && m.Status != nil && l.r.IntN(2) == 0 {
		l.forge(from, m.Status)
	}
	return l.out
}

func (l *Liar) any() int { return l.r.IntN(l.n) }

// send to a member or all others; to itself nothing.
func (l *Liar) send(to int, m *coord.PeerMsg) { l.later(to, 0, m) }

func (l *Liar) later(to int, after time.Duration, m *coord.PeerMsg) {
	if m.Epoch == 0 { // of its own making
		m.Epoch = l.c.Members.Epoch
	}
	for t := range l.n {
		if t != l.c.Self && (to == coord.ToAll || to == t) {
			l.out = append(l.out, Send{t, after, m})
		}
	}
}

// each calls fn for every receiver of o.
func (l *Liar) each(o coord.Out, fn func(to int)) {
	for t := range l.n {
		if t != l.c.Self && (o.To == coord.ToAll || o.To == t) {
			fn(t)
		}
	}
}

func (l *Liar) vote(k coord.VoteKind, epoch, round uint64, d coord.Digest) *coord.PeerMsg {
	return &coord.PeerMsg{Vote: &coord.Vote{
		Kind: k, Epoch: epoch, Round: round, Digest: d, Voter: uint8(l.c.Self), Sig: l.c.Keys.SignVote(k, epoch, round, d),
	}}
}

// lie does one message; false: it goes out as it is.
func (l *Liar) lie(kind Kind, o coord.Out, now int64) bool {
	p := o.Msg.Proposal
	switch kind {
	case Silent, Dead:
		return true
	case Selective:
		turn := int(now / int64(300*time.Millisecond))
		l.each(o, func(to int) {
			if (to+turn)%3 != 0 {
				l.send(to, o.Msg)
			}
		})
		return true
	case Delayer:
		l.each(o, func(to int) {
			d := time.Duration(l.r.Int64N(3 * int64(l.c.Timeout)))
			if l.r.IntN(3) == 0 {
				d = 0
			}
			l.later(to, d, o.Msg)
		})
		return true
	case Victim:
		l.each(o, func(to int) {
			if to != (l.c.Self+1)%l.n {
				l.send(to, o.Msg)
			}
		})
		return true
	case Favourite:
		if o.Msg.Vote == nil {
			return false
		}
		l.send((l.c.Self+1)%l.n, spoilt(o.Msg))
		return true
	case BadSig:
		l.send(o.To, spoilt(o.Msg))
		return true
	case Late:
		if p == nil {
			return false
		}
		l.later(o.To, l.c.Timeout*9/10, o.Msg)
		return true
	case Misstate:
		v := o.Msg.Vote
		if v == nil || v.Kind != coord.VoteCheckpoint {
			return false
		}
		d := v.Digest
		d[0] ^= 1
		l.send(o.To, l.vote(v.Kind, v.Epoch, v.Round, d))
		return true
	case Miser:
		if p == nil {
			return o.Msg.Batch != nil && o.To != coord.ToAll
		}
		l.send(o.To, l.inflated(p))
		return true
	case Withhold:
		return l.withhold(o)
	case Starver:
		return p != nil && l.starve(o.To, p)
	case Poisoner:
		return l.poison(o)
	case Equivocal:
		return p != nil && l.equivocate(p)
	case Usurper:
		return p != nil && l.usurp(p)
	case Historian:
		return l.rewrite(o)
	case Double:
		if h := o.Msg.Handover; h != nil {
			l.send(l.any(), &coord.PeerMsg{Handover: l.otherEnd(h)})
		}
		if v := o.Msg.Vote; v != nil {
			l.send(l.any(), l.other(v))
		}
	case Garbage:
		l.send(l.any(), l.garbage())
	case Heckler:
		l.heckle(o.Msg)
	case Replayer:
		l.replay(o.Msg)
	}
	return false
}

// spoilt is the message with the sender's own signatures spoilt.
func spoilt(m *coord.PeerMsg) *coord.PeerMsg {
	q := *m
	switch {
	case m.Vote != nil:
		v := *m.Vote
		v.Sig[3] ^= 0x40
		q.Vote = &v
	case m.Proposal != nil:
		x := *m.Proposal
		x.Sig[3] ^= 0x40
		q.Proposal = &x
	case m.Batch != nil:
		b := *m.Batch
		b.Sig[3] ^= 0x40
		q.Batch = &b
	}
	return &q
}

// other is a vote that goes with v as badly as it can.
func (l *Liar) other(v *coord.Vote) *coord.PeerMsg {
	k := []coord.VoteKind{coord.VoteNotarize, coord.VoteFinalize, coord.VoteEmpty, coord.VoteCheckpoint}[l.r.IntN(4)]
	d := v.Digest
	if k == coord.VoteEmpty {
		d = coord.Digest{}
	} else if l.r.IntN(3) == 0 {
		d[0] ^= 1
	}
	return l.vote(k, v.Epoch, v.Round+uint64(l.r.IntN(3)), d)
}

// heckle votes empty where it is not yet needed, and claims to be far ahead.
func (l *Liar) heckle(m *coord.PeerMsg) {
	st := m.Status
	if st == nil {
		return
	}
	k := l.c.TermRounds
	level := max((st.Round/k+uint64(l.r.IntN(3)))*k+l.r.Uint64N(k), 1)
	l.send(coord.ToAll, l.vote(coord.VoteEmpty, l.c.Members.Epoch, level, coord.Digest{}))
	l.send(l.any(), &coord.PeerMsg{Status: &coord.Status{
		Height: st.Height + 9, FinalRound: st.FinalRound + 9, FinalDigest: coord.Digest{5}, Round: st.Round + l.r.Uint64N(1000),
		VotesFrom: st.Round + l.r.Uint64N(2*k),
	}})
}

const saidMax = 64

func (l *Liar) replay(m *coord.PeerMsg) {
	if len(l.said) < saidMax {
		l.said = append(l.said, m)
	} else if l.r.IntN(4) == 0 {
		l.send(coord.ToAll, l.said[l.r.IntN(saidMax)])
		l.said[l.r.IntN(saidMax)] = m
	}
}
