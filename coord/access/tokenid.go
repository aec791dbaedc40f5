package access

import (
	"encoding/hex"
	"fmt"
)

// TokenID names a token: the beginning of the hash of what its last block's signature is over. It is no hash of a signature: a second
// valid signature over the same block is the same token.
type TokenID [16]byte

// String is 32 hexadecimal digits.
func (id TokenID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes JSON show an id as its String.
func (id TokenID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what String wrote.
func (id *TokenID) UnmarshalText(t []byte) error {
	v, err := ParseTokenID(string(t))
	if err == nil {
		*id = v
	}
	return err
}

// ParseTokenID reads what String wrote. The error is ErrMalformed.
func ParseTokenID(s string) (id TokenID, err error) {
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("%w: a token's id is %d hexadecimal digits", ErrMalformed, 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("%w: a token's id is %d hexadecimal digits", ErrMalformed, 2*len(id))
	}
	return id, nil
}
