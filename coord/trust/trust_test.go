package trust_test

import (
	"fmt"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// newSite makes n identities and the member set that they form.
func newSite(t testing.TB, n int) ([]*trust.Identity, *coord.Members) {
	t.Helper()
	ids := make([]*trust.Identity, n)
	m := &coord.Members{Site: coord.SiteID{1, 2, 3}, Epoch: 7}
	for i := range ids {
		id, err := trust.LoadOrCreate(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = id
		m.List = append(m.List, coord.Member{
			ID: id.ID(), Name: fmt.Sprintf("box-%d", i), Key: id.PublicKey(),
			Peer: fmt.Sprintf("127.0.0.1:%d", 7400+i), Client: fmt.Sprintf("[::1]:%d", 2379+i),
		})
	}
	return ids, m
}

func newVerifier(t testing.TB, m *coord.Members) *trust.Verifier {
	t.Helper()
	v, err := trust.NewVerifier(m)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
