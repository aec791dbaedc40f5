package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
	"unsafe"

	"github.com/holdfast-edge/holdfast/hal"
	"golang.org/x/sys/unix"
)

// maskBits is how many CPUs unix.CPUSet holds.
const maskBits = 1024

// Pinned runs do on a thread that may use only these CPUs, and puts the thread's mask back before
// it gives the thread to other goroutines, also when do panics. do must run for long: handing
// work to a pinned goroutine and back costs 10 to 100 times a plain hand-over.
//
// An error means that do did not run, or that the mask could not be put back; in the latter case
// the goroutine keeps the thread, so that the mask cannot leak, and should end.
func Pinned(cpus hal.CPUs, do func()) (err error) {
	var set, before unix.CPUSet
	for _, c := range cpus {
		if c >= maskBits {
			return fmt.Errorf("linux: pin to CPU %d: at most %d: %w", c, maskBits-1, errors.ErrUnsupported)
		}
		set.Set(c)
	}
	runtime.LockOSThread()
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("linux: pin: %w", err)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("linux: pin to CPU %s: %w", cpus, err)
	}
	defer func() {
		if e := unix.SchedSetaffinity(0, &before); e != nil {
			err = fmt.Errorf("linux: unpin: %w", e)
			return
		}
		runtime.UnlockOSThread()
	}()
	do()
	return nil
}

// ThreadCPUs are the CPUs that the calling thread may use; it means something only under
// runtime.LockOSThread or inside Pinned.
func ThreadCPUs() (hal.CPUs, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("linux: affinity: %w", err)
	}
	var c hal.CPUs
	for n := range maskBits {
		if set.IsSet(n) {
			c = append(c, n)
		}
	}
	return c, nil
}

// CurrentCPU is the CPU that the calling thread runs on at this moment.
func CurrentCPU() (int, error) {
	var cpu uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno != 0 {
		return 0, fmt.Errorf("linux: getcpu: %w", errno)
	}
	return int(cpu), nil
}

// Incoming receives up to n datagrams until the deadline and counts the CPUs on which the kernel
// took them in (SO_INCOMING_CPU, man 7 socket). It may return fewer than n, and none. c is
// connected: for others the kernel keeps no CPU (net/ipv4/udp.c, __udp_queue_rcv_skb). The CPU is
// that of the packet that came in last, so c should be new after a change.
func Incoming(ctx context.Context, c *net.UDPConn, n int, deadline time.Time) (map[int]int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("linux: incoming: %w", err)
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return nil, fmt.Errorf("linux: incoming: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	seen := map[int]int{}
	buf := make([]byte, 64<<10)
	for range n {
		if _, err := c.Read(buf); err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				break
			}
			return seen, fmt.Errorf("linux: incoming: %w", err)
		}
		var cpu int
		var e error
		if err := raw.Control(func(fd uintptr) { cpu, e = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_INCOMING_CPU) }); err != nil || e != nil {
			return seen, fmt.Errorf("linux: incoming: %w", errors.Join(err, e))
		}
		if cpu < 0 {
			return nil, fmt.Errorf("linux: incoming: the socket is not connected: %w", errors.ErrUnsupported)
		}
		seen[cpu]++
	}
	return seen, nil
}
