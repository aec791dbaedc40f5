package trust

import (
	"errors"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

func TestAProofOfAReadProvesWhatAQuorumSigned(t *testing.T) {
	m := &coord.Members{Site: coord.SiteID{9}, Epoch: 2}
	var ids []*Identity
	for range 4 {
		id, err := LoadOrCreate(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		m.List = append(m.List, coord.Member{ID: id.ID(), Key: id.PublicKey()})
	}
	v, err := NewVerifier(m)
	if err != nil {
		t.Fatal(err)
	}
	proof := func() *coord.ReadProof {
		p := &coord.ReadProof{Site: m.Site, Epoch: m.Epoch, Reading: coord.Reading{
			Key: []byte("k"), Nonce: []byte("nonce 01"), Height: 7, Revision: 5, Found: true, Value: []byte("v"), CreateRevision: 2, ModRevision: 4, Version: 2, Lease: -1,
		}}
		d := p.Reading.Digest(p.Site, p.Epoch)
		for i := range 3 {
			p.Sigs = append(p.Sigs, coord.ReadSig{Voter: uint8(i), Sig: ids[i].SignReading(d)})
		}
		return p
	}
	if err := v.VerifyReadProof(proof()); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(p *coord.ReadProof){
		"another key":         func(p *coord.ReadProof) { p.Reading.Key = []byte("l") },
		"another value":       func(p *coord.ReadProof) { p.Reading.Value = []byte("w") },
		"another nonce":       func(p *coord.ReadProof) { p.Reading.Nonce = []byte("nonce 02") },
		"a shifted border":    func(p *coord.ReadProof) { p.Reading.Key, p.Reading.Nonce = []byte("kn"), []byte("once 01") },
		"another height":      func(p *coord.ReadProof) { p.Reading.Height++ },
		"another revision":    func(p *coord.ReadProof) { p.Reading.Revision++ },
		"not found":           func(p *coord.ReadProof) { p.Reading.Found = false },
		"created later":       func(p *coord.ReadProof) { p.Reading.CreateRevision++ },
		"changed later":       func(p *coord.ReadProof) { p.Reading.ModRevision++ },
		"another version":     func(p *coord.ReadProof) { p.Reading.Version++ },
		"another lease":       func(p *coord.ReadProof) { p.Reading.Lease++ },
		"another site":        func(p *coord.ReadProof) { p.Site[0]++ },
		"another epoch":       func(p *coord.ReadProof) { p.Epoch++ },
		"too few":             func(p *coord.ReadProof) { p.Sigs = p.Sigs[:2] },
		"one of them twice":   func(p *coord.ReadProof) { p.Sigs[2] = p.Sigs[1] },
		"somebody else's":     func(p *coord.ReadProof) { p.Sigs[2].Voter = 3 },
		"of no member":        func(p *coord.ReadProof) { p.Sigs[2].Voter = 4 },
		"a broken signature":  func(p *coord.ReadProof) { p.Sigs[0].Sig[5]++ },
		"more than there are": func(p *coord.ReadProof) { p.Sigs = append(p.Sigs, p.Sigs...) },
	} {
		p := proof()
		alter(p)
		if err := v.VerifyReadProof(p); !errors.Is(err, coord.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
