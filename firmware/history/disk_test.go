package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/prometheus/client_golang/prometheus"
)

func disk(t *testing.T, dir string, bytesMax int64) *store.Series {
	t.Helper()
	s, err := store.OpenSeries(dir, store.SeriesOptions{Site: coord.SiteID{1}, Box: coord.BoxID{2}, BytesMax: bytesMax, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// on starts a rig's history anew on a disk, as after a restart.
func (r *rig) on(t *testing.T, d *store.Series) {
	t.Helper()
	h, err := New(Config{Gatherer: r.reg, Store: d, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r.History, r.mono = h, 0
}

func TestAPowerCutTakesAMinuteAtMost(t *testing.T) {
	r, dir, after := newRig(t), t.TempDir(), t.TempDir()
	d := disk(t, dir, 0)
	r.on(t, d)
	work := func(i int) { r.work.Add(10); r.level.WithLabelValues("here").Set(float64(i)); r.took.Observe(.05) }
	r.run(3*720, work) // three hours
	// What is on the disk at any moment is what a power cut leaves.
	from, err := os.Open(filepath.Join(dir, "series.db"))
	if err != nil {
		t.Fatal(err)
	}
	to, err := os.Create(filepath.Join(after, "series.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	from.Close()
	to.Close()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = disk(t, after, 0)
	defer d.Close()
	r.on(t, d)
	if v := r.one(t, "max_over_time(level{place='here'}[5m])"); v < 3*720-1-12 {
		t.Errorf("the newest is %v of %v", v, 3*720-1)
	}
	if v := r.one(t, "count_over_time(level{place='here'}[3h])"); v < 3*720-13 {
		t.Errorf("%v samples", v)
	}
	r.run(12, work)
	if v := r.one(t, "rate(took_seconds_count[30m])"); v < 0.19 || v > 0.21 {
		t.Errorf("over the restart %v a second", v)
	}
}

func TestWhatWasMeasuredBeforeTheClockWasSetGetsItsTime(t *testing.T) {
	r, dir := newRig(t), t.TempDir()
	d := disk(t, dir, 0)
	r.on(t, d)
	right := r.at
	r.at = time.Unix(0, 0) // a box without a battery
	r.run(360, func(i int) { r.level.WithLabelValues("boot").Set(float64(i)) })
	r.at = right.Add(30 * time.Minute)
	r.run(120, func(i int) { r.level.WithLabelValues("boot").Set(float64(360 + i)) })
	if v := r.one(t, "level{place='boot'} offset 30m"); v < 115 || v > 122 {
		t.Errorf("half an hour ago it was %v, not 119", v)
	}
	r.end()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = disk(t, dir, 0)
	defer d.Close()
	r.on(t, d)
	if v := r.one(t, "count_over_time(level{place='boot'}[1h])"); v != 480 {
		t.Errorf("%v samples on the disk", v)
	}
}

func TestAClockThatWasWrongYesterdayDoesNotTearToday(t *testing.T) {
	r := newRig(t)
	d := disk(t, t.TempDir(), 0)
	defer d.Close()
	r.on(t, d)
	right := r.at
	r.at = right.Add(24 * time.Hour) // a start a day ahead
	r.run(200, func(int) { r.work.Add(1000) })
	r.end()
	r.on(t, d)
	r.at = right
	r.run(18*720, func(int) { r.work.Add(10) })
	if v := r.one(t, "resets(work_total[18h])"); v != 0 {
		t.Errorf("%v resets", v)
	}
	r.run(7*720, func(int) { r.work.Add(10) }) // over the wrong samples
	if v := r.one(t, "resets(work_total[4h])"); v != 0 {
		t.Errorf("%v resets", v)
	}
	if v := r.one(t, "rate(work_total[4h])"); v < 1.99 || v > 2.01 {
		t.Errorf("%v a second", v)
	}
}

// many is a gatherer with n series like a box's: counters that grow, gauges that wander, most that stay.
func many(n int) (*prometheus.Registry, func()) {
	reg, rnd := prometheus.NewRegistry(), rand.New(rand.NewPCG(3, 4))
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total"}, []string{"i"})
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "g"}, []string{"i"})
	reg.MustRegister(c, g)
	return reg, func() {
		for i := range n {
			l := fmt.Sprint(i)
			switch i % 4 {
			case 0:
				c.WithLabelValues(l).Add(float64(rnd.IntN(50)))
			case 1:
				c.WithLabelValues(l).Add(float64(rnd.IntN(1e6)) / 1e9)
			case 2:
				g.WithLabelValues(l).Set(float64(rnd.IntN(1000)) / 8)
			default:
				g.WithLabelValues(l).Set(1)
			}
		}
	}
}

func TestTheBudgetIsNeverExceededAndTheOldestGoes(t *testing.T) {
	reg, change := many(400)
	dir := t.TempDir()
	d := disk(t, dir, store.SeriesBytesMin)
	defer d.Close()
	h, err := New(Config{Gatherer: reg, Store: d, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC).UnixMilli()
	last := int64(0)
	for i := range int64(3600) { // five hours, of which two or three fit in full
		change()
		last = start + i*5000
		h.sampleAt(i*5000, last)
		if i%50 == 0 {
			info, err := os.Stat(filepath.Join(dir, "series.db"))
			if err != nil || info.Size() > store.SeriesBytesMin {
				t.Fatalf("sample %d: %d bytes of %d, %v", i, info.Size(), store.SeriesBytesMin, err)
			}
		}
	}
	if h.failures > 0 {
		t.Errorf("%d writes failed", h.failures)
	}
	if first, _ := h.blocks[0][0].span(); first <= start {
		t.Error("nothing went")
	}
	v, err := h.Instant(t.Context(), "count(g offset 270m)", time.UnixMilli(last))
	if err != nil || len(v) != 1 || v[0].Value != 200 {
		t.Errorf("four hours and a half ago, by the minute: %v %v", v, err)
	}
}

func TestAReplayIsWhatWasSampledBeforeTheStart(t *testing.T) {
	type seen struct {
		at    time.Time
		level float64
		work  float64
	}
	var live []seen
	r, dir := newRig(t), t.TempDir()
	d := disk(t, dir, 0)
	r.on(t, d)
	const scrapes = 5*segmentTimes + 7
	r.run(scrapes, func(i int) {
		r.work.Add(10)
		r.level.WithLabelValues("here").Set(float64(i))
		live = append(live, seen{r.at.Add(IntervalDefault), float64(i), float64(10 * (i + 1))})
	})
	r.end()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = disk(t, dir, 0)
	t.Cleanup(func() { d.Close() })
	r.on(t, d)
	r.run(10, func(int) { r.work.Add(1000) }) // of this start: not replayed

	var replayed []seen
	err := r.Replay(t.Context(), func(i *Info) bool { return i.Name == "level" || i.Name == "work_total" }, func(at time.Time, scraped []Scraped) {
		s := seen{at: at.UTC()}
		for _, v := range scraped {
			switch {
			case v.Name == "level" && v.Labels["place"] == "here":
				s.level = v.Value
			case v.Name == "work_total" && v.Counter:
				s.work = v.Value
			default:
				t.Errorf("%+v was not wanted", v)
			}
		}
		replayed = append(replayed, s)
	})
	if err != nil || !slices.Equal(replayed, live) {
		t.Fatalf("replayed %d scrapes, %v; sampled were %d", len(replayed), err, len(live))
	}

	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err = r.Replay(ctx, func(i *Info) bool { return i.Name == "level" }, func(time.Time, []Scraped) { n++; cancel() })
	if !errors.Is(err, context.Canceled) || n != segmentTimes {
		t.Errorf("cancelled in the first block, it went on for %d scrapes: %v", n, err)
	}
}
