package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/holdfast-edge/holdfast/coord"
)

// scalarBytes is the size of r and of s.
const scalarBytes = 32

// derMax is the longest ASN.1 form of a P-256 signature: a sequence of two integers of at most 33 bytes,
// two bytes of tag and length before each.
const derMax = 2 + 2*(2+scalarBytes+1)

// sign makes the deterministic signature of RFC 6979 over a SHA-256.
func sign(key *ecdsa.PrivateKey, digest []byte) (coord.Signature, error) {
	var out coord.Signature
	// A nil source of randomness asks crypto/ecdsa for RFC 6979.
	der, err := key.Sign(nil, digest, crypto.SHA256)
	if err != nil {
		return out, err
	}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) != 0 {
		return out, errors.New("crypto/ecdsa made a signature that is not ASN.1")
	}
	rs.R.FillBytes(out[:scalarBytes])
	rs.S.FillBytes(out[scalarBytes:])
	return out, nil
}

// verify judges a signature over a SHA-256. crypto/ecdsa takes ASN.1 only: it is built in place,
// without math/big and a builder, as ecdsa.Verify would.
func verify(key *ecdsa.PublicKey, digest []byte, sig *coord.Signature) bool {
	var buf [derMax]byte
	der := append(buf[:0], 0x30, 0)
	der = appendInteger(der, sig[:scalarBytes])
	der = appendInteger(der, sig[scalarBytes:])
	der[1] = byte(len(der) - 2)
	return ecdsa.VerifyASN1(key, digest, der)
}

// appendInteger appends a non-negative big-endian number as a DER INTEGER (X.690, 8.3): shortest form,
// with a zero byte in front when the highest bit is set. Zero stays a number: ecdsa refuses it.
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

// parsePublicKey reads a P-256 key in PKIX DER. Exactly one encoding of a key is accepted, because
// a box's name is the hash of it: a second encoding would be a second name.
func parsePublicKey(der []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("a %T that is not on P-256", parsed)
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, der) {
		return nil, errors.New("not the canonical encoding of its key")
	}
	return key, nil
}
