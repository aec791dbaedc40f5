package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
)

// ErrKey says that bytes are not a P-256 public key in its one encoding.
var ErrKey = errors.New("not a P-256 public key")

// SignDigest signs a digest that says by itself what it is of: whoever makes it begins what is hashed with words that nothing else
// that a box signs begins with.
func (id *Identity) SignDigest(d coord.Digest) coord.Signature { return id.mustSign(d[:]) }

// SignWith is SignDigest for a key that is not a box's. Errors: ErrKey, for a key of another curve.
func SignWith(key *ecdsa.PrivateKey, d coord.Digest) (coord.Signature, error) {
	if key.Curve != elliptic.P256() {
		return coord.Signature{}, fmt.Errorf("trust: sign: %w", ErrKey)
	}
	return sign(key, d[:])
}

// PublicOf is the public key of key, PKIX DER. Errors: ErrKey.
func PublicOf(key *ecdsa.PrivateKey) ([]byte, error) {
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("trust: public key: %w", ErrKey)
	}
	return x509.MarshalPKIXPublicKey(&key.PublicKey)
}

// CheckKey says whether public is a P-256 key in PKIX DER, in the one encoding that a name is made from. Errors: ErrKey.
func CheckKey(public []byte) error {
	if _, err := parsePublicKey(public); err != nil {
		return fmt.Errorf("trust: %w: %w", ErrKey, err)
	}
	return nil
}

// VerifyDigest says whether the owner of public (PKIX DER) signed d. A key that is none has signed nothing.
func VerifyDigest(public []byte, d coord.Digest, sig *coord.Signature) bool {
	key, err := parsePublicKey(public)
	return err == nil && verify(key, d[:], sig)
}
