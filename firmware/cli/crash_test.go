package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
)

func TestWhyABoxEndedIsReadOnItFromAfarAndFromItsDisk(t *testing.T) {
	b := newOwnBox(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 2 {
		r := &crash.Report{At: at.Add(time.Duration(i) * time.Hour), How: "exit status 2", After: 90 * time.Minute, Version: "v9", Text: fmt.Appendf(nil, "before\npanic: reason %d\x1b[31m\n", i)}
		if err := crash.Save(b.c.DataDir, r); err != nil {
			t.Fatal(err)
		}
	}
	local := func(want int, says string, args ...string) string {
		t.Helper()
		code, text := said(t, "", append(args, "--dir", b.c.DataDir)...)
		if code != want || !strings.Contains(text, says) {
			t.Fatalf("%q: %d, %s; want %d, %q", args, code, text, want, says)
		}
		return text
	}
	local(exitDone, "20260102T040405.000Z.txt  2026-01-02 04:04:05  1h30m  exit status 2  v9", "crash", "list")
	if text := local(exitDone, "after 1h30m, release v9\n\nbefore\npanic: reason 1?[31m\n", "crash", "show"); strings.Contains(text, "reason 0") {
		t.Errorf("more than the newest: %s", text)
	}
	local(exitDone, "panic: reason 0", "crash", "show", "20260102T030405.000Z")
	local(exitFailed, "there is no report nosuch", "crash", "show", "nosuch")
	local(exitUsage, "--addr or --dir", "crash", "list", "--addr", "127.0.0.1:1")

	b.start()
	t.Setenv(remote.TokenEnv, "")
	b.here(exitDone, "holdfast crash show", "status")
	b.here(exitDone, "panic: reason 1", "crash", "show")
	b.here(exitDone, `"how":"exit status 2"`, "crash", "list", "--json")
	b.far(exitDone, "2026-01-02 03:04:05", "crash", "list")
	b.far(exitFailed, "log in first, or show a token", "crash", "show")
	b.here(exitDone, "done", "role", "grant", "program:helper", "program")
	t.Setenv(remote.TokenEnv, b.issue("--actions", "crash.read,console.view", "--resources", "*"))
	b.far(exitDone, "panic: reason 0", "crash", "show", "20260102T030405.000Z.txt")
	t.Setenv(remote.TokenEnv, b.issue("--actions", "console.view", "--resources", "*"))
	b.far(exitFailed, "crash.read", "crash", "show")

	none, text := said(t, "", "crash", "show", "--dir", t.TempDir())
	if none != exitFailed || !strings.Contains(text, "has not ended by itself") {
		t.Errorf("%d %s", none, text)
	}
}
