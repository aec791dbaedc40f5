package supervise

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/ntptest"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
)

// handClock is a machine's clock that a test sets; it stands still.
type handClock struct {
	clock
	at      time.Time
	slewed  time.Duration
	stepped int
	status  status.Status
}

func newHandClock(built, at time.Time) *handClock {
	h := &handClock{at: at}
	h.clock = clock{
		log: slog.New(slog.DiscardHandler), built: built, say: func(f func(*status.Status)) { f(&h.status) },
		now:  func() time.Time { return h.at },
		step: func(t time.Time) error { h.at = t; h.stepped++; return nil },
		slew: func(d time.Duration) error { h.slewed += d; return nil },
	}
	return h
}

func TestTheClockIsNeverBehindTheBuildNorTheLastTimeThatWasWrittenDown(t *testing.T) {
	built := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	// A machine without a battery begins in 1970.
	h := newHandClock(built, time.Unix(0, 0))
	h.begin()
	h.read(dir)
	if !h.at.Equal(built) || h.status.Clock.From != "build" {
		t.Errorf("%v from %s", h.at, h.status.Clock.From)
	}
	h.at = built.Add(1000 * time.Hour)
	h.write(dir)
	h = newHandClock(built, time.Unix(0, 0))
	h.begin()
	h.read(dir)
	if !h.at.Equal(built.Add(1000*time.Hour)) || h.status.Clock.From != "disk" {
		t.Errorf("%v from %s", h.at, h.status.Clock.From)
	}
	// One whose clock went on is left as it is.
	later := built.Add(2000 * time.Hour)
	h = newHandClock(built, later)
	h.begin()
	h.read(dir)
	if !h.at.Equal(later) || h.stepped != 0 || h.status.Clock.From != "rtc" {
		t.Errorf("%v from %s", h.at, h.status.Clock.From)
	}
	// What is no time is not taken.
	for _, text := range []string{"", "tomorrow", "-5", "999999999999999"} {
		if err := os.WriteFile(filepath.Join(dir, systemDir, clockFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h = newHandClock(built, later)
		h.read(dir)
		if h.stepped != 0 {
			t.Errorf("%q was taken: %v", text, h.at)
		}
	}
}

// ntpServer is a time server with a time of its own, until the test ends.
func ntpServer(t *testing.T, now func() time.Time, stratum byte, dispersion time.Duration) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go ntptest.Server{Now: now, Stratum: stratum, Dispersion: dispersion}.Serve(l)
	return l.LocalAddr().String()
}

// The client measures against the machine's own clock, which the test does not set: servers are ahead of that or behind it.
func TestTimeComesFromTheServerThatCanBeTheLeastWrong(t *testing.T) {
	ahead := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	good := ntpServer(t, ahead(time.Hour), 1, 10*time.Millisecond)
	vague := ntpServer(t, ahead(5*time.Hour), 3, time.Second)
	near := ntpServer(t, ahead(100*time.Millisecond), 1, 10*time.Millisecond)
	old := ntpServer(t, ahead(-20*365*24*time.Hour), 1, time.Millisecond)
	dead := ntpServer(t, ahead(0), 0, 0)

	h := newHandClock(time.Unix(1e9, 0), time.Now())
	before := h.at
	if err := h.sync([]string{dead, vague, good}); err != nil {
		t.Fatal(err)
	}
	if d := h.at.Sub(before) - time.Hour; d.Abs() > 10*time.Second || h.stepped != 1 || h.status.Clock.From != "ntp "+good {
		t.Errorf("stepped by %v, from %s", h.at.Sub(before), h.status.Clock.From)
	}
	h = newHandClock(time.Unix(1e9, 0), time.Now())
	if err := h.sync([]string{near}); err != nil {
		t.Fatal(err)
	}
	if h.stepped != 0 || h.slewed < 10*time.Millisecond || h.slewed > stepMin {
		t.Errorf("%d steps, slewed by %v", h.stepped, h.slewed)
	}
	// A server that is behind the build is none, however sure it is; alone it changes nothing.
	h = newHandClock(time.Now().Add(-time.Hour), time.Now())
	if err := h.sync([]string{old}); err == nil || !strings.Contains(err.Error(), "behind the build") || h.stepped != 0 {
		t.Errorf("%v, %d steps", err, h.stepped)
	}
	if err := h.sync([]string{old, good}); err != nil || h.status.Clock.From != "ntp "+good {
		t.Errorf("%v, from %s", err, h.status.Clock.From)
	}
	if err := newHandClock(time.Unix(1e9, 0), time.Now()).sync([]string{dead}); err == nil {
		t.Error("a kiss of death was taken for a time")
	}
}

func TestServersOfTheSettingsComeBeforeThoseOfDHCP(t *testing.T) {
	for _, c := range []struct{ set, dhcp, want []string }{
		{nil, nil, []string{poolNTP}},
		{[]string{"a"}, []string{"b"}, []string{"a", "b"}},
		{nil, []string{"b", "c", "d", "e", "f"}, []string{"b", "c", "d", "e"}},
		{[]string{"none"}, []string{"b"}, nil},
	} {
		if got := ntpServers(c.set, c.dhcp); !slices.Equal(got, c.want) {
			t.Errorf("%v and %v: %v", c.set, c.dhcp, got)
		}
	}
}
