// Package netns runs a test program in a network of its own, so that what it starts touches no other.
package netns

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// ErrFailed says that the program has told already what was not as it should be.
var ErrFailed = errors.New("not everything was as it should be")

// Again runs this program once more, with -inside before its arguments, in a network namespace that ends with it; without root in a user
// namespace too. When ctx ends it is asked to stop, and killed after grace. The caller's thread must be locked: the program ends with it.
func Again(ctx context.Context, grace time.Duration) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-inside"}, os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return ErrFailed
	}
	return err
}
