package bft

import "github.com/holdfast-edge/holdfast/coord"

// ckptVotesKept is how many checkpoints of one member a box remembers: boxes may be one apart.
const ckptVotesKept = 2

// ckptVotes is one member's newest checkpoint votes, oldest first.
type ckptVotes []*coord.Vote

type checkpoints struct {
	stable *coord.Checkpoint   // signed by a quorum: what is below may be forgotten
	offer  *coord.Checkpoint   // signed by f+1, one of them honest: others may trust it
	mine   []*coord.Checkpoint // ours that no quorum has signed yet, without Cert, oldest first
	votes  []ckptVotes
}

// onState signs our state at a checkpoint height and counts.
func (c *Core) onState(s *State) {
	for _, p := range c.ckpt.mine {
		if p.Header.Height >= s.Header.Height {
			return
		}
	}
	p := &coord.Checkpoint{Header: s.Header.Header(), State: s.Digest}
	if len(c.ckpt.mine) >= ckptVotesKept {
		c.ckpt.mine = c.ckpt.mine[1:]
	}
	c.ckpt.mine = append(c.ckpt.mine, p)
	v := c.checkpointVote(p)
	c.keepCheckpointVote(c.cfg.Self, v)
	c.send(coord.ToAll, &coord.PeerMsg{Vote: v})
	c.stableNow()
}

func (c *Core) checkpointVote(p *coord.Checkpoint) *coord.Vote {
	c.stats.Signed++
	d := coord.CheckpointDigest(p.Header.Digest(), p.State)
	return &coord.Vote{
		Kind: coord.VoteCheckpoint, Epoch: c.cfg.Epoch, Round: p.Header.Height, Digest: d, Voter: uint8(c.cfg.Self),
		Sig: c.cfg.Keys.SignVote(coord.VoteCheckpoint, c.cfg.Epoch, p.Header.Height, d),
	}
}

// onCheckpointVote: these go into a certificate that boxes will trust years later, so the signature
// is checked at once; they are rare.
func (c *Core) onCheckpointVote(from int, v *coord.Vote) {
	for _, o := range c.ckpt.votes[from] {
		if o.Round >= v.Round {
			return
		}
	}
	if !c.verify(v) {
		c.bad(from)
		c.sawBadSignature(from, "a vote for a checkpoint")
		return
	}
	c.keepCheckpointVote(from, v)
	c.stableNow()
}

func (c *Core) keepCheckpointVote(i int, v *coord.Vote) {
	c.see(Seen{Kind: SeenState, Member: i, Height: v.Round, Digest: v.Digest})
	vs := c.ckpt.votes[i]
	if len(vs) >= ckptVotesKept {
		vs = vs[1:]
	}
	c.ckpt.votes[i] = append(vs[:len(vs):len(vs)], v)
}

// stableNow finds the newest of our checkpoints that f+1 boxes signed, which is worth trusting, and that a
// quorum signed, which f+1 honest boxes have, so that logs may be cut.
func (c *Core) stableNow() {
	for k := len(c.ckpt.mine) - 1; k >= 0; k-- {
		p := c.ckpt.mine[k]
		x, differ := c.checkpointCert(p)
		if differ > c.f {
			c.fault("our state differs from that of other boxes at a checkpoint")
			return
		}
		if len(x.Sigs) <= c.f {
			continue
		}
		s := *p
		s.Cert = x
		if o := c.ckpt.offer; o == nil || o.Header.Height <= s.Header.Height {
			c.ckpt.offer, c.rd.Offer = &s, &s
		}
		if len(x.Sigs) >= c.q {
			c.ckpt.stable, c.rd.Stable = &s, &s
			c.ckpt.mine = append([]*coord.Checkpoint(nil), c.ckpt.mine[k+1:]...)
			c.persist(coord.Record{Stable: &s})
			return
		}
	}
}

// checkpointCert is the votes for a checkpoint, and how many members voted for another state there.
func (c *Core) checkpointCert(p *coord.Checkpoint) (x *coord.Cert, differ int) {
	d := coord.CheckpointDigest(p.Header.Digest(), p.State)
	x = &coord.Cert{Kind: coord.VoteCheckpoint, Epoch: c.cfg.Epoch, Round: p.Header.Height, Digest: d}
	for i := range c.ckpt.votes {
		for _, v := range c.ckpt.votes[i] {
			switch {
			case v.Round != p.Header.Height:
			case v.Digest == d:
				x.Sigs = append(x.Sigs, coord.VoteSig{Voter: uint8(i), Sig: v.Sig})
			default:
				differ++
			}
		}
	}
	return x, differ
}

func (c *Core) repeatCheckpoint() {
	if n := len(c.ckpt.mine); n > 0 {
		for _, v := range c.ckpt.votes[c.cfg.Self] {
			if v.Round == c.ckpt.mine[n-1].Header.Height {
				c.send(coord.ToAll, &coord.PeerMsg{Vote: v})
			}
		}
	}
}

// VerifyCheckpoint checks that f+1 members signed a checkpoint: one of them is honest.
func (c *Core) VerifyCheckpoint(p *coord.Checkpoint) bool {
	return p != nil && p.Holds(c.cfg.Epoch, c.n, c.verify)
}
