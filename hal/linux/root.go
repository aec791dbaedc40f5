// Package linux reads and writes a Linux machine for package hal: sysfs, procfs, the device tree
// and DMI below a root, which is / or a tree of files that stands for a machine, and, on the
// running machine only, netlink, ioctls and thread affinity. It decides nothing.
package linux

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/hal"
)

// fileBytesMax bounds one file: /proc/interrupts of a machine with 128 CPUs has 700 KiB.
const fileBytesMax = 4 << 20

// entriesMax bounds one directory.
const entriesMax = 1 << 16

// cannot is an error that is errors.ErrUnsupported and says only why.
type cannot struct{ error }

func (cannot) Is(target error) bool { return target == errors.ErrUnsupported }
func (c cannot) Unwrap() error      { return c.error }

// errLive says that a question can be put only to a running kernel.
var errLive = cannot{errors.New("a tree of files, not a running kernel")}

// Root is the machine below a directory. It is safe for use by several goroutines.
type Root struct {
	dir   string
	root  *os.Root
	trace func(string)
}

// Open opens the machine below dir. Only "/" is a running one. trace, if not nil, is called with
// the path, relative to dir, of everything that is read (haltest.Record keeps those). Close it.
func Open(dir string, trace func(path string)) (*Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("linux: open: %w", err)
	}
	if trace == nil {
		trace = func(string) {}
	}
	return &Root{path.Clean(dir), root, trace}, nil
}

// Close releases the directory.
func (r *Root) Close() error { return r.root.Close() }

// Live says whether this is the running machine.
func (r *Root) Live() bool { return r.dir == "/" }

// text reads a file without the white space around it.
func (r *Root) text(p string) (string, error) {
	b, err := r.bytes(p)
	return strings.TrimSpace(string(b)), err
}

func (r *Root) bytes(p string) ([]byte, error) {
	r.trace(p)
	return r.untraced(p)
}

func (r *Root) untraced(p string) ([]byte, error) {
	f, err := r.root.Open(p)
	if err != nil {
		return nil, gone(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err == nil && len(b) > fileBytesMax {
		err = fmt.Errorf("linux: %s: %w: over %d bytes", p, hal.ErrFormat, fileBytesMax)
	}
	return b, gone(err)
}

// word is text, or "" when there is none to read.
func (r *Root) word(p string) string {
	s, err := r.text(p)
	if err != nil {
		return ""
	}
	return s
}

// number reads a decimal number, or otherwise when there is none to read.
func (r *Root) number(p string, otherwise int) int {
	n, err := strconv.Atoi(r.word(p))
	if err != nil {
		return otherwise
	}
	return n
}

// cpus reads a CPU set from a list, or from the mask of the same name without _list, as old
// kernels have it only.
func (r *Root) cpus(list string) (hal.CPUs, error) {
	s, err := r.text(list)
	if err == nil {
		return hal.ParseList(s)
	}
	if mask, ok := strings.CutSuffix(list, "_list"); ok {
		if s, err := r.text(mask); err == nil {
			return hal.ParseMask(s)
		}
	}
	return nil, err
}

// names lists a directory, sorted; none when it is not there.
func (r *Root) names(dir string) []string {
	f, err := r.root.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	es, err := f.ReadDir(entriesMax)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	slices.SortFunc(names, byNumber)
	return names
}

// byNumber orders rx-2 before rx-10.
func byNumber(a, b string) int {
	ah, bh := strings.TrimRight(a, "0123456789"), strings.TrimRight(b, "0123456789")
	an, errA := strconv.Atoi(a[len(ah):])
	bn, errB := strconv.Atoi(b[len(bh):])
	if ah == bh && errA == nil && errB == nil && an != bn {
		return an - bn
	}
	return strings.Compare(a, b)
}

// link is the last element of a symbolic link's target: the name of what it points to, "" if there is none.
func (r *Root) link(p string) string {
	r.trace(p)
	to, err := r.root.Readlink(p)
	if err != nil {
		return ""
	}
	return path.Base(to)
}

func (r *Root) exists(p string) bool {
	_, err := r.root.Stat(p)
	return err == nil
}

// write sets the value of a file that exists.
func (r *Root) write(p, v string) error {
	f, err := r.root.OpenFile(p, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return gone(err)
	}
	_, err = f.WriteString(v)
	return errors.Join(gone(err), f.Close())
}

// gone marks the errors that mean that a thing is not there.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", hal.ErrGone, err)
	}
	return err
}
