package debian

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/image/pinned"
	"github.com/therootcompany/xz"
)

const (
	inReleaseBytesMax = 4 << 20
	indexBytesMax     = 256 << 20 // bookworm's has 50 MB
)

// KeyringDefault is where Debian's package debian-archive-keyring has the keys that sign the archive.
const KeyringDefault = "/usr/share/keyrings/debian-archive-keyring.gpg"

// suites are where packages are looked for: the stable release that this program was tested with, and its security updates.
func suites() []struct{ archive, suite string } {
	return []struct{ archive, suite string }{{"debian", "bookworm"}, {"debian-security", "bookworm-security"}}
}

// wanted are the packages of an architecture, as patterns of their names.
func wanted(arch string) map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"kernel": regexp.MustCompile(`^linux-image-6\.12\.[0-9]+\+deb12-` + arch + `$`),
		"loader": regexp.MustCompile(`^systemd-boot-efi$`),
	}
}

// Pin makes pins of the newest versions in the archive, for each architecture. The archive's index is signed: gpgv checks it with
// the keys of keyring. Errors: pinned.ErrHash, pinned.ErrGone, ErrPins when a package is not there, and the network's.
func Pin(ctx context.Context, s *Store, keyring string, arches []string) (Pins, error) {
	if s.Offline {
		return Pins{}, fmt.Errorf("%w: the archive's index", pinned.ErrOffline)
	}
	best := map[string]Package{}
	for _, from := range suites() {
		sums, err := s.release(ctx, keyring, from.archive, from.suite)
		if err != nil {
			return Pins{}, err
		}
		for _, arch := range arches {
			name := "main/binary-" + arch + "/Packages.xz"
			sum, ok := sums[name]
			if !ok {
				return Pins{}, fmt.Errorf("%w: %s has no %s", ErrPins, from.suite, name)
			}
			index, err := s.file(ctx, from.archive+"/dists/"+from.suite+"/"+name, sum, packageBytesMax)
			if err != nil {
				return Pins{}, err
			}
			r, err := xz.NewReader(bytes.NewReader(index), xzDictMax)
			if err != nil {
				return Pins{}, fmt.Errorf("%w: %s: %w", ErrPins, name, err)
			}
			if err := newest(io.LimitReader(r, indexBytesMax), from.archive, arch, best); err != nil {
				return Pins{}, err
			}
		}
	}
	var p Pins
	for _, arch := range arches {
		for _, role := range []string{"kernel", "loader"} {
			x, ok := best[role+" "+arch]
			if !ok {
				return Pins{}, fmt.Errorf("%w: the archive has no %s for %s", ErrPins, wanted(arch)[role], arch)
			}
			p.Package = append(p.Package, x)
		}
	}
	text, err := p.Encode()
	if err != nil {
		return Pins{}, err
	}
	return DecodePins(text) // the index is someone else's: what is in it has to be as our file may have it
}

// release gives the SHA-256 of the files that a suite's signed InRelease names.
func (s *Store) release(ctx context.Context, keyring, archive, suite string) (map[string]string, error) {
	signed, err := s.file(ctx, archive+"/dists/"+suite+"/InRelease", "", inReleaseBytesMax)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "holdfast-pin-")
	if err != nil {
		return nil, fmt.Errorf("debian: %w", err)
	}
	defer os.RemoveAll(dir)
	file, text := filepath.Join(dir, "InRelease"), filepath.Join(dir, "Release")
	if err := os.WriteFile(file, signed, 0o600); err != nil {
		return nil, fmt.Errorf("debian: %w", err)
	}
	// What gpgv writes to --output is the signed text and nothing around it.
	out, err := exec.CommandContext(ctx, "gpgv", "--keyring", keyring, "--output", text, file).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("debian: gpgv is not installed; it checks the archive's signature (package gpgv): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the signature of %s: %w: %.300s", pinned.ErrHash, suite, err, out)
	}
	b, err := os.ReadFile(text)
	if err != nil {
		return nil, fmt.Errorf("debian: %w", err)
	}
	sums, in := map[string]string{}, false
	for line := range strings.Lines(string(b)) {
		if line[0] != ' ' {
			in = strings.HasPrefix(line, "SHA256:")
			continue
		}
		if f := strings.Fields(line); in && len(f) == 3 {
			sums[f[2]] = f[0]
		}
	}
	return sums, nil
}

// file downloads a file, and compares it with its hash unless that is empty.
func (s *Store) file(ctx context.Context, path, sum string, most int64) ([]byte, error) {
	body, err := s.Open(ctx, s.address(path))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(body, most))
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("debian: download %s: %w", path, err)
	}
	if got := sha256.Sum256(b); sum != "" && hex.EncodeToString(got[:]) != sum {
		return nil, fmt.Errorf("%w: %s; the mirror may be in the middle of a change: try again", pinned.ErrHash, path)
	}
	return b, nil
}

// newest reads an index (deb822: paragraphs of "Key: value") and keeps the newest of each package that is wanted, by role and architecture.
func newest(r io.Reader, archive, arch string, best map[string]Package) error {
	want := wanted(arch)
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	p := Package{Arch: arch, Archive: archive}
	end := func() {
		for role, form := range want {
			key := role + " " + arch
			if form.MatchString(p.Name) && (best[key].Name == "" || compareVersions(p.Version, best[key].Version) > 0) {
				p.Role = role
				best[key] = p
			}
		}
		p = Package{Arch: arch, Archive: archive}
	}
	for s.Scan() {
		key, value, _ := strings.Cut(s.Text(), ": ")
		switch key {
		case "":
			end()
		case "Package":
			p.Name = value
		case "Version":
			p.Version = value
		case "Filename":
			p.Path = value
		case "SHA256":
			p.SHA256 = value
		case "Size":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return fmt.Errorf("%w: the size %q of %s", ErrPins, value, p.Name)
			}
			p.Size = n
		}
	}
	end()
	if err := s.Err(); err != nil {
		return fmt.Errorf("debian: index: %w", err)
	}
	return nil
}

// compareVersions orders versions as Debian does (deb-version(7)): an epoch, the version, and behind the last hyphen the revision.
func compareVersions(a, b string) int {
	epoch := func(v string) (int, string) {
		if e, rest, ok := strings.Cut(v, ":"); ok {
			n, err := strconv.Atoi(e)
			if err == nil {
				return n, rest
			}
		}
		return 0, v
	}
	revision := func(v string) (string, string) {
		if i := strings.LastIndexByte(v, '-'); i >= 0 {
			return v[:i], v[i+1:]
		}
		return v, ""
	}
	ea, a := epoch(a)
	eb, b := epoch(b)
	ua, ra := revision(a)
	ub, rb := revision(b)
	return cmp.Or(cmp.Compare(ea, eb), compareParts(ua, ub), compareParts(ra, rb))
}

// compareParts compares what is no number by letters first and ~ before all, and numbers by their value, in turn.
func compareParts(a, b string) int {
	digits := func(s string) (string, string) {
		i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if i < 0 {
			i = len(s)
		}
		return s[:i], s[i:]
	}
	rank := func(s string, i int) int {
		switch {
		case i >= len(s) || s[i] >= '0' && s[i] <= '9':
			return 0
		case s[i] == '~':
			return -1
		case s[i] >= 'A' && s[i] <= 'Z' || s[i] >= 'a' && s[i] <= 'z':
			return int(s[i])
		}
		return int(s[i]) + 256
	}
	for a != "" || b != "" {
		for i := 0; ; i++ {
			x, y := rank(a, i), rank(b, i)
			if x != y {
				return cmp.Compare(x, y)
			}
			if x == 0 {
				a, b = a[min(i, len(a)):], b[min(i, len(b)):]
				break
			}
		}
		var x, y string
		x, a = digits(a)
		y, b = digits(b)
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
			return c
		}
	}
	return 0
}
