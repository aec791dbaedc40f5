package sim

import (
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
	liarChaos     liar = "chaos"     // all of it
)

var liars = []liar{
	liarDead, liarSilent, liarSelective, liarDelayer, liarEquivocal, liarDouble, liarBadSig, liarForger,
	liarWithhold, liarTwins, liarOldDisk, liarChaos,
}

// lie is what a dishonest box does with what its box wants to send.
func (s *Sim) lie(m *machine, o coord.Out) {
	r, k := s.rng, s.keys(m.id)
	kind := m.liar
	if kind == liarChaos {
		kind = []liar{liarSelective, liarDelayer, liarEquivocal, liarDouble, liarBadSig, liarForger, liarWithhold}[r.IntN(7)]
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
		cp := &coord.Checkpoint{Header: b, State: coord.Digest{7}}
		cp.Cert = forged(coord.VoteCheckpoint, b.Height, coord.CheckpointDigest(d, cp.State))
		send(&coord.PeerMsg{Checkpoint: cp})
	}
}
