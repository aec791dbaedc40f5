package crypt

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// Kind is how a data key is wrapped.
type Kind string

const (
	// ByPassphrase needs somebody, or a file on another medium, at each start.
	ByPassphrase Kind = "passphrase"
	// ByTPM opens on the machine that wrapped it, by itself.
	ByTPM Kind = "tpm"
)

const (
	ringFormat = 1
	// RingBytesMax bounds an encoded ring: about 700 bytes are used.
	RingBytesMax = 8 << 10
	saltBytes    = 16
	// The cost of a guess: the second recommendation of RFC 9106 (4), for machines without much memory.
	argonTime, argonMemoryKiB, argonThreads = 3, 64 << 10, 4
	// Bounds of what a file may ask for: it must not take the memory of the box.
	argonTimeMax, argonMemoryKiBMax, argonMemoryKiBMin, argonThreadsMax = 16, 256 << 10, 8 << 10, 16
	// PassphraseBytesMin and PassphraseBytesMax bound a passphrase. Eight is what a guesser with the disk needs years for
	// only when they are random: docs/encryption.md says how long it should be.
	PassphraseBytesMin, PassphraseBytesMax = 8, 1 << 10
)

// Sealer keeps secrets so that only this machine reads them again.
type Sealer interface {
	Seal(secret []byte) (sealed []byte, err error)
	Unseal(sealed []byte) (secret []byte, err error)
}

// Ring is a wrapped data key, as it lies in the directory. It is not secret, and the directory is lost without it.
type Ring struct {
	Format int    `json:"format"`
	Cipher Cipher `json:"cipher"`
	// Check is Key.Check of the key that is wrapped.
	Check []byte `json:"check"`
	Kind  Kind   `json:"kind"`
	// Argon2id says how a passphrase becomes the key that wraps; only there for ByPassphrase.
	Argon2id *Argon2id `json:"argon2id,omitempty"`
	// Wrapped is nonce, ciphertext and tag of ChaCha20-Poly1305, or what the TPM gave.
	Wrapped []byte `json:"wrapped"`
}

// Argon2id are the parameters of RFC 9106.
type Argon2id struct {
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
	Salt      []byte `json:"salt"`
}

func (a *Argon2id) key(passphrase []byte) []byte {
	return argon2.IDKey(passphrase, a.Salt, a.Time, a.MemoryKiB, a.Threads, keyBytes)
}

// place is what the wrapping authenticates beside the key.
func (r *Ring) place() []byte {
	return append([]byte("holdfast data key 1 "+string(r.Cipher)+" "), r.Check...)
}

func (k *Key) ring(kind Kind) *Ring {
	check := k.Check()
	return &Ring{Format: ringFormat, Cipher: k.cipher, Check: check[:], Kind: kind}
}

// WithPassphrase wraps the key. It takes 64 MiB and a moment, which is the point. Errors: a passphrase that is too short or too long.
func (k *Key) WithPassphrase(passphrase []byte) (*Ring, error) {
	if n := len(passphrase); n < PassphraseBytesMin || n > PassphraseBytesMax {
		return nil, fmt.Errorf("crypt: a passphrase has %d to %d bytes, this one %d", PassphraseBytesMin, PassphraseBytesMax, n)
	}
	r := k.ring(ByPassphrase)
	r.Argon2id = &Argon2id{Time: argonTime, MemoryKiB: argonMemoryKiB, Threads: argonThreads, Salt: make([]byte, saltBytes)}
	nonce := make([]byte, nonceBytes)
	_, _ = rand.Read(r.Argon2id.Salt) // never fails (crypto/rand)
	_, _ = rand.Read(nonce)
	aead, err := chacha20poly1305.New(r.Argon2id.key(passphrase))
	if err != nil {
		return nil, fmt.Errorf("crypt: wrap: %w", err)
	}
	r.Wrapped = aead.Seal(nonce, nonce, k.secret[:], r.place())
	return r, nil
}

// WithTPM wraps the key. Errors: those of the TPM.
func (k *Key) WithTPM(chip Sealer) (*Ring, error) {
	r := k.ring(ByTPM)
	var err error
	if r.Wrapped, err = chip.Seal(k.secret[:]); err != nil {
		return nil, fmt.Errorf("crypt: wrap: %w", err)
	}
	if _, err := r.OpenTPM(chip); err != nil { // a key that does not come back is data that is lost
		return nil, fmt.Errorf("crypt: wrap: %w", err)
	}
	return r, nil
}

// OpenPassphrase gives the key. Errors: ErrPassphrase, ErrKind, ErrRing.
func (r *Ring) OpenPassphrase(passphrase []byte) (*Key, error) {
	if r.Kind != ByPassphrase {
		return nil, fmt.Errorf("crypt: %w: by %s", ErrKind, r.Kind)
	}
	if len(passphrase) == 0 || len(passphrase) > PassphraseBytesMax {
		return nil, fmt.Errorf("crypt: %w: it has %d bytes", ErrPassphrase, len(passphrase))
	}
	aead, err := chacha20poly1305.New(r.Argon2id.key(passphrase))
	if err != nil {
		return nil, fmt.Errorf("crypt: unwrap: %w", err)
	}
	secret, err := aead.Open(nil, r.Wrapped[:nonceBytes], r.Wrapped[nonceBytes:], r.place())
	if err != nil {
		return nil, fmt.Errorf("crypt: %w", ErrPassphrase)
	}
	return r.key(secret)
}

// OpenTPM gives the key. Errors: ErrKind, ErrRing, those of the TPM.
func (r *Ring) OpenTPM(chip Sealer) (*Key, error) {
	if r.Kind != ByTPM {
		return nil, fmt.Errorf("crypt: %w: by %s", ErrKind, r.Kind)
	}
	secret, err := chip.Unseal(r.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("crypt: unwrap: %w", err)
	}
	return r.key(secret)
}

func (r *Ring) key(secret []byte) (*Key, error) {
	if len(secret) != keyBytes {
		return nil, fmt.Errorf("crypt: %w: a key of %d bytes", ErrRing, len(secret))
	}
	k := &Key{secret: [keyBytes]byte(secret), cipher: r.Cipher}
	if c := k.Check(); subtle.ConstantTimeCompare(c[:], r.Check) != 1 {
		return nil, fmt.Errorf("crypt: %w: it is another key than it says", ErrRing)
	}
	return k, nil
}

// Encode is the ring as a file.
func (r *Ring) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("crypt: encode: %w", err)
	}
	return append(b, '\n'), nil
}

// DecodeRing reads what Encode wrote. Error: ErrRing.
func DecodeRing(data []byte) (*Ring, error) {
	r := new(Ring)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(r)
	if err == nil && d.More() {
		err = errors.New("something follows it")
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return nil, fmt.Errorf("crypt: %w: %w", ErrRing, err)
	}
	return r, nil
}

func (r *Ring) check() error {
	switch {
	case r.Format != ringFormat:
		return fmt.Errorf("format %d is not known", r.Format)
	case r.Cipher != AES && r.Cipher != ChaCha:
		return fmt.Errorf("cipher %q is not known", r.Cipher)
	case len(r.Check) != CheckBytes:
		return fmt.Errorf("a check of %d bytes", len(r.Check))
	case r.Kind == ByTPM && r.Argon2id == nil && len(r.Wrapped) > 0:
		return nil
	case r.Kind != ByPassphrase || r.Argon2id == nil || len(r.Wrapped) != keyBytes+Overhead:
		return fmt.Errorf("no key wrapped by %q", r.Kind)
	}
	a := r.Argon2id
	if a.Time < 1 || a.Time > argonTimeMax || a.MemoryKiB < argonMemoryKiBMin || a.MemoryKiB > argonMemoryKiBMax ||
		a.Threads < 1 || a.Threads > argonThreadsMax || len(a.Salt) != saltBytes {
		return fmt.Errorf("argon2id with time %d, %d KiB, %d threads, a salt of %d bytes", a.Time, a.MemoryKiB, a.Threads, len(a.Salt))
	}
	return nil
}
