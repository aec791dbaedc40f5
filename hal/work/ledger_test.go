package work_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/haltest"
	"github.com/holdfast-edge/holdfast/hal/work"
)

func ledger(t testing.TB, dir string) *work.Ledger {
	t.Helper()
	l, err := work.OpenLedger(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func change(queue int, old, want string) hal.Change {
	return hal.Change{Target: hal.Target{Kind: hal.RPSCPUs, Name: "eth0", Index: queue}, Old: old, Want: want, Reason: "a test", Risk: hal.Safe}
}

func TestOneProgramAtATimeHasTheLedger(t *testing.T) {
	dir := t.TempDir()
	first := ledger(t, dir)
	if _, err := work.OpenLedger(dir); !errors.Is(err, work.ErrBusy) {
		t.Errorf("a second program: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	ledger(t, dir)
}

func TestWhatIsInForceIsVerifiedUntilItIsPutBack(t *testing.T) {
	dir := t.TempDir()
	plan := hal.Plan{Changes: []hal.Change{change(0, "", "2-3"), change(1, "", "2-3"), change(2, "", "2-3")}}
	port := haltest.NewPort(&plan)
	port.Refuse = map[hal.Target]error{plan.Changes[2].Target: syscall.EINVAL}
	before := port.State()
	l := ledger(t, dir)
	if _, err := l.Apply(t.Context(), port, &plan, nil); err != nil {
		t.Fatal(err)
	}
	verify := func(want ...string) {
		t.Helper()
		out, err := l.Verify(t.Context(), port)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range out {
			got = append(got, o.Change.Target.String()+" "+string(o.Result))
		}
		if !slices.Equal(got, want) {
			t.Errorf("verified %q, want %q", got, want)
		}
	}
	verify("eth0 rx-0 rps_cpus applied", "eth0 rx-1 rps_cpus applied") // what was refused is not in force

	// Another process sees the same, and drift.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = ledger(t, dir)
	port.Values[plan.Changes[1].Target] = "0"
	verify("eth0 rx-0 rps_cpus applied", "eth0 rx-1 rps_cpus failed")

	// A second plan replaces what it wants otherwise, and the first old value stays the one to put back.
	again := hal.Plan{Changes: []hal.Change{change(1, "0", "3")}}
	if _, err := l.Apply(t.Context(), port, &again, nil); err != nil {
		t.Fatal(err)
	}
	verify("eth0 rx-0 rps_cpus applied", "eth0 rx-1 rps_cpus applied")
	if got := port.Values[plan.Changes[1].Target]; got != "3" {
		t.Errorf("rx-1 is %q", got)
	}
	// One whose effect is gone is said so, though its value stands.
	port.Results = map[hal.Target]hal.Result{plan.Changes[0].Target: hal.FailedTo}
	verify("eth0 rx-0 rps_cpus failed", "eth0 rx-1 rps_cpus applied")

	if _, err := hal.Undo(t.Context(), port, l); err != nil {
		t.Fatal(err)
	}
	verify()
	if got := port.State(); got != before {
		t.Errorf("after the rollback there stands\n%s\nwant\n%s", got, before)
	}
}

// A crash between the commit and the record leaves the record of before: the journal decides.
func FuzzTheRecordOfWhatIsInForce(f *testing.F) {
	f.Add([]byte(`[{"target":{"kind":"rps-cpus","name":"eth0"},"old":"","want":"1","reason":"","risk":"safe"}]`))
	f.Add([]byte(`[{"target":{"kind":"rps-cpus","name":"../../etc","index":-1}}]`))
	f.Add([]byte("null"))
	f.Add([]byte("{"))
	dir := f.TempDir()
	plan := hal.Plan{Changes: []hal.Change{change(0, "", "2-3")}}
	l := ledger(f, dir)
	if _, err := l.Apply(f.Context(), haltest.NewPort(&plan), &plan, nil); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "in-force.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := l.InForce()
		if err != nil && !errors.Is(err, hal.ErrFormat) {
			t.Errorf("%v", err)
		}
		for _, c := range all {
			if c.Target != plan.Changes[0].Target {
				t.Errorf("%v is in force, and the journal does not know it", c.Target)
			}
		}
	})
}

func TestARecordThatIsTooLongIsRefused(t *testing.T) {
	dir := t.TempDir()
	plan := hal.Plan{Changes: []hal.Change{change(0, "", "2-3")}}
	l := ledger(t, dir)
	if _, err := l.Apply(t.Context(), haltest.NewPort(&plan), &plan, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "in-force.json"), []byte("["+strings.Repeat(" ", 2<<20)+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.InForce(); !errors.Is(err, hal.ErrFormat) {
		t.Errorf("%v", err)
	}
}
