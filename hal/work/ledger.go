package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
)

// ErrBusy says that another program is changing the machine.
var ErrBusy = errors.New("another program is changing the hardware's settings")

// inForceBytesMax bounds the record of what is in force: a plan for 128 CPUs and 64 queues has
// some 60 KiB with its reasons.
const inForceBytesMax = 1 << 20

// Ledger is the journal of changes in a directory, held by one program at a time, and what of
// them is in force. Beside the journal's files the directory has lock and in-force.json.
type Ledger struct {
	linux.Journal
	dir  string
	lock *os.File
}

// LedgerDir is where a box keeps its ledger, below its data directory.
func LedgerDir(data string) string { return filepath.Join(data, "hal") }

// OpenLedger takes the ledger in dir, which it creates, for this program. ErrBusy if another has
// it. Close it.
func OpenLedger(dir string) (*Ledger, error) {
	j, err := linux.NewJournal(dir)
	if err != nil {
		return nil, fmt.Errorf("work: %w", err)
	}
	// The kernel drops the lock with the process, however that ends.
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("work: ledger: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, errors.Join(fmt.Errorf("work: ledger: %w", err), lock.Close())
	}
	return &Ledger{j, dir, lock}, nil
}

// Close gives the ledger to others.
func (l *Ledger) Close() error { return l.lock.Close() }

// PutBack undoes what an unfinished change left and what was committed.
func (l *Ledger) PutBack(ctx context.Context, port hal.Port) ([]hal.Entry, error) {
	back, err := hal.Recover(ctx, port, l)
	if err != nil {
		return back, err
	}
	undone, err := hal.Undo(ctx, port, l)
	return append(back, undone...), err
}

// Apply is hal.Apply with this journal; what is then in force is remembered.
func (l *Ledger) Apply(ctx context.Context, port hal.Port, plan *hal.Plan, confirm *hal.Confirm) (hal.Report, error) {
	r, err := hal.Apply(ctx, port, plan, l, confirm)
	if err != nil {
		return r, err
	}
	before, err := l.InForce()
	if err != nil {
		return r, err
	}
	for _, o := range r.Outcomes {
		c := o.Change
		at := slices.IndexFunc(before, func(b hal.Change) bool { return b.Target == c.Target })
		switch holds := o.Result == hal.Applied || o.Result == hal.AcceptedUnverified; {
		case holds && at >= 0:
			before[at] = c
		case holds:
			before = append(before, c)
		case at >= 0:
			before = slices.Delete(before, at, at+1)
		}
	}
	return r, l.save(before)
}

// InForce is the changes that were committed since the machine started, for verifying them:
// nil when there are none. Old is the value that the last plan found.
func (l *Ledger) InForce() ([]hal.Change, error) {
	committed, err := l.Committed()
	if err != nil || len(committed) == 0 {
		return nil, err
	}
	f, err := os.Open(l.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("work: ledger: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, inForceBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("work: ledger: %w", err)
	}
	var all []hal.Change
	if len(b) > inForceBytesMax {
		return nil, fmt.Errorf("work: ledger: %w: over %d bytes", hal.ErrFormat, inForceBytesMax)
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("work: ledger: %w: %w", hal.ErrFormat, err)
	}
	// The journal says what is committed: this file may be of an earlier start of the machine.
	return slices.DeleteFunc(all, func(c hal.Change) bool {
		return !slices.ContainsFunc(committed, func(e hal.Entry) bool { return e.Target == c.Target })
	}), nil
}

func (l *Ledger) file() string { return filepath.Join(l.dir, "in-force.json") }

// save replaces the record as a whole. It is not synced: it is worth nothing after a power cut.
func (l *Ledger) save(all []hal.Change) error {
	b, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(l.file()+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(l.file()+".new", l.file())
	}
	if err != nil {
		return fmt.Errorf("work: ledger: %w", err)
	}
	return nil
}

// Verify looks again at what is in force: at the value, and where it stands at the effect. An
// outcome that is FailedTo is drift, or an effect that is gone.
func (l *Ledger) Verify(ctx context.Context, port hal.Port) ([]hal.Outcome, error) {
	all, err := l.InForce()
	if err != nil {
		return nil, err
	}
	plan := hal.Plan{Changes: all}
	drifted := map[hal.Target]string{}
	for _, c := range plan.Drift(ctx, port) {
		drifted[c.Target] = c.Old
	}
	out := make([]hal.Outcome, len(all))
	for i, c := range all {
		out[i].Change = c
		if now, ok := drifted[c.Target]; ok {
			out[i].Result, out[i].Why = hal.FailedTo, fmt.Sprintf("drift: it is %q now", now)
			continue
		}
		out[i].Result, out[i].Why = port.Effect(ctx, c.Target, c.Want)
	}
	return out, nil
}
