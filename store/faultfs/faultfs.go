// Package faultfs is a file system in memory that breaks on demand, for tests of package store: it forgets
// what was not synced when the power is cut, tears writes, fails operations and flips bits.
//
// It is stricter than a disk has to be: a file's length is part of what Datasync makes durable, names are
// durable after SyncDir only, and names that were not synced survive in the order they were made. NewFAT has no such order.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"

	"github.com/holdfast-edge/holdfast/store"
)

// ErrCut is what every operation gives after the power was cut.
var ErrCut = errors.New("faultfs: power is cut")

// Op names a changing operation.
type Op string

// The operations that a hook sees and that CutAfter counts.
const (
	Create   Op = "create"
	Rename   Op = "rename"
	Remove   Op = "remove"
	SyncDir  Op = "syncdir"
	Write    Op = "write"
	Zero     Op = "zero"
	Datasync Op = "datasync"
)

// Mode says what a power cut leaves of what was not synced.
type Mode uint8

// The modes of Crash.
const (
	Lost Mode = iota // nothing
	Kept             // everything
	Torn             // any sector of any write, and the first few names
)

// sectorBytes is what a disk writes whole.
const sectorBytes = 512

// FS implements store.FS. The zero value is not usable; see New.
type FS struct {
	mu    sync.Mutex
	names map[string]*node // as programs see them
	disk  map[string]*node // as after a power cut
	steps []step           // of names, since they were synced
	ops   int
	cutAt int // -1: never
	fat   bool
	hook  func(op Op, name string) error
}

type node struct {
	data    []byte // as programs see it
	durable []byte
	writes  []write // since durable
}

type write struct {
	at   int64
	data []byte
}

// step is one change of names: to gets the node, from loses it.
type step struct {
	from, to string
	node     *node
}

var _ store.FS = (*FS)(nil)

// New gives an empty file system.
func New() *FS {
	return &FS{names: map[string]*node{}, disk: map[string]*node{}, cutAt: -1}
}

// NewFAT gives one without a journal, as FAT is: SyncDir is about one directory, and of names that were not synced any may survive a
// power cut that Torn describes, of a rename also one half.
func NewFAT() *FS {
	f := New()
	f.fat = true
	return f
}

// Hook has fn called before every changing operation; its error is the operation's, which then does nothing. nil
// ends it.
func (f *FS) Hook(fn func(op Op, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = fn
}

// CutAfter cuts the power in the middle of the operation that follows n more: it has happened in part, and
// all after it give ErrCut.
func (f *FS) CutAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt = f.ops + n
}

// Ops is the number of changing operations so far.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Crash gives the file system that a machine finds after a power cut now. seed decides what Torn leaves.
func (f *FS) Crash(m Mode, seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := rand.New(rand.NewPCG(seed, 1))
	c := New()
	c.fat = f.fat
	names, steps := maps.Clone(f.disk), len(f.steps)
	switch {
	case m == Lost:
		steps = 0
	case m == Torn && f.fat:
		for _, s := range f.steps {
			for _, half := range []step{{from: s.from}, {to: s.to, node: s.node}} {
				if r.IntN(2) == 0 {
					half.apply(names)
				}
			}
		}
		steps = 0
	case m == Torn:
		steps = r.IntN(steps + 1)
	}
	for _, s := range f.steps[:steps] {
		s.apply(names)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := &node{data: names[name].crash(m, r)}
		n.durable = slices.Clone(n.data)
		c.names[name], c.disk[name] = n, n
	}
	return c
}

// crash gives what a power cut leaves of a file.
func (n *node) crash(m Mode, r *rand.Rand) []byte {
	switch m {
	case Lost:
		return slices.Clone(n.durable)
	case Kept:
		return slices.Clone(n.data)
	}
	left := slices.Clone(n.durable)
	for _, w := range n.writes {
		for at := w.at; at < w.at+int64(len(w.data)); {
			end := min((at/sectorBytes+1)*sectorBytes, w.at+int64(len(w.data)))
			if r.IntN(2) == 0 {
				left = put(left, at, w.data[at-w.at:end-w.at])
			}
			at = end
		}
	}
	return left
}

func put(b []byte, at int64, data []byte) []byte {
	if n := at + int64(len(data)); n > int64(len(b)) {
		b = append(b, make([]byte, n-int64(len(b)))...)
	}
	copy(b[at:], data)
	return b
}

func (s step) apply(names map[string]*node) {
	if s.from != "" {
		delete(names, s.from)
	}
	if s.to != "" {
		names[s.to] = s.node
	}
}

// Data gives a copy of a file as programs see it, nil when there is none.
func (f *FS) Data(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.names[name]; n != nil {
		return slices.Clone(n.data)
	}
	return nil
}

// SetData replaces a file's content, durably: rot, an old copy, a stranger's hand.
func (f *FS) SetData(name string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[name]
	if n == nil {
		n = new(node)
		f.names[name], f.disk[name] = n, n
	}
	n.data, n.durable, n.writes = slices.Clone(data), slices.Clone(data), nil
}

// Flip flips a bit of a byte of a file, durably.
func (f *FS) Flip(name string, at int64, bit uint) {
	d := f.Data(name)
	d[at] ^= 1 << (bit % 8)
	f.SetData(name, d)
}

// op counts and asks the hook. cut: the operation is to happen in part. f.mu is held.
func (f *FS) op(o Op, name string) (cut bool, err error) {
	if f.cutAt >= 0 && f.ops > f.cutAt {
		return false, ErrCut
	}
	if f.hook != nil {
		if err := f.hook(o, name); err != nil {
			return false, fmt.Errorf("faultfs: %s %s: %w", o, name, err)
		}
	}
	f.ops++
	return f.cutAt >= 0 && f.ops > f.cutAt, nil
}

func outcome(cut bool) error {
	if cut {
		return ErrCut
	}
	return nil
}

// change makes one step of names.
func (f *FS) change(o Op, name string, s step) error {
	cut, err := f.op(o, name)
	if err != nil {
		return err
	}
	s.apply(f.names)
	f.steps = append(f.steps, s)
	return outcome(cut)
}

// MkdirAll implements store.FS; directories are always there.
func (f *FS) MkdirAll(string) error { return nil }

// Create implements store.FS.
func (f *FS) Create(name string) (store.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	n := new(node)
	if err := f.change(Create, name, step{to: name, node: n}); err != nil {
		return nil, err
	}
	return &file{fs: f, name: name, node: n}, nil
}

// Open implements store.FS.
func (f *FS) Open(name string) (store.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[name]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{fs: f, name: name, node: n}, nil
}

// List implements store.FS.
func (f *FS) List(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.names {
		if path.Dir(name) == path.Clean(dir) {
			names = append(names, path.Base(name))
		}
	}
	return names, nil
}

// Rename implements store.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[from]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	return f.change(Rename, to, step{from: from, to: to, node: n})
}

// Remove implements store.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	return f.change(Remove, name, step{from: name})
}

// SyncDir implements store.FS. There is one journal for all directories, or none.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	cut, err := f.op(SyncDir, dir)
	if err != nil || cut {
		return errors.Join(err, outcome(cut))
	}
	in := func(name string) bool { return name != "" && path.Dir(name) == path.Clean(dir) }
	f.steps = slices.DeleteFunc(f.steps, func(s step) bool {
		if f.fat && !in(s.from) && !in(s.to) {
			return false
		}
		s.apply(f.disk)
		return true
	})
	return nil
}

// file is an open file.
type file struct {
	fs   *FS
	name string
	node *node
}

func (h *file) Close() error { return nil }

func (h *file) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return int64(len(h.node.data)), nil
}

func (h *file) ReadAt(b []byte, at int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if at >= int64(len(h.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.node.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *file) WriteAt(b []byte, at int64) (int, error) {
	if err := h.write(Write, b, at); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (h *file) Zero(from, to int64) error {
	return h.write(Zero, make([]byte, max(to-from, 0)), from)
}

func (h *file) write(o Op, b []byte, at int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	cut, err := h.fs.op(o, h.name)
	if err != nil {
		return err
	}
	h.node.writes = append(h.node.writes, write{at, slices.Clone(b)})
	h.node.data = put(h.node.data, at, b)
	return outcome(cut)
}

func (h *file) Datasync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	cut, err := h.fs.op(Datasync, h.name)
	if err != nil || cut {
		return errors.Join(err, outcome(cut))
	}
	h.node.durable, h.node.writes = slices.Clone(h.node.data), nil
	return nil
}
