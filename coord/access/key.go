package access

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/holdfast-edge/holdfast/coord"
)

// PublicKey is a P-256 public key as tokens carry it: a compressed point (SEC 1, 2.3.3).
type PublicKey [33]byte

// String is 66 hexadecimal digits.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// MarshalText makes JSON show a key as its String.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what String wrote. The error is ErrMalformed.
func (k *PublicKey) UnmarshalText(t []byte) error {
	b, err := hex.DecodeString(string(t))
	if err != nil || len(b) != len(k) {
		return fmt.Errorf("%w: a public key is %d hexadecimal digits", ErrMalformed, 2*len(k))
	}
	copy(k[:], b)
	_, err = k.parse()
	return err
}

// PublicKeyOf is the public half of key. The error says that it is not on P-256.
func PublicKeyOf(key *ecdsa.PublicKey) (k PublicKey, err error) {
	b, err := key.Bytes() // 4, x, y
	if err != nil || key.Curve != elliptic.P256() {
		return k, fmt.Errorf("%w: a key that is not on P-256", ErrMalformed)
	}
	k[0] = 2 | b[64]&1
	copy(k[1:], b[1:33])
	return k, nil
}

func (k *PublicKey) parse() (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), k[:])
	if x == nil {
		return nil, fmt.Errorf("%w: a key that is no point of P-256", ErrMalformed)
	}
	var b [65]byte
	b[0] = 4
	x.FillBytes(b[1:33])
	y.FillBytes(b[33:])
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b[:])
}

// parseKey reads a P-256 key in PKIX DER, in its one encoding.
func parseKey(der []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("not a key on P-256")
	}
	if again, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(again, der) {
		return nil, errors.New("not the canonical encoding of its key")
	}
	return key, nil
}

// Signer signs digests with a P-256 key: a PrivateKey does.
type Signer interface {
	SignDigest(d coord.Digest) (coord.Signature, error)
}

// PrivateKey is a P-256 key that signs.
type PrivateKey struct {
	key    *ecdsa.PrivateKey
	public PublicKey
}

// NewPrivateKey wraps a key. The error says that it is on another curve.
func NewPrivateKey(key *ecdsa.PrivateKey) (*PrivateKey, error) {
	public, err := PublicKeyOf(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{key, public}, nil
}

// Public is the public half.
func (k *PrivateKey) Public() PublicKey { return k.public }

// SignDigest signs with RFC 6979: no randomness is needed.
func (k *PrivateKey) SignDigest(d coord.Digest) (sig coord.Signature, err error) {
	der, err := k.key.Sign(nil, d[:], crypto.SHA256)
	if err != nil {
		return sig, err
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return sig, err
	}
	rs.R.FillBytes(sig[:32])
	rs.S.FillBytes(sig[32:])
	return sig, nil
}

// verify judges a signature over a digest.
func verify(key *ecdsa.PublicKey, d coord.Digest, sig *coord.Signature) bool {
	var buf [72]byte
	der := append(buf[:0], 0x30, 0)
	der = appendInteger(der, sig[:32])
	der = appendInteger(der, sig[32:])
	der[1] = byte(len(der) - 2)
	return ecdsa.VerifyASN1(key, d[:], der)
}

// appendInteger appends a DER INTEGER (X.690, 8.3).
func appendInteger(dst, v []byte) []byte {
	for len(v) > 1 && v[0] == 0 {
		v = v[1:]
	}
	if v[0]&0x80 != 0 {
		dst = append(dst, 0x02, byte(len(v)+1), 0)
	} else {
		dst = append(dst, 0x02, byte(len(v)))
	}
	return append(dst, v...)
}

// digestOf hashes a word that says what is signed, and the rest.
func digestOf(word string, parts ...[]byte) coord.Digest {
	h := sha256.New()
	h.Write([]byte(word))
	for _, p := range parts {
		h.Write(p)
	}
	var d coord.Digest
	h.Sum(d[:0])
	return d
}

// OperatorDoc is what rules need of the document operator/NAME; firmware/operators knows the rest.
type OperatorDoc struct {
	Name     string `json:"name"`
	Key      []byte `json:"key"` // PKIX DER
	Disabled bool   `json:"disabled"`

	key *ecdsa.PublicKey
}

// operatorBytesMax bounds an operator's document: a sealed key and some passkeys.
const operatorBytesMax = 16 << 10

// ReadOperator reads operator/NAME. The error is ErrPrincipal.
func ReadOperator(name string, value []byte) (*OperatorDoc, error) {
	o := new(OperatorDoc)
	if len(value) > operatorBytesMax {
		return nil, fmt.Errorf("%w: %s%s: %d bytes where %d can be", ErrPrincipal, DocOperator, name, len(value), operatorBytesMax)
	}
	if err := json.Unmarshal(value, o); err != nil {
		return nil, fmt.Errorf("%w: %s%s: %w", ErrPrincipal, DocOperator, name, err)
	}
	who := Operator + ":" + name
	if err := CheckPrincipal(who); err != nil {
		return nil, err
	}
	if o.Name != name || who == Root || who == Guest {
		return nil, fmt.Errorf("%w: %s%s is named %.40q; %s and %s are nobody's", ErrPrincipal, DocOperator, name, o.Name, Root, Guest)
	}
	var err error
	if o.key, err = parseKey(o.Key); err != nil {
		return nil, fmt.Errorf("%w: %s%s: key: %w", ErrPrincipal, DocOperator, name, err)
	}
	return o, nil
}
