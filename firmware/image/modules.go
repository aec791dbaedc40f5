package image

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/therootcompany/xz"
)

const (
	moduleBytesMax = 64 << 20 // Debian's largest, amdgpu, has 20 MiB
	xzDictMax      = 64 << 20
)

// module is one kernel module.
type module struct {
	file  string // below lib/modules/RELEASE, without the ending of its compression
	body  []byte // decompressed, with its signature
	needs []string
	alias []string
}

// modules are those of one kernel, decompressed when they are asked for.
type modules struct {
	packed  map[string][]byte // by file, below lib/modules/RELEASE
	byName  map[string]string // the file of a name
	builtin string            // modules.builtin
	opened  map[string]*module
}

func newModules(packed map[string][]byte, builtin []byte) *modules {
	m := &modules{packed: packed, byName: map[string]string{}, builtin: string(builtin), opened: map[string]*module{}}
	for _, f := range slices.Sorted(maps.Keys(packed)) {
		m.byName[moduleName(f)] = f
	}
	return m
}

// moduleName is how the kernel calls the module in a file: it takes _ for -.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func (m *modules) isBuiltin(name string) bool {
	for line := range strings.Lines(m.builtin) {
		if moduleName(strings.TrimSpace(line)) == name {
			return true
		}
	}
	return false
}

// match gives the names of the modules that a pattern means: a name, or files below kernel/ with path.Match's signs, where a pattern that
// ends in a slash means all that is below it.
func (m *modules) match(pattern string) ([]string, error) {
	if !strings.Contains(pattern, "/") {
		name := moduleName(pattern)
		if m.byName[name] != "" {
			return []string{name}, nil
		}
		if m.isBuiltin(name) {
			return nil, nil
		}
		return nil, fmt.Errorf("image: the kernel has no module %s", pattern)
	}
	var all []string
	for _, f := range slices.Sorted(maps.Keys(m.packed)) {
		rel := strings.TrimPrefix(f, "kernel/")
		fits := strings.HasSuffix(pattern, "/") && strings.HasPrefix(rel, pattern)
		if !fits {
			stem, _, _ := strings.Cut(rel, ".ko")
			fits, _ = path.Match(pattern, stem)
		}
		if fits {
			all = append(all, moduleName(f))
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("image: the kernel has no module %s", pattern)
	}
	return all, nil
}

// choose opens the modules that patterns mean, and all that those need. One that is built in needs no file.
func (m *modules) choose(patterns []string) (map[string]*module, error) {
	chosen := map[string]*module{}
	var todo []string
	var missing []error
	for _, p := range patterns {
		names, err := m.match(p)
		missing = append(missing, err)
		todo = append(todo, names...)
	}
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if chosen[name] != nil || m.byName[name] == "" {
			continue
		}
		x, err := m.open(name)
		if err != nil {
			return nil, err
		}
		chosen[name] = x
		todo = append(todo, x.needs...)
	}
	return chosen, nil
}

func (m *modules) open(name string) (*module, error) {
	if x := m.opened[name]; x != nil {
		return x, nil
	}
	file := m.byName[name]
	body := m.packed[file]
	if strings.HasSuffix(file, ".xz") {
		r, err := xz.NewReader(bytes.NewReader(body), xzDictMax)
		if err == nil {
			body, err = io.ReadAll(io.LimitReader(r, moduleBytesMax+1))
		}
		if err == nil && len(body) > moduleBytesMax {
			err = errors.New("too large")
		}
		if err != nil {
			return nil, fmt.Errorf("image: module %s: %w", name, err)
		}
	}
	x := &module{file: strings.TrimSuffix(file, ".xz"), body: body}
	info, err := modinfo(body)
	if err != nil {
		return nil, fmt.Errorf("image: module %s: %w", name, err)
	}
	x.alias = info["alias"]
	for _, list := range info["depends"] {
		for n := range strings.SplitSeq(list, ",") {
			if n != "" {
				x.needs = append(x.needs, moduleName(n))
			}
		}
	}
	// "pre: crypto-crc32c post: x": what comes before is asked for by an alias of crypto; its plain form is NAME_generic.
	for _, s := range info["softdep"] {
		pre := false
		for w := range strings.FieldsSeq(s) {
			switch {
			case strings.HasSuffix(w, ":"):
				pre = w == "pre:"
			case pre:
				n := moduleName(w)
				if generic := strings.TrimPrefix(n, "crypto_") + "_generic"; m.byName[n] == "" && m.byName[generic] != "" {
					n = generic
				}
				if m.byName[n] != "" {
					x.needs = append(x.needs, n)
				}
			}
		}
	}
	m.opened[name] = x
	return x, nil
}

// modinfo is what a module says of itself: "key=value" strings, each ended by a NUL, in section .modinfo (linux/moduleparam.h).
func modinfo(body []byte) (map[string][]string, error) {
	f, err := elf.NewFile(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no section .modinfo")
	}
	b, err := s.Data()
	if err != nil {
		return nil, err
	}
	info := map[string][]string{}
	for kv := range strings.SplitSeq(string(b), "\x00") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			info[k] = append(info[k], v)
		}
	}
	return info, nil
}

// files gives what stands below lib/modules/RELEASE: the modules, decompressed since the whole archive is compressed, and what depmod
// would have written about them (man 5 modules.dep).
func (m *modules) files(release string, chosen map[string]*module) []archived {
	dir := "lib/modules/" + release + "/"
	var all []archived
	var dep, alias strings.Builder
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		x := chosen[name]
		all = append(all, archived{name: dir + x.file, mode: 0o644, body: x.body})
		dep.WriteString(x.file + ":")
		for _, n := range slices.Backward(closure(chosen, name)) { // the farthest need last
			dep.WriteString(" " + chosen[n].file)
		}
		dep.WriteString("\n")
		for _, a := range x.alias {
			fmt.Fprintf(&alias, "alias %s %s\n", a, name)
		}
	}
	return append(all,
		archived{name: dir + "modules.dep", mode: 0o644, body: []byte(dep.String())},
		archived{name: dir + "modules.alias", mode: 0o644, body: []byte(alias.String())},
		archived{name: dir + "modules.builtin", mode: 0o644, body: []byte(m.builtin)})
}

// closure is all that a module needs, each behind what it needs itself.
func closure(chosen map[string]*module, name string) (order []string) {
	seen := map[string]bool{name: true}
	var visit func(string)
	visit = func(n string) {
		for _, d := range chosen[n].needs {
			if chosen[d] != nil && !seen[d] {
				seen[d] = true
				visit(d)
				order = append(order, d)
			}
		}
	}
	visit(name)
	return order
}
