package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/result"
)

// clockTick is USER_HZ, which Linux fixes at 100 for user space.
const clockTick = 100

// sectorBytes is the unit of /sys/dev/block/*/stat, whatever the device's own sector is.
const sectorBytes = 512

// costs are what a system has used so far.
type costs struct {
	cpu, memory, disk float64 // seconds, MiB, bytes; disk -1: not known
	counts            Counts
}

func take(ctx context.Context, t *Target) (c costs, err error) {
	c.counts = Counts{-1, -1, -1, -1}
	if t.Counts != nil {
		if c.counts, err = t.Counts(ctx); err != nil {
			return c, err
		}
	}
	c.disk = diskBytes(t.Dir)
	for _, pid := range t.PIDs {
		cpu, err := CPUSeconds(pid)
		if err != nil {
			return c, err
		}
		c.cpu += cpu
		c.memory = max(c.memory, MemoryMiB(pid))
	}
	return c, nil
}

// cost puts what was used between two moments into a row.
func (c *costs) cost(after *costs, l *Load, messages float64, servers int, row *result.Row) {
	if messages == 0 {
		return
	}
	payload := messages * float64(max(1, l.Value))
	row.CPU = (after.cpu - c.cpu) / messages * 1e6
	if c.disk >= 0 && l.Op == "put" {
		row.DiskPayload = (after.disk - c.disk) / payload / float64(max(1, servers))
	}
	if c.counts.Wire >= 0 && l.Op != "get" {
		row.WireMessage = (after.counts.Wire - c.counts.Wire) / messages
		if l.Value > 0 {
			row.WirePayload = (after.counts.Wire - c.counts.Wire) / payload
		}
	}
	if c.counts.Syncs >= 0 {
		row.Syncs = (after.counts.Syncs - c.counts.Syncs) / messages
	}
	if blocks := after.counts.Blocks - c.counts.Blocks; c.counts.Blocks >= 0 && blocks > 0 {
		row.Fill = (after.counts.Messages - c.counts.Messages) / blocks
	}
}

// CPUSeconds is the CPU time of a process so far.
func CPUSeconds(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	sum := 0.0
	for _, v := range f[11:13] { // utime, stime
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += float64(n) / clockTick
	}
	return sum, nil
}

// MemoryMiB is a process's resident memory that is not a file's: pages of mapped files (bbolt's, in a box and in etcd) are the
// page cache's, and the kernel takes them back at will. 0 if the process is gone.
func MemoryMiB(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// diskBytes is what was written to the device below dir so far, by anybody; -1 if there is none. A process's own count
// (/proc/PID/io) is of no use: since Linux 6.16 a write of a few bytes counts the whole folio in the page cache.
func diskBytes(dir string) float64 {
	var st syscall.Stat_t
	if dir == "" || syscall.Stat(dir, &st) != nil {
		return -1
	}
	dev := uint64(st.Dev)
	major, minor := dev>>8&0xfff|dev>>32&^0xfff, dev&0xff|dev>>12&^0xff
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", major, minor))
	f := strings.Fields(string(b))
	if err != nil || len(f) < 7 {
		return -1
	}
	n, err := strconv.ParseFloat(f[6], 64)
	if err != nil {
		return -1
	}
	return n * sectorBytes
}

// Idle measures for a time what a system costs that has nothing to do. What a server wrote is what its kernel says
// (/proc/PID/io), which since Linux 6.16 is more than it was, never less.
func Idle(ctx context.Context, t *Target, d time.Duration) (row result.Row, err error) {
	sum := func() (cpu, written float64, err error) {
		for _, pid := range t.PIDs {
			c, err := CPUSeconds(pid)
			if err != nil {
				return 0, 0, err
			}
			w, err := writtenBytes(pid)
			if err != nil {
				return 0, 0, err
			}
			cpu, written = cpu+c, written+w
		}
		return cpu, written, nil
	}
	cpu, written, err := sum()
	if err != nil {
		return row, err
	}
	began := time.Now()
	pause(ctx, d)
	took := time.Since(began).Seconds() * float64(len(t.PIDs))
	cpu2, written2, err := sum()
	if err = errors.Join(err, ctx.Err()); err != nil {
		return row, err
	}
	row = result.Row{
		System: t.Name, Load: "idle", Delay: ms(t.Delay),
		IdleCPU: 100 * (cpu2 - cpu) / took, IdleWritten: (written2 - written) / took * 3600 / (1 << 20),
	}
	for _, pid := range t.PIDs {
		row.Memory = max(row.Memory, MemoryMiB(pid))
	}
	return row, nil
}

// writtenBytes is what a process had written to its disks.
func writtenBytes(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "write_bytes:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/io does not say what was written", pid)
}

// Steal is the time that the machine's host took away, and all time, in ticks, so far.
func Steal() (stolen, all float64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 1
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, v := range strings.Fields(line) {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || i > 8 { // guests' time is in the user's
			continue
		}
		if all += n; i == 8 {
			stolen = n
		}
	}
	return stolen, max(1, all)
}
