package release

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"testing"
)

func signed(t testing.TB, edit func(*Manifest)) (*Head, Key) {
	t.Helper()
	return signedBy(t, "first", edit)
}

func signedBy(t testing.TB, name string, edit func(*Manifest)) (*Head, Key) {
	t.Helper()
	raw := sha256.Sum256([]byte("a test's key: " + name))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw[:])
	if err != nil {
		t.Fatal(err)
	}
	f, err := Describe(bytes.NewReader(make([]byte, ChunkBytes+1)))
	if err != nil {
		t.Fatal(err)
	}
	m := &Manifest{Version: "1.2.3", Board: "qemu-virt", Arch: "arm64", Kernel: f, Initrd: f, Formats: []Format{{Name: "b", Min: 1, Max: 2, Writes: 1}, {Name: "a", Min: 1, Max: 1, Writes: 1}}}
	if edit != nil {
		edit(m)
	}
	h, err := Sign(m, key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := MarshalKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return h, public
}

func TestAHeadIsReadAsItWasSignedAndNotOtherwise(t *testing.T) {
	h, public := signed(t, nil)
	b := h.Bytes()
	got, err := ParseHead(b, []Key{public})
	if err != nil || got.ID() != h.ID() || got.Version != "1.2.3" || len(got.Kernel.Chunks) != 2 || !bytes.Equal(got.Bytes(), b) {
		t.Fatalf("%+v %v", got, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := ParseHead(bad, []Key{public}); err == nil {
			t.Fatalf("a head with another byte %d is good", i)
		}
	}
	for n := range b {
		if _, err := ParseHead(b[:n], []Key{public}); err == nil {
			t.Fatalf("%d bytes of a head are good", n)
		}
	}
	if _, err := ParseHead(append(bytes.Clone(b), 0), []Key{public}); !errors.Is(err, ErrBundle) {
		t.Errorf("a byte more: %v", err)
	}
	_, other := signedBy(t, "other", nil)
	if _, err := ParseHead(b, []Key{other}); !errors.Is(err, ErrSignature) {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := ParseHead(b, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("nobody: %v", err)
	}
	again, err := ParseKey(public.String())
	if err != nil || again.ID() != public.ID() {
		t.Errorf("%v", err)
	}
}

func TestVersionsAreInTheirOrder(t *testing.T) {
	order := []string{"0.9", "1.0.0-rc1", "1.0.0", "v1.0.0-3-gabc1234", "v1.0.0-12-gabc1234", "1.0.1", "1.2", "1.10.0"}
	for i, a := range order {
		for j, b := range order {
			n, ok := CompareVersions(a, b)
			if !ok || n != min(1, max(-1, i-j)) {
				t.Errorf("%s and %s: %d %v", a, b, n, ok)
			}
		}
	}
	for _, bad := range []string{"", "dev", "1.2.3.4", "abc1234", "1..2"} {
		if _, ok := CompareVersions(bad, "1.0.0"); ok {
			t.Errorf("%q is a version", bad)
		}
	}
}

// A release and the one after the next do not understand each other; each understands its neighbours.
func TestTwoNeighbouringReleasesReadEachOthersData(t *testing.T) {
	one := []Format{{Name: "log", Min: 1, Max: 1, Writes: 1}}
	two := []Format{{Name: "log", Min: 1, Max: 2, Writes: 1}}
	three := []Format{{Name: "log", Min: 1, Max: 2, Writes: 2}}
	for _, ok := range [][2][]Format{{one, two}, {two, one}, {two, three}, {three, two}, {one, one}} {
		if err := CheckFormats("old", ok[0], "new", ok[1]); err != nil {
			t.Error(err)
		}
	}
	for _, no := range [][2][]Format{{one, three}, {three, one}, {one, nil}} {
		if err := CheckFormats("old", no[0], "new", no[1]); !errors.Is(err, ErrUnfit) {
			t.Errorf("%v after %v: %v", no[1], no[0], err)
		}
	}
	links := func(low, high uint32) []Format {
		return []Format{{Name: "links", Min: low, Max: high, Writes: low, Agreed: true}}
	}
	if err := CheckFormats("old", links(1, 3), "new", links(2, 4)); err != nil {
		t.Error(err)
	}
	if err := CheckFormats("old", links(1, 3), "new", links(4, 5)); !errors.Is(err, ErrUnfit) {
		t.Error(err)
	}
}

func FuzzPeek(f *testing.F) {
	h, public := signed(f, nil)
	f.Add(h.Bytes())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := Peek(b); err == nil && x.check() != nil {
			t.Fatal("a head that is good is not")
		}
		if x, err := ParseHead(b, []Key{public}); err == nil && x.ID() != h.ID() {
			t.Fatal("a head that nobody signed")
		}
	})
}
