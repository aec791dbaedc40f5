// Package disk finds the appliance's partitions by the names in their disk's partition table, says before mounting whether the
// data partition's file system is one that the kernel should be trusted with, and grows it to its partition.
package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of the partitions of an appliance.
const (
	ESPName  = "HOLDFAST-ESP"
	DataName = "HOLDFAST-DATA"
	// SlotName and a slot's letter in capitals is a slot's partition, on boards that start from partitions.
	SlotName = "HOLDFAST-"
)

// sectorBytes is the unit of sizes in sysfs, whatever the disk's own is.
const sectorBytes = 512

// ErrGone says that no disk has the partition.
var ErrGone = errors.New("no such partition")

// Partition is one that the kernel knows.
type Partition struct {
	Name   string // of the partition table: HOLDFAST-DATA
	Device string // vda2
	Disk   string // vda
	Number int
	Bytes  int64
}

// Find gives the partitions with a name, in the order of their devices. sys is where sysfs is.
func Find(sys, name string) (list []Partition, err error) {
	all, err := filepath.Glob(filepath.Join(sys, "class/block/*/uevent"))
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	for _, at := range all {
		u, err := uevent(at)
		if err != nil || u["PARTNAME"] != name {
			continue // one that has just gone, or another
		}
		dir := filepath.Dir(at)
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		p := Partition{Name: name, Device: filepath.Base(dir), Disk: filepath.Base(filepath.Dir(real))}
		p.Number, _ = strconv.Atoi(u["PARTN"]) // 0 is never one
		sectors, err := number(filepath.Join(dir, "size"))
		if err != nil {
			continue
		}
		p.Bytes = sectors * sectorBytes
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Partition) int { return strings.Compare(a.Device, b.Device) })
	return list, nil
}

// DiskBytes is the size of a whole disk.
func DiskBytes(sys, disk string) (int64, error) {
	n, err := number(filepath.Join(sys, "class/block", disk, "size"))
	if err != nil {
		return 0, fmt.Errorf("disk: %w", err)
	}
	return n * sectorBytes, nil
}

func number(file string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

func uevent(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	u := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), "="); ok {
			u[k] = v
		}
	}
	return u, nil
}

// findEvery is how often disks are looked at while one is awaited.
const findEvery = 50 * time.Millisecond

// Await waits for a partition. When more than one disk has it, that of the disk prefer is taken, and where that has none, the first:
// an appliance whose card was copied must not serve from whichever comes up first. Errors: ErrGone, when ctx ended before.
func Await(ctx context.Context, sys, name, prefer string) (Partition, error) {
	t := time.NewTicker(findEvery)
	defer t.Stop()
	for {
		list, err := Find(sys, name)
		if err != nil {
			return Partition{}, err
		}
		if i := slices.IndexFunc(list, func(p Partition) bool { return p.Disk == prefer }); i >= 0 {
			return list[i], nil
		}
		if len(list) > 0 {
			return list[0], nil
		}
		select {
		case <-ctx.Done():
			return Partition{}, fmt.Errorf("disk: %s: %w", name, ErrGone)
		case <-t.C:
		}
	}
}
