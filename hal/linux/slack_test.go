package linux_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
)

// The program that Patient starts again is this test's, which prints the slack of all its threads.
func TestPatientThreadsHaveTheSlack(t *testing.T) {
	const role = "HOLDFAST_TEST_PATIENT"
	if os.Getenv(role) != "" {
		linux.Patient()
		tasks, err := filepath.Glob("/proc/self/task/*")
		if err != nil || len(tasks) < 2 {
			t.Fatal(tasks, err)
		}
		for _, task := range tasks {
			slack, err := os.ReadFile(filepath.Join("/proc", filepath.Base(task), "timerslack_ns"))
			if !errors.Is(err, fs.ErrPermission) { // another thread's is for who has CAP_SYS_NICE
				fmt.Printf("slack %s %v\n", strings.TrimSpace(string(slack)), err)
			}
		}
		return
	}
	for name, c := range map[string]struct {
		chosen uintptr
		want   string
	}{
		"the kernel's default is changed": {0, "slack 4000000 <nil>"},
		"another is left":                 {70000, "slack 70000 <nil>"},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPatientThreadsHaveTheSlack$", "-test.count=1")
		cmd.Env = append(os.Environ(), role+"=1")
		out, err := withSlack(t, c.chosen, cmd.CombinedOutput)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		threads := 0
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "slack ") {
				threads++
				if strings.TrimSpace(line) != c.want {
					t.Errorf("%s: %q, want %q", name, line, c.want)
				}
			}
		}
		if threads < 1 || os.Geteuid() == 0 && threads < 2 {
			t.Errorf("%s: %d threads\n%s", name, threads, out)
		}
	}
}

// withSlack runs a function on a thread of its own with a slack, in nanoseconds, that a child inherits; 0: the default.
func withSlack(t *testing.T, slack uintptr, run func() ([]byte, error)) (out []byte, err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // it ends with the goroutine
		if err = unix.Prctl(unix.PR_SET_TIMERSLACK, slack, 0, 0, 0); err == nil {
			out, err = run()
		}
	}()
	<-done
	return out, err
}
