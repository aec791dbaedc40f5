package main

import (
	"context"
	"testing"
)

const root = "../.."

// The list does not rot: each fault can still be put in, and none twice.
func TestEveryMutantApplies(t *testing.T) {
	if len(mutants) < 25 {
		t.Errorf("%d mutants, want at least 25", len(mutants))
	}
	names := map[string]bool{}
	for i := range mutants {
		m := &mutants[i]
		if names[m.Name] {
			t.Errorf("%s is there twice", m.Name)
		}
		names[m.Name] = true
		if _, err := mutate(root, m); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

// A few of them from end to end.
func TestTheSimulatorNotices(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"quorum-short", "no-retransmission", "session-not-checked", "never-asks"} {
		for i := range mutants {
			if mutants[i].Name != name {
				continue
			}
			r, err := try(context.Background(), options{budget: 2000, root: root}, dir, &mutants[i])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if r.what == "" {
				t.Errorf("%s: not noticed in %d seeds", name, r.seeds)
			}
			t.Logf("%s: %d seeds, %s", name, r.seeds, r.what)
		}
	}
}
