package supervise

import (
	"context"
	"encoding/binary"
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reapEvery is for signals that were lost: they do not queue.
const reapEvery = time.Second

// reap waits for orphans, whose parent PID 1 is, until ctx ends. Those that ours are waited for by who started them.
func reap(ctx context.Context, ours func(pid int) bool) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	defer signal.Stop(signals)
	t := time.NewTicker(reapEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		case <-t.C:
		}
		for {
			pid := ended()
			if pid <= 0 || ours(pid) {
				break
			}
			var w unix.WaitStatus
			if _, err := unix.Wait4(pid, &w, unix.WNOHANG, nil); err != nil {
				break
			}
		}
	}
}

// ended is a process that has ended and that nobody has waited for; it stays so. 0: none.
func ended() int {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return 0
	}
	// struct siginfo (asm-generic/siginfo.h): three ints, on 64 bits one of padding, then si_pid.
	return int(int32(binary.NativeEndian.Uint32((*[unsafe.Sizeof(info)]byte)(unsafe.Pointer(&info))[16:])))
}
