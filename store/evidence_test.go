package store_test

import (
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
)

func lie(box byte, round uint64) *coord.Finding {
	f := &coord.Finding{Box: coord.BoxID{box}, Name: "b", Key: make([]byte, 91), TermRounds: 1000}
	f.A = coord.Vote{Kind: coord.VoteNotarize, Epoch: 1, Round: round, Digest: coord.Digest{1}}
	f.B = f.A
	f.B.Digest[0] = 2
	return f
}

func TestEvidenceIsKeptOnceBoundedAndAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	o := store.Options{Site: coord.SiteID{1}, Box: coord.BoxID{2}}
	b, err := store.OpenBase(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(f *coord.Finding, want bool) {
		t.Helper()
		if kept, err := b.KeepEvidence(f); err != nil || kept != want {
			t.Errorf("kept %v, %v; want %v", kept, err, want)
		}
	}
	for i := range uint64(coord.EvidenceMax) {
		keep(lie(1, i+1), true)
		keep(lie(1, i+1), false)
	}
	keep(lie(1, 1000), false)
	keep(lie(1, 1001), false)
	keep(lie(2, 5), true)
	if _, err := b.KeepEvidence(&coord.Finding{}); err == nil {
		t.Error("evidence of nothing is kept")
	}
	for range 2 {
		x, err := b.Evidence()
		if err != nil || len(x.Findings) != coord.EvidenceMax+1 || x.More != 2 || x.Site != o.Site {
			t.Fatalf("%d findings and %d more, %v; want %d and 2", len(x.Findings), x.More, err, coord.EvidenceMax+1)
		}
		if got, want := x.Findings[0], lie(1, 1); got.A != want.A || got.B != want.B || got.Box != want.Box {
			t.Errorf("the first is %+v, want %+v", got, want)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if b, err = store.OpenBase(dir, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnInstalledStateLeavesTheEvidence(t *testing.T) {
	from, to := openBase(t, t.TempDir()), openBase(t, t.TempDir())
	fill(t, from, 1, 10, 600)
	if _, err := to.KeepEvidence(lie(1, 5)); err != nil {
		t.Fatal(err)
	}
	install(t, to, snapshot(t, from))
	if x, err := to.Evidence(); err != nil || len(x.Findings) != 1 || x.Findings[0].A != lie(1, 5).A {
		t.Errorf("after an install: %v, %v; want the finding", x, err)
	}
}
