package operators

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/passkey"
)

// DocPrefix begins the keys of the documents that hold operators.
const DocPrefix = "operator/"

// PrincipalPrefix begins an operator's name as a principal.
const PrincipalPrefix = "operator:"

// Bounds of an operator's document.
const (
	nameMax     = 32
	documentMax = 16 << 10
	sealedMax   = 512
	// passkeysMax is for a few devices and a spare one.
	passkeysMax = 8
)

// Document is an operator as the site's state holds it, in JSON.
type Document struct {
	Name string `json:"name"`
	// Key is the public key, P-256, PKIX DER.
	Key []byte `json:"key"`
	// Sealed is the private key under the password.
	Sealed  Sealed `json:"sealed"`
	Created int64  `json:"created"` // Unix seconds by the clock of the box that made it, for people
	// Disabled operators cannot log in, and what they signed is not enough any more.
	Disabled bool `json:"disabled,omitempty"`
	// MustChange asks for another password at the next login: somebody else chose this one.
	MustChange bool                 `json:"must_change,omitempty"`
	Passkeys   []passkey.Credential `json:"passkeys,omitempty"`
}

// Sealed is a private key (PKCS #8 DER) under AES-256-GCM, whose key argon2id makes of the password. Box is the nonce and the
// ciphertext; the operator's name and public key are authenticated with it.
type Sealed struct {
	Params
	Salt []byte `json:"salt"`
	Box  []byte `json:"box"`
}

// passkey finds the passkey with an id; nil: there is none.
func (d *Document) passkey(id []byte) *passkey.Credential {
	for i := range d.Passkeys {
		if bytes.Equal(d.Passkeys[i].ID, id) {
			return &d.Passkeys[i]
		}
	}
	return nil
}

// lock is a hash of what opens the operator's key, and of the key: another one is another password, or another key.
func (d *Document) lock() [sha256.Size]byte {
	h := sha256.New()
	for _, part := range [][]byte{d.Key, d.Sealed.Salt, d.Sealed.Box} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Principal is the operator's name as the audit log and policies have it.
func (d *Document) Principal() string { return PrincipalPrefix + d.Name }

// CheckName says whether a name can be an operator's: 1 to 32 of a-z, 0-9, dot, dash and underscore, beginning with a letter.
// Error: ErrName.
func CheckName(name string) error {
	ok := name != "" && len(name) <= nameMax && name[0] >= 'a' && name[0] <= 'z'
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	if !ok || slices.Contains(taken[:], name) {
		return fmt.Errorf("%w: use 1 to %d of a-z, 0-9, dot, dash and underscore, and begin with a letter", ErrName, nameMax)
	}
	return nil
}

// taken are names that mean something else: who shows a token instead of a password (firmware/etcdapi), who stands at the box, who has
// not logged in, and a program that has not (coord/access).
var taken = [...]string{"token", "root", "guest", "anyone"}

// Decode reads a document. Error: ErrDocument.
func Decode(b []byte) (*Document, error) {
	if len(b) > documentMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrDocument, len(b))
	}
	d := new(Document)
	if err := json.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	switch {
	case CheckName(d.Name) != nil:
		return nil, fmt.Errorf("%w: name %.40q", ErrDocument, d.Name)
	case !d.Sealed.ok() || len(d.Sealed.Salt) != saltBytes || len(d.Sealed.Box) > sealedMax:
		return nil, fmt.Errorf("%w: %s: sealed key", ErrDocument, d.Name)
	case len(d.Passkeys) > passkeysMax:
		return nil, fmt.Errorf("%w: %s: %d passkeys", ErrDocument, d.Name, len(d.Passkeys))
	}
	for i := range d.Passkeys {
		if err := d.Passkeys[i].Check(); err != nil {
			return nil, fmt.Errorf("%w: %s: passkey %d: %w", ErrDocument, d.Name, i+1, err)
		}
	}
	if _, err := publicKey(d.Key); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDocument, d.Name, err)
	}
	return d, nil
}

// Encode writes what Decode reads.
func (d *Document) Encode() ([]byte, error) { return json.Marshal(d) }

func publicKey(der []byte) (*ecdsa.PublicKey, error) {
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	p, ok := k.(*ecdsa.PublicKey)
	if !ok || p.Curve != elliptic.P256() {
		return nil, errors.New("not a P-256 key")
	}
	return p, nil
}

// newDocument makes an operator with a new key, not yet sealed.
func newDocument(name string, created int64) (*Document, *ecdsa.PrivateKey, error) {
	if err := CheckName(name); err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("operators: new key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, nil, fmt.Errorf("operators: new key: %w", err)
	}
	return &Document{Name: name, Key: public, Created: created}, key, nil
}

// New makes an operator whose key is sealed with password, on this goroutine: for programs that found a site. Errors: ErrName,
// ErrPassword, or what the system says.
func New(name, password string, created int64) (*Document, error) {
	if err := CheckPassword(name, password); err != nil {
		return nil, err
	}
	d, key, err := newDocument(name, created)
	if err != nil {
		return nil, err
	}
	p, salt := ParamsDefault(), newSalt()
	return d, d.seal(key, newHasher().hash(password, salt, p), salt, p)
}

func newSalt() []byte {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // it never fails (crypto/rand)
	return salt
}

// seal puts key under secret, which argon2id made of the password and salt.
func (d *Document) seal(key *ecdsa.PrivateKey, secret, salt []byte, p Params) error {
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("operators: seal: %w", err)
	}
	defer clear(plain)
	a, err := sealer(secret)
	if err != nil {
		return fmt.Errorf("operators: seal: %w", err)
	}
	nonce := make([]byte, a.NonceSize())
	_, _ = rand.Read(nonce)
	d.Sealed = Sealed{Params: p, Salt: salt, Box: a.Seal(nonce, nonce, plain, d.bound())}
	return nil
}

// unseal gives the private key, or ErrWrong.
func (d *Document) unseal(secret []byte) (*ecdsa.PrivateKey, error) {
	a, err := sealer(secret)
	if err != nil {
		return nil, fmt.Errorf("operators: unseal: %w", err)
	}
	n := a.NonceSize()
	if len(d.Sealed.Box) < n {
		return nil, ErrWrong
	}
	plain, err := a.Open(nil, d.Sealed.Box[:n], d.Sealed.Box[n:], d.bound())
	if err != nil {
		return nil, ErrWrong
	}
	defer clear(plain)
	k, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, ErrWrong
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, ErrWrong
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil || !bytes.Equal(public, d.Key) {
		return nil, ErrWrong
	}
	return key, nil
}

// bound is what a sealed key belongs to: it cannot be moved to another operator.
func (d *Document) bound() []byte {
	return append([]byte("holdfast operator1\x00"+d.Name+"\x00"), d.Key...)
}

func sealer(secret []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}
