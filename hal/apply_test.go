package hal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/haltest"
)

var (
	irq = hal.Target{Kind: hal.IRQAffinity, Name: "eth0", Index: 41}
	rps = hal.Target{Kind: hal.RPSCPUs, Name: "eth0"}
	ch  = hal.Target{Kind: hal.ChannelsOf, Name: "eth0"}
)

func plan() *hal.Plan {
	return &hal.Plan{Changes: []hal.Change{
		{Target: irq, Old: "0-3", Want: "2", Risk: hal.Safe},
		{Target: rps, Old: "", Want: "1-2", Risk: hal.Safe},
		{Target: ch, Old: "rx 1 tx 1 combined 0", Want: "rx 2 tx 2 combined 0", Risk: hal.Risky},
	}}
}

func results(r hal.Report) string {
	var s []string
	for _, o := range r.Outcomes {
		s = append(s, string(o.Result))
	}
	return strings.Join(s, " ")
}

func TestOldValuesAreDurableBeforeTheFirstWrite(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	port.OnWrite = func(hal.Target) {
		if len(j.Open) != 3 {
			t.Errorf("a write with %d values in the journal", len(j.Open))
		}
	}
	r, err := hal.Apply(t.Context(), port, p, j, nil)
	if err != nil || !r.Committed || results(r) != "applied applied applied" {
		t.Fatalf("%s, %v", results(r), err)
	}
	if j.Open != nil || len(j.Kept) != 3 {
		t.Errorf("after the commit: open %v, kept %v", j.Open, j.Kept)
	}
	full := &haltest.Journal{Err: syscall.ENOSPC}
	port = haltest.NewPort(p)
	before := port.State()
	if _, err := hal.Apply(t.Context(), port, p, full, nil); !errors.Is(err, syscall.ENOSPC) || port.State() != before || len(port.Written) != 0 {
		t.Errorf("with a full disk: %v, written %v", err, port.Written)
	}
}

func TestARefusalIsToldWithItsErrnoAndHurtsNothingElse(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	port.Refuse[irq] = fmt.Errorf("write: %w", syscall.EPERM)
	port.Refuse[rps] = fmt.Errorf("write: %w", syscall.EOPNOTSUPP)
	r, err := hal.Apply(t.Context(), port, p, j, nil)
	if err != nil || results(r) != "failed unsupported applied" {
		t.Fatalf("%s, %v", results(r), err)
	}
	if r.Outcomes[0].Errno != syscall.EPERM || port.Values[irq] != "0-3" {
		t.Errorf("errno %v, value %q", r.Outcomes[0].Errno, port.Values[irq])
	}
}

func TestWhatWentAwayIsUnsupportedAndNoFailure(t *testing.T) {
	p := plan()
	port := haltest.NewPort(p)
	delete(port.Values, irq)
	port.Refuse[rps] = fmt.Errorf("%w: %w", hal.ErrGone, syscall.ENODEV)
	if r, err := hal.Apply(t.Context(), port, p, &haltest.Journal{}, nil); err != nil || results(r) != "unsupported unsupported applied" {
		t.Errorf("%s, %v", results(r), err)
	}
}

func TestWhatHasNoEffectIsPutBackAlone(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	port.Results[irq] = hal.FailedTo
	r, err := hal.Apply(t.Context(), port, p, j, nil)
	if err != nil || results(r) != "failed applied applied" || port.Values[irq] != "0-3" || port.Values[rps] != "1-2" {
		t.Fatalf("%s, %v\n%s", results(r), err, port.State())
	}
}

func TestARiskyFailurePutsEverythingBack(t *testing.T) {
	for _, how := range []string{"refused", "no effect", "not there"} {
		p := plan()
		port, j := haltest.NewPort(p), &haltest.Journal{}
		switch how {
		case "refused":
			port.Refuse[ch] = syscall.EINVAL
		case "no effect":
			port.Results[ch] = hal.FailedTo
		case "not there":
			port.Refuse[ch] = fmt.Errorf("%w: %w", hal.ErrGone, syscall.ENODEV)
		}
		before := port.State()
		r, err := hal.Apply(t.Context(), port, p, j, nil)
		if !errors.Is(err, hal.ErrRolledBack) || port.State() != before || r.Committed || j.Open != nil || j.Kept != nil {
			t.Errorf("%s: %v\n%s\njournal %v %v", how, err, port.State(), j.Open, j.Kept)
		}
		if !strings.HasPrefix(results(r), "put-back put-back") {
			t.Errorf("%s: %s", how, results(r))
		}
	}
}

// A later value may stand on an earlier one: a queue's steering on the number of queues.
func TestTheLastWriteIsPutBackFirst(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	port.Refuse[ch] = syscall.EINVAL
	if _, err := hal.Apply(t.Context(), port, p, j, nil); !errors.Is(err, hal.ErrRolledBack) {
		t.Fatal(err)
	}
	got := strings.Join(port.Written, "; ")
	want := "eth0 irq 41 affinity = 2; eth0 rx-0 rps_cpus = 1-2; eth0 rx-0 rps_cpus = ; eth0 irq 41 affinity = 0-3"
	if got != want {
		t.Errorf("written %s, want %s", got, want)
	}
}

func TestWhatNobodyConfirmsIsPutBack(t *testing.T) {
	p := plan()
	for name, wait := range map[string]func(context.Context) error{
		"the console is lost": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"somebody says no":    func(context.Context) error { return errors.New("no") },
	} {
		port, j := haltest.NewPort(p), &haltest.Journal{}
		before := port.State()
		r, err := hal.Apply(t.Context(), port, p, j, &hal.Confirm{Within: time.Millisecond, Wait: wait})
		if !errors.Is(err, hal.ErrRolledBack) || port.State() != before || r.Committed || j.Open != nil {
			t.Errorf("%s: %v\n%s", name, err, port.State())
		}
	}
	port, j := haltest.NewPort(p), &haltest.Journal{}
	yes := &hal.Confirm{Within: time.Minute, Wait: func(context.Context) error { return nil }}
	if r, err := hal.Apply(t.Context(), port, p, j, yes); err != nil || !r.Committed || port.Values[irq] != "2" {
		t.Errorf("confirmed: %v\n%s", err, port.State())
	}
}

func TestTheEndOfTheContextPutsBackAndStillCan(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	before := port.State()
	ctx, cancel := context.WithCancel(t.Context())
	port.OnWrite = func(target hal.Target) {
		if target == rps {
			cancel()
		}
	}
	if _, err := hal.Apply(ctx, port, p, j, nil); !errors.Is(err, hal.ErrRolledBack) || !errors.Is(err, context.Canceled) || port.State() != before {
		t.Errorf("%v\n%s", err, port.State())
	}
}

// A driver that gets another number of queues makes them anew: their steering is journaled though
// the plan does not touch it, and stands again after the queues.
func TestWhatAWriteDisturbsIsPutBackToo(t *testing.T) {
	other := hal.Target{Kind: hal.XPSCPUs, Name: "eth0", Index: 1}
	for _, how := range []string{"refused", "undone", "killed"} {
		p := plan()
		port, j := haltest.NewPort(p), &haltest.Journal{}
		port.Values[other] = "2-3"
		port.Disturbs = map[hal.Target]map[hal.Target]string{ch: {other: "0-3", rps: "0"}}
		before := port.State()
		switch how {
		case "refused":
			port.Results[ch] = hal.FailedTo
			if _, err := hal.Apply(t.Context(), port, p, j, nil); !errors.Is(err, hal.ErrRolledBack) {
				t.Fatal(err)
			}
		default:
			if _, err := hal.Apply(t.Context(), port, p, j, nil); err != nil {
				t.Fatal(err)
			}
			back := hal.Undo
			if how == "killed" {
				j.Open, j.Kept = j.Kept, nil
				back = hal.Recover
			}
			if _, err := back(t.Context(), port, j); err != nil {
				t.Fatal(err)
			}
		}
		if port.State() != before {
			t.Errorf("%s:\n%s\nwant\n%s", how, port.State(), before)
		}
	}
}

// halfCommit closes the plan and then cannot make that durable.
type halfCommit struct{ haltest.Journal }

func (j *halfCommit) Commit() error { return errors.Join(j.Journal.Commit(), syscall.EIO) }

func TestACommitThatFailsForgetsNoEarlierPlan(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &halfCommit{}
	j.Kept = []hal.Entry{{Target: irq, Old: "3"}}
	before := port.State()
	if _, err := hal.Apply(t.Context(), port, p, j, nil); !errors.Is(err, hal.ErrRolledBack) || port.State() != before {
		t.Errorf("%v\n%s", err, port.State())
	}
	if j.Open != nil || len(j.Kept) == 0 || j.Kept[0].Old != "3" {
		t.Errorf("open %v, kept %v", j.Open, j.Kept)
	}
}

func TestAnOutcomeIsToldForEveryChangeAndForWhatStoodAlready(t *testing.T) {
	p := plan()
	port := haltest.NewPort(p)
	port.Values[irq] = "1" // since the plan was made
	ctx, cancel := context.WithCancel(t.Context())
	port.OnWrite = func(hal.Target) { cancel() }
	r, err := hal.Apply(ctx, port, p, &haltest.Journal{}, nil)
	if !errors.Is(err, hal.ErrRolledBack) || results(r) != "failed not-tried not-tried" || r.Outcomes[0].Change.Old != "1" || r.Outcomes[2].Change.Target != ch {
		t.Errorf("%v: %+v", err, r.Outcomes)
	}
	port = haltest.NewPort(p)
	port.Values[irq], port.Results[irq] = "2", hal.FailedTo
	if r, err := hal.Apply(t.Context(), port, p, &haltest.Journal{}, nil); err != nil || results(r) != "failed applied applied" {
		t.Errorf("a value that stood and has no effect: %v, %s", err, results(r))
	}
}

// crash is what a killed process looks like from outside: everything stops where it is.
type crash struct{}

func TestAfterACrashAnywhereEverythingCanBePutBack(t *testing.T) {
	for at := range 4 {
		p := plan()
		port, j := haltest.NewPort(p), &haltest.Journal{}
		before := port.State()
		n := 0
		port.OnWrite = func(hal.Target) {
			if n == at {
				panic(crash{})
			}
			n++
		}
		func() {
			defer func() {
				if e := recover(); e != nil && e != (crash{}) {
					panic(e)
				}
			}()
			_, _ = hal.Apply(t.Context(), port, p, j, &hal.Confirm{Within: time.Minute, Wait: func(context.Context) error { panic(crash{}) }})
		}()
		port.OnWrite = nil
		if _, err := hal.Apply(t.Context(), port, p, j, nil); !errors.Is(err, hal.ErrPending) {
			t.Errorf("crash at write %d: a second plan: %v, want ErrPending", at, err)
		}
		old, err := hal.Recover(t.Context(), port, j)
		if err != nil || len(old) != 3 || port.State() != before {
			t.Errorf("crash at write %d: %v, %v\n%s", at, old, err, port.State())
		}
		if old, err := hal.Recover(t.Context(), port, j); err != nil || old != nil {
			t.Errorf("a second time: %v, %v", old, err)
		}
	}
}

func TestRecoverKeepsTheJournalUntilAllIsBack(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	before := port.State()
	j.Open = []hal.Entry{{Target: irq, Old: "0-3"}, {Target: rps, Old: ""}, {Target: hal.Target{Kind: hal.RPSCPUs, Name: "unplugged"}, Old: "1"}}
	port.Values[irq], port.Values[rps] = "2", "1-2"
	port.Refuse[irq] = syscall.EIO
	if _, err := hal.Recover(t.Context(), port, j); !errors.Is(err, syscall.EIO) || j.Open == nil {
		t.Fatalf("%v, journal %v", err, j.Open)
	}
	delete(port.Refuse, irq)
	if _, err := hal.Recover(t.Context(), port, j); !errors.Is(err, hal.ErrGone) || j.Open != nil || len(j.Kept) != 3 || port.State() != before {
		t.Errorf("%v, journal %v\n%s", err, j.Open, port.State())
	}
}

func TestUndoGoesBackToBeforeTheFirstPlan(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	before := port.State()
	second := &hal.Plan{Changes: []hal.Change{{Target: irq, Old: "2", Want: "3"}}}
	for _, p := range []*hal.Plan{p, second} {
		if _, err := hal.Apply(t.Context(), port, p, j, nil); err != nil {
			t.Fatal(err)
		}
	}
	if port.Values[irq] != "3" {
		t.Fatal("the second plan did nothing")
	}
	if old, err := hal.Undo(t.Context(), port, j); err != nil || len(old) != 3 || port.State() != before || j.Kept != nil {
		t.Errorf("%v, %v\n%s", old, err, port.State())
	}
}

func TestWhatCameBackWrongDrifts(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	if _, err := hal.Apply(t.Context(), port, p, j, nil); err != nil {
		t.Fatal(err)
	}
	if d := p.Drift(t.Context(), port); len(d) != 0 {
		t.Errorf("right after: %v", d)
	}
	port.Values[irq] = "0-3" // as after a CPU went and came
	delete(port.Values, rps)
	if d := p.Drift(t.Context(), port); len(d) != 1 || d[0].Target != irq || d[0].Old != "0-3" {
		t.Errorf("got %v", d)
	}
}

// What is not there now keeps its old value, and is put back when it is there again.
func TestWhatIsGoneIsPutBackWhenItIsThereAgain(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	before := port.State()
	if _, err := hal.Apply(t.Context(), port, p, j, nil); err != nil {
		t.Fatal(err)
	}
	was := port.Values[rps]
	delete(port.Values, rps)
	back, err := hal.Undo(t.Context(), port, j)
	if !errors.Is(err, hal.ErrGone) || len(back) != 2 || j.Kept == nil {
		t.Fatalf("put back %v, %v", back, err)
	}
	port.Values[rps] = was
	if back, err = hal.Undo(t.Context(), port, j); err != nil || len(back) != 3 || port.State() != before {
		t.Fatalf("put back %v, %v\n%s", back, err, port.State())
	}
	if back, err = hal.Undo(t.Context(), port, j); err != nil || len(back) != 0 {
		t.Fatalf("again %v, %v", back, err)
	}
}

// A queue that the plan took away is there again when the number of queues is.
func TestWhatComesBackWithAnotherValueIsPutBackToo(t *testing.T) {
	p := plan()
	port, j := haltest.NewPort(p), &haltest.Journal{}
	before := port.State()
	if _, err := hal.Apply(t.Context(), port, p, j, nil); err != nil {
		t.Fatal(err)
	}
	delete(port.Values, ch)
	port.OnWrite = func(x hal.Target) {
		if x == irq { // the last written, as old[0] is the first changed
			port.Values[ch] = "rx 2 tx 2 combined 0"
		}
	}
	if back, err := hal.Undo(t.Context(), port, j); err != nil || len(back) != 3 || port.State() != before {
		t.Fatalf("put back %v, %v\n%s", back, err, port.State())
	}
}
