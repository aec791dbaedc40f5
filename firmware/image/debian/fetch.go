package debian

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/image/pinned"
)

// MirrorDefault is where packages come from.
const MirrorDefault = "http://deb.debian.org" // the bytes are checked, as apt does it

// Store is the packages on this machine, and where others come from.
type Store struct {
	pinned.Store
	Mirror string // without archive and path; empty: MirrorDefault
	// Archives are where archives are that have places of their own ("debian-security": "http://host/security"); Mirror has the others.
	Archives map[string]string
}

// Get opens a package, from the cache or the mirror, when its size and hash are the pinned ones. The caller closes it.
// Errors: Fetch's.
func (s *Store) Get(ctx context.Context, p Package) (*os.File, error) {
	i := pinned.Item{Label: p.String(), File: filepath.Base(p.Path), URL: s.address(p.Archive + "/" + p.Path), Size: p.Size, SHA256: p.SHA256}
	f, err := s.Fetch(ctx, i)
	if errors.Is(err, pinned.ErrGone) {
		err = fmt.Errorf("%w. Debian drops old versions: `holdfast image pin -o pins.toml` takes today's, and `holdfast image build --pins pins.toml` builds with them; an old one may be at snapshot.debian.org: put it into the cache as %s", err, s.Cached(i))
	}
	return f, err
}

// address is where the mirror has a file.
func (s *Store) address(path string) string {
	// A + in a path means itself, but not to every proxy.
	return s.place(strings.ReplaceAll(path, "+", "%2B"))
}

// place is the address of a path, whose first part is an archive.
func (s *Store) place(path string) string {
	archive, rest, _ := strings.Cut(path, "/")
	if base, ok := s.Archives[archive]; ok {
		return strings.TrimSuffix(base, "/") + "/" + rest
	}
	return strings.TrimSuffix(cmp.Or(s.Mirror, MirrorDefault), "/") + "/" + path
}
