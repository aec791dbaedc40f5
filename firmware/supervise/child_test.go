package supervise

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
)

// The program that crashes is this test's own.
func TestMain(m *testing.M) {
	switch os.Getenv("SUPERVISE_CHILD") {
	case "panic":
		for i := range 5000 {
			fmt.Fprintln(os.Stderr, "a line before it", i)
		}
		panic("the reason")
	case "hang":
		fmt.Println("hangs")
		<-time.After(time.Hour)
	case "exit":
		os.Exit(7)
	}
	os.Exit(m.Run())
}

func start(t *testing.T, what string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := startChild(self, nil, []string{"SUPERVISE_CHILD=" + what, "GOTRACEBACK=all"}, new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.stop("the test ends", time.Second) })
	return c
}

func TestACrashReportHasTheReasonAndWhatCameBeforeIt(t *testing.T) {
	c := start(t, "panic")
	<-c.ended
	text := string(c.tail.text())
	if c.how() != "exit status 2" || !strings.Contains(text, "panic: the reason") || !strings.Contains(text, "a line before it 4999") || !strings.Contains(text, "goroutine 1") {
		t.Errorf("%q\n%s", c.how(), text)
	}
	if strings.Contains(text, "before it 0\n") {
		t.Error("all lines were kept")
	}
}

func TestWhatIsKeptOfAProgramsOutputFitsIntoAReport(t *testing.T) {
	full := newTail()
	for _, letter := range []string{"x", "panic: y\n", "z"} {
		for range 1000 {
			fmt.Fprintf(full, "%s\n", strings.Repeat(letter, 100))
		}
	}
	fmt.Fprint(full, strings.Repeat("no end of line", 10_000))
	text := full.text()
	if len(text) > crash.TextBytesMax || !bytes.Contains(text, []byte("xxx\npanic: y\n")) {
		t.Errorf("%d bytes", len(text))
	}
}

func TestHowACoordinatorEndedIsSaid(t *testing.T) {
	c := start(t, "exit")
	<-c.ended
	if c.how() != "exit status 7" {
		t.Error(c.how())
	}
	c = start(t, "hang")
	c.stop("asked", 10*time.Second)
	if c.how() != "" {
		t.Errorf("asked to end: %q", c.how())
	}
	// One that hangs says where.
	c = start(t, "hang")
	for !strings.Contains(string(c.tail.text()), "hangs") {
		runtime.Gosched()
	}
	c.dump()
	<-c.ended
	if !strings.Contains(c.how(), "did not answer") || !strings.Contains(string(c.tail.text()), "SIGABRT") {
		t.Errorf("%q\n%s", c.how(), c.tail.text())
	}
	// One that is stopped does not even do that, and is killed when asked for the last time.
	c = start(t, "hang")
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.stop("", time.Second)
	<-c.ended
}

func TestPausesGrowAndBeginAnewAfterASteadyRun(t *testing.T) {
	var b backoff
	var got []time.Duration
	for range 9 {
		got = append(got, b.ended(time.Second))
	}
	if got[0] != restartMin || got[1] != 2*restartMin || got[8] != restartMax || !b.trouble() {
		t.Errorf("%v", got)
	}
	if b.ended(steadyAfter) != restartMin || b.trouble() {
		t.Error("a steady run does not count")
	}
}

func TestTheWatchdogIsFedOnlyWhileTheCoordinatorAnswers(t *testing.T) {
	t0 := time.Unix(1000, 0)
	v := vital{began: t0}
	for _, c := range []struct {
		last, now time.Duration
		want      bool
	}{
		{-1, time.Second, true},
		{-1, graceMax - 1, true},
		{-1, graceMax, false},
		{time.Second, 2 * time.Second, true},
		{time.Second, time.Second + hangAfter - 1, true},
		{time.Second, time.Second + hangAfter, false},
		{graceMax, graceMax + time.Second, true},
	} {
		if v.last = (time.Time{}); c.last >= 0 {
			v.last = t0.Add(c.last)
		}
		if got := v.healthy(t0.Add(c.now)); got != c.want {
			t.Errorf("answered after %v, now %v: %v", c.last, c.now, got)
		}
	}
}
