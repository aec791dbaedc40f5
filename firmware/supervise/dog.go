package supervise

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
)

// idleEvery is how often a machine without a watchdog looks after what else its feeding does.
const idleEvery = 5 * time.Second

// dog is the hardware's watchdog, or none.
type dog struct {
	d       hal.Dog // nil: none
	timeout time.Duration
	root    *linux.Root // open as long as d is
	failed  bool
}

// watchdogs are those of the machine, one in hardware before one in software, which does not survive what it watches.
func watchdogs(sys string) []hal.Watchdog {
	all, _ := filepath.Glob(filepath.Join(sys, "class/watchdog/watchdog*")) // the pattern is right
	slices.Sort(all)
	var hard, soft []hal.Watchdog
	for _, at := range all {
		word := func(name string) string {
			b, _ := os.ReadFile(filepath.Join(at, name)) // what is not there is ""
			return strings.TrimSpace(string(b))
		}
		w := hal.Watchdog{Name: filepath.Base(at), Identity: word("identity"), State: word("state")}
		if strings.Contains(strings.ToLower(w.Identity), "software") {
			soft = append(soft, w)
		} else {
			hard = append(hard, w)
		}
	}
	return append(hard, soft...)
}

// armDog arms the machine's watchdog, which from then on resets the machine unless it is fed, until the machine ends: the emergency
// console and the coordinator feed the same one. A machine without one goes on.
func (m *machine) armDog() *dog {
	if !m.dog.armed() {
		m.dog = m.arm()
	}
	return m.dog
}

func (m *machine) arm() *dog {
	want := time.Duration(m.file.Appliance.System.Watchdog)
	g := &dog{}
	if want == 0 {
		return g
	}
	list := watchdogs(sysDir)
	if len(list) == 0 {
		m.log.Warn("this machine has no watchdog: one that hangs as a whole stays so")
		m.change(func(s *status.Status) { s.Watchdog = status.Watchdog{Error: "this machine has none"} })
		return g
	}
	root, err := linux.Open("/", nil)
	if err != nil {
		m.log.Error("no watchdog", "err", err)
		return g
	}
	// Hardware often cannot count that far: its most is better than nothing.
	for try := want; try >= minWatch; try /= 2 {
		d, got, e := root.Arm(list[0], try)
		if err = e; err == nil {
			g.d, g.timeout, g.root = d, got, root
			m.log.Info("the watchdog is armed", "name", list[0].Name, "identity", list[0].Identity, "timeout", got)
			m.change(func(s *status.Status) { s.Watchdog = status.Watchdog{Name: list[0].Name, Timeout: got} })
			return g
		}
	}
	m.log.Error("no watchdog", "name", list[0].Name, "err", err)
	m.change(func(s *status.Status) { s.Watchdog = status.Watchdog{Name: list[0].Name, Error: err.Error()} })
	_ = root.Close() // only read
	return g
}

// minWatch is below what a machine under load could be fed in time.
const minWatch = 4 * time.Second

func (g *dog) armed() bool { return g != nil && g.d != nil }

// every is how often to feed: three misses are borne.
func (g *dog) every() time.Duration {
	if !g.armed() {
		return idleEvery
	}
	return max(g.timeout/4, time.Second)
}

func (g *dog) kick(log *slog.Logger) {
	if !g.armed() {
		return
	}
	if err := g.d.Kick(); err != nil && !g.failed {
		g.failed = true
		log.Error("the watchdog is not fed", "err", err)
	}
}

// feedFor feeds the watchdog while something goes on that is bounded by itself, and for no longer than most: hardware that counts to 15 s only
// would reset a machine that is about to stop in order. The caller calls what it gives when that is over, and feeds by itself again.
func (m *machine) feedFor(g *dog, most time.Duration) (stop func()) {
	if !g.armed() {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(context.Background(), most)
	var fed sync.WaitGroup
	fed.Go(func() {
		t := time.NewTicker(g.every())
		defer t.Stop()
		for {
			g.kick(m.log)
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	})
	return func() { cancel(); fed.Wait() }
}
