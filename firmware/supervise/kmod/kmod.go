// Package kmod loads kernel modules: those that the machine's devices ask for (by the aliases that the kernel shows in
// sysfs), and those that are named, each behind the modules that it needs. It reads what depmod wrote (man 5 modules.dep) and, where
// depmod did not run, the modules themselves.
package kmod

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

const (
	// moduleBytesMax bounds a module in memory: the largest of Debian's kernels (amdgpu) has 20 MiB.
	moduleBytesMax = 64 << 20
	// aliasBytesMax bounds an alias that a device says it has: sysfs gives a page.
	aliasBytesMax = 4 << 10
)

// ErrUnknown says that the kernel has no such module.
var ErrUnknown = errors.New("no such module")

// Index knows the modules of one kernel. It is only read once it is open.
type Index struct {
	dir     string
	file    map[string]string   // by module name: where it is below dir
	needs   map[string][]string // by module name: the names of all modules that must be there before it, in order
	builtin map[string]bool
	alias   []alias
}

// alias is a pattern of names that a device may have, and the module that serves it.
type alias struct{ pattern, module string }

// Open reads the index in dir, which is /lib/modules/RELEASE.
func Open(dir string) (*Index, error) {
	x := &Index{dir: dir, file: map[string]string{}, needs: map[string][]string{}, builtin: map[string]bool{}}
	if err := x.lines("modules.builtin", func(line string) { x.builtin[Name(line)] = true }); err != nil {
		return nil, err
	}
	dep := x.lines("modules.dep", x.dep)
	ali := x.lines("modules.alias", func(line string) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			x.alias = append(x.alias, alias{plain(f[1]), Name(f[2])})
		}
	})
	if err := errors.Join(dep, ali); err != nil {
		return nil, err
	}
	if len(x.file) == 0 || len(x.alias) == 0 {
		if err := x.scan(); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// lines calls line for each line of a file, which need not exist.
func (x *Index) lines(name string, line func(string)) error {
	f, err := os.Open(filepath.Join(x.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kmod: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20) // a module may need a hundred others
	for s.Scan() {
		if t := strings.TrimSpace(s.Text()); t != "" && t[0] != '#' {
			line(t)
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("kmod: %s: %w", name, err)
	}
	return nil
}

// dep reads a line of modules.dep: a file, and what it needs, the farthest need last.
func (x *Index) dep(line string) {
	file, rest, ok := strings.Cut(line, ":")
	if !ok {
		return
	}
	name := Name(file)
	x.file[name] = file
	var needs []string
	for f := range strings.FieldsSeq(rest) {
		needs = append(needs, Name(f))
	}
	slices.Reverse(needs)
	x.needs[name] = needs
}

// scan reads the modules below dir themselves.
func (x *Index) scan() error {
	direct := map[string][]string{}
	err := filepath.WalkDir(x.dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(d.Name(), ".ko") {
			return err
		}
		rel, err := filepath.Rel(x.dir, at)
		if err != nil {
			return err
		}
		body, err := x.read(rel)
		if err != nil {
			return err
		}
		info, err := modinfo(bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		name := Name(rel)
		x.file[name] = rel
		for _, a := range info["alias"] {
			x.alias = append(x.alias, alias{plain(a), name})
		}
		for _, list := range info["depends"] {
			for n := range strings.SplitSeq(list, ",") {
				if n != "" {
					direct[name] = append(direct[name], Name(n))
				}
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel that has no modules
	}
	if err != nil {
		return fmt.Errorf("kmod: %w", err)
	}
	for name := range x.file {
		var all []string
		var visit func(n string, depth int)
		visit = func(n string, depth int) {
			for _, d := range direct[n] {
				if depth < len(x.file) && !slices.Contains(all, d) {
					visit(d, depth+1)
					if !slices.Contains(all, d) {
						all = append(all, d)
					}
				}
			}
		}
		visit(name, 0)
		x.needs[name] = all
	}
	return nil
}

// Match gives the modules that serve a device with this alias ("pci:v00001AF4d..."), or that are known by it ("fs-vfat"); a module's
// own name is such an alias.
func (x *Index) Match(modalias string) (modules []string) {
	if len(modalias) > aliasBytesMax {
		return nil
	}
	want := plain(modalias)
	if n := Name(modalias); x.file[n] != "" {
		modules = append(modules, n)
	}
	for _, a := range x.alias {
		if ok, err := path.Match(a.pattern, want); err == nil && ok && !slices.Contains(modules, a.module) {
			modules = append(modules, a.module)
		}
	}
	return modules
}

// Order is the modules that have to be loaded for one, itself last. Errors: ErrUnknown.
func (x *Index) Order(name string) ([]string, error) {
	name = Name(name)
	if x.file[name] == "" {
		if x.builtin[name] {
			return nil, nil
		}
		return nil, fmt.Errorf("kmod: %s: %w", name, ErrUnknown)
	}
	return append(slices.Clone(x.needs[name]), name), nil
}

// Load loads a module and what it needs. One that is loaded or built in is left as it is.
// Errors: ErrUnknown, or what the kernel says.
func (x *Index) Load(name string) error {
	order, err := x.Order(name)
	if err != nil {
		return err
	}
	for _, n := range order {
		file := x.file[n]
		if file == "" { // built in, by another list than ours
			continue
		}
		if err := x.insert(file); err != nil {
			return fmt.Errorf("kmod: %s: %w", n, err)
		}
	}
	return nil
}

func (x *Index) insert(file string) error {
	var err error
	if strings.HasSuffix(file, ".ko") {
		f, e := os.Open(filepath.Join(x.dir, file))
		if e != nil {
			return e
		}
		err = errors.Join(unix.FinitModule(int(f.Fd()), "", 0), f.Close())
	} else {
		body, e := x.read(file)
		if e != nil {
			return e
		}
		err = unix.InitModule(body, "")
	}
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// read gives a module's bytes, decompressed.
func (x *Index) read(file string) ([]byte, error) {
	f, err := os.Open(filepath.Join(x.dir, file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch path.Ext(file) {
	case ".ko":
	case ".xz":
		if r, err = xz.NewReader(bufio.NewReader(f)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%s: %w", path.Ext(file), errors.ErrUnsupported)
	}
	body, err := io.ReadAll(io.LimitReader(r, moduleBytesMax+1))
	if err == nil && len(body) > moduleBytesMax {
		err = fmt.Errorf("larger than %d bytes", moduleBytesMax)
	}
	return body, err
}

// Devices gives the aliases of all devices below a sysfs, each once.
func Devices(sys string) (aliases []string, err error) {
	seen := map[string]bool{}
	err = filepath.WalkDir(filepath.Join(sys, "devices"), func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "modalias" {
			return nil // a device that has just gone
		}
		b, err := os.ReadFile(at)
		if a := strings.TrimSpace(string(b)); err == nil && a != "" && len(a) <= aliasBytesMax && !seen[a] {
			seen[a] = true
			aliases = append(aliases, a)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("kmod: %w", err)
	}
	return aliases, nil
}

// Name is how the kernel calls the module in a file: it takes _ for -.
func Name(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// plain is a pattern or an alias as they are compared: - and _ are one, outside of brackets, and a slash is a character like any other.
func plain(s string) string {
	if !strings.ContainsAny(s, "-/") {
		return s
	}
	b := []byte(s)
	in := false
	for i, c := range b {
		switch {
		case c == '[':
			in = true
		case c == ']':
			in = false
		case c == '-' && !in:
			b[i] = '_'
		case c == '/':
			b[i] = 1
		}
	}
	return string(b)
}
