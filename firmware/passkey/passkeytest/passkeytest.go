// Package passkeytest is an authenticator as a program, with the part of a browser that speaks to it: it makes ES256 credentials and signs with
// them what WebAuthn has signed, so that tests need no browser. What it does can be bent, field by field.
package passkeytest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"
)

// Flags of authenticator data (WebAuthn, 6.1).
const (
	Present  = 0x01
	Verified = 0x04
	Copies   = 0x08 // backup eligible
	attested = 0x40
)

// Authenticator has one credential, once it was made.
type Authenticator struct {
	Flags byte
	// Count is the counter; it grows with each use if it is not 0.
	Count uint32
	// Format is that of the attestation.
	Format string

	id, user []byte
	domain   string
	key      *ecdsa.PrivateKey
}

// New is an authenticator that asks for a finger, and counts. Its credential has the number's key and id, whenever it is made: a fuzzer's
// processes must agree on them.
func New(number byte) *Authenticator {
	a := &Authenticator{Flags: Present | Verified, Count: 1, Format: "none", id: bytes.Repeat([]byte{number}, 16)}
	var err error
	if a.key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{number + 1}, 32)); err != nil {
		panic(err) // 0xff: beyond the order of the curve
	}
	return a
}

// ID is that of the credential.
func (a *Authenticator) ID() []byte { return a.id }

type options struct {
	Challenge string `json:"challenge"`
	RP        struct {
		ID string `json:"id"`
	} `json:"rp"`
	RPID string `json:"rpId"`
	User struct {
		ID string `json:"id"`
	} `json:"user"`
}

func read(t testing.TB, from any) *options {
	t.Helper()
	b, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	o := new(options)
	if err := json.Unmarshal(b, o); err != nil {
		t.Fatal(err)
	}
	return o
}

// Create makes the credential that options ask for at a page of origin, and gives what the browser sends.
func (a *Authenticator) Create(t testing.TB, from any, origin string) []byte {
	t.Helper()
	o := read(t, from)
	a.domain = o.RP.ID
	var err error
	if a.user, err = base64.RawURLEncoding.DecodeString(o.User.ID); err != nil {
		t.Fatal(err)
	}
	point, err := a.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	data := a.data(attested)
	data = append(data, make([]byte, 16)...) // AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(a.id)))
	data = append(data, a.id...)
	// COSE_Key: {1: 2 (EC2), 3: -7 (ES256), -1: 1 (P-256), -2: x, -3: y}
	data = append(data, 0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 32)
	data = append(data, point[1:33]...)
	data = append(data, 0x22, 0x58, 32)
	data = append(data, point[33:]...)
	object := append([]byte{0xa3}, text("fmt")...)
	object = append(object, text(a.Format)...)
	object = append(object, text("attStmt")...)
	object = append(object, 0xa0)
	object = append(object, text("authData")...)
	object = append(object, 0x59, byte(len(data)>>8), byte(len(data)))
	object = append(object, data...)
	return a.answer(t, map[string]any{"clientDataJSON": b64(client(t, "webauthn.create", o.Challenge, origin)), "attestationObject": b64(object)})
}

// Get signs in as options ask for at a page of origin, and gives what the browser sends.
func (a *Authenticator) Get(t testing.TB, from any, origin string) []byte {
	t.Helper()
	o := read(t, from)
	if a.Count > 0 {
		a.Count++
	}
	data, c := a.data(0), client(t, "webauthn.get", o.Challenge, origin)
	sum := sha256.Sum256(c)
	signed := sha256.Sum256(append(append([]byte{}, data...), sum[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, signed[:])
	if err != nil {
		t.Fatal(err)
	}
	return a.answer(t, map[string]any{"clientDataJSON": b64(c), "authenticatorData": b64(data), "signature": b64(sig), "userHandle": b64(a.user)})
}

func (a *Authenticator) data(more byte) []byte {
	sum := sha256.Sum256([]byte(a.domain))
	return binary.BigEndian.AppendUint32(append(sum[:], a.Flags|more), a.Count)
}

func client(t testing.TB, kind, challenge, origin string) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (a *Authenticator) answer(t testing.TB, response map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// text is a CBOR text of less than 24 bytes (RFC 8949, 3.1).
func text(s string) []byte { return append([]byte{0x60 | byte(len(s))}, s...) }
