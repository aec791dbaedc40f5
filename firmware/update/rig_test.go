package update

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/slots"
	"github.com/holdfast-edge/holdfast/store/faultfs"
)

const esp = "esp"

// docs is a site of one box without documents.
type docs map[string]coord.Doc

func (d docs) Doc(key string) (coord.Doc, bool) { x, ok := d[key]; return x, ok }
func (d docs) Docs(prefix string) (list []coord.Doc) {
	for k, x := range d {
		if strings.HasPrefix(k, prefix) {
			list = append(list, x)
		}
	}
	return list
}

func (docs) Members() *coord.Members {
	return &coord.Members{List: []coord.Member{{ID: coord.BoxID{1}}}}
}
func (docs) Seconds() uint64 { return 1 }

func newKey(t *testing.T) (*ecdsa.PrivateKey, release.Key) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := release.MarshalKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

// bundled is a bundle of two files that take some chunks.
func bundled(t *testing.T, key *ecdsa.PrivateKey, edit func(*release.Manifest)) (*release.Head, []byte) {
	t.Helper()
	kernel, initrd := append([]byte("MZ"), bytes.Repeat([]byte("kernel "), 400_000)...), bytes.Repeat([]byte("initrd"), 300_001)
	m := &release.Manifest{Version: "1.1.0", Board: "fake", Arch: "arm64", Formats: Formats()}
	for _, x := range []struct {
		to   *release.File
		data []byte
	}{{&m.Kernel, kernel}, {&m.Initrd, initrd}} {
		var err error
		if *x.to, err = release.Describe(bytes.NewReader(x.data)); err != nil {
			t.Fatal(err)
		}
	}
	if edit != nil {
		edit(m)
	}
	h, err := release.Sign(m, key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, h, bytes.NewReader(kernel), bytes.NewReader(initrd)); err != nil {
		t.Fatal(err)
	}
	return h, b.Bytes()
}

// flashed is a partition with release 1.0.0 in slot a.
func flashed(t *testing.T) *faultfs.FS {
	t.Helper()
	f := faultfs.NewFAT()
	e, err := slots.OpenFS(f, esp)
	if err == nil {
		err = e.Install(t.Context(), slots.A, slots.Release{Version: "1.0.0", Blessed: true}, map[string]io.Reader{
			slots.Kernel: strings.NewReader("k"), slots.Initrd: strings.NewReader("i"), slots.Manifest: strings.NewReader("m"),
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// runnerOn is a box's runner on a partition, in slot a, which trusts a key.
func runnerOn(t *testing.T, f *faultfs.FS, trusted ...release.Key) *Runner {
	t.Helper()
	r := New(Config{
		Dir: t.TempDir(), Version: "1.0.0", Keys: trusted, Logger: slog.New(slog.DiscardHandler),
		Machine: Machine{ESP: t.TempDir(), Slot: slots.A, Board: "fake", Arch: "arm64", Reboot: func(context.Context) error { return nil }},
		Self:    func() coord.BoxID { return coord.BoxID{1} }, State: func() Docs { return docs{} }, View: func() *site.View { return &site.View{N: 1, Quorum: 1, Serving: true} },
		Submit: func(x *site.Request) { x.Done(coord.Reply{Results: make([]coord.Result, 1)}) },
		Decide: func(context.Context, *coord.Decision, operators.By) error { return nil }, AsBox: func() operators.By { return operators.By{} },
		Record: func(context.Context, audit.Record) error { return nil },
	})
	e, err := slots.OpenFS(f, esp)
	if err != nil {
		t.Fatal(err)
	}
	r.esp, r.cannot = e, ""
	return r
}

func TestABundleIsTakenWholeOrNotAtAll(t *testing.T) {
	key, public := newKey(t)
	h, b := bundled(t, key, nil)
	f := flashed(t)
	r := runnerOn(t, f, public)
	got, err := r.Take(t.Context(), bytes.NewReader(b), false)
	if err != nil || got.ID() != h.ID() {
		t.Fatalf("%v", err)
	}
	x, err := r.Bundle(h.ID())
	if err != nil {
		t.Fatal(err)
	}
	again, err := io.ReadAll(x)
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("a slot's content is not its bundle again: %d of %d bytes, %v", len(again), len(b), err)
	}
	if at, err := x.Seek(int64(len(h.Bytes()))-3, io.SeekStart); err != nil || at == 0 {
		t.Fatal(err)
	}
	if again, err = io.ReadAll(x); err != nil || !bytes.Equal(again, b[len(h.Bytes())-3:]) {
		t.Fatal("a part of a bundle is another one")
	}
	for i := 0; i < len(b); i += len(b)/40 + 1 { // a flipped bit anywhere
		bad := bytes.Clone(b)
		bad[i] ^= 4
		r := runnerOn(t, flashed(t), public)
		if _, err := r.Take(t.Context(), bytes.NewReader(bad), false); err == nil {
			t.Fatalf("a bundle with another byte %d was taken", i)
		}
		if _, _, err := r.find(h.ID()); err == nil {
			t.Fatalf("and is there")
		}
	}
	_, stranger := newKey(t)
	if _, err := runnerOn(t, flashed(t), stranger).Take(t.Context(), bytes.NewReader(b), false); !errors.Is(err, release.ErrSignature) {
		t.Errorf("a stranger's: %v", err)
	}
	if _, err := runnerOn(t, flashed(t)).Take(t.Context(), bytes.NewReader(b), false); !errors.Is(err, release.ErrSignature) {
		t.Errorf("nobody's: %v", err)
	}
}

func TestABundleForAnotherMachineOrTimeIsNotTaken(t *testing.T) {
	key, public := newKey(t)
	for name, edit := range map[string]func(*release.Manifest){
		"another board":                    func(m *release.Manifest) { m.Board = "other" },
		"another processor":                func(m *release.Manifest) { m.Arch = "amd64" },
		"an older version":                 func(m *release.Manifest) { m.Version = "0.9.0" },
		"a release that needs one between": func(m *release.Manifest) { m.MinVersion = "1.0.1" },
		"one that does not read the log": func(m *release.Manifest) {
			for i := range m.Formats {
				if x := &m.Formats[i]; x.Name == "store.log" {
					x.Min, x.Max, x.Writes = 3, 4, 3
				}
			}
		},
		"one whose log could not be read after a roll back": func(m *release.Manifest) {
			for i := range m.Formats {
				if x := &m.Formats[i]; x.Name == "store.log" {
					x.Max, x.Writes = 3, 3
				}
			}
		},
		"one that says nothing of the base": func(m *release.Manifest) {
			for i := range m.Formats {
				if m.Formats[i].Name == "store.base" {
					m.Formats = append(m.Formats[:i:i], m.Formats[i+1:]...)
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := flashed(t)
			_, b := bundled(t, key, edit)
			if _, err := runnerOn(t, f, public).Take(t.Context(), bytes.NewReader(b), false); !errors.Is(err, release.ErrUnfit) {
				t.Errorf("%v", err)
			} else {
				t.Log(err)
			}
			if f.Data(esp+"/b/"+slots.Kernel) != nil {
				t.Error("and it was written")
			}
		})
	}
	// A neighbour that reads more and writes the same is fine.
	_, b := bundled(t, key, func(m *release.Manifest) {
		for i := range m.Formats {
			m.Formats[i].Max++
		}
		m.Formats = append(m.Formats, release.Format{Name: "zz.new", Min: 1, Max: 1, Writes: 1})
	})
	if _, err := runnerOn(t, flashed(t), public).Take(t.Context(), bytes.NewReader(b), false); err != nil {
		t.Error(err)
	}
}

// A cut at any operation of the disk, and at any byte of the stream: what runs is whole, and the same bundle given again comes to its end.
func TestAPowerCutAtAnyByteOfAnUpdateLosesNothingButTime(t *testing.T) {
	key, public := newKey(t)
	h, b := bundled(t, key, nil)
	for after := 0; ; after++ {
		f := flashed(t)
		f.CutAfter(after)
		r := runnerOn(t, f, public)
		_, err := r.Take(t.Context(), bytes.NewReader(b), false)
		if err == nil {
			err = r.arm(t.Context(), &Job{Bundle: h.ID(), Version: h.Version, Slot: slots.B})
		}
		g := f.Crash(faultfs.Torn, uint64(after))
		again := runnerOn(t, g, public)
		list, lerr := again.esp.Entries()
		if lerr != nil || len(list) == 0 {
			t.Fatalf("cut after %d operations: no entry: %v", after, lerr)
		}
		if list[0].Slot == slots.B && !whole(again.esp, slots.B, h) {
			t.Fatalf("cut after %d operations: the loader starts a release that is not whole", after)
		}
		if _, e := again.Take(t.Context(), bytes.NewReader(b), false); e != nil {
			t.Fatalf("cut after %d operations, and given again: %v", after, e)
		}
		if e := again.arm(t.Context(), &Job{Bundle: h.ID(), Version: h.Version, Slot: slots.B}); e != nil {
			t.Fatal(e)
		}
		if list, _ := again.esp.Entries(); list[0].Slot != slots.B || list[0].Left != slots.TriesDefault {
			t.Fatalf("%+v", list)
		}
		if err == nil {
			t.Logf("%d operations", after)
			break
		}
	}
	// The stream breaks off: what came is not written again.
	for _, at := range []int{0, 10, len(h.Bytes()), len(h.Bytes()) + 1, len(b) / 3, len(b) / 2, len(b) - 1} {
		f := flashed(t)
		r := runnerOn(t, f, public)
		if _, err := r.Take(t.Context(), io.LimitReader(bytes.NewReader(b), int64(at)), false); err == nil {
			t.Fatalf("a bundle that ends at byte %d was taken", at)
		}
		if x := r.slot(slots.B); x.State == "taken" && (x.Have >= x.Bytes || x.Bytes != h.Kernel.Bytes+h.Initrd.Bytes) {
			t.Errorf("broken off at %d: it says %d of %d bytes", at, x.Have, x.Bytes)
		}
		have, err := prepare(r.esp, slots.B, h)
		if want := max(0, at-len(h.Bytes())-release.ChunkBytes); err != nil || have < int64(want) && at < len(b)-int(h.Initrd.Bytes) {
			t.Errorf("broken off at %d: %d bytes are there, %v", at, have, err)
		}
		if _, err := runnerOn(t, f, public).Take(t.Context(), bytes.NewReader(b), false); err != nil {
			t.Error(err)
		}
	}
}
