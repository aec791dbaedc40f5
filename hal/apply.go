package hal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// rollbackMax is how long putting back may take after the caller's context has ended: a few
// hundred writes of less than a millisecond, and a link that resets takes seconds.
const rollbackMax = 30 * time.Second

// Port reads and writes values. hal/linux has the real one, hal/haltest a fake.
type Port interface {
	// Read returns a value as Kind documents it; an error that is ErrGone when there is no
	// such thing, errors.ErrUnsupported when the kernel or the device has no such setting.
	Read(ctx context.Context, t Target) (string, error)
	// Write sets a value. A refusal wraps the kernel's errno and, where the kernel gives one,
	// its reason.
	Write(ctx context.Context, t Target, v string) error
	// Effect watches whether a value that was accepted does what it says: Applied with what was
	// seen, AcceptedUnverified with why nothing could be seen, or FailedTo with what went elsewhere.
	Effect(ctx context.Context, t Target, v string) (Result, string)
	// Beside lists the other values that writing t may change: a new number of queues brings
	// queues without the steering of before.
	Beside(t Target) []Target
}

// Journal keeps the old values across a crash. Its methods are durable when they return.
type Journal interface {
	// Begin opens a plan: it is called before the first write, with every value that may be written.
	Begin(old []Entry) error
	// Pending returns what Begin got if the plan was neither committed nor put back.
	Pending() ([]Entry, error)
	// Commit closes the open plan and keeps its old values for Committed; the oldest value of a
	// place stays over several plans.
	Commit() error
	// Committed returns the values from before the first committed plan.
	Committed() ([]Entry, error)
	// Clear forgets the open plan, or, if there is none, what was committed.
	Clear() error
}

// Entry is a value before it was changed.
type Entry struct {
	Target Target `json:"target"`
	Old    string `json:"old"`
}

// Result is what became of a change.
type Result string

// The results.
const (
	Applied            Result = "applied"             // its effect was seen
	AcceptedUnverified Result = "accepted-unverified" // the kernel took it; no effect could be seen
	Unsupported        Result = "unsupported"         // the machine cannot
	FailedTo           Result = "failed"              // refused, or taken without effect
	PutBack            Result = "put-back"            // the old value stands again
	NotTried           Result = "not-tried"           // the plan ended before it
)

// Outcome is what became of one change.
type Outcome struct {
	Change Change        `json:"change"`
	Result Result        `json:"result"`
	Why    string        `json:"why,omitempty"`   // what was seen, or the reason
	Errno  syscall.Errno `json:"errno,omitempty"` // the kernel's, if it refused
}

// Report is what became of a plan.
type Report struct {
	Outcomes  []Outcome `json:"outcomes"`
	Committed bool      `json:"committed"`
}

// Confirm asks whether a plan that was applied may stay.
type Confirm struct {
	Within time.Duration // after which it is put back
	// Wait returns nil when somebody has said yes, over the network the plan has changed if it can.
	Wait func(context.Context) error
}

// Apply carries out a plan. The old values are durable in the journal before the first write. A
// change that fails is put back alone; if it is Risky, or ctx ends, or nobody confirms in time,
// everything is put back and the error is ErrRolledBack with the cause. A nil confirm commits at
// once. If the process dies, Recover puts back at the next start.
func Apply(ctx context.Context, port Port, plan *Plan, j Journal, confirm *Confirm) (Report, error) {
	pending, err := j.Pending()
	if err != nil {
		return Report{}, fmt.Errorf("hal: apply: %w", err)
	}
	if pending != nil {
		return Report{}, fmt.Errorf("hal: apply: %w: %d values", ErrPending, len(pending))
	}
	r := Report{Outcomes: make([]Outcome, len(plan.Changes))}
	var old []Entry
	var todo []int
	for i, c := range plan.Changes {
		now, err := port.Read(ctx, c.Target)
		switch {
		case err != nil:
			r.Outcomes[i] = refused(c, err)
		case now == c.Want:
			result, seen := port.Effect(ctx, c.Target, c.Want)
			r.Outcomes[i] = Outcome{Change: c, Result: result, Why: "it was so already: " + seen}
		default:
			c.Old = now
			r.Outcomes[i] = Outcome{Change: c, Result: NotTried}
			old = append(old, Entry{c.Target, now})
			todo = append(todo, i)
		}
	}
	if len(todo) == 0 {
		r.Committed = true
		return r, nil
	}
	old = append(old, beside(ctx, port, old)...)
	if err := j.Begin(old); err != nil {
		return r, fmt.Errorf("hal: apply: nothing was written: %w", err)
	}
	cause := r.carryOut(ctx, port, todo)
	if cause == nil && confirm != nil {
		wait, cancel := context.WithTimeout(ctx, confirm.Within)
		if err := confirm.Wait(wait); err != nil {
			cause = fmt.Errorf("not confirmed within %v: %w", confirm.Within, err)
		}
		cancel()
	}
	if cause == nil {
		if err := j.Commit(); err != nil {
			cause = err
		} else {
			r.Committed = true
			return r, nil
		}
	}
	cause = fmt.Errorf("hal: apply: %w: %w", ErrRolledBack, cause)
	if _, gone, err := putBack(ctx, port, old); err != nil || gone != nil {
		return r, errors.Join(cause, err, gone) // the journal stays for Recover
	}
	for _, i := range todo {
		if o := &r.Outcomes[i]; o.Result == Applied || o.Result == AcceptedUnverified {
			o.Result = PutBack
		}
	}
	// A Commit that failed may have closed the plan: then Clear would forget the plans before it.
	pending, err = j.Pending()
	if err == nil && pending != nil {
		err = j.Clear()
	}
	return r, errors.Join(cause, err)
}

// beside reads what the port says that writing these may change besides, and leaves out what cannot be read.
func beside(ctx context.Context, port Port, old []Entry) []Entry {
	known := map[Target]bool{}
	for _, e := range old {
		known[e.Target] = true
	}
	var more []Entry
	for _, e := range old {
		for _, t := range port.Beside(e.Target) {
			if v, err := port.Read(ctx, t); err == nil && !known[t] {
				known[t] = true
				more = append(more, Entry{t, v})
			}
		}
	}
	return more
}

// carryOut writes and judges the changes of todo. The error is why the whole plan has to be put back.
func (r *Report) carryOut(ctx context.Context, port Port, todo []int) error {
	for _, i := range todo {
		c := r.Outcomes[i].Change
		o := Outcome{Change: c}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := port.Write(ctx, c.Target, c.Want); err != nil {
			o = refused(c, err)
		} else if o.Result, o.Why = port.Effect(ctx, c.Target, c.Want); o.Result == FailedTo {
			if err := port.Write(ctx, c.Target, c.Old); err != nil {
				r.Outcomes[i] = o
				return fmt.Errorf("%s: had no effect (%s), and its old value was refused: %w", c.Target, o.Why, err)
			}
		}
		r.Outcomes[i] = o
		if c.Risk == Risky && o.Result != Applied && o.Result != AcceptedUnverified {
			return fmt.Errorf("%s: %s: %s", c.Target, o.Result, o.Why)
		}
	}
	return nil
}

// refused is the outcome of a change that the port answered with an error.
func refused(c Change, err error) Outcome {
	o := Outcome{Change: c, Result: FailedTo, Why: err.Error()}
	errors.As(err, &o.Errno)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, ErrGone) {
		o.Result = Unsupported
	}
	return o
}

// putBack writes old values, the last first, and then goes over them once more, the first first: queues that come back with
// their number, and a driver that steers them anew, undo what was put back before. It goes on after an error and after the end
// of ctx. Of the second time it says what stands again, which places are not there (gone, ErrGone), and the other errors.
func putBack(ctx context.Context, port Port, old []Entry) (back []Entry, gone, failed error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackMax)
	defer cancel()
	order := slices.Clone(old)
	for range 2 {
		slices.Reverse(order)
		back, gone, failed = nil, nil, nil
		for _, e := range order {
			now, err := port.Read(ctx, e.Target)
			if err == nil && now != e.Old {
				err = port.Write(ctx, e.Target, e.Old)
			}
			switch {
			case err == nil:
				back = append(back, e)
			case errors.Is(err, ErrGone):
				gone = errors.Join(gone, fmt.Errorf("hal: put back %s to %s: %w", e.Target, said(e.Old), err))
			default:
				failed = errors.Join(failed, fmt.Errorf("hal: put back %s to %s: %w", e.Target, said(e.Old), err))
			}
		}
	}
	return back, gone, failed
}

// Recover puts back what a crash left behind, and says what: nil when nothing was open. It may be called any number of times;
// after an error the journal still has the old values. ErrGone says that some places are not there: then the old values
// are kept as those of a plan that was committed, so that Undo tries again and a new plan can be applied.
func Recover(ctx context.Context, port Port, j Journal) ([]Entry, error) {
	old, err := j.Pending()
	if err != nil || old == nil {
		return nil, err
	}
	back, gone, err := putBack(ctx, port, old)
	switch {
	case err != nil:
		return back, errors.Join(err, gone)
	case gone != nil:
		return back, errors.Join(gone, j.Commit())
	}
	return back, j.Clear()
}

// Undo puts back what was committed, and says what. After an error, which is ErrGone when a place is not there, the journal still has
// the old values.
func Undo(ctx context.Context, port Port, j Journal) ([]Entry, error) {
	if _, err := Recover(ctx, port, j); err != nil {
		return nil, err
	}
	old, err := j.Committed()
	if err != nil || old == nil {
		return nil, err
	}
	back, gone, err := putBack(ctx, port, old)
	if err != nil || gone != nil {
		return back, errors.Join(err, gone)
	}
	return back, j.Clear()
}

// Drift returns the plan's changes whose value is not the wanted one any more, Old being what
// stands there now: what has to be applied again after a CPU or a link came back. Values that
// cannot be read are left out.
func (p *Plan) Drift(ctx context.Context, port Port) []Change {
	var d []Change
	for _, c := range p.Changes {
		if now, err := port.Read(ctx, c.Target); err == nil && now != c.Want {
			c.Old = now
			d = append(d, c)
		}
	}
	return d
}
