package haltest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// A recorded machine is a txtar archive. A name may carry more than a path:
//
//	sys/class/net/eth0 -> ../../devices/platform/fe1c0000.ethernet/net/eth0   a symbolic link, empty
//	proc/irq/41/smp_affinity_list (444)                                      the mode, if not 644
//	proc/device-tree/compatible (quoted)                                     Go-quoted: it is not text

// recordBytesMax bounds one recorded file, recordFilesMax their number.
const (
	recordBytesMax = 1 << 20
	recordFilesMax = 50_000
	linksMax       = 40 // as the kernel allows (MAXSYMLINKS)
)

// secrets are what a recorded machine must not say: MAC addresses and UUIDs, wherever they
// stand, and whole files that hold serial numbers.
var (
	macOrUUID   = regexp.MustCompile(`(?i)\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b|\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b`)
	secretFiles = regexp.MustCompile(`serial|uuid|asset_tag|/address$|cmdline$`)
	serialLines = regexp.MustCompile(`(?im)^(serial\s*:).*$`)
)

// Record keeps of the machine below dir just the files that paths name, the links on the way to
// them, and nothing that identifies it. comment says where it was recorded. Files that are not
// there, or cannot be read, are left out, as the probe found them.
func Record(dir string, paths []string, comment string) ([]byte, error) {
	r := recorder{dir: dir, files: map[string]txtar.File{}}
	for _, p := range paths {
		if err := r.add(p, 0); err != nil {
			return nil, fmt.Errorf("haltest: record %s: %w", p, err)
		}
	}
	a := &txtar.Archive{Comment: []byte(strings.TrimRight(comment, "\n") + "\n\n")}
	for _, key := range slices.Sorted(maps.Keys(r.files)) {
		a.Files = append(a.Files, r.files[key])
	}
	return txtar.Format(a), nil
}

type recorder struct {
	dir   string
	files map[string]txtar.File // by plain path
}

// add keeps one path: it walks to it, keeps each link that it meets and goes on behind it.
func (r *recorder) add(p string, links int) error {
	if links > linksMax || len(r.files) > recordFilesMax {
		return errors.New("too many links or files")
	}
	parts := strings.Split(strings.Trim(p, "/"), "/")
	at := ""
	for i, part := range parts {
		if part == ".." {
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, part)
		info, err := os.Lstat(filepath.Join(r.dir, at))
		if err != nil {
			return nil
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(filepath.Join(r.dir, at))
			if err != nil || path.IsAbs(to) {
				return err
			}
			r.files[at] = txtar.File{Name: at + " -> " + to}
			return r.add(path.Dir(at)+"/"+to+"/"+strings.Join(parts[i+1:], "/"), links+1)
		}
	}
	return r.keep(strings.TrimSuffix(at, "/"))
}

func (r *recorder) keep(p string) error {
	f, err := os.Open(filepath.Join(r.dir, p))
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() { // so that an empty directory is there too
		r.files[p] = txtar.File{Name: p + "/"}
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, recordBytesMax))
	if err != nil {
		return nil
	}
	if secretFiles.MatchString(p) {
		b = []byte("hidden\n")
	}
	b = macOrUUID.ReplaceAllFunc(b, func(s []byte) []byte {
		return regexp.MustCompile(`[0-9a-fA-F]`).ReplaceAll(s, []byte("0"))
	})
	b = serialLines.ReplaceAll(b, []byte("$1 hidden"))
	name := p
	if mode := info.Mode().Perm(); mode&0o222 == 0 {
		name += fmt.Sprintf(" (%o)", mode|0o444)
	}
	if strings.ContainsFunc(string(b), func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' || c == '\ufffd' }) ||
		len(b) > 0 && b[len(b)-1] != '\n' || strings.Contains("\n"+string(b), "\n-- ") {
		name, b = name+" (quoted)", []byte(strconv.Quote(string(b))+"\n")
	}
	r.files[p] = txtar.File{Name: name, Data: b}
	return nil
}

var suffix = regexp.MustCompile(`^(.*?)(?: \(([0-7]{3})\))?( \(quoted\))?$`)

// Play writes a recorded machine below dir, which is empty.
func Play(archive []byte, dir string) error {
	a := txtar.Parse(archive)
	if len(a.Files) > recordFilesMax {
		return fmt.Errorf("haltest: play: %d files", len(a.Files))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("haltest: play: %w", err)
	}
	defer root.Close()
	// Links last: nothing is written through one.
	for _, links := range []bool{false, true} {
		for _, f := range a.Files {
			name, to, isLink := strings.Cut(f.Name, " -> ")
			if isLink != links {
				continue
			}
			if err := play(root, name, to, isLink, f.Data); err != nil {
				return fmt.Errorf("haltest: play %s: %w", f.Name, err)
			}
		}
	}
	return nil
}

func play(root *os.Root, name, to string, isLink bool, data []byte) error {
	if isLink {
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		return root.Symlink(to, name)
	}
	m := suffix.FindStringSubmatch(name)
	if d, ok := strings.CutSuffix(m[1], "/"); ok {
		return root.MkdirAll(d, 0o755)
	}
	mode := fs.FileMode(0o644)
	if m[2] != "" {
		n, err := strconv.ParseUint(m[2], 8, 9)
		if err != nil {
			return err
		}
		mode = fs.FileMode(n)
	}
	if m[3] != "" {
		s, err := strconv.Unquote(strings.TrimSuffix(string(data), "\n"))
		if err != nil {
			return err
		}
		data = []byte(s)
	}
	if err := root.MkdirAll(path.Dir(m[1]), 0o755); err != nil {
		return err
	}
	return root.WriteFile(m[1], data, mode)
}
