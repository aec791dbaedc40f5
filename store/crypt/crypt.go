// Package crypt encrypts what a box keeps on its disk. Package store hands it values and log records and writes what comes back;
// the key of the data comes from a Ring, a file that holds it wrapped by a passphrase or by the machine's TPM.
//
// Keys. The data key is 32 random bytes that never leave memory in clear; whoever changes the passphrase wraps the same key again, and no
// data is written anew. From it come a key for each file and each log segment (HKDF-SHA256, RFC 5869), so that nothing
// decrypts in another place than it was written for.
//
// Nonces. 96 bits: 80 random ones and a counter of 16, drawn anew every 65,536 records and at every start, so that nothing on the disk
// has to be remembered: a power cut, a torn write that is written again, or a directory that was put back from a copy cannot make one
// repeat. After 2^40 records of one key the chance that two draws ever met is 2^-33 (n^2/2^81 of n = 2^24 draws); NIST SP
// 800-38D (8.3) asks for less than 2^-32.
package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Errors of this package.
var (
	// ErrOpen says that sealed bytes are not what was sealed, in this place and with this key.
	ErrOpen = errors.New("does not decrypt")
	// ErrPassphrase says that the passphrase is not the one that the key was wrapped with.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrRing says that the file with the wrapped key cannot be read.
	ErrRing = errors.New("file of the wrapped key is damaged")
	// ErrKind says that the key is wrapped otherwise than the configuration says.
	ErrKind = errors.New("the key is wrapped in another way")
)

// Cipher names an authenticated cipher.
type Cipher string

const (
	// AES is fast where the processor has instructions for it, and slow and not of constant time where it does not, such as on a
	// Raspberry Pi 4.
	AES Cipher = "aes-256-gcm"
	// ChaCha is fast without them.
	ChaCha Cipher = "chacha20-poly1305"
)

const (
	keyBytes   = 32
	nonceBytes = 12
	tagBytes   = 16
	// Overhead is how much longer sealed bytes are.
	Overhead = nonceBytes + tagBytes
	// CheckBytes is the size of Key.Check.
	CheckBytes = 16
)

func (c Cipher) new(key []byte) (cipher.AEAD, error) {
	switch c {
	case AES:
		b, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(b)
	case ChaCha:
		return chacha20poly1305.New(key)
	}
	return nil, fmt.Errorf("cipher %q: %w", c, ErrRing)
}

const (
	trialBytes = 4 << 10               // about a page of history
	trialTime  = 20 * time.Millisecond // of each cipher
)

// Fastest is the cipher that seals more on this machine, and the bytes that each seals in a second.
func Fastest() (best Cipher, rates map[Cipher]float64) {
	rates = map[Cipher]float64{}
	for _, c := range []Cipher{AES, ChaCha} {
		k := NewKey(c)
		e := k.Envelope("trial")
		plain, out := make([]byte, trialBytes), make([]byte, 0, trialBytes+Overhead)
		n, began := 0, time.Now()
		for time.Since(began) < trialTime {
			out = e.Seal(out[:0], plain, nil)
			n += trialBytes
		}
		rates[c] = float64(n) / time.Since(began).Seconds()
	}
	best = AES
	if rates[ChaCha] > rates[AES] {
		best = ChaCha
	}
	return best, rates
}

// Key is the key of a directory's data. It is immutable.
type Key struct {
	secret [keyBytes]byte
	cipher Cipher
}

// NewKey makes one.
func NewKey(c Cipher) *Key {
	k := &Key{cipher: c}
	_, _ = rand.Read(k.secret[:]) // never fails (crypto/rand)
	return k
}

// Cipher is what the key is used with.
func (k *Key) Cipher() Cipher { return k.cipher }

// Check names the key without telling anything of it: a file that has it tells a wrong key from damage.
func (k *Key) Check() (c [CheckBytes]byte) {
	copy(c[:], k.derive("holdfast key check 1", CheckBytes))
	return c
}

func (k *Key) derive(info string, n int) []byte {
	out, err := hkdf.Key(sha256.New, k.secret[:], nil, info, n)
	if err != nil {
		panic(fmt.Sprintf("crypt: derive: %v", err)) // only a length beyond 8,160 bytes does that
	}
	return out
}

// Envelope is the key for one purpose: what is sealed by one opens only by one of the same key and purpose.
func (k *Key) Envelope(purpose string) *Envelope {
	aead, err := k.cipher.new(k.derive("holdfast "+string(k.cipher)+" "+purpose, keyBytes))
	if err != nil {
		panic(fmt.Sprintf("crypt: %v", err)) // the cipher was checked when the key was made or read
	}
	return &Envelope{aead: aead}
}

// Envelope seals and opens. It may be used by many goroutines.
//
//	sealed  0   nonce       10 random bytes, then a counter, u16
//	        12  ciphertext  as long as what was sealed
//	            tag         16 bytes
type Envelope struct {
	aead cipher.AEAD

	mu    sync.Mutex // guards what follows
	drawn bool
	next  [nonceBytes]byte
}

// nonce gives one that was never used with this key.
func (e *Envelope) nonce() [nonceBytes]byte {
	const counter = nonceBytes - 2
	e.mu.Lock()
	defer e.mu.Unlock()
	n := binary.BigEndian.Uint16(e.next[counter:]) + 1
	if !e.drawn || n == 0 {
		_, _ = rand.Read(e.next[:counter]) // never fails (crypto/rand)
		e.drawn, n = true, 0
	}
	binary.BigEndian.PutUint16(e.next[counter:], n)
	return e.next
}

// Seal appends plain, encrypted, to dst. place is authenticated with it: Open must be given the same.
func (e *Envelope) Seal(dst, plain, place []byte) []byte {
	n := e.nonce()
	return e.aead.Seal(append(dst, n[:]...), n[:], plain, place)
}

// SealBehind encrypts the end of b from at on where it lies: b[at:] begins with NonceRoom bytes of room, then plain.
// It gives b with the tag behind.
func (e *Envelope) SealBehind(b []byte, at int, place []byte) []byte {
	n := e.nonce()
	copy(b[at:], n[:])
	plain := b[at+nonceBytes:]
	sealed := e.aead.Seal(plain[:0], n[:], plain, place) // in place when b has room for the tag, else a copy
	return append(b[:at+nonceBytes], sealed...)
}

// NonceRoom is the room that SealBehind wants.
const NonceRoom = nonceBytes

// Open appends what was sealed to dst. Error: ErrOpen, bare.
func (e *Envelope) Open(dst, sealed, place []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, fmt.Errorf("%d bytes: %w", len(sealed), ErrOpen)
	}
	out, err := e.aead.Open(dst, sealed[:nonceBytes], sealed[nonceBytes:], place)
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}
