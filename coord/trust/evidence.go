package trust

import (
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
)

// CheckFinding says which rule a finding proves broken by the owner of its key, and in which round, height or term.
// It needs nothing but the finding; whether the key and the term length are the site's is the caller's to know.
//
// The error is coord.ErrEvidence and says why it proves nothing.
func CheckFinding(f *coord.Finding) (coord.Rule, uint64, error) {
	key, err := parsePublicKey(f.Key)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: key: %w", coord.ErrEvidence, err)
	}
	return f.Check(func(v *coord.Vote) bool {
		return verifyVoteBy(key, f.Site, v.Epoch, v.Kind, v.Round, v.Digest, &v.Sig)
	})
}
