package site_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

func (k tagKeys) SignReading(d coord.Digest) coord.Signature {
	return k.SignVote(coord.VoteNotarize, 0, 0, d)
}

func (k tagKeys) VerifyReading(voter int, d coord.Digest, sig *coord.Signature) bool {
	return tagKeys{voter, k.members}.SignVote(coord.VoteNotarize, 0, 0, d) == *sig
}

func TestAQuorumSignsWhatAKeyIs(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(1, 1)
		r.must(1, r.put(1, "k", "v"))
		prove := func(box int, key, nonce string) (*coord.ReadProof, error) {
			ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
			defer cancel()
			return r.boxes[box].site.Prove(ctx, []byte(key), []byte(nonce))
		}
		p, err := prove(2, "k", "nonce 01")
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Sigs) != 3 || !p.Reading.Found || string(p.Reading.Value) != "v" || p.Reading.ModRevision != 2 || string(p.Reading.Nonce) != "nonce 01" {
			t.Errorf("%+v", p)
		}
		d := p.Reading.Digest(r.members.Site, 1)
		for i := range p.Sigs {
			if s := &p.Sigs[i]; !(tagKeys{0, r.members}).VerifyReading(int(s.Voter), d, &s.Sig) {
				t.Errorf("signature of member %d", s.Voter)
			}
		}
		if p, err = prove(0, "not there", "nonce 02"); err != nil || p.Reading.Found {
			t.Errorf("%+v %v", p, err)
		}
		if _, err := prove(0, "k", "short"); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a short nonce: %v", err)
		}
		if err := r.stop(3); err != nil { // one may be away
			t.Fatal(err)
		}
		if _, err = prove(1, "k", "nonce 03"); err != nil {
			t.Errorf("without one box: %v", err)
		}
	})
}
