package release

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func newKey(t testing.TB) (*ecdsa.PrivateKey, Key) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := MarshalKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func manifest(t testing.TB) *Manifest {
	t.Helper()
	m := &Manifest{Version: "1.2.0", Board: "fake", Arch: "arm64", MinVersion: "1.1.0", Cmdline: "console=ttyS0", Formats: []Format{{Name: "store", Min: 1, Max: 2, Writes: 1}, {Name: "links", Min: 1, Max: 1, Writes: 1, Agreed: true}}}
	for _, x := range []struct {
		to *File
		n  int
	}{{&m.Kernel, ChunkBytes + 1}, {&m.Initrd, 17}} {
		f, err := Describe(bytes.NewReader(make([]byte, x.n)))
		if err != nil {
			t.Fatal(err)
		}
		*x.to = f
	}
	return m
}

// signed is a head over any bytes: what a signer may sign who is not this program.
func signed(t testing.TB, key *ecdsa.PrivateKey, raw []byte) []byte {
	t.Helper()
	public, err := MarshalKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	h := &Head{raw: raw, Key: public.id()}
	d := h.ID()
	if h.signature, err = key.Sign(nil, d[:], crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	return h.Bytes()
}

func TestAHeadReadsBackAsItWasSigned(t *testing.T) {
	key, public := newKey(t)
	h, err := Sign(manifest(t), key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Sign(manifest(t), key)
	if err != nil || !bytes.Equal(again.Bytes(), h.Bytes()) {
		t.Errorf("the same bundle has other bytes: %v", err)
	}
	if len(h.Bytes()) > HeadBytesMax {
		t.Errorf("%d bytes", len(h.Bytes()))
	}
	_, stranger := newKey(t)
	got, err := ParseHead(h.Bytes(), []Key{stranger, public})
	if err != nil || got.ID() != h.ID() || got.Version != "1.2.0" || got.Kernel.Bytes != ChunkBytes+1 || len(got.Kernel.Chunks) != 2 || got.Formats[0].Name != "links" {
		t.Errorf("%+v, %v", got, err)
	}
	// By another key it is the same bundle.
	other, _ := newKey(t)
	if o, err := Sign(manifest(t), other); err != nil || o.ID() != h.ID() || bytes.Equal(o.Bytes(), h.Bytes()) {
		t.Errorf("%v", err)
	}
	// A reader gives it no byte of what follows, however it gives them.
	r := io.MultiReader(iotest.OneByteReader(bytes.NewReader(h.Bytes())), strings.NewReader("kernel"))
	if _, err := ReadHead(r, []Key{public}); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "kernel" {
		t.Errorf("%q, %v", rest, err)
	}
	if _, err := ParseHead(append(h.Bytes(), 0), []Key{public}); !errors.Is(err, ErrBundle) {
		t.Errorf("with a byte behind it: %v", err)
	}
}

func TestAnyChangedByteOrMissingEndIsRefused(t *testing.T) {
	key, public := newKey(t)
	h, err := Sign(manifest(t), key)
	if err != nil {
		t.Fatal(err)
	}
	b := h.Bytes()
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := ParseHead(bad, []Key{public}); !errors.Is(err, ErrBundle) && !errors.Is(err, ErrSignature) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, err := ParseHead(b[:i], []Key{public}); !errors.Is(err, ErrBundle) {
			t.Fatalf("the first %d bytes: %v", i, err)
		}
	}
	if _, err := ParseHead(b, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("no key: %v", err)
	}
	if _, err := ParseHead(b, []Key{{}, Key("no key")}); !errors.Is(err, ErrSignature) {
		t.Errorf("keys that are none: %v", err)
	}
}

// counted counts what is read.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

func TestALengthThatIsTooLargeIsNotRead(t *testing.T) {
	_, public := newKey(t)
	for _, n := range []uint32{0, ManifestBytesMax + 1, 1 << 31, 1<<32 - 1} {
		c := &counted{Reader: io.MultiReader(bytes.NewReader(binary.BigEndian.AppendUint32([]byte(magic), n)), zeros{})}
		if _, err := ReadHead(c, []Key{public}); !errors.Is(err, ErrBundle) || c.n > HeadBytesMax {
			t.Errorf("a manifest of %d bytes: %v, %d bytes were read", n, err, c.n)
		}
	}
	c := &counted{Reader: zeros{}}
	if _, err := ReadHead(c, []Key{public}); !errors.Is(err, ErrBundle) || c.n > len(magic)+4 {
		t.Errorf("zeros: %v, %d bytes were read", err, c.n)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Who may sign may still make a mistake, or another program: what is signed and not as it is written is refused as a whole.
func TestWhatIsSignedAndNotAManifestIsRefused(t *testing.T) {
	key, public := newKey(t)
	change := func(edit func(map[string]any)) []byte {
		m := manifest(t)
		m.Format = manifestFormat
		m.Formats[0], m.Formats[1] = m.Formats[1], m.Formats[0]
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if edit == nil {
			return raw
		}
		all := map[string]any{}
		if err := json.Unmarshal(raw, &all); err != nil {
			t.Fatal(err)
		}
		edit(all)
		if raw, err = json.Marshal(all); err != nil {
			t.Fatal(err)
		}
		var again Manifest // in the order in which it is written, unless something in it is not of a manifest
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if d.Decode(&again) == nil {
			if raw, err = json.Marshal(&again); err != nil {
				t.Fatal(err)
			}
		}
		return raw
	}
	if _, err := ParseHead(signed(t, key, change(nil)), []Key{public}); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	good := string(change(nil))
	file := func(name string, edit func(map[string]any)) func(map[string]any) {
		return func(all map[string]any) { edit(all[name].(map[string]any)) }
	}
	for name, raw := range map[string][]byte{
		"no JSON":              []byte("{"),
		"a space":              []byte(" " + good),
		"a space at the end":   []byte(good + " "),
		"two":                  []byte(good + good),
		"a field twice":        []byte(strings.Replace(good, `"board":"fake"`, `"board":"other","board":"fake"`, 1)),
		"a field in capitals":  []byte(strings.Replace(good, `"board"`, `"BOARD"`, 1)),
		"a field of nobody":    change(func(m map[string]any) { m["x"] = 1 }),
		"format 2":             change(func(m map[string]any) { m["format"] = 2 }),
		"no version":           change(func(m map[string]any) { m["version"] = "" }),
		"a version of 2 words": change(func(m map[string]any) { m["version"] = "1 2" }),
		"a version of 2 lines": change(func(m map[string]any) { m["version"] = "1\n2" }),
		"a long board":         change(func(m map[string]any) { m["board"] = strings.Repeat("x", 65) }),
		"options of 2 lines":   change(func(m map[string]any) { m["cmdline"] = "a\nlinux /evil" }),
		"long options":         change(func(m map[string]any) { m["cmdline"] = strings.Repeat("x", 257) }),
		"an empty kernel":      change(file("kernel", func(f map[string]any) { f["bytes"], f["chunks"] = 0, []any{} })),
		"negative":             change(file("kernel", func(f map[string]any) { f["bytes"] = -1 })),
		"too large":            change(file("initrd", func(f map[string]any) { f["bytes"] = FileBytesMax + 1 })),
		"a chunk less":         change(file("kernel", func(f map[string]any) { f["chunks"] = f["chunks"].([]any)[1:] })),
		"formats out of order": change(func(m map[string]any) {
			f := m["formats"].([]any)
			f[0], f[1] = f[1], f[0]
		}),
		"a format twice":    change(func(m map[string]any) { f := m["formats"].([]any); m["formats"] = []any{f[0], f[0]} }),
		"a format backward": change(func(m map[string]any) { m["formats"].([]any)[0].(map[string]any)["min"] = 3 }),
	} {
		if h, err := ParseHead(signed(t, key, raw), []Key{public}); !errors.Is(err, ErrBundle) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	if _, err := Sign(&Manifest{Version: "1"}, key); !errors.Is(err, ErrBundle) {
		t.Errorf("one that is not complete is signed: %v", err)
	}
}

func TestOnlyKeysOnP256Sign(t *testing.T) {
	key, public := newKey(t)
	if again, err := ParseKey(" " + public.String() + "\n"); err != nil || again.ID() != public.ID() {
		t.Errorf("%v", err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := MarshalKey(&other.PublicKey); !errors.Is(err, ErrKey) {
		t.Errorf("P-384: %v", err)
	}
	if _, err := Sign(manifest(t), other); !errors.Is(err, ErrKey) {
		t.Errorf("P-384 signs: %v", err)
	}
	for _, text := range []string{"", "?", "AAAA", public.String()[:40]} {
		if _, err := ParseKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", text, err)
		}
	}
	// Two keys whose names are alike in 8 bytes are tried in turn only by chance; a key that is not the one named never counts.
	h, err := Sign(manifest(t), key)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger := newKey(t)
	h.Key = stranger.id()
	if _, err := ParseHead(h.Bytes(), []Key{stranger, public}); !errors.Is(err, ErrSignature) {
		t.Errorf("it says that another signed it: %v", err)
	}
}

func TestAFileIsDescribedByItsChunks(t *testing.T) {
	for n, chunks := range map[int]int{1: 1, ChunkBytes: 1, ChunkBytes + 1: 2, 3 * ChunkBytes: 3} {
		f, err := Describe(bytes.NewReader(make([]byte, n)))
		if err != nil || f.Bytes != int64(n) || len(f.Chunks) != chunks {
			t.Errorf("%d bytes: %d in %d, %v", n, f.Bytes, len(f.Chunks), err)
		}
	}
	if _, err := Describe(bytes.NewReader(nil)); !errors.Is(err, ErrBundle) {
		t.Errorf("an empty one: %v", err)
	}
	c := &counted{Reader: zeros{}}
	if _, err := Describe(c); !errors.Is(err, ErrBundle) || c.n > FileBytesMax+ChunkBytes {
		t.Errorf("one without end: %v after %d bytes", err, c.n)
	}
	broken := errors.New("broken")
	if _, err := Describe(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestVersionsAreOrderedAsTheyAreMade(t *testing.T) {
	order := []string{"0.9", "1.0.0-rc1", "1.0.0-rc2", "1.0.0", "1.0.0-dirty", "v1.0.0-4-gabcdef", "1.0.1", "1.2", "1.10.0", "2"}
	for i, a := range order {
		for j, b := range order {
			n, ok := CompareVersions(a, b)
			if want := compareInts(i, j); !ok || n != want {
				t.Errorf("%s and %s: %d, %v", a, b, n, ok)
			}
		}
	}
	for _, bad := range []string{"", "x", "1.2.3.4", "1..2", "12345678901", "-1"} {
		if _, ok := CompareVersions(bad, "1.0"); ok {
			t.Errorf("%q is a version", bad)
		}
	}
	if n, ok := CompareVersions("1.0", "v1.0.0"); n != 0 || !ok {
		t.Error("1.0 and v1.0.0 differ")
	}
}

func compareInts(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func TestAReleaseFitsOrSaysWhyNot(t *testing.T) {
	runs := &Running{Version: "1.1.0", Board: "fake", Arch: "arm64", Formats: []Format{{Name: "links", Min: 1, Max: 2, Writes: 1, Agreed: true}, {Name: "store", Min: 1, Max: 1, Writes: 1}}}
	for name, c := range map[string]struct {
		edit  func(*Manifest)
		older bool
		want  string
	}{
		"one that fits":               {func(*Manifest) {}, false, ""},
		"another board":               {func(m *Manifest) { m.Board = "x" }, true, "for board x"},
		"an older one":                {func(m *Manifest) { m.Version, m.MinVersion = "1.0.0", "" }, false, "is older"},
		"an older one that is wanted": {func(m *Manifest) { m.Version, m.MinVersion = "1.0.0", "" }, true, ""},
		"one of no known age":         {func(m *Manifest) { m.Version, m.MinVersion = "3e12551x", "" }, false, "nobody can tell"},
		"one that is wanted":          {func(m *Manifest) { m.Version, m.MinVersion = "3e12551x", "" }, true, ""},
		"one that wants another":      {func(m *Manifest) { m.MinVersion = "1.1.1" }, true, "can only follow"},
		"one that wants nonsense":     {func(m *Manifest) { m.MinVersion = "soon" }, true, "can only follow"},
		"one without a format":        {func(m *Manifest) { m.Formats = m.Formats[:1] }, true, "does not say that it reads links"},
		"one that cannot read":        {func(m *Manifest) { m.Formats[0] = Format{Name: "store", Min: 2, Max: 2, Writes: 2} }, true, "could not read store"},
		"one that cannot be read":     {func(m *Manifest) { m.Formats[0].Writes = 2 }, true, "after a roll back"},
		"links that do not meet":      {func(m *Manifest) { m.Formats[1] = Format{Name: "links", Min: 3, Max: 4, Writes: 3, Agreed: true} }, true, "speak 1 to 2"},
	} {
		m := manifest(t)
		c.edit(m)
		err := m.Fits(runs, c.older)
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsInstalledIsLookedAtWithoutItsKey(t *testing.T) {
	key, _ := newKey(t)
	h, err := Sign(manifest(t), key)
	if err != nil {
		t.Fatal(err)
	}
	b := h.Bytes()
	got, err := Peek(b)
	if err != nil || got.ID() != h.ID() || !bytes.Equal(got.Bytes(), b) {
		t.Errorf("%v", err)
	}
	for n := range len(b) - len(h.signature) {
		if _, err := Peek(b[:n]); !errors.Is(err, ErrBundle) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
}

func FuzzHead(f *testing.F) {
	// One key for all processes: the fuzzer compares their ways.
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	public, err := MarshalKey(&key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	h, err := Sign(manifest(f), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h.Bytes(), h.raw)
	f.Add([]byte(magic), []byte("{}"))
	f.Fuzz(func(t *testing.T, b, raw []byte) {
		if h, err := ParseHead(b, []Key{public}); err == nil && !bytes.Equal(h.Bytes(), b) {
			t.Errorf("%q is read as %q", b, h.Bytes())
		}
		if h, err := Peek(b); err == nil && h.check() != nil {
			t.Error("it is beyond the limits")
		}
		// And what somebody signed who makes mistakes.
		if len(raw) == 0 || len(raw) > ManifestBytesMax {
			return
		}
		h, err := ParseHead(signed(t, key, raw), []Key{public})
		if err != nil {
			return
		}
		again, err := json.Marshal(&h.Manifest)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%q is read as %q, %v", raw, again, err)
		}
	})
}

func FuzzVersions(f *testing.F) {
	f.Add("1.2.3", "v1.2.3-4-gabc-dirty")
	f.Fuzz(func(t *testing.T, a, b string) {
		n, ok := CompareVersions(a, b)
		if m, also := CompareVersions(b, a); ok != also || m != -n {
			t.Errorf("%q and %q: %d and %d", a, b, n, m)
		}
	})
}
