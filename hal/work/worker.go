package work

import (
	"sync"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
)

// Worker runs a program's loop on a thread of its own that may use only some CPUs. A pinned
// loop is worth it only if it drains whole batches: handing it one thing and waiting for the
// answer costs 10 to 100 times what it does between plain goroutines.
type Worker struct {
	cpus    hal.CPUs
	mu      sync.Mutex
	place   Place
	changed func(Place)
}

// Place is where a worker's loop runs.
type Place struct {
	Running bool
	Pinned  bool
	CPUs    hal.CPUs // that it may use; empty where it is not pinned
	Thread  int      // the thread's ID, 0 where it is not pinned
	Why     string   // why it is not pinned, or what went wrong with putting the mask back
}

// NewWorker returns a worker for these CPUs; none means that its loop is not pinned. changed, if
// not nil, is called on the loop's goroutine when the loop starts and when it has ended.
func NewWorker(cpus hal.CPUs, changed func(Place)) *Worker {
	if changed == nil {
		changed = func(Place) {}
	}
	return &Worker{cpus: cpus, changed: changed}
}

// Run runs loop until it returns, once at a time. The thread's mask is put back before the
// thread serves other goroutines, also when loop panics. A machine that does not let it be
// pinned is no reason not to run: then loop runs as it is, and Place says why.
func (w *Worker) Run(loop func()) {
	ran := false
	var err error
	if len(w.cpus) > 0 {
		err = linux.Pinned(w.cpus, func() {
			ran = true
			w.set(Place{Running: true, Pinned: true, CPUs: w.cpus, Thread: unix.Gettid()})
			loop()
		})
	}
	if !ran {
		p := Place{Running: true, Why: "nobody asked for it"}
		if err != nil {
			p.Why = err.Error()
		}
		w.set(p)
		loop()
		err = nil
	}
	end := Place{}
	if err != nil {
		end.Why = err.Error()
	}
	w.set(end)
}

// Place is where the loop runs now.
func (w *Worker) Place() Place {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.place
}

func (w *Worker) set(p Place) {
	w.mu.Lock()
	w.place = p
	w.mu.Unlock()
	w.changed(p)
}
