package linux

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"github.com/holdfast-edge/holdfast/hal"
	"golang.org/x/sys/unix"
)

// ArenaAlign is where an arena starts: at a huge page of the usual size.
const ArenaAlign = 2 << 20

// Arena is zeroed memory of n bytes outside of the collector's, for a pattern of use, and what became of the pattern's steps. Huge
// pages are Applied when the kernel shows them after the arena was touched, all of it. It is the process's until that ends.
func Arena(n int, p hal.Pattern, m *hal.Memory, cpu *hal.CPU) ([]byte, []hal.AdviseOutcome, error) {
	all, err := unix.Mmap(-1, 0, n+ArenaAlign, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("linux: arena of %d bytes: %w", n, err)
	}
	skip := int(-uintptr(unsafe.Pointer(&all[0])) % ArenaAlign)
	mem := all[skip : skip+n : skip+n]
	outcomes := hal.Advise(new(Port), p, hal.Region{Mem: mem}, m, cpu)
	for at := 0; at < len(mem); at += m.PageBytes {
		mem[at] = 0 // the page is there from now on
	}
	for i := range outcomes {
		o := &outcomes[i]
		if o.Advice.Value != "hugepage" || o.Result != hal.AcceptedUnverified {
			continue
		}
		switch huge, err := hugeBytes(mem); {
		case err != nil:
			o.Why = err.Error()
		case huge == 0:
			o.Result, o.Why = hal.FailedTo, "the kernel took the hint and gave small pages: memory is fragmented, or huge pages are off"
		default:
			o.Result, o.Why = hal.Applied, fmt.Sprintf("%d of %d KiB are on huge pages", huge>>10, len(mem)>>10)
		}
	}
	return mem, outcomes, nil
}

// smapsBytesMax bounds what is read of a process's maps: a box has some hundred, of about 1 KiB each.
const smapsBytesMax = 16 << 20

// hugeBytes is how much of mem, and of what is mapped in one piece with it, is on transparent huge pages
// (AnonHugePages of Documentation/filesystems/proc.rst).
func hugeBytes(mem []byte) (int, error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, fmt.Errorf("linux: huge pages: %w", err)
	}
	defer f.Close()
	from := uint64(uintptr(unsafe.Pointer(&mem[0])))
	inside, huge := false, 0
	s := bufio.NewScanner(io.LimitReader(f, smapsBytesMax))
	for s.Scan() {
		line := s.Text()
		if lo, rest, ok := strings.Cut(line, "-"); ok {
			hi, _, _ := strings.Cut(rest, " ")
			a, errA := strconv.ParseUint(lo, 16, 64)
			b, errB := strconv.ParseUint(hi, 16, 64)
			if errors.Join(errA, errB) == nil {
				inside = a < from+uint64(len(mem)) && from < b
				continue
			}
		}
		if kib, ok := strings.CutPrefix(line, "AnonHugePages:"); ok && inside {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kib), " kB"))
			if err != nil {
				return 0, fmt.Errorf("linux: huge pages: %w: %q", hal.ErrFormat, line)
			}
			huge += n << 10
		}
	}
	return huge, s.Err()
}

// LockMemory keeps every page that this process has touched, or will touch, in memory (mlockall(2), MCL_ONFAULT):
// pages that it never touches take none, so the process does not grow by it. The pages of files that it maps stay too.
//
// It refuses a process that the kernel holds to a limit of locked memory: once there, the next mapping would be refused,
// and a Go program ends by that.
func LockMemory() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
		return fmt.Errorf("linux: lock memory: %w", err)
	}
	if l.Cur != unix.RLIM_INFINITY && !capable(unix.CAP_IPC_LOCK) {
		return fmt.Errorf("linux: lock memory: %w; it takes CAP_IPC_LOCK, or no limit of locked memory (LimitMEMLOCK=infinity; it is %d KiB)", unix.EPERM, l.Cur>>10)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("linux: lock memory: %w", err)
	}
	return nil
}

// capable says whether this process has a capability now.
func capable(number int) bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[number/32].Effective>>(number%32)&1 == 1
}
