// Package debian gets files out of packages of Debian's archive that are pinned: by their place in the archive, size and
// SHA-256. A package comes from the cache when it is there, and its bytes are checked each time that it is used. Nothing here runs a
// package's scripts or needs dpkg.
//
// The pins are data (pins.toml). Pin makes them anew from the archive's signed index.
package debian

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// Errors.
var (
	// ErrPins says that a file of pins makes no sense.
	ErrPins = errors.New("debian: bad pins")
	// ErrPackage says that a package is not as Debian makes them.
	ErrPackage = errors.New("debian: bad package")
)

const (
	pinsBytesMax = 64 << 10
	pinsMax      = 64
	// packageBytesMax bounds a package: a kernel has about 100 MB.
	packageBytesMax = 512 << 20
)

//go:embed pins.toml
var builtin []byte

// Package is one pinned package.
type Package struct {
	Role    string `toml:"role"` // what an image takes from it: kernel, loader
	Arch    string `toml:"arch"` // Debian's name, which is Go's too: arm64, amd64
	Name    string `toml:"name"`
	Version string `toml:"version"`
	Archive string `toml:"archive"` // debian or debian-security: the first part of the path on a mirror
	Path    string `toml:"path"`    // pool/...
	Size    int64  `toml:"size"`    // bytes
	SHA256  string `toml:"sha256"`
}

// Pins are the packages of images.
type Pins struct {
	Package []Package `toml:"package"`
}

// Builtin gives the pins that came with this program. The caller owns them.
func Builtin() (Pins, error) { return DecodePins(builtin) }

var (
	pathForm = regexp.MustCompile(`^pool/[A-Za-z0-9+~._/-]+\.deb$`)
	wordForm = regexp.MustCompile(`^[A-Za-z0-9+~._:-]+$`)
)

// DecodePins reads a file of pins. Errors: ErrPins.
func DecodePins(text []byte) (Pins, error) {
	if len(text) > pinsBytesMax {
		return Pins{}, fmt.Errorf("%w: %d bytes", ErrPins, len(text))
	}
	var p Pins
	meta, err := toml.Decode(string(text), &p)
	if err != nil {
		return Pins{}, fmt.Errorf("%w: %w", ErrPins, err)
	}
	if u := meta.Undecoded(); len(u) > 0 {
		return Pins{}, fmt.Errorf("%w: unknown key %s", ErrPins, u[0])
	}
	if len(p.Package) > pinsMax {
		return Pins{}, fmt.Errorf("%w: more than %d packages", ErrPins, pinsMax)
	}
	for _, x := range p.Package {
		sum, err := hex.DecodeString(x.SHA256)
		switch {
		case err != nil || len(sum) != 32:
			return Pins{}, fmt.Errorf("%w: %s has no SHA-256", ErrPins, x.Name)
		case x.Archive != "debian" && x.Archive != "debian-security":
			return Pins{}, fmt.Errorf("%w: archive %q of %s", ErrPins, x.Archive, x.Name)
		case !pathForm.MatchString(x.Path) || path.Clean(x.Path) != x.Path:
			return Pins{}, fmt.Errorf("%w: path %q of %s", ErrPins, x.Path, x.Name)
		case !wordForm.MatchString(x.Name) || !wordForm.MatchString(x.Version):
			return Pins{}, fmt.Errorf("%w: name %q, version %q", ErrPins, x.Name, x.Version)
		case x.Size <= 0 || x.Size > packageBytesMax:
			return Pins{}, fmt.Errorf("%w: %s has %d bytes", ErrPins, x.Name, x.Size)
		}
	}
	return p, nil
}

const pinsHead = `# What images take from Debian's archive. ` + "`holdfast image pin`" + ` writes this file from the archive's signed index.
`

// Encode writes the pins as DecodePins reads them.
func (p Pins) Encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(pinsHead)
	e := toml.NewEncoder(&b)
	e.Indent = ""
	if err := e.Encode(p); err != nil {
		return nil, fmt.Errorf("debian: %w", err)
	}
	return b.Bytes(), nil
}

// Find is the package with a role for an architecture. Errors: ErrPins.
func (p Pins) Find(role, arch string) (Package, error) {
	for _, x := range p.Package {
		if x.Role == role && x.Arch == arch {
			return x, nil
		}
	}
	return Package{}, fmt.Errorf("%w: no %s for %s", ErrPins, role, arch)
}

// String is for people.
func (p Package) String() string {
	return strings.Join([]string{p.Name, p.Version, p.Arch}, " ")
}
