package work_test

import (
	"context"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/haltest"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"github.com/holdfast-edge/holdfast/hal/work"
)

// An apply that was killed leaves its journal open; a watch puts that back and goes on, instead of refusing for ever.
func TestAWatchPutsBackWhatAKilledApplyLeft(t *testing.T) {
	all, err := boards.All()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(all, func(b boards.Board) bool { return b.ID == "rock-5b" })
	m := open(t, haltest.Tree(&all[at], 1), "")
	plan := m.Plan(hal.Options{})
	if len(plan.Changes) == 0 {
		t.Fatal("nothing to do")
	}
	port := haltest.NewPort(&plan)
	left := hal.Target{Kind: hal.ReadAhead, Name: "sda"}
	port.Values[left] = "16"
	dir := t.TempDir()
	j, err := linux.NewJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Begin([]hal.Entry{{Target: left, Old: "128"}}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w := work.Watcher{Machine: m, Port: port, Ledger: dir}
	if err := w.Run(ctx, func(s work.Step) {
		stop()
		if s.Err != nil || len(s.PutBack) != 1 || !s.Report.Committed || len(s.Report.Outcomes) != len(plan.Changes) {
			t.Errorf("%+v", s)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if port.Values[left] != "128" {
		t.Errorf("left as %q", port.Values[left])
	}
}
