package supervise

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
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
	dir := t.TempDir()
	c := start(t, "panic")
	<-c.ended
	if err := saveCrash(dir, &Crash{At: time.Now(), How: c.how(), After: time.Second, Text: c.tail.text()}, "v"); err != nil {
		t.Fatal(err)
	}
	list, err := crashes(dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	text := string(list[0].Text)
	if list[0].How != "exit status 2" || list[0].After != time.Second || !strings.Contains(text, "panic: the reason") || !strings.Contains(text, "a line before it 4999") || !strings.Contains(text, "goroutine 1") {
		t.Errorf("%+v\n%s", list[0], text)
	}
	if strings.Contains(text, "before it 0\n") {
		t.Error("all lines were kept")
	}
}

func TestReportsAreBoundedInNumberAndSize(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	full := newTail()
	for range 100 {
		fmt.Fprintf(full, "%s\n", bytes.Repeat([]byte("x"), 1000))
	}
	fmt.Fprintln(full, "panic: y")
	for range 1000 {
		fmt.Fprintf(full, "%s\n", bytes.Repeat([]byte("z"), 1000))
	}
	for i := range reportsMax + 5 {
		if err := saveCrash(dir, &Crash{At: at.Add(time.Duration(i) * time.Minute), How: "exit status 1", Text: full.text()}, "v"); err != nil {
			t.Fatal(err)
		}
	}
	list, err := crashes(dir)
	if err != nil || len(list) != reportsMax || !list[0].At.Equal(at.Add(time.Duration(reportsMax+4)*time.Minute)) {
		t.Fatalf("%d reports, the newest of %v, %v", len(list), list[0].At, err)
	}
	info, err := os.Stat(filepath.Join(dir, crashDir, list[0].File))
	if err != nil || info.Size() > reportHeadBytes+2*tailBytesMax+dumpBytesMax {
		t.Errorf("%d bytes, %v", info.Size(), err)
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
