package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/holdfast-edge/holdfast/firmware/image/ext4"
	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
)

const mib = 1 << 20

// medium is a file with a partition table and a data partition with a file system, as an image has them.
func medium(t *testing.T) (f *os.File, data gpt.Partition) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	const size = 80 * mib
	data = gpt.Partition{Type: gpt.Linux(), ID: gpt.GUID{1}, First: 8 * 2048, Last: 72*2048 - 1, Name: DataName}
	if err := gpt.Write(f, size, &gpt.Table{ID: gpt.GUID{9}, Partitions: []gpt.Partition{data}}); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Make(part{f, data.Offset()}, ext4.Options{Bytes: data.Bytes(), Label: DataName, ID: [16]byte{1, 2}, Seconds: 1_795_000_000}); err != nil {
		t.Fatal(err)
	}
	return f, data
}

// part is a partition of a disk.
type part struct {
	f  *os.File
	at int64
}

func (p part) ReadAt(b []byte, at int64) (int, error)  { return p.f.ReadAt(b, p.at+at) }
func (p part) WriteAt(b []byte, at int64) (int, error) { return p.f.WriteAt(b, p.at+at) }

func TestAFileSystemThatWasJustMadeIsGood(t *testing.T) {
	f, data := medium(t)
	x, err := CheckExt4(part{f, data.Offset()}, data.Bytes())
	if err != nil || x.Bytes != data.Bytes() || x.Label != DataName || x.Recover || x.Errors != 0 {
		t.Errorf("%+v, %v", x, err)
	}
}

// super changes the superblock, as somebody does who keeps its checksum right.
func super(t *testing.T, p part, change func(b []byte)) {
	t.Helper()
	b := make([]byte, superBytes)
	if _, err := p.ReadAt(b, superAt); err != nil {
		t.Fatal(err)
	}
	change(b)
	binary.LittleEndian.PutUint32(b[0x3FC:], ^crc32.Update(0, crc32.MakeTable(crc32.Castagnoli), b[:0x3FC]))
	if _, err := p.WriteAt(b, superAt); err != nil {
		t.Fatal(err)
	}
}

func TestWhatTheKernelShouldNotBeTrustedWithIsKnown(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		change func(b []byte)
		want   error
	}{
		"after a power cut":                     {func(b []byte) { le.PutUint32(b[0x60:], le.Uint32(b[0x60:])|incompatRecover); le.PutUint16(b[0x3A:], 0) }, nil},
		"errors":                                {func(b []byte) { le.PutUint16(b[0x3A:], stateValid|stateErrors); le.PutUint32(b[0x194:], 3) }, ErrDamaged},
		"no journal":                            {func(b []byte) { le.PutUint32(b[0x5C:], le.Uint32(b[0x5C:])&^compatJournal) }, ErrDamaged},
		"not clean, and nothing to play back":   {func(b []byte) { le.PutUint16(b[0x3A:], 0) }, ErrDamaged},
		"larger than its partition":             {func(b []byte) { le.PutUint32(b[0x4:], le.Uint32(b[0x4:])+1) }, ErrDamaged},
		"larger than any":                       {func(b []byte) { le.PutUint32(b[0x150:], 1<<31) }, ErrDamaged},
		"of no blocks":                          {func(b []byte) { le.PutUint32(b[0x4:], 0) }, ErrDamaged},
		"of blocks of a size that there is not": {func(b []byte) { le.PutUint32(b[0x18:], 1<<31) }, ErrDamaged},
		"none":                                  {func(b []byte) { le.PutUint16(b[0x38:], 0) }, ErrFormat},
	} {
		f, data := medium(t)
		p := part{f, data.Offset()}
		super(t, p, c.change)
		x, err := CheckExt4(p, data.Bytes())
		if !errors.Is(err, c.want) || c.want == nil && (err != nil || !x.Recover) {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
	}
	f, data := medium(t)
	p := part{f, data.Offset()}
	if _, err := CheckExt4(p, 1000); err == nil {
		t.Error("a partition that is shorter than a superblock is good")
	}
}

func TestAFlippedBitOfTheSuperblockIsSeen(t *testing.T) {
	f, data := medium(t)
	p := part{f, data.Offset()}
	for at := int64(superAt); at < superAt+superBytes; at += 37 {
		var b [1]byte
		if _, err := p.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		bad := [1]byte{b[0] ^ 0x10}
		if _, err := p.WriteAt(bad[:], at); err != nil {
			t.Fatal(err)
		}
		if _, err := CheckExt4(p, data.Bytes()); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d: %v", at-superAt, err)
		}
		if _, err := p.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := CheckExt4(p, data.Bytes()); err != nil {
		t.Errorf("with all bits as they were: %v", err)
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// sysfs has disks of two partitions each, as a kernel shows them.
func sysfs(t *testing.T, disks ...string) string {
	t.Helper()
	sys := t.TempDir()
	for _, d := range disks {
		put(t, filepath.Join(sys, "devices", d, "size"), "163840\n")
		put(t, filepath.Join(sys, "devices", d, "uevent"), "DEVTYPE=disk\nDEVNAME="+d+"\n")
		for i, name := range []string{ESPName, DataName} {
			n := strconv.Itoa(i + 1)
			at := filepath.Join(sys, "devices", d, d+n)
			put(t, filepath.Join(at, "uevent"), "DEVTYPE=partition\nPARTN="+n+"\nPARTNAME="+name+"\n")
			put(t, filepath.Join(at, "size"), "131072\n")
		}
		for _, n := range []string{"", "1", "2"} {
			link := filepath.Join(sys, "class", "block", d+n)
			to := filepath.Join(sys, "devices", d, d+n)
			if n == "" {
				to = filepath.Join(sys, "devices", d)
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(to, link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return sys
}

func TestAPartitionIsFoundByItsNameOnTheDiskThatIsMeant(t *testing.T) {
	sys := sysfs(t, "vda", "sdb")
	list, err := Find(sys, DataName)
	if err != nil || len(list) != 2 || list[0] != (Partition{Name: DataName, Device: "sdb2", Disk: "sdb", Number: 2, Bytes: 64 * mib}) || list[1].Device != "vda2" {
		t.Fatalf("%+v, %v", list, err)
	}
	for prefer, want := range map[string]string{"vda": "vda2", "sdb": "sdb2", "": "sdb2", "sdz": "sdb2"} {
		if p, err := Await(t.Context(), sys, DataName, prefer); err != nil || p.Device != want {
			t.Errorf("of %q: %+v, %v", prefer, p, err)
		}
	}
	if n, err := DiskBytes(sys, "vda"); err != nil || n != 80*mib {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := DiskBytes(sys, "vdz"); err == nil {
		t.Error("a disk that is not there has a size")
	}
	// One that is just going, or whose size cannot be read, is none.
	put(t, filepath.Join(sys, "devices", "vda", "vda2", "size"), "x\n")
	if list, err := Find(sys, DataName); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAPartitionThatComesLateIsAwaitedAndOneThatNeverComesIsNot(t *testing.T) {
	sys := sysfs(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Await(ctx, sys, DataName, ""); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	late := make(chan error, 1)
	go func() {
		_, err := Await(t.Context(), sys, DataName, "")
		late <- err
	}()
	other := sysfs(t, "sda")
	if err := os.Symlink(filepath.Join(other, "class"), filepath.Join(sys, "class")); err != nil {
		t.Fatal(err)
	}
	if err := <-late; err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoExt4DoesNotGrow(t *testing.T) {
	if err := GrowExt4(filepath.Join(t.TempDir(), "gone"), mib); err == nil {
		t.Error("a folder that is not there has grown")
	}
	f, data := medium(t)
	if err := Tell(f, 1, data.Offset(), data.Bytes()); err == nil {
		t.Error("a file has partitions")
	}
}
