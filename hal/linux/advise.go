package linux

import (
	"errors"
	"fmt"

	"github.com/holdfast-edge/holdfast/hal"
	"golang.org/x/sys/unix"
)

var madvice = map[string]int{
	"normal": unix.MADV_NORMAL, "sequential": unix.MADV_SEQUENTIAL, "random": unix.MADV_RANDOM, "hugepage": unix.MADV_HUGEPAGE,
}

var fadvice = map[string]int{
	"sequential": unix.FADV_SEQUENTIAL, "random": unix.FADV_RANDOM, "noreuse": unix.FADV_NOREUSE,
}

var _ hal.Adviser = (*Port)(nil)

// Advise is hal.Adviser's: madvise(2) or posix_fadvise(2).
func (p *Port) Advise(r hal.Region, a hal.Advice) error {
	var err error
	switch a.Call {
	case "madvise":
		advice, ok := madvice[a.Value]
		if !ok {
			return fmt.Errorf("linux: madvise %s: %w", a.Value, errors.ErrUnsupported)
		}
		err = unix.Madvise(r.Mem, advice)
	case "fadvise":
		advice, ok := fadvice[a.Value]
		if !ok {
			return fmt.Errorf("linux: fadvise %s: %w", a.Value, errors.ErrUnsupported)
		}
		err = unix.Fadvise(int(r.File), 0, r.Length, advice)
	default:
		return fmt.Errorf("linux: %s: %w", a.Call, errors.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("linux: %s %s: %w", a.Call, a.Value, err)
	}
	return nil
}
