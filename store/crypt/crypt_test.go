package crypt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-edge/holdfast/store/crypt"
)

var ciphers = []crypt.Cipher{crypt.AES, crypt.ChaCha}

var pass = []byte("correct horse battery")

func must[T any](tb testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func TestWhatIsSealedOpensInItsPlaceOnly(t *testing.T) {
	for _, c := range ciphers {
		k := crypt.NewKey(c)
		e := k.Envelope("base")
		for _, plain := range [][]byte{nil, {0}, []byte("some value"), make([]byte, 70_000)} {
			sealed := e.Seal([]byte("head"), plain, []byte("place"))
			if len(sealed) != 4+len(plain)+crypt.Overhead {
				t.Fatalf("%s: %d bytes become %d", c, len(plain), len(sealed))
			}
			got, err := k.Envelope("base").Open([]byte("x"), sealed[4:], []byte("place"))
			if err != nil || !bytes.Equal(got[1:], plain) {
				t.Fatalf("%s: %d bytes come back as %d: %v", c, len(plain), len(got), err)
			}
			for name, open := range map[string]func() ([]byte, error){
				"another place":   func() ([]byte, error) { return e.Open(nil, sealed[4:], []byte("palce")) },
				"another purpose": func() ([]byte, error) { return k.Envelope("audit").Open(nil, sealed[4:], []byte("place")) },
				"another key":     func() ([]byte, error) { return crypt.NewKey(c).Envelope("base").Open(nil, sealed[4:], []byte("place")) },
				"cut":             func() ([]byte, error) { return e.Open(nil, sealed[4:len(sealed)-1], []byte("place")) },
				"nothing":         func() ([]byte, error) { return e.Open(nil, nil, []byte("place")) },
			} {
				if _, err := open(); !errors.Is(err, crypt.ErrOpen) {
					t.Errorf("%s: %s: %v", c, name, err)
				}
			}
		}
	}
}

func TestABufferIsSealedWhereItLies(t *testing.T) {
	e := crypt.NewKey(crypt.AES).Envelope("log")
	for _, room := range []int{0, 100} {
		plain := []byte("a record of the log")
		b := append(make([]byte, 0, 3+crypt.NonceRoom+len(plain)+room), 1, 2, 3)
		b = append(append(b, make([]byte, crypt.NonceRoom)...), plain...)
		b = e.SealBehind(b, 3, []byte("9"))
		if !bytes.Equal(b[:3], []byte{1, 2, 3}) {
			t.Fatal("what stood before was changed")
		}
		if got := must[[]byte](t)(e.Open(nil, b[3:], []byte("9"))); !bytes.Equal(got, plain) {
			t.Fatalf("%q", got)
		}
	}
}

// The counter wraps after 65,536: more than that many records, of envelopes of many starts, never share a nonce.
func TestNoNonceComesTwice(t *testing.T) {
	seen := map[[12]byte]bool{}
	k := crypt.NewKey(crypt.ChaCha)
	for start := range 3 {
		e := k.Envelope("base")
		for range 70_000 {
			n := [12]byte(e.Seal(nil, nil, nil))
			if seen[n] {
				t.Fatalf("%x comes again, start %d", n, start)
			}
			seen[n] = true
		}
	}
}

func TestAPassphraseWrapsTheKeyAndAnotherDoesNotOpenIt(t *testing.T) {
	k := crypt.NewKey(crypt.AES)
	r := must[*crypt.Ring](t)(k.WithPassphrase(pass))
	data := must[[]byte](t)(r.Encode())
	r = must[*crypt.Ring](t)(crypt.DecodeRing(data))
	if got := must[*crypt.Key](t)(r.OpenPassphrase(pass)); got.Check() != k.Check() || got.Cipher() != crypt.AES {
		t.Error("another key comes back")
	}
	for _, wrong := range []string{"", "correct horse batterz", "correct horse battery "} {
		if _, err := r.OpenPassphrase([]byte(wrong)); !errors.Is(err, crypt.ErrPassphrase) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := r.OpenTPM(nil); !errors.Is(err, crypt.ErrKind) {
		t.Error(err)
	}
	// Changing the passphrase keeps the key, and the old one is of no use for the new ring.
	again := must[*crypt.Ring](t)(k.WithPassphrase([]byte("another passphrase")))
	if !bytes.Equal(again.Check, r.Check) {
		t.Error("the key changed")
	}
	if _, err := again.OpenPassphrase(pass); !errors.Is(err, crypt.ErrPassphrase) {
		t.Error(err)
	}
	for _, bad := range [][]byte{[]byte("short"), bytes.Repeat([]byte{'a'}, 2000)} {
		if _, err := k.WithPassphrase(bad); err == nil {
			t.Errorf("a passphrase of %d bytes is taken", len(bad))
		}
	}
}

// Each field of the ring is bound to the key: a changed one opens nothing.
func TestAChangedRingOpensNothing(t *testing.T) {
	r := must[*crypt.Ring](t)(crypt.NewKey(crypt.AES).WithPassphrase(pass))
	for name, change := range map[string]func(r *crypt.Ring){
		"cipher":  func(r *crypt.Ring) { r.Cipher = crypt.ChaCha },
		"check":   func(r *crypt.Ring) { r.Check[0] ^= 1 },
		"salt":    func(r *crypt.Ring) { r.Argon2id.Salt[0] ^= 1 },
		"time":    func(r *crypt.Ring) { r.Argon2id.Time-- },
		"wrapped": func(r *crypt.Ring) { r.Wrapped[20] ^= 1 },
	} {
		c := must[*crypt.Ring](t)(crypt.DecodeRing(must[[]byte](t)(r.Encode())))
		change(c)
		if _, err := c.OpenPassphrase(pass); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
}

func TestARingThatAsksForTooMuchIsRefused(t *testing.T) {
	for name, change := range map[string]func(r *crypt.Ring){
		"memory": func(r *crypt.Ring) { r.Argon2id.MemoryKiB = 1 << 30 },
		"time":   func(r *crypt.Ring) { r.Argon2id.Time = 1 << 20 },
		"weak":   func(r *crypt.Ring) { r.Argon2id.MemoryKiB = 8 },
		"format": func(r *crypt.Ring) { r.Format = 2 },
		"cipher": func(r *crypt.Ring) { r.Cipher = "rot13" },
		"kind":   func(r *crypt.Ring) { r.Kind = "off" },
		"key":    func(r *crypt.Ring) { r.Wrapped = r.Wrapped[1:] },
		"argon":  func(r *crypt.Ring) { r.Argon2id = nil },
	} {
		r := must[*crypt.Ring](t)(crypt.NewKey(crypt.AES).WithPassphrase(pass))
		change(r)
		if _, err := crypt.DecodeRing(must[[]byte](t)(r.Encode())); !errors.Is(err, crypt.ErrRing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRing(f *testing.F) {
	r := &crypt.Ring{
		Format: 1, Cipher: crypt.AES, Check: make([]byte, crypt.CheckBytes), Kind: crypt.ByPassphrase,
		Argon2id: &crypt.Argon2id{Time: 1, MemoryKiB: 8 << 10, Threads: 1, Salt: make([]byte, 16)}, Wrapped: make([]byte, 60),
	}
	f.Add(must[[]byte](f)(r.Encode()))
	r.Kind, r.Argon2id = crypt.ByTPM, nil
	f.Add(must[[]byte](f)(r.Encode()))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := crypt.DecodeRing(data)
		if err != nil {
			return
		}
		again, err := crypt.DecodeRing(must[[]byte](t)(r.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(r)
		if b, _ := json.Marshal(again); !bytes.Equal(a, b) {
			t.Fatalf("%s becomes %s", a, b)
		}
		if r.Kind == crypt.ByPassphrase && r.Argon2id.Time == 1 && r.Argon2id.MemoryKiB == 8<<10 {
			if _, err := r.OpenPassphrase(pass); err == nil {
				t.Fatal("it opens")
			}
		}
	})
}

// Whatever is sealed by others, opening it ends, and what opens was sealed here.
func FuzzOpen(f *testing.F) {
	e := crypt.NewKey(crypt.AES).Envelope("base")
	good := e.Seal(nil, []byte("value"), []byte("place"))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := e.Open(nil, data, []byte("place")); err == nil && !bytes.Equal(data, good) {
			t.Fatalf("%x opens as %q", data, got)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, c := range ciphers {
		for _, n := range []int{100, 4 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d", c, n), func(b *testing.B) {
				e := crypt.NewKey(c).Envelope("base")
				plain, out := make([]byte, n), make([]byte, 0, n+crypt.Overhead)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					out = e.Seal(out[:0], plain, plain[:10])
				}
			})
		}
	}
}

func BenchmarkPassphrase(b *testing.B) {
	r := must[*crypt.Ring](b)(crypt.NewKey(crypt.AES).WithPassphrase(pass))
	for b.Loop() {
		must[*crypt.Key](b)(r.OpenPassphrase(pass))
	}
}
