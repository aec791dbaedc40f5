package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
	"golang.org/x/sys/unix"
)

// troubled is a site of four of which one box is away, one late, and one does not vote yet.
func troubled() *overview {
	now := time.Now()
	member := func(i byte, name string, up bool, height uint64) site.MemberView {
		return site.MemberView{Member: coord.Member{ID: coord.BoxID{i}, Name: name}, Up: up, Height: height, Heard: now, RTT: 1234 * time.Microsecond}
	}
	o := &overview{Status: api.Status{
		Name: "box-0", ID: coord.BoxID{1}, N: 4, F: 1, Quorum: 3, Serving: true, Taken: now, Started: now.Add(-26 * time.Hour), Height: 1_234_567, Leader: coord.BoxID{2},
		Verdict: "The site works with 3 of 4 boxes; if one more fails it cannot write.", Version: "v1.2.3", Round: 100,
		Members: []site.MemberView{member(1, "box-0", true, 1_234_567), member(2, "box-1", true, 1_234_560), member(3, "a-box-with-a-very-long-name-indeed", false, 7), member(4, "box-3", true, 1_234_567)},
	}}
	o.Status.Members[0].Self, o.Status.Members[3].VotesFrom = true, 200
	o.Status.Counters.LatencyCount, o.Status.Counters.LatencySum = 10, 50*time.Millisecond
	for i := range historySteps {
		o.Rate = append(o.Rate, remote.Point{At: now, Value: float64(i)})
	}
	o.CPU, o.Phases = o.Rate, []phase{{"", .012}, {"order", .004}}
	o.Now = map[string]float64{"log_bytes_per_second": 123456, "memory_bytes": 50 << 20, "syncs_per_second": 12}
	o.Alarms = []alarms.AlertView{{
		Alert: alarms.Alert{Since: now.Add(-time.Minute), Annotations: map[string]string{"summary": "Box a is \x1b[31maway"}}, Name: "BoxAway", Severity: "warning",
	}}
	o.Crashes = []crash.Report{{At: now.Add(-3 * time.Hour), How: "exit status 2"}, {At: now.Add(-time.Hour * 40), How: "signal: killed"}}
	o.Steps = todo(&o.Status)
	return o
}

func TestTheOverviewSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	text := strings.Join(troubled().draw(style{unicode: true, width: 80}), "\n")
	for _, want := range []string{
		"The site works with 3 of 4", "→ see what happened to a-box-with", "→ wait for box-3", "up 1d2h", "box-1 · round 100", "1 234 567", "AWAY", "up, leads", "does not vote yet", "1.2 ms",
		"▁▁▁▂", "█", "p99", "order 4.0 ms", "121 KiB/s", "50.0 MiB", "warning for 1m0s",
		"2 · last 3h0m ago (exit status 2): holdfast crash show",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	calm := &overview{Status: api.Status{Serving: true, Verdict: "The site works.", Quorum: 1, Members: []site.MemberView{{Up: true, Self: true}}}}
	if text := strings.Join(calm.draw(style{width: 80}), "\n"); len(todo(&calm.Status)) != 0 || strings.Contains(text, ">") {
		t.Errorf("nothing is to be done: %s", text)
	}
}

func TestAnAlarmThatIsEndingSaysSoAndIsNothingToDo(t *testing.T) {
	o := &overview{Status: api.Status{Serving: true, Verdict: "The site works.", Quorum: 1, Members: []site.MemberView{{Up: true, Self: true}}}}
	o.Alarms = []alarms.AlertView{{Alert: alarms.Alert{State: alarms.Firing, Since: time.Now().Add(-time.Hour)}, Name: "BoxAway", Severity: alarms.Warning}}
	o.alarmed()
	if text := strings.Join(o.draw(style{width: 80}), "\n"); !strings.Contains(text, "`holdfast alarm show BoxAway` says what to do") || strings.Contains(text, "not so for") {
		t.Errorf("it fires:\n%s", text)
	}
	o.Steps, o.Alarms[0].Away = nil, time.Now().Add(-3*time.Minute)
	o.alarmed()
	if text := strings.Join(o.draw(style{width: 80}), "\n"); len(o.Steps) != 0 || !strings.Contains(text, "warning for 1h0m: BoxAway (not so for 3m0s)") {
		t.Errorf("%q\n%s", o.Steps, text)
	}
	var out bytes.Buffer
	o.Alarms[0].Over = o.Alarms[0].Away.Add(10 * time.Minute)
	if err := printAlarms(&out, &alarms.View{Taken: time.Now(), Alarms: o.Alarms}, o.Alarms[0].Away.Add(time.Minute)); err != nil || !strings.Contains(out.String(), "ending") || !strings.Contains(out.String(), "(not so for 1m0s, over in 9m0s)") {
		t.Errorf("%v %s", err, out.String())
	}
}

func TestTheRateIsThatOfNowAndTheWholeComesBeforeItsPhases(t *testing.T) {
	o := troubled()
	o.Status.Rate = 3
	o.Phases = []phase{{"answer", .001}, {"vote", .2}, {"", .3}, {"batch", .02}}
	text := strings.Join(o.draw(style{width: 80}), "\n")
	for _, want := range []string{"3.0 messages/s", "300 ms, vote 200 ms, batch 20.0 ms, answer 1.0 ms"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestATraceOfAnotherBoxSaysWhoKeepsIt(t *testing.T) {
	var out bytes.Buffer
	err := printTraces(&out, &api.Traces{Traces: []api.TraceHead{{AuthorName: "box-2"}, {AuthorName: "box-1", Reasons: []string{"slow"}}}})
	if err != nil || !strings.Contains(out.String(), "as box-2 does\n") || !strings.Contains(out.String(), "slow\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestHowLongToSilenceIsCheckedBeforeABoxIsAsked(t *testing.T) {
	for _, text := range []string{"2", "0s", "soon"} {
		var out, errs bytes.Buffer
		if code := Run(t.Context(), Build{}, []string{"alarm", "silence", "HoldfastHot", "--why", "x", "--for", text}, strings.NewReader(""), &out, &errs); code != exitUsage || !strings.Contains(errs.String(), "write 30m, 2h, 7d or the like") {
			t.Errorf("--for %s: %d %s", text, code, errs.String())
		}
	}
}

func TestABoxThatIsBehindIsSomethingToLookAt(t *testing.T) {
	o := troubled()
	o.Status.Members[1].Height -= 5000
	if steps := strings.Join(todo(&o.Status), "\n"); !strings.Contains(steps, "box-1: behind the others") {
		t.Error(steps)
	}
}

func TestTheOverviewSaysHowMuchOfTheDiskIsFree(t *testing.T) {
	for free, want := range map[float64]string{40 << 30: "", 9 << 30: "make space on this box's disk, of which 9.0 GiB are left"} {
		o := troubled()
		o.Now["disk_bytes"], o.Now["disk_free_bytes"] = 100<<30, free
		o.space()
		text := strings.Join(o.draw(style{width: 200}), "\n")
		if !strings.Contains(text, "GiB free of 100 GiB") || strings.Contains(text, "make space") != (want != "") || !strings.Contains(text, want) {
			t.Errorf("%v bytes are free:\n%s", free, text)
		}
	}
	o := troubled()
	o.space()
	if text := strings.Join(o.draw(style{width: 200}), "\n"); strings.Contains(text, "free of") || strings.Contains(text, "make space") {
		t.Errorf("a box that does not tell of its disk:\n%s", text)
	}
}

func TestTheOverviewFitsTheTerminal(t *testing.T) {
	for _, width := range []int{40, 60, 80, 200} {
		for _, s := range []style{{width: width}, {width: width, unicode: true}} {
			for _, l := range troubled().draw(s) {
				if n := utf8.RuneCountInString(l); n > width {
					t.Errorf("%d characters in %d: %q", n, width, l)
				}
				if strings.ContainsRune(l, '\x1b') {
					t.Errorf("an escape without a terminal, or from outside: %q", l)
				}
				if !s.unicode && len(l) != utf8.RuneCountInString(l) {
					t.Errorf("a terminal that has ASCII only: %q", l)
				}
			}
		}
	}
	t.Setenv("NO_COLOR", "1")
	if s := styleOf(io.Discard); s.color || s.width != widthPlain {
		t.Errorf("%+v", s)
	}
}

// terminal opens a pseudo-terminal of a size.
func terminal(t *testing.T, cols, rows uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

func TestALiveViewQuitsOnQAndLeavesTheTerminalAsItWas(t *testing.T) {
	master, slave := terminal(t, 70, 4)
	was, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	var reading sync.WaitGroup
	drawn := make(chan struct{}, 100)
	reading.Go(func() {
		_, _ = io.Copy(&all, master) // it ends when the other side is closed
	})
	done := make(chan error, 1)
	go func() {
		done <- live(t.Context(), &streams{in: slave, out: slave}, 100*time.Millisecond, func(_ context.Context, s style) []string {
			drawn <- struct{}{}
			return []string{"width " + strconv.Itoa(s.width), "2", "3", "4", "below the screen"}
		})
	}()
	<-drawn
	<-drawn
	if _, err := master.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	now, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *now != *was {
		t.Errorf("the terminal is not as it was: %v", err)
	}
	if err := slave.Close(); err != nil {
		t.Error(err)
	}
	reading.Wait()
	text := all.String()
	if !strings.HasPrefix(text, screenOpen) || !strings.HasSuffix(text, screenClose) || !strings.Contains(text, "width 70") || strings.Contains(text, "below the screen") {
		t.Errorf("%q", text)
	}
	if strings.Contains(text, "\x1b[2J") || strings.Count(text, frameBegin) < 2 {
		t.Errorf("screens are written over, and never cleared: %q", text)
	}
}

func TestALiveViewInAPipeIsPlainAndEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	n := 0
	err := live(ctx, &streams{in: strings.NewReader(""), out: &out}, 100*time.Millisecond, func(context.Context, style) []string {
		if n++; n == 3 {
			cancel()
		}
		return []string{"line " + strconv.Itoa(n)}
	})
	if err != nil || out.String() != "line 1\n\nline 2\n\n" {
		t.Errorf("%q %v", out.String(), err)
	}
	if err := live(t.Context(), &streams{}, time.Millisecond, nil); !errors.Is(err, errUsage) {
		t.Errorf("too often: %v", err)
	}
}

func TestStatusAndTopAreOfARealBox(t *testing.T) {
	b := newOwnBox(t).start()
	if text := b.here(exitDone, "The site works", "status"); !strings.Contains(text, "this box, leads") || strings.Contains(text, "\x1b") {
		t.Error(text)
	}
	b.here(exitDone, `"verdict":`, "status", "--json")
	b.here(exitUsage, "--watch or --json", "status", "--json", "--watch")
	b.here(exitDone, "0 observations", "top")
	b.here(exitFailed, "there is none yet, the newest is 1", "debug", "why", "4711")
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var out, errs bytes.Buffer
	if code := Run(ctx, Build{}, []string{"top", "--watch", "--every", "200ms", "--addr", b.socket()}, strings.NewReader(""), &out, &errs); code != exitDone || strings.Count(out.String(), "OBJECT") < 2 {
		t.Errorf("%d %s %s", code, out.String(), errs.String())
	}
}
