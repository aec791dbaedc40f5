package linux

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// slackDefault is what the kernel gives a process that nobody gave another (prctl(2), PR_SET_TIMERSLACK).
	slackDefault = 50 * time.Microsecond
	// slackPatient: while any goroutine runs or is in a system call, the Go runtime's monitor (sysmon) looks after it every
	// 20 µs, which the default slack makes 70. On a box that orders small writes those looks were a third of the CPU time.
	// At 4 ms the monitor still takes a processor from a slow disk in time, and a deadline that nothing else wakes the box
	// for is at most so much late: little beside the 25 ms and more that the box's own deadlines are.
	slackPatient = 4 * time.Millisecond
)

// Patient lets the kernel put off this process's timers by up to 4 ms, so that it wakes up less often. The slack of a
// thread is inherited and only the thread itself may change it without privileges, and the runtime has threads by now:
// so the program starts itself again, with the same process number, arguments and environment, and Patient does not
// return. It returns when the process has a slack that somebody chose (systemd's TimerSlackNSec=, for one), when it has
// that of an earlier call, or when it cannot start again: the box then works as well, with more wake-ups.
//
// Call it before anything else is begun.
func Patient() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || time.Duration(now) != slackDefault {
		return
	}
	if unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slackPatient), 0, 0, 0) != nil {
		return
	}
	program, err := os.Executable()
	if err == nil {
		_ = syscall.Exec(program, os.Args, os.Environ())
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slackDefault), 0, 0, 0)
}
