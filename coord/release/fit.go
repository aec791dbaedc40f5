package release

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// Format is coord's.
type Format = coord.Format

// Running is the release that a box runs, and what the box is.
type Running struct {
	Version     string
	Board, Arch string
	Formats     []Format
}

// Fits says why a bundle must not replace the running release: it is for another machine, it wants a newer one before it, it is older, or one of
// the two could not read what the other writes. The last is what makes a roll back safe: the old release will find data that the new one wrote.
// older lets it be an older version. Errors: ErrUnfit.
func (m *Manifest) Fits(r *Running, older bool) error {
	if m.Board != r.Board || m.Arch != r.Arch {
		return fmt.Errorf("%w: the bundle is for board %s (%s), this is %s (%s)", ErrUnfit, m.Board, m.Arch, cmp.Or(r.Board, "of no known board"), r.Arch)
	}
	if m.MinVersion != "" {
		if n, ok := CompareVersions(r.Version, m.MinVersion); !ok || n < 0 {
			return fmt.Errorf("%w: %s can only follow version %s or a newer one, this is %s", ErrUnfit, m.Version, m.MinVersion, r.Version)
		}
	}
	switch n, ok := CompareVersions(m.Version, r.Version); {
	case older || m.Version == r.Version:
	case !ok:
		return fmt.Errorf("%w: nobody can tell whether version %s is older than %s, which runs", ErrUnfit, m.Version, r.Version)
	case n < 0:
		return fmt.Errorf("%w: version %s is older than %s, which runs", ErrUnfit, m.Version, r.Version)
	}
	return CheckFormats(r.Version, r.Formats, m.Version, m.Formats)
}

// CheckFormats says which data one of two releases could not read that the other wrote. A format that the old one does not know is in
// files that it does not look at. Errors: ErrUnfit.
func CheckFormats(oldVersion string, old []Format, newVersion string, next []Format) error {
	for _, o := range old {
		i := slices.IndexFunc(next, func(f Format) bool { return f.Name == o.Name })
		if i < 0 {
			return fmt.Errorf("%w: %s does not say that it reads %s", ErrUnfit, newVersion, o.Name)
		}
		n := next[i]
		switch {
		case o.Agreed && n.Agreed:
			if o.Max < n.Min || n.Max < o.Min {
				return fmt.Errorf("%w: %s has %s of versions %d to %d, and boxes with %s speak %d to %d", ErrUnfit, newVersion, o.Name, n.Min, n.Max, oldVersion, o.Min, o.Max)
			}
		case o.Writes < n.Min || o.Writes > n.Max:
			return fmt.Errorf("%w: %s could not read %s as %s wrote it: format %d, where it reads %d to %d", ErrUnfit, newVersion, o.Name, oldVersion, o.Writes, n.Min, n.Max)
		case n.Writes < o.Min || n.Writes > o.Max:
			return fmt.Errorf("%w: after a roll back %s could not read %s as %s wrote it: format %d, where it reads %d to %d; install a release between them first",
				ErrUnfit, oldVersion, o.Name, newVersion, n.Writes, o.Min, o.Max)
		}
	}
	return nil
}

var versionForm = regexp.MustCompile(`^v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?(?:-([0-9]{1,9})-g[0-9a-f]+)?(-.+)?$`)

// CompareVersions compares versions like 1.2.3, v1.2.3-4-gabcdef (four commits later, as git describes) and 1.2.3-rc1 (before 1.2.3).
// ok is false when one is not like that.
func CompareVersions(a, b string) (n int, ok bool) {
	x, y := versionForm.FindStringSubmatch(a), versionForm.FindStringSubmatch(b)
	if x == nil || y == nil {
		return 0, false
	}
	for i := 1; i <= 4; i++ {
		p, _ := strconv.Atoi(cmp.Or(x[i], "0"))
		q, _ := strconv.Atoi(cmp.Or(y[i], "0"))
		if p != q {
			return cmp.Compare(p, q), true
		}
	}
	// -dirty says that a tree was changed after the commit; anything else is before the version.
	rank := func(s string) int {
		switch s {
		case "":
			return 1
		case "-dirty":
			return 2
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(x[5]), rank(y[5])), strings.Compare(x[5], y[5])), true
}
