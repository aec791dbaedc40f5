package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// disk is a disk in memory.
type disk []byte

func (d disk) ReadAt(b []byte, off int64) (int, error)  { return bytes.NewReader(d).ReadAt(b, off) }
func (d disk) WriteAt(b []byte, off int64) (int, error) { return copy(d[off:], b), nil }

func example() *Table {
	return &Table{ID: GUID{1, 2, 3}, Partitions: []Partition{
		{Type: ESP(), ID: GUID{4}, First: 2048, Last: 4095, Name: "BOOT"},
		{Type: Linux(), ID: GUID{5}, First: 4096, Last: 6143, Name: "DATA"},
	}}
}

const mib = 1 << 20

func TestATableReadsBackAsItWasWritten(t *testing.T) {
	d := make(disk, 4*mib)
	if err := Write(d, int64(len(d)), example()); err != nil {
		t.Fatal(err)
	}
	got, err := Read(d, int64(len(d)))
	if err != nil {
		t.Fatal(err)
	}
	want := example()
	if got.ID != want.ID || len(got.Partitions) != 2 || got.Partitions[0] != want.Partitions[0] || got.Partitions[1] != want.Partitions[1] {
		t.Errorf("got %+v", got)
	}
}

func TestEitherCopyOfATableIsEnough(t *testing.T) {
	for _, sector := range []int{1, 2, 4*mib/512 - 1, 4*mib/512 - 33} {
		d := make(disk, 4*mib)
		if err := Write(d, int64(len(d)), example()); err != nil {
			t.Fatal(err)
		}
		d[sector*512+60] ^= 1
		if _, err := Read(d, int64(len(d))); err != nil {
			t.Errorf("with sector %d damaged: %v", sector, err)
		}
		d[1*512+60], d[len(d)-512+60] = 0xFF, 0xFF
		if _, err := Read(d, int64(len(d))); !errors.Is(err, ErrNone) {
			t.Errorf("with both damaged: %v", err)
		}
	}
}

func TestThePartitionAtTheEndGrowsToALargerDisk(t *testing.T) {
	small := make(disk, 4*mib)
	if err := Write(small, int64(len(small)), example()); err != nil {
		t.Fatal(err)
	}
	d := append(small, make(disk, 12*mib)...)
	p, grown, err := Grow(d, int64(len(d)), "DATA")
	if err != nil || !grown || p.First != 4096 || p.Last != 15*2048-1 {
		t.Fatalf("%+v, %v, %v", p, grown, err)
	}
	if _, grown, err := Grow(d, int64(len(d)), "DATA"); grown || err != nil {
		t.Errorf("once more: %v, %v", grown, err)
	}
	d[512] ^= 1 // the first header
	if got, err := Read(d, int64(len(d))); err != nil || got.Partitions[1] != p {
		t.Errorf("the copy at the new end: %+v, %v", got, err)
	}
	if _, _, err := Grow(d, int64(len(d)), "BOOT"); !errors.Is(err, ErrLayout) {
		t.Errorf("a partition with another one behind it: %v", err)
	}
	if _, _, err := Grow(d, int64(len(d)), "NONE"); !errors.Is(err, ErrLayout) {
		t.Errorf("a partition that is not there: %v", err)
	}
}

// cut is a disk that loses its power after some writes.
type cut struct {
	disk
	writes int
}

func (c *cut) WriteAt(b []byte, off int64) (int, error) {
	if c.writes--; c.writes < 0 {
		return 0, errors.New("the power is gone")
	}
	return c.disk.WriteAt(b, off)
}

// A machine that was cut off while it grew starts with the copy; the next cut must not meet the only one.
func TestAGrowthThatWasCutIsFinished(t *testing.T) {
	for writes := range 5 {
		small := make(disk, 4*mib)
		if err := Write(small, int64(len(small)), example()); err != nil {
			t.Fatal(err)
		}
		d := append(small, make(disk, 12*mib)...)
		if _, _, err := Grow(&cut{d, writes}, int64(len(d)), "DATA"); err == nil {
			t.Fatal("it was not cut")
		}
		p, _, err := Grow(d, int64(len(d)), "DATA")
		if err != nil || p.Last != 15*2048-1 {
			t.Fatalf("cut after %d writes: %+v, %v", writes, p, err)
		}
		for _, sector := range []uint64{1, uint64(len(d)/512 - 1)} {
			if x, err := readAt(d, sector, int64(len(d)/512-1)); err != nil || x.Partitions[1] != p {
				t.Errorf("cut after %d writes, the copy in sector %d: %v", writes, sector, err)
			}
		}
	}
}

func TestPartitionsThatDoNotFitAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Table){
		"overlap":        func(t *Table) { t.Partitions[1].First = 4095 },
		"over the table": func(t *Table) { t.Partitions[0].First = 33 },
		"over the end":   func(t *Table) { t.Partitions[1].Last = 4*mib/512 - 33 },
		"backwards":      func(t *Table) { t.Partitions[1].Last = 4095 },
		"long name":      func(t *Table) { t.Partitions[1].Name = strings.Repeat("x", 37) },
	} {
		x := example()
		change(x)
		if err := Write(make(disk, 4*mib), 4*mib, x); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sgdisk is not ours: it must have nothing to say about our tables.
func TestAnotherProgramFindsNothingWrong(t *testing.T) {
	sgdisk, err := exec.LookPath("sgdisk")
	if err != nil {
		t.Skip("sgdisk is not installed (package gdisk)")
	}
	d := make(disk, 4*mib)
	if err := Write(d, int64(len(d)), example()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, d, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sgdisk, "-v", "-p", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") || !strings.Contains(string(out), "EF00") || !strings.Contains(string(out), "8300  DATA") {
		t.Errorf("%v\n%s", err, out)
	}
}

func FuzzRead(f *testing.F) {
	d := make(disk, mib)
	if err := Write(d, mib, &Table{Partitions: []Partition{{Type: ESP(), First: 40, Last: 50, Name: "x"}}}); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(d[:34*512]))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := make(disk, mib)
		copy(d, b)
		if len(b) > 1024 { // with sums that fit, so that what is behind them is reached
			le := binary.LittleEndian
			if n := min(int(le.Uint32(d[512+80:])), 128) * 128; len(b) > 1024+n {
				le.PutUint32(d[512+88:], crc32.ChecksumIEEE(d[1024:1024+n]))
			}
			clear(d[512+16 : 512+20])
			le.PutUint32(d[512+16:], crc32.ChecksumIEEE(d[512:512+92]))
		}
		x, err := Read(d, mib)
		if err != nil {
			return
		}
		for _, p := range x.Partitions {
			if p.Type != (GUID{}) && (p.Last < p.First || p.Offset() < 0 || p.Offset()+p.Bytes() > mib) {
				t.Errorf("%+v is not on the disk", p)
			}
		}
	})
}
