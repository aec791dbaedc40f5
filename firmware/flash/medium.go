package flash

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Medium is what an image can be written to.
type Medium struct {
	Device    bool     `json:"device"` // a block device, and not a file
	Bytes     int64    `json:"bytes"`
	Name      string   `json:"name,omitempty"` // what the device says it is
	Removable bool     `json:"removable"`
	Uses      []string `json:"uses,omitempty"` // what this machine uses it for; empty: nothing
	number    string   // of the device: MAJOR:MINOR
}

// same says whether two looks saw one disk.
func (m *Medium) same(as Medium) bool {
	return m.Device == as.Device && m.number == as.number && m.Bytes == as.Bytes && m.Name == as.Name
}

// is says whether an open file is what was looked at: names of devices are given anew when one is unplugged.
func (m *Medium) is(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("flash: %w", err)
	}
	kind := uint32(unix.S_IFREG)
	if m.Device {
		kind = unix.S_IFBLK
	}
	if st.Mode&unix.S_IFMT != kind || m.Device && deviceNumber(st.Rdev) != m.number {
		return fmt.Errorf("%w: %s has become something else", ErrMedium, f.Name())
	}
	return nil
}

func deviceNumber(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

const (
	mountFieldDevice = 2 // of /proc/self/mountinfo (man 5 proc): ID parent major:minor root place
	mountFieldPlace  = 4
	holdersDepthMax  = 8 // a disk under RAID under encryption under volumes
)

// Look says what a device is. tree is where /proc and /sys are; empty: /. One that does not exist is a file to be. Errors:
// ErrMedium, and the system's.
func Look(device, tree string) (Medium, error) {
	st, err := os.Stat(device)
	if errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(filepath.Clean(device), "/dev/") {
		return Medium{}, nil
	}
	if err != nil {
		return Medium{}, fmt.Errorf("flash: %w", err)
	}
	if st.Mode().IsRegular() {
		return Medium{Bytes: st.Size()}, nil
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if st.Mode().Type() != fs.ModeDevice || !ok { // a character device has another bit, too
		return Medium{}, fmt.Errorf("%w: %s is neither a block device nor a file", ErrMedium, device)
	}
	return lookAt(tree, deviceNumber(sys.Rdev))
}

// lookAt looks at the disk with a number.
func lookAt(tree, number string) (Medium, error) {
	if tree == "" {
		tree = "/"
	}
	link := filepath.Join(tree, "sys/dev/block", number)
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return Medium{}, fmt.Errorf("flash: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return Medium{}, fmt.Errorf("%w: %s is a partition; an image goes on a whole disk: /dev/%s", ErrMedium, filepath.Base(dir), filepath.Base(filepath.Dir(dir)))
	}
	m := Medium{Device: true, number: number, Removable: word(dir, "removable") == "1"}
	sectors, err := strconv.ParseInt(word(dir, "size"), 10, 64)
	if err != nil || sectors <= 0 {
		return Medium{}, fmt.Errorf("%w: %s has no medium", ErrMedium, filepath.Base(dir))
	}
	if word(dir, "ro") == "1" {
		return Medium{}, fmt.Errorf("%w: %s is write-protected", ErrMedium, filepath.Base(dir))
	}
	m.Bytes = sectors * 1024 / sectorsPerKiB
	m.Name = strings.TrimSpace(word(dir, "device/vendor") + " " + word(dir, "device/model") + word(dir, "device/name"))
	numbers := map[string]string{}
	if err := family(dir, numbers, 0); err != nil {
		return Medium{}, err
	}
	m.Uses, err = uses(tree, numbers)
	return m, err
}

func word(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// family gathers the numbers, and names, of a disk, its partitions, and what is built upon them (/sys/block/*/holders).
func family(dir string, numbers map[string]string, depth int) error {
	if depth > holdersDepthMax {
		return fmt.Errorf("%w: devices upon devices upon %s", ErrInUse, filepath.Base(dir))
	}
	numbers[word(dir, "dev")] = filepath.Base(dir)
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("flash: %w", err)
	}
	for _, e := range list {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "partition")); err == nil && e.IsDir() {
			if err := family(filepath.Join(dir, e.Name()), numbers, depth+1); err != nil {
				return err
			}
		}
	}
	holders, err := os.ReadDir(filepath.Join(dir, "holders"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("flash: %w", err)
	}
	for _, h := range holders {
		at, err := filepath.EvalSymlinks(filepath.Join(dir, "holders", h.Name()))
		if err != nil {
			return fmt.Errorf("flash: %w", err)
		}
		if err := family(at, numbers, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// uses says what this machine does with the devices of numbers: file systems that are mounted, and swap.
func uses(tree string, numbers map[string]string) (all []string, err error) {
	err = lines(filepath.Join(tree, "proc/self/mountinfo"), func(f []string) {
		if len(f) > mountFieldPlace && numbers[f[mountFieldDevice]] != "" {
			all = append(all, fmt.Sprintf("has %s, which is mounted on %s", numbers[f[mountFieldDevice]], f[mountFieldPlace]))
		}
	})
	if err != nil {
		return nil, err
	}
	return all, lines(filepath.Join(tree, "proc/swaps"), func(f []string) {
		for _, name := range numbers {
			if len(f) > 0 && filepath.Base(f[0]) == name {
				all = append(all, fmt.Sprintf("has %s, which is swap", name))
			}
		}
	})
}

func lines(name string, each func(fields []string)) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("flash: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		each(strings.Fields(s.Text()))
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("flash: %s: %w", name, err)
	}
	return nil
}
