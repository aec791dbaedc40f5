package trust

import (
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
)

// SignReading signs a Reading's digest.
func (id *Identity) SignReading(d coord.Digest) coord.Signature { return id.mustSign(d[:]) }

// VerifyReading says whether a member signed a Reading's digest.
func (v *Verifier) VerifyReading(voter int, d coord.Digest, sig *coord.Signature) bool {
	return voter >= 0 && voter < len(v.keys) && verify(v.keys[voter], d[:], sig)
}

// VerifyReadProof says whether a quorum of this member set signed what the proof says. Whether the nonce is the one that
// the client chose is the client's to compare. Error: coord.ErrProof, with the reason.
func (v *Verifier) VerifyReadProof(p *coord.ReadProof) error {
	n := len(v.keys)
	switch {
	case p.Site != v.site || p.Epoch != v.epoch:
		return fmt.Errorf("%w: of site %v epoch %d, not %v %d", coord.ErrProof, p.Site, p.Epoch, v.site, v.epoch)
	case len(p.Sigs) < coord.Quorum(n) || len(p.Sigs) > n:
		return fmt.Errorf("%w: %d signatures where %d to %d are needed", coord.ErrProof, len(p.Sigs), coord.Quorum(n), n)
	}
	d := p.Reading.Digest(p.Site, p.Epoch)
	seen := uint64(0)
	for i := range p.Sigs {
		s := &p.Sigs[i]
		if int(s.Voter) >= n || seen&(1<<s.Voter) != 0 {
			return fmt.Errorf("%w: a signature of member %d, which is none or came before", coord.ErrProof, s.Voter)
		}
		seen |= 1 << s.Voter
		if !v.VerifyReading(int(s.Voter), d, &s.Sig) {
			return fmt.Errorf("%w: the signature of member %d is not over this", coord.ErrProof, s.Voter)
		}
	}
	return nil
}
