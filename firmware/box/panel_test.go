package box

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/haltest"
	"github.com/holdfast-edge/holdfast/hal/work"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
)

// view is a site of four boxes of which this many are up.
func view(up int, change func(*site.View)) *site.View {
	v := &site.View{N: 4, F: 1, Quorum: 3, Round: 10, Serving: up >= 3}
	for i := range v.N {
		v.Members = append(v.Members, site.MemberView{Up: i < up})
	}
	if change != nil {
		change(v)
	}
	return v
}

func TestALightShowsHowTheSiteIs(t *testing.T) {
	for _, tc := range []struct {
		name  string
		view  *site.View
		worst string
		mood  mood
	}{
		{"all are here", view(4, nil), "", moodServing},
		{"one is away", view(3, nil), "", moodDegraded},
		{"one does not vote yet", view(4, func(v *site.View) { v.Members[2].VotesFrom = 11 }), "", moodDegraded},
		{"the leader changes", view(4, func(v *site.View) { v.Serving = false }), "", moodDegraded},
		{"something is worth knowing", view(4, nil), alarms.Info, moodServing},
		{"something is warned of", view(4, nil), alarms.Warning, moodDegraded},
		{"a critical alarm fires", view(3, nil), alarms.Critical, moodAlarm},
		{"two are away", view(2, nil), alarms.Critical, moodNoQuorum},
		{"the disk is full", view(4, func(v *site.View) { v.Full = "the log" }), "", moodNoQuorum},
		{"the log failed", view(4, func(v *site.View) { v.Fault = "the log" }), alarms.Critical, moodFault},
		{"the log failed and nobody is here", view(1, func(v *site.View) { v.Fault = "the log" }), "", moodFault},
	} {
		if got := moodOf(tc.view, tc.worst); got != tc.mood {
			t.Errorf("%s: mood %d, want %d", tc.name, got, tc.mood)
		}
	}
}

// The light of a board's tree, as its files then are; the kernel makes delay_on and delay_off.
func TestEveryMoodLooksDifferentOnTheBoardsLight(t *testing.T) {
	board, err := work.Board("nanopi-r6s")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := haltest.Play(haltest.Tree(&board, 1), dir); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "sys/class/leds", board.LED["status"].Names[0])
	for _, name := range []string{"delay_on", "delay_off"} {
		if err := os.WriteFile(filepath.Join(at, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := work.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, err := config.Default()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	p := openPanel(m, c, "box-0", slog.New(slog.NewTextHandler(&log, nil)))
	if p.light == nil || p.button != nil {
		t.Fatalf("light %v, button %v\n%s", p.light, p.button, &log)
	}
	if !strings.Contains(log.String(), `role="pin setup" state=skipped`) {
		t.Errorf("why there is no button is not said:\n%s", &log)
	}
	files := func() string {
		var says []string
		for _, name := range []string{"trigger", "brightness", "delay_on", "delay_off"} {
			b, err := os.ReadFile(filepath.Join(at, name))
			if err != nil {
				t.Fatal(err)
			}
			says = append(says, strings.TrimSpace(string(b)))
		}
		return strings.Join(says, " ")
	}
	for _, tc := range []struct {
		mood mood
		want string
	}{
		{moodServing, "none 1  "},
		{moodDegraded, "timer 1 1800 200"},
		{moodAlarm, "timer 1 900 300"},
		{moodNoQuorum, "timer 1 500 500"},
		{moodFault, "timer 1 100 100"},
	} {
		if err := tc.mood.show(p.light); err != nil {
			t.Fatal(err)
		}
		if got := files(); got != tc.want {
			t.Errorf("mood %d: trigger, brightness and delays %q, want %q", tc.mood, got, tc.want)
		}
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	if got := files(); !strings.HasPrefix(got, "heartbeat ") {
		t.Errorf("given back it does %q", got)
	}
}

// fakeLight remembers what it was told.
type fakeLight struct {
	told []string
	err  error
}

func (l *fakeLight) Set(on bool) error {
	l.told = append(l.told, map[bool]string{true: "on", false: "off"}[on])
	return l.err
}

func (l *fakeLight) Blink(on, off time.Duration) error {
	l.told = append(l.told, on.String()+"/"+off.String())
	return l.err
}
func (l *fakeLight) Release() error { l.told = append(l.told, "released"); return nil }

func TestTheLightIsSetWhenTheSiteChangesAndNotElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &fakeLight{}
		p := &panel{log: slog.New(slog.DiscardHandler), light: l}
		var now atomic.Pointer[site.View]
		now.Store(view(4, nil))
		ctx, cancel := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		parts.Go(func() { p.run(ctx, now.Load, func() string { return "" }) })
		after := func(v *site.View) {
			synctest.Wait()
			now.Store(v)
			time.Sleep(10 * lookEvery)
			synctest.Wait()
		}
		after(view(4, nil))
		after(view(2, nil))
		after(view(3, nil))
		cancel()
		parts.Wait()
		if err := p.close(); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(l.told, " "), "on 500ms/500ms 1.8s/200ms released"; got != want {
			t.Errorf("it was told %s, want %s", got, want)
		}
	})
}

func TestALightThatFailsIsLeftAloneAndSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := &panel{log: slog.New(slog.NewTextHandler(&log, nil)), light: &fakeLight{err: errors.New("unplugged")}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.run(ctx, func() *site.View { return view(4, nil) }, func() string { return "" })
		if strings.Count(log.String(), "unplugged") != 1 || ctx.Err() != nil {
			t.Errorf("%v\n%s", ctx.Err(), &log)
		}
	})
}

// fakePin is a GPIO line.
type fakePin struct {
	gpio.PinIO
	mu     sync.Mutex
	level  gpio.Level
	in     bool
	halted bool
	err    error
}

func (p *fakePin) In(gpio.Pull, gpio.Edge) error { p.in = true; return p.err }
func (p *fakePin) Halt() error                   { p.halted = true; return nil }
func (p *fakePin) Read() gpio.Level              { p.mu.Lock(); defer p.mu.Unlock(); return p.level }
func (p *fakePin) set(l gpio.Level)              { p.mu.Lock(); defer p.mu.Unlock(); p.level = l }

func TestTheButtonHeldForFiveSecondsPrintsTheSetupCodeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pin := &fakePin{}
		b, err := newLineButton(pin)
		if err != nil || !pin.in {
			t.Fatal(err, pin.in)
		}
		var log bytes.Buffer
		var said []string
		p := &panel{
			log: slog.New(slog.NewTextHandler(&log, nil)), button: b, name: "box-0",
			code: func() (string, error) { return "ABCD-EFGH", nil },
			say:  func(s string) error { said = append(said, s); return nil },
		}
		ctx, cancel := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		parts.Go(func() { p.run(ctx, nil, nil) })
		hold := func(level gpio.Level, d time.Duration, want int) {
			t.Helper()
			pin.set(level)
			time.Sleep(d)
			synctest.Wait()
			if len(said) != want {
				t.Fatalf("%v for %v: said %q", level, d, said)
			}
		}
		hold(gpio.High, 4900*time.Millisecond, 0)
		hold(gpio.Low, time.Second, 0)
		hold(gpio.High, 4900*time.Millisecond, 0) // two presses are no long one
		hold(gpio.High, time.Second, 1)
		hold(gpio.High, time.Minute, 1) // leaning on it
		hold(gpio.Low, time.Second, 1)
		hold(gpio.High, 6*time.Second, 2)
		cancel()
		parts.Wait()
		if err := p.close(); err != nil || !pin.halted {
			t.Errorf("%v, given back %v", err, pin.halted)
		}
		if !strings.Contains(said[0], "Holdfast box-0: setup code ABCD-EFGH\r\n") {
			t.Errorf("it printed %q", said[0])
		}
		if strings.Contains(log.String(), "ABCD") || !strings.Contains(log.String(), "setup code was printed") {
			t.Errorf("the log:\n%s", &log)
		}
	})
}

func TestALineThatSomebodyHoldsIsNoButton(t *testing.T) {
	if _, err := newLineButton(&fakePin{err: unix.EBUSY}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("%v", err)
	}
}

func TestTheKeysOfABoardAreFoundByTheirDriver(t *testing.T) {
	root := t.TempDir()
	if _, err := openKeys(root); !errors.Is(err, hal.ErrGone) {
		t.Errorf("no input device: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(root, "dev/input"), 0o700); err != nil {
		t.Fatal(err)
	}
	for event, driver := range map[string]string{"event0": "usbhid", "event1": "gpio-keys"} {
		device := filepath.Join(root, "sys/class/input", event, "device/device")
		if err := errors.Join(os.MkdirAll(device, 0o700), os.Symlink("../../bus/"+driver, filepath.Join(device, "driver")),
			os.WriteFile(filepath.Join(root, "dev/input", event), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	k, err := openKeys(root)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if filepath.Base(k.f.Name()) != "event1" {
		t.Errorf("it took %s", k.f.Name())
	}
	if _, err := k.Pressed(); !errors.Is(err, unix.ENOTTY) { // a file is no input device
		t.Errorf("%v", err)
	}
}

func TestTheCodeGoesToTheConsoleOnly(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "console")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := printTo(fifo, "code\r\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	n, err := r.Read(buf)
	if err != nil || string(buf[:n]) != "code\r\n" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if err := printTo(filepath.Join(t.TempDir(), "none"), "code"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a console that is not there: %v", err)
	}
}
