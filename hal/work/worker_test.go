package work_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"github.com/holdfast-edge/holdfast/hal/work"
)

// allowed is what /proc says of the CPUs of each of our threads: the judge of masks.
func allowed(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
				all[filepath.Base(filepath.Dir(f))] = strings.TrimSpace(v)
			}
		}
	}
	return all
}

// aCPU is the last CPU that we may use; the test is skipped where there is one only.
func aCPU(t *testing.T) (cpu int, all hal.CPUs) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, err := linux.ThreadCPUs()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Skip("needs two CPUs")
	}
	return all[len(all)-1], all
}

func TestAWorkersLoopRunsWhereItShouldAndNoMaskStaysBehind(t *testing.T) {
	cpu, all := aCPU(t)
	var mu sync.Mutex
	var places []work.Place
	w := work.NewWorker(hal.CPUs{cpu}, func(p work.Place) { mu.Lock(); defer mu.Unlock(); places = append(places, p) })
	var loops sync.WaitGroup
	loops.Go(func() {
		w.Run(func() {
			p := w.Place()
			if got := allowed(t)[fmt.Sprint(p.Thread)]; got != fmt.Sprint(cpu) {
				t.Errorf("thread %d may use CPU %q, want %d", p.Thread, got, cpu)
			}
			for range 1000 { // through the scheduler, many times
				runtime.Gosched()
				if at, err := linux.CurrentCPU(); err != nil || at != cpu {
					t.Fatalf("it runs on CPU %d, %v", at, err)
				}
			}
			// What the loop starts is not pinned with it.
			var started sync.WaitGroup
			started.Go(func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				if got, err := linux.ThreadCPUs(); err != nil || got.List() != all.List() {
					t.Errorf("a goroutine of the loop may use CPU %s, %v", got, err)
				}
			})
			started.Wait()
		})
	})
	loops.Wait()
	for thread, got := range allowed(t) {
		if got != all.List() {
			t.Errorf("thread %s may use only CPU %s after the loop has ended", thread, got)
		}
	}
	if p := places[0]; len(places) != 2 || !p.Running || !p.Pinned || p.CPUs.List() != fmt.Sprint(cpu) || places[1].Running || places[1].Why != "" {
		t.Errorf("it said %+v", places)
	}
}

func TestAPanicPutsTheMaskBackToo(t *testing.T) {
	cpu, all := aCPU(t)
	var loops sync.WaitGroup
	loops.Go(func() {
		defer func() { _ = recover() }()
		work.NewWorker(hal.CPUs{cpu}, nil).Run(func() { panic("the loop") })
	})
	loops.Wait()
	for thread, got := range allowed(t) {
		if got != all.List() {
			t.Errorf("thread %s may use only CPU %s", thread, got)
		}
	}
}

func TestALoopThatCannotBePinnedRunsAllTheSame(t *testing.T) {
	for name, cpus := range map[string]hal.CPUs{"no CPU": nil, "a CPU that is not there": {1023}, "a CPU that cannot be": {5000}} {
		t.Run(name, func(t *testing.T) {
			w := work.NewWorker(cpus, nil)
			ran := 0
			w.Run(func() {
				ran++
				if p := w.Place(); !p.Running || p.Pinned || p.Why == "" {
					t.Errorf("it says %+v", p)
				}
			})
			if ran != 1 || w.Place().Running {
				t.Errorf("it ran %d times, and says %+v", ran, w.Place())
			}
		})
	}
}
