package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/beevik/ntp"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"github.com/holdfast-edge/holdfast/firmware/wholefile"
	"golang.org/x/sys/unix"
)

const (
	clockFile = "clock"
	// The time is written down this often: what a box without a battery is behind after a power cut, at most. A small write; a card
	// bears a million.
	clockEvery = 10 * time.Minute
	// A server is asked again after syncMin when none answered, twice as long each time up to syncMax; and after syncSteady when one did.
	syncMin    = 5 * time.Second
	syncMax    = 5 * time.Minute
	syncSteady = 30 * time.Minute
	ntpMax     = 4 * time.Second
	// An offset beyond stepMin is stepped, a smaller one slewed: adjtime(3) takes half a second in 1000 s.
	stepMin = 500 * time.Millisecond
	// serversAsked is how many servers are asked at a time: the best of them is taken.
	serversAsked = 4
	noNTP        = "none"
	poolNTP      = "pool.ntp.org"
)

// errTime says that a time cannot be.
var errTime = errors.New("not a time that can be")

// clock is the machine's.
type clock struct {
	log   *slog.Logger
	say   func(func(*status.Status))
	built time.Time
	// now is the machine's time, step sets it, and slew corrects it little by little.
	now  func() time.Time
	step func(time.Time) error
	slew func(time.Duration) error
}

// startClock sees to it that the clock is not behind the build.
func (m *machine) startClock() *clock {
	c := &clock{log: m.log, say: m.change, built: m.release.Built, now: time.Now, step: step, slew: slew}
	c.begin()
	return c
}

// begin puts the clock to the build's time if it is behind that.
func (c *clock) begin() {
	from := "rtc"
	if c.now().Before(c.built) {
		from = "build"
		c.set(c.built)
	}
	c.say(func(s *status.Status) { s.Clock.From = from })
}

func step(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Settimeofday(&tv)
}

func (c *clock) set(t time.Time) {
	if err := c.step(t); err != nil {
		c.log.Error("the clock is not set", "err", err)
	}
}

// read takes the last time that was written down in dir when the clock is behind it.
func (c *clock) read(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, systemDir, clockFile))
	if err != nil {
		return // the first start
	}
	t, err := lastTime(string(b))
	if err != nil {
		c.log.Warn("the last time is not known", "err", err)
		return
	}
	if c.now().Before(t) {
		c.set(t)
		c.log.Info("the clock was behind the last time that was written down", "now", t.UTC())
		c.say(func(s *status.Status) { s.Clock.From = "disk" })
	}
}

// lastTime reads what was written down: Unix seconds.
func lastTime(text string) (time.Time, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 || n > 1<<35 {
		return time.Time{}, fmt.Errorf("%w: %.32q", errTime, text)
	}
	return time.Unix(n, 0), nil
}

func (c *clock) write(dir string) {
	at := filepath.Join(dir, systemDir)
	err := os.MkdirAll(at, 0o700)
	if err == nil {
		err = wholefile.Replace(filepath.Join(at, clockFile), strconv.AppendInt(nil, c.now().Unix(), 10), 0o600)
	}
	if err != nil {
		c.log.Warn("the time is not written down", "err", err)
	}
}

// run keeps the clock right and writes it down until ctx ends.
func (c *clock) run(ctx context.Context, m *machine, dir string) {
	write := time.NewTicker(clockEvery)
	defer write.Stop()
	defer c.write(dir)
	wait := syncMin
	next := time.NewTimer(time.Second)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-write.C:
			c.write(dir)
		case <-next.C:
			s := m.status()
			servers := ntpServers(m.file.Appliance.System.NTP, s.Network.NTP)
			if len(servers) == 0 {
				next.Reset(syncMax)
				continue
			}
			if s.Network.Address() == "" {
				next.Reset(time.Second)
				continue
			}
			if err := c.sync(servers); err != nil {
				c.say(func(s *status.Status) { s.Clock.Error = err.Error() })
				next.Reset(wait)
				wait = min(2*wait, syncMax)
				continue
			}
			c.write(dir)
			wait = syncMin
			next.Reset(syncSteady)
		}
	}
}

// ntpServers are those to ask: those of the settings, those of DHCP behind them, and where there are none the public pool.
func ntpServers(set, dhcp []string) []string {
	if slices.Contains(set, noNTP) {
		return nil
	}
	all := slices.Concat(set, dhcp)
	if len(all) == 0 {
		all = []string{poolNTP}
	}
	return all[:min(len(all), serversAsked)]
}

// answer is what a server says.
type answer struct {
	server           string
	offset, distance time.Duration
	time             time.Time
}

// choose takes the answer that can be the least wrong, and none that is behind the build: no box of this release ran then.
func choose(all []answer, built time.Time) (answer, error) {
	all = slices.DeleteFunc(slices.Clone(all), func(a answer) bool { return a.time.Before(built) })
	if len(all) == 0 {
		return answer{}, fmt.Errorf("%w: every server is behind the build", errTime)
	}
	return slices.MinFunc(all, func(a, b answer) int { return int(a.distance - b.distance) }), nil
}

// sync asks servers and corrects the clock.
func (c *clock) sync(servers []string) error {
	var all []answer
	var errs []error
	for _, s := range servers {
		r, err := ntp.QueryWithOptions(s, ntp.QueryOptions{Timeout: ntpMax})
		if err == nil {
			err = r.Validate()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s, err))
			continue
		}
		all = append(all, answer{s, r.ClockOffset, r.RootDistance, c.now().Add(r.ClockOffset)})
	}
	if len(all) == 0 {
		return errors.Join(errs...)
	}
	a, err := choose(all, c.built)
	if err != nil {
		return err
	}
	if a.offset.Abs() > stepMin {
		c.set(c.now().Add(a.offset))
		c.log.Info("the clock is stepped", "by", a.offset, "server", a.server)
	} else if err := c.slew(a.offset); err != nil {
		return err
	}
	c.say(func(s *status.Status) {
		s.Clock = status.Clock{From: "ntp " + a.server, Synced: c.now(), OffsetNS: int64(a.offset)}
	})
	return nil
}

// slew lets the kernel correct the clock little by little, and tells it that the clock is right, so that it sets the machine's
// own (timekeeping/ntp.c: every 11 minutes).
func slew(offset time.Duration) error {
	t := unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: offset.Microseconds()}
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("slew: %w", err)
	}
	t = unix.Timex{Modes: unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR}
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("slew: %w", err)
	}
	return nil
}
