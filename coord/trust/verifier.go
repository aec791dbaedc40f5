package trust

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
)

// Verifier judges signatures by one member set. It holds the parsed keys, is immutable, and may be
// used by many goroutines. It judges who said a thing, not whether it makes sense
// in the protocol: rounds, terms and parents are coord/bft's matter.
type Verifier struct {
	site    coord.SiteID
	epoch   uint64
	indexes map[coord.BoxID]int
	keys    []*ecdsa.PublicKey
}

// NewVerifier parses the members' keys. The error is ErrMembers: no or too many members, a bad
// key, an id that is not its key's, or one that is there twice.
func NewVerifier(m *coord.Members) (*Verifier, error) {
	keys, err := memberKeys(m)
	if err != nil {
		return nil, fmt.Errorf("trust: new verifier: %w", err)
	}
	v := &Verifier{site: m.Site, epoch: m.Epoch, keys: keys, indexes: make(map[coord.BoxID]int, len(keys))}
	for i := range m.List {
		v.indexes[m.List[i].ID] = i
	}
	return v, nil
}

// VerifyVote says whether the voter is a member of this epoch, the vote is well-formed (a known
// kind; no digest on an empty vote) and the signature is the voter's.
func (v *Verifier) VerifyVote(vote *coord.Vote) bool {
	return vote.Epoch == v.epoch && int(vote.Voter) < len(v.keys) && wellFormed(vote.Kind, vote.Digest) &&
		v.verifyVote(vote.Voter, vote.Kind, vote.Round, vote.Digest, &vote.Sig)
}

// VerifyBatch says whether the author is a member and signed the batch.
func (v *Verifier) VerifyBatch(b *coord.Batch) bool {
	i, ok := v.indexes[b.Author]
	if !ok {
		return false
	}
	d := b.Digest(v.site)
	return verify(v.keys[i], d[:], &b.Sig)
}

// VerifyCert says whether c is what coord.Cert promises: of this epoch, by a quorum of distinct
// members, every signature good. Of VoteEmpty, each signature is over its own Level and Round is
// the highest of them; of the other kinds Level is zero, so that one proof has one form. What costs
// nothing is checked before the first signature.
//
// The error is ErrCert and says what is wrong.
func (v *Verifier) VerifyCert(c *coord.Cert) error {
	if err := v.checkShape(c); err != nil {
		return fmt.Errorf("trust: verify certificate: %w: %w", ErrCert, err)
	}
	for i := range c.Sigs {
		s := &c.Sigs[i]
		round := c.Round
		if c.Kind == coord.VoteEmpty {
			round = s.Level
		}
		if !v.verifyVote(s.Voter, c.Kind, round, c.Digest, &s.Sig) {
			return fmt.Errorf("trust: verify certificate: %w: %s in round %d: bad signature of member %d",
				ErrCert, c.Kind, round, s.Voter)
		}
	}
	return nil
}

func (v *Verifier) checkShape(c *coord.Cert) error {
	n := len(v.keys)
	switch {
	case c.Epoch != v.epoch:
		return fmt.Errorf("of epoch %d, not %d", c.Epoch, v.epoch)
	case !wellFormed(c.Kind, c.Digest):
		return fmt.Errorf("kind %d with digest %s", c.Kind, c.Digest.Short())
	case len(c.Sigs) < coord.Quorum(n) || len(c.Sigs) > n:
		return fmt.Errorf("%d signatures where %d to %d are needed", len(c.Sigs), coord.Quorum(n), n)
	}
	var seen uint64 // a bit a member; coord.MembersMax is 32
	var highest uint64
	for i := range c.Sigs {
		s := &c.Sigs[i]
		switch {
		case int(s.Voter) >= n:
			return fmt.Errorf("member %d of %d", s.Voter, n)
		case seen&(1<<s.Voter) != 0:
			return fmt.Errorf("member %d twice", s.Voter)
		case c.Kind != coord.VoteEmpty && s.Level != 0:
			return fmt.Errorf("a level on a %s vote", c.Kind)
		}
		seen |= 1 << s.Voter
		highest = max(highest, s.Level)
	}
	if c.Kind == coord.VoteEmpty && c.Round != highest {
		return fmt.Errorf("round %d where the highest level is %d", c.Round, highest)
	}
	return nil
}

func (v *Verifier) verifyVote(voter uint8, k coord.VoteKind, round uint64, d coord.Digest, sig *coord.Signature) bool {
	return verifyVoteBy(v.keys[voter], v.site, v.epoch, k, round, d, sig)
}

func verifyVoteBy(key *ecdsa.PublicKey, site coord.SiteID, epoch uint64, k coord.VoteKind, round uint64, d coord.Digest, sig *coord.Signature) bool {
	b := coord.VoteBytes(site, k, epoch, round, d)
	h := sha256.Sum256(b[:])
	return verify(key, h[:], sig)
}

func wellFormed(k coord.VoteKind, d coord.Digest) bool {
	switch k {
	case coord.VoteNotarize, coord.VoteFinalize, coord.VoteCheckpoint, coord.VoteEpoch:
		return true
	case coord.VoteEmpty:
		return d == coord.Digest{}
	}
	return false
}

// memberKeys parses the keys of a member set and checks that each id is its key's and there once.
func memberKeys(m *coord.Members) ([]*ecdsa.PublicKey, error) {
	n := len(m.List)
	if n < 1 || n > coord.MembersMax {
		return nil, fmt.Errorf("%w: %d members where 1 to %d can be", ErrMembers, n, coord.MembersMax)
	}
	keys := make([]*ecdsa.PublicKey, n)
	seen := make(map[coord.BoxID]int, n)
	for i := range m.List {
		b := &m.List[i]
		key, err := parsePublicKey(b.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: members[%d].key: %w", ErrMembers, i, err)
		}
		if id := coord.BoxIDOf(b.Key); id != b.ID {
			return nil, fmt.Errorf("%w: members[%d].id: %s where the key says %s", ErrMembers, i, b.ID, id)
		}
		if j, ok := seen[b.ID]; ok {
			return nil, fmt.Errorf("%w: members[%d].id: %s is members[%d] too", ErrMembers, i, b.ID, j)
		}
		seen[b.ID] = i
		keys[i] = key
	}
	return keys, nil
}
