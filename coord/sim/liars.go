package sim

import (
	"crypto/sha256"
	"math"
	"math/rand/v2"

	"github.com/holdfast-edge/holdfast/coord"
)

// liar names how a dishonest box behaves; empty: honest.
type liar string

// The liars. What they sign is theirs: nobody can sign for another box.
const (
	liarDead      liar = "dead"      // never runs
	liarSilent    liar = "silent"    // receives, says nothing
	liarSelective liar = "selective" // speaks to some, changing whom
	liarDelayer   liar = "delayer"   // holds back what it says, shows it late to some
	liarEquivocal liar = "equivocal" // proposes two or three blocks in a round
	liarDouble    liar = "double"    // votes for everything it hears of
	liarBadSig    liar = "badsig"    // its votes and batches carry bad signatures
	liarForger    liar = "forger"    // forges certificates, catch-up, claims and statuses
	liarWithhold  liar = "withhold"  // its batches reach one box only; names batches that do not exist
	liarTwins     liar = "twins"     // two machines with one identity
	liarOldDisk   liar = "olddisk"   // comes back with an old disk image
	liarUsurper   liar = "usurper"   // proposes on an older parent, with a proof of another one or with none for the gap
	liarFavourite liar = "favourite" // votes to one box only, with bad signatures: that one can prove nothing
	liarHistorian liar = "historian" // lies to those who catch up: other blocks, holes, certificates of other things, other states
	liarGarbage   liar = "garbage"   // well-formed messages with absurd content
	liarHeckler   liar = "heckler"   // votes empty in every term at once, at high levels, and claims rounds far ahead
	liarReplayer  liar = "replayer"  // says again what it and others said long ago
	liarLate      liar = "late"      // proposes just before it would be given up, and is quick with everything else
	liarVictim    liar = "victim"    // one box gets nothing from it
	liarChaos     liar = "chaos"     // all of it
)

var liars = []liar{
	liarDead, liarSilent, liarSelective, liarDelayer, liarEquivocal, liarDouble, liarBadSig, liarForger,
	liarWithhold, liarTwins, liarOldDisk, liarUsurper, liarFavourite, liarHistorian,
	liarGarbage, liarHeckler, liarReplayer, liarLate, liarVictim, liarChaos,
}

// lie is what a dishonest box does with what its box wants to send.
func (s *Sim) lie(m *machine, o coord.Out) {
	r, k := s.rng, s.keys(m.id)
	kind := m.liar
	if kind == liarChaos {
		kind = []liar{liarSelective, liarDelayer, liarEquivocal, liarDouble, liarBadSig, liarForger, liarWithhold, liarUsurper, liarFavourite, liarGarbage, liarHeckler, liarReplayer}[r.IntN(12)]
	}
	to := func(fn func(t *machine)) {
		for _, t := range s.nodes {
			if t.id != m.id && (o.To == coord.ToAll || o.To == t.id) {
				fn(t)
			}
		}
	}
	switch kind {
	case liarSilent, liarDead:
		return
	case liarSelective:
		to(func(t *machine) {
			if (t.idx+int(s.now/(300*ms)))%3 != 0 {
				s.wire(m, t, o.Msg)
			}
		})
		return
	case liarDelayer:
		to(func(t *machine) {
			d := r.Int64N(3 * int64(timeout))
			if r.IntN(3) == 0 {
				d = 0
			}
			s.callFor(m, s.now+d, func() { s.wire(m, t, o.Msg) })
		})
		return
	case liarWithhold:
		if o.Msg.Batch != nil && o.To == coord.ToAll {
			s.wire(m, s.nodes[r.IntN(s.n)], o.Msg)
			return
		}
		if p := o.Msg.Proposal; p != nil && r.IntN(3) == 0 {
			b := *p.Block
			b.Refs = append([]coord.BatchRef{{Author: s.members.List[m.id].ID, Seq: r.Uint64(), Digest: coord.Digest{byte(r.IntN(256)), 9}}}, b.Refs...)
			s.send(m, coord.Out{To: o.To, Msg: s.reseal(k, p, &b)})
			return
		}
	case liarGarbage:
		s.send(m, o)
		s.wire(m, s.nodes[r.IntN(s.n)], s.garbage(m, k))
		return
	case liarHeckler:
		s.send(m, o)
		if st := o.Msg.Status; st != nil {
			t := st.Round/s.o.Term + uint64(r.IntN(3))
			level := max(t*s.o.Term+r.Uint64N(s.o.Term), 1)
			s.send(m, coord.Out{To: coord.ToAll, Msg: &coord.PeerMsg{Vote: k.vote(coord.VoteEmpty, s.members.Epoch, level, coord.Digest{})}})
			s.send(m, coord.Out{To: r.IntN(s.n), Msg: &coord.PeerMsg{Status: &coord.Status{
				Height: st.Height + 9, FinalRound: st.FinalRound + 9, FinalDigest: coord.Digest{5}, Round: st.Round + uint64(r.IntN(1000)),
				VotesFrom: st.Round + uint64(r.IntN(int(2*s.o.Term))),
			}}})
		}
		return
	case liarReplayer:
		s.send(m, o)
		if len(m.said) < 64 {
			m.said = append(m.said, o.Msg)
		} else if r.IntN(4) == 0 {
			s.send(m, coord.Out{To: coord.ToAll, Msg: m.said[r.IntN(len(m.said))]})
			m.said[r.IntN(len(m.said))] = o.Msg
		}
		return
	case liarLate:
		if o.Msg.Proposal != nil {
			s.callFor(m, s.now+int64(timeout)*9/10, func() { s.send(m, o) })
			return
		}
	case liarVictim:
		to(func(t *machine) {
			if t.id != (m.id+1)%s.n {
				s.wire(m, t, o.Msg)
			}
		})
		return
	case liarUsurper:
		if p := o.Msg.Proposal; p != nil && s.usurp(m, k, p) {
			return
		}
	case liarFavourite:
		if o.Msg.Vote != nil {
			s.wire(m, s.nodes[(m.id+1)%s.n], badSignature(o.Msg))
			return
		}
	case liarEquivocal:
		if p := o.Msg.Proposal; p != nil {
			s.equivocate(m, k, p)
			return
		}
	case liarDouble:
		if v := o.Msg.Vote; v != nil {
			s.send(m, o)
			kinds := []coord.VoteKind{coord.VoteNotarize, coord.VoteFinalize, coord.VoteEmpty}
			x, d := kinds[r.IntN(3)], v.Digest
			if x == coord.VoteEmpty {
				d = coord.Digest{}
			} else if r.IntN(3) == 0 {
				d[0] ^= 1
			}
			s.send(m, coord.Out{To: r.IntN(s.n), Msg: &coord.PeerMsg{Vote: k.vote(x, v.Epoch, v.Round+uint64(r.IntN(3)), d)}})
			return
		}
	case liarBadSig:
		s.send(m, coord.Out{To: o.To, Msg: badSignature(o.Msg)})
		return
	}
	s.send(m, o)
}

// badSignature is the message with the sender's own signatures spoilt.
func badSignature(p *coord.PeerMsg) *coord.PeerMsg {
	q := *p
	switch {
	case p.Vote != nil:
		v := *p.Vote
		v.Sig[3] ^= 0x40
		q.Vote = &v
	case p.Proposal != nil:
		x := *p.Proposal
		x.Sig[3] ^= 0x40
		q.Proposal = &x
	case p.Batch != nil:
		b := *p.Batch
		b.Sig[3] ^= 0x40
		q.Batch = &b
	}
	return &q
}

// reseal is a proposal with another block, signed.
func (s *Sim) reseal(k keys, p *coord.Proposal, b *coord.Block) *coord.PeerMsg {
	b.Root = coord.RefsRoot(b.Refs)
	q := *p
	q.Block, q.Sig = b, k.SignVote(coord.VoteNotarize, b.Epoch, b.Round, b.Digest())
	return &coord.PeerMsg{Proposal: &q}
}

// garbage is a message that no honest box sends.
func (s *Sim) garbage(m *machine, k keys) *coord.PeerMsg {
	r := s.rng
	num := func() uint64 {
		switch r.IntN(5) {
		case 0:
			return 0
		case 1:
			return math.MaxUint64 - r.Uint64N(3)
		case 2:
			return r.Uint64N(50)
		}
		return s.nodes[m.idx].round + r.Uint64N(100)
	}
	digest := func() (d coord.Digest) {
		if r.IntN(3) > 0 {
			d[r.IntN(32)] = byte(r.IntN(256))
		}
		return d
	}
	vote := func() *coord.Vote {
		v := k.vote(coord.VoteKind(r.IntN(6)), uint64(r.IntN(3)), num(), digest())
		if r.IntN(4) == 0 {
			v.Voter = uint8(r.IntN(256))
		}
		return v
	}
	cert := func() *coord.Cert {
		x := &coord.Cert{Kind: coord.VoteKind(r.IntN(6)), Epoch: uint64(r.IntN(3)), Round: num(), Digest: digest()}
		for range r.IntN(s.n + 3) {
			x.Sigs = append(x.Sigs, coord.VoteSig{Voter: uint8(r.IntN(s.n + 2)), Level: num(), Sig: k.SignVote(x.Kind, x.Epoch, x.Round, x.Digest)})
		}
		return x
	}
	refs := func(most int) []coord.BatchRef {
		out := make([]coord.BatchRef, r.IntN(most+1))
		for i := range out {
			out[i] = coord.BatchRef{Author: coord.BoxID{byte(r.IntN(12)), 0xb0}, Seq: num(), Digest: digest()}
		}
		return out
	}
	block := func() *coord.Block {
		b := &coord.Block{Epoch: uint64(r.IntN(3)), Round: num(), ParentRound: num(), Height: num(), Parent: digest(), Refs: refs(3)}
		if r.IntN(3) > 0 {
			b.Root = coord.RefsRoot(b.Refs)
		}
		return b
	}
	several := func() []*coord.Cert { return []*coord.Cert{cert(), cert()}[:r.IntN(3)] }
	return s.oddity(r, vote, cert, block, refs, several, num, digest)
}

// oddity picks what kind of message it is.
func (s *Sim) oddity(
	r *rand.Rand, vote func() *coord.Vote, cert func() *coord.Cert, block func() *coord.Block, refs func(int) []coord.BatchRef,
	several func() []*coord.Cert, num func() uint64, digest func() coord.Digest,
) *coord.PeerMsg {
	switch r.IntN(13) {
	case 0:
		return &coord.PeerMsg{Vote: vote()}
	case 1:
		p := &coord.Proposal{Block: block(), Proof: several(), Parent: block()}
		if r.IntN(2) == 0 {
			p.Parent = nil
		}
		return &coord.PeerMsg{Proposal: p}
	case 2:
		return &coord.PeerMsg{Certs: append(several(), cert())}
	case 3:
		return &coord.PeerMsg{Status: &coord.Status{Height: num(), FinalRound: num(), FinalDigest: digest(), Round: num(), VotesFrom: num()}}
	case 4:
		return &coord.PeerMsg{Announce: refs(coord.AnnounceRefsMax)}
	case 5:
		return &coord.PeerMsg{Fetch: []coord.Digest{digest(), digest()}}
	case 6:
		h := num()
		return &coord.PeerMsg{FetchFrom: &h}
	case 7:
		d := digest()
		return &coord.PeerMsg{FetchBlock: &d}
	case 8:
		return &coord.PeerMsg{Block: block()}
	case 9:
		u := &coord.CatchUp{Cert: cert()}
		for range r.IntN(3) {
			u.Blocks = append(u.Blocks, block())
		}
		if r.IntN(4) == 0 {
			u.Cert = nil
		}
		return &coord.PeerMsg{CatchUp: u}
	case 10:
		return &coord.PeerMsg{Checkpoint: &coord.Checkpoint{Header: block().Header(), State: digest(), Cert: cert()}}
	case 11:
		return &coord.PeerMsg{SnapshotPart: &coord.SnapshotPart{Height: num(), Chunk: r.IntN(5) - 1, Data: make([]byte, r.IntN(100))}}
	}
	return &coord.PeerMsg{Recalled: &coord.Recalled{Nonce: num(), Round: num(), Votes: []*coord.Vote{vote()}}}
}

// usurp proposes a block that forgets what came after an older one: to half of the boxes, the others get the
// honest proposal.
func (s *Sim) usurp(m *machine, k keys, p *coord.Proposal) bool {
	r := s.rng
	if len(m.proposals) == 0 || r.IntN(3) == 0 {
		return false
	}
	old := m.proposals[r.IntN(len(m.proposals))]
	if old.Block.Round >= p.Block.Round {
		return false
	}
	b := *p.Block
	b.ParentRound, b.Parent, b.Height = old.Parent.Round, old.Parent.Digest(), old.Parent.Height+1
	q := *p
	q.Parent = old.Parent
	switch r.IntN(3) {
	case 0: // the proof of the honest parent
	case 1: // that of the older one, and nothing for what lies between
		q.Proof = old.Proof
	default: // as if it were the next round after the older one
		b.Round = old.Parent.Round + 1
		q.Proof = old.Proof
	}
	x := s.reseal(k, &q, &b)
	for _, t := range s.nodes {
		if t.id == m.id {
			continue
		}
		if r.IntN(2) == 0 {
			s.wire(m, t, x)
			s.wire(m, t, &coord.PeerMsg{Vote: k.vote(coord.VoteFinalize, b.Epoch, b.Round, b.Digest())})
		} else {
			s.wire(m, t, &coord.PeerMsg{Proposal: p})
		}
	}
	return true
}

// rewrite gives a box that catches up something else than what was.
func (s *Sim) rewrite(m *machine, to int, u *coord.CatchUp) {
	r, k := s.rng, s.keys(m.id)
	v := &coord.CatchUp{Blocks: append([]*coord.Block(nil), u.Blocks...), Cert: u.Cert}
	at := r.IntN(len(v.Blocks))
	b, x := *v.Blocks[at], *u.Cert
	switch r.IntN(7) {
	case 0: // another content
		b.Refs = append([]coord.BatchRef{{Author: s.members.List[m.id].ID, Seq: r.Uint64(), Digest: coord.Digest{9}}}, b.Refs...)
		if r.IntN(2) == 0 {
			b.Root = coord.RefsRoot(b.Refs)
		}
		v.Blocks[at] = &b
	case 1: // a hole
		v.Blocks = append(v.Blocks[:at:at], v.Blocks[at+1:]...)
	case 2: // a certificate of another epoch
		x.Epoch++
		v.Cert = &x
	case 3: // of notarization only
		x.Kind = coord.VoteNotarize
		v.Cert = &x
	case 4: // of a block that nobody has
		b.Height++
		b.Root = coord.RefsRoot(nil)
		b.Refs = nil
		x.Digest = b.Digest()
		x.Sigs = append([]coord.VoteSig{{Voter: uint8(m.id), Sig: k.SignVote(x.Kind, x.Epoch, x.Round, x.Digest)}}, x.Sigs...)
		v.Blocks[len(v.Blocks)-1], v.Cert = &b, &x
	case 5: // several certificates of which one is good
		bad := x
		bad.Digest[3] ^= 1
		s.send(m, coord.Out{To: to, Msg: &coord.PeerMsg{Certs: []*coord.Cert{u.Cert, &bad, u.Cert}}})
	case 6: // in reverse
		for i, j := 0, len(v.Blocks)-1; i < j; i, j = i+1, j-1 {
			v.Blocks[i], v.Blocks[j] = v.Blocks[j], v.Blocks[i]
		}
	}
	s.send(m, coord.Out{To: to, Msg: &coord.PeerMsg{CatchUp: v}})
}

// misstate is a piece of another state than the one asked for.
func (s *Sim) misstate(p *coord.SnapshotPart) {
	p.Data = append([]byte{}, p.Data...)
	switch {
	case len(p.Data) == 0:
		p.Data = make([]byte, 32)
	case s.rng.IntN(3) == 0:
		p.Data = p.Data[:len(p.Data)-1]
	default:
		p.Data[s.rng.IntN(len(p.Data))] ^= 0x10
	}
}

// equivocate shows different blocks of one round to different boxes, and votes for each.
func (s *Sim) equivocate(m *machine, k keys, p *coord.Proposal) {
	r := s.rng
	ways := 2 + r.IntN(2)
	var ps []*coord.PeerMsg
	for w := range ways {
		b := *p.Block
		b.Refs = append([]coord.BatchRef(nil), p.Block.Refs...)
		if w > 0 && len(b.Refs) > 0 {
			b.Refs = b.Refs[:r.IntN(len(b.Refs))]
		}
		if w == 2 {
			b.Height += uint64(r.IntN(2))
		}
		ps = append(ps, s.reseal(k, p, &b))
	}
	for _, t := range s.nodes {
		if t.id == m.id {
			continue
		}
		q := ps[r.IntN(ways)].Proposal
		s.wire(m, t, &coord.PeerMsg{Proposal: q})
		d := q.Block.Digest()
		s.wire(m, t, &coord.PeerMsg{Vote: k.vote(coord.VoteFinalize, q.Block.Epoch, q.Block.Round, d)})
		if r.IntN(2) == 0 {
			s.wire(m, t, &coord.PeerMsg{Vote: k.vote(coord.VoteEmpty, q.Block.Epoch, q.Block.Round, coord.Digest{})})
		}
	}
}

// hear: some liars also act on what they receive.
func (s *Sim) hear(m *machine, from int, p *coord.PeerMsg) {
	if p.Proposal != nil && p.Proposal.Parent != nil {
		if len(m.proposals) == 8 {
			m.proposals = m.proposals[1:]
		}
		m.proposals = append(m.proposals, p.Proposal)
	}
	r, k := s.rng, s.keys(m.id)
	if (m.liar == liarDouble || m.liar == liarChaos) && p.Proposal != nil {
		b := p.Proposal.Block
		d := b.Digest()
		s.send(m, coord.Out{To: coord.ToAll, Msg: &coord.PeerMsg{Vote: k.vote(coord.VoteNotarize, b.Epoch, b.Round, d)}})
		s.send(m, coord.Out{To: coord.ToAll, Msg: &coord.PeerMsg{Vote: k.vote(coord.VoteFinalize, b.Epoch, b.Round, d)}})
		s.send(m, coord.Out{To: r.IntN(s.n), Msg: &coord.PeerMsg{Vote: k.vote(coord.VoteEmpty, b.Epoch, b.Round, coord.Digest{})}})
	}
	if (m.liar == liarForger || m.liar == liarChaos) && p.Status != nil && r.IntN(2) == 0 {
		s.forge(m, k, from, p.Status)
	}
}

// forge answers a status with things that are not so.
func (s *Sim) forge(m *machine, k keys, to int, st *coord.Status) {
	r := s.rng
	b := &coord.Block{
		Epoch: s.members.Epoch, Round: st.FinalRound + 1 + uint64(r.IntN(4)), ParentRound: st.FinalRound, Height: st.Height + 1,
		Parent: st.FinalDigest,
	}
	b.Root = coord.RefsRoot(nil)
	d := b.Digest()
	forged := func(kind coord.VoteKind, round uint64, d coord.Digest) *coord.Cert {
		x := &coord.Cert{Kind: kind, Epoch: b.Epoch, Round: round, Digest: d}
		same := r.IntN(3) == 0
		for i := range coord.Quorum(s.n) {
			v := i
			if same {
				v = m.id
			}
			sig := coord.VoteSig{Voter: uint8(v), Sig: k.SignVote(kind, b.Epoch, round, d)}
			if kind == coord.VoteEmpty {
				sig.Level = round
			}
			x.Sigs = append(x.Sigs, sig)
		}
		if r.IntN(3) == 0 {
			x.Sigs = nil // a bare claim
		}
		return x
	}
	send := func(p *coord.PeerMsg) { s.send(m, coord.Out{To: to, Msg: p}) }
	switch r.IntN(5) {
	case 0:
		send(&coord.PeerMsg{CatchUp: &coord.CatchUp{Blocks: []*coord.Block{b}, Cert: forged(coord.VoteFinalize, b.Round, d)}})
	case 1:
		send(&coord.PeerMsg{Certs: []*coord.Cert{forged(coord.VoteNotarize, b.Round, d), forged(coord.VoteFinalize, b.Round, d)}})
	case 2:
		send(&coord.PeerMsg{Certs: []*coord.Cert{forged(coord.VoteEmpty, st.Round, coord.Digest{})}})
	case 3:
		send(&coord.PeerMsg{Status: &coord.Status{Height: st.Height + 5, FinalRound: b.Round, FinalDigest: d, Round: b.Round + 9}})
	case 4:
		// A state without anything in it, far ahead, which it alone signed: whoever asks for its pieces gets them.
		b.Height += 50
		cp := &coord.Checkpoint{Header: b, State: sha256.Sum256(nil)}
		at := coord.CheckpointDigest(b.Digest(), cp.State)
		if cp.Cert = forged(coord.VoteCheckpoint, b.Height, at); r.IntN(2) == 0 {
			cp.Cert.Sigs = []coord.VoteSig{{Voter: uint8(m.id), Sig: k.SignVote(coord.VoteCheckpoint, b.Epoch, b.Height, at)}}
		}
		send(&coord.PeerMsg{Checkpoint: cp})
	}
}
