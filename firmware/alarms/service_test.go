package alarms

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
)

// rig is a service whose expression and receiver are the test's.
type rig struct {
	t       *testing.T
	dir     string
	keep    time.Duration // the rule's keep_firing_for
	mu      sync.Mutex
	answer  []Sample
	failing error
	heard   []string // what the receiver took
	tries   int
	log     strings.Builder
	service *Service
	stop    func()
}

func (r *rig) send(_ context.Context, list []Notice) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	if r.failing != nil {
		return r.failing
	}
	for i := range list {
		r.heard = append(r.heard, string(list[i].Status)+" "+list[i].Alert.Labels[LabelName]+" "+list[i].Alert.Labels["member"])
	}
	return nil
}

// Write is the log.
func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *rig) set(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn()
}

func (r *rig) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heard)
}

// start starts the service, as a box that starts does.
func (r *rig) start() {
	r.t.Helper()
	var err error
	r.service, err = newService(Config{
		Rules: []*Rule{rule("Hot", time.Minute, r.keep, ScopeBox)}, Every: 15 * time.Second, Site: "cafe", Box: "box-1", Console: "http://10.0.0.1:8080",
		Query: func(context.Context, string) ([]Sample, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.answer, nil
		},
		View: func() *site.View { return view(0, true) }, Targets: []Target{{Kind: "webhook", URL: "http://receiver/"}},
		Dir: r.dir, Random: rand.Reader, Logger: slog.New(slog.NewTextHandler(r, nil)),
	}, func(*Target) (receiver, error) { return r, nil })
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.service.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	r.stop = func() { cancel(); running.Wait() }
}

// after lets time go on and everything that is due then happen.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func inBubble(t *testing.T, fn func(r *rig)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { fn(&rig{t: t, dir: dir}) })
}

func TestAnAlarmIsToldOnceAndWhenItIsOver(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.start()
		defer r.stop()
		r.set(func() { r.answer = series("a", 1) })
		after(75 * time.Second)
		if got := r.took(); len(got) != 1 || got[0] != "firing Hot a" || r.service.Worst() != Warning {
			t.Fatalf("%q, worst %q", got, r.service.Worst())
		}
		after(time.Hour)
		r.set(func() { r.answer = nil })
		after(time.Minute)
		if got := r.took(); len(got) != 2 || got[1] != "resolved Hot a" || r.service.Worst() != "" {
			t.Errorf("%q, worst %q", got, r.service.Worst())
		}
		if !strings.Contains(r.log.String(), "state=firing name=Hot") {
			t.Errorf("the log does not say it: %s", r.log.String())
		}
	})
}

func TestAnAlarmWhoseCauseIsGoneSaysSinceWhenAndWhenItIsOver(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.keep = 10 * time.Minute
		r.start()
		defer r.stop()
		r.set(func() { r.answer = series("a", 1) })
		after(2 * time.Minute)
		if a := r.service.View().Alarms[0]; a.Ending() || !a.Over.IsZero() {
			t.Errorf("it is so: %+v", a)
		}
		r.set(func() { r.answer = nil })
		after(time.Minute)
		if a := r.service.View().Alarms[0]; a.State != Firing || !a.Ending() || !a.Over.Equal(a.Away.Add(10*time.Minute)) {
			t.Errorf("%+v", a)
		}
		after(10 * time.Minute)
		if a := r.service.View().Alarms[0]; a.State != Resolved || a.Ending() || !a.Over.IsZero() {
			t.Errorf("%+v", a)
		}
	})
}

func TestWhatCouldNotBeToldIsToldAfterARestart(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.failing = errors.New("nobody there")
		r.start()
		r.set(func() { r.answer = series("a", 1) })
		after(10 * time.Minute)
		v := r.service.View()
		if len(v.Receivers) != 1 || v.Receivers[0].Waiting != 1 || v.Receivers[0].Error != "nobody there" || r.tries < 5 || r.tries > 30 {
			t.Fatalf("%+v after %d tries", v.Receivers, r.tries)
		}
		r.stop()
		r.set(func() { r.failing = nil })
		after(time.Hour)
		r.start()
		after(time.Second)
		if got := r.took(); len(got) != 1 || got[0] != "firing Hot a" {
			t.Fatalf("after the restart: %q", got)
		}
		after(10 * time.Minute)
		r.stop()
		r.start() // and one more: it is not told twice
		defer r.stop()
		after(10 * time.Minute)
		r.set(func() { r.answer = nil })
		after(time.Minute)
		if got := r.took(); len(got) != 2 || got[1] != "resolved Hot a" {
			t.Errorf("%q", got)
		}
	})
}

func TestWhatAReceiverRefusesIsNotSentForEver(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.failing = fmt.Errorf("%w: no", errRefused)
		r.start()
		defer r.stop()
		r.set(func() { r.answer = series("a", 1) })
		after(time.Hour)
		if v := r.service.View(); v.Receivers[0].Waiting != 0 || v.Receivers[0].Dropped != 1 || r.tries != 1 {
			t.Errorf("%+v after %d tries", v.Receivers, r.tries)
		}
	})
}

func TestASilenceOutlivesARestart(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.start()
		if _, err := r.service.Silence(matchers(t, "member=~a|b"), "operator:ann", "work", time.Now().Add(2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		r.set(func() { r.answer = series("a", 1) })
		after(time.Hour)
		r.stop()
		r.start()
		defer r.stop()
		after(30 * time.Minute)
		v := r.service.View()
		if len(r.took()) != 0 || len(v.Alarms) != 1 || v.Alarms[0].Silenced != v.Silences[0].ID || v.Silences[0].By != "operator:ann" || v.Worst != "" {
			t.Fatalf("%q %+v", r.took(), v)
		}
		after(time.Hour) // it is over
		if got := r.took(); len(got) != 1 || len(r.service.Silences().Silences) != 0 {
			t.Errorf("%q", got)
		}
	})
}

func TestEndingASilenceTellsAtOnce(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.start()
		defer r.stop()
		x, err := r.service.Silence(matchers(t, "Hot"), "operator:ann", "work", time.Now().Add(2*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		r.set(func() { r.answer = series("a", 1) })
		after(10 * time.Minute)
		if _, err := r.service.Unsilence(x.ID[:4]); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := r.took(); len(got) != 1 {
			t.Errorf("%q", got)
		}
		if _, err := r.service.Unsilence(x.ID); !errors.Is(err, ErrUnknown) {
			t.Errorf("%v", err)
		}
	})
}

func TestATestReachesEveryReceiver(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.start()
		defer r.stop()
		if n := r.service.Test("operator:ann"); n != 1 {
			t.Errorf("%d receivers", n)
		}
		synctest.Wait()
		if got := r.took(); !slices.Equal(got, []string{"firing HoldfastTest ", "resolved HoldfastTest "}) {
			t.Errorf("%q", got)
		}
		if v := r.service.View(); len(v.Alarms) != 0 {
			t.Errorf("a test is shown as an alarm: %+v", v.Alarms)
		}
	})
}

func TestADamagedFileIsSetAsideAndAlarmsGoOn(t *testing.T) {
	inBubble(t, func(r *rig) {
		path := filepath.Join(r.dir, keepFile)
		if err := os.WriteFile(path, []byte(`{"version":1,"alerts":[nu`), 0o600); err != nil {
			t.Fatal(err)
		}
		r.start()
		defer r.stop()
		r.set(func() { r.answer = series("a", 1) })
		after(75 * time.Second)
		if _, err := os.Stat(path + ".damaged"); err != nil || len(r.took()) != 1 || !strings.Contains(r.log.String(), "set aside") {
			t.Errorf("%v %q %s", err, r.took(), r.log.String())
		}
	})
}

func FuzzParseKept(f *testing.F) {
	f.Add([]byte(`{"version":1,"saved":"2026-01-01T00:00:00Z","alerts":[{"rule":"g/Hot/warning","state":"firing","labels":{"a":"b"}}],"silences":[],"outboxes":{}}`))
	f.Add([]byte(`{"version":1,"silences":[{"id":"a","matchers":[{"name":"a","op":"=~","value":"b"}],"why":"x","from":"2026-01-01T00:00:00Z","until":"2026-01-01T01:00:00Z"}],"outboxes":{"x":[{"status":"firing","alert":null}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseKept(data)
		if err != nil {
			return
		}
		e, err := NewEngine([]*Rule{rule("Hot", 0, 0, ScopeBox)}, "s", "b")
		if err != nil {
			t.Fatal(err)
		}
		e.Restore(k.Alerts, k.Saved, t0)
		silences := Silences{list: k.Silences}
		due(e.Alerts(), func(a *Alert) bool { return silences.Of(a.Labels, t0) != nil }, true, 0, t0)
		var o Outbox
		for _, list := range k.Outboxes {
			o.restore(list)
		}
	})
}

func FuzzParseRules(f *testing.F) {
	f.Add(BuiltinText())
	f.Add([]byte("groups: [{name: a, rules: [{alert: B, expr: c, for: 1m, labels: {d: '{{ $labels.x }}'}}]}]"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		rules, err := ParseRules(data, "f", func(string) error { return nil })
		if err != nil {
			return
		}
		for _, r := range rules {
			for _, text := range r.Annotations {
				expand(text, map[string]string{"x": "y"}, 1)
			}
		}
	})
}
