package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// TokenID names a token: 8 random bytes. It is not secret.
type TokenID [8]byte

// String is 16 lower-case hexadecimal digits.
func (t TokenID) String() string { return hex.EncodeToString(t[:]) }

// MarshalText makes JSON show a TokenID as its String.
func (t TokenID) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what String wrote.
func (t *TokenID) UnmarshalText(b []byte) error {
	v, err := unhex(string(b), len(t))
	if err != nil {
		return fmt.Errorf("%w: id %w", ErrToken, err)
	}
	copy(t[:], v)
	return nil
}

// secretBytes is 128 bits: what a P-256 key is worth, and as much as nobody guesses with the public key at hand.
const secretBytes = 16

// tokenBytes is the length of a token, which has one form only:
//
//	HF1 <64 hex: SiteHash> :: <16 hex: id> : <32 hex: secret>
const (
	tokenPrefix = "HF1"
	tokenBytes  = len(tokenPrefix) + 64 + 2 + 16 + 1 + 2*secretBytes
)

// Token is what an operator carries to a new box. Whoever has its text can bring one box into the site, once, until it expires.
type Token struct {
	// Site is the SiteHash of the member set of the epoch in which the token was made.
	Site coord.Digest
	ID   TokenID

	secret [secretBytes]byte
}

// NewToken makes a token from random bytes. Errors: of random.
func NewToken(site coord.Digest, random io.Reader) (*Token, error) {
	t := &Token{Site: site}
	for _, b := range [][]byte{t.ID[:], t.secret[:]} {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, fmt.Errorf("join: new token: %w", err)
		}
	}
	return t, nil
}

// Text is the token as it is carried, the secret included.
func (t *Token) Text() string {
	return tokenPrefix + t.Site.String() + "::" + t.ID.String() + ":" + hex.EncodeToString(t.secret[:])
}

// String is the token without its secret, so that a log that is handed one by mistake keeps it.
func (t *Token) String() string {
	return tokenPrefix + t.Site.Short() + "...::" + t.ID.String() + ":..."
}

// GoString is String, for %#v.
func (t *Token) GoString() string { return t.String() }

// ParseToken reads what Text wrote and nothing else; white space around it is no part of it. Errors: ErrToken, which never
// shows what was read: it may hold most of a secret.
func ParseToken(text string) (*Token, error) {
	if len(text) > 2*tokenBytes { // before it is looked through
		return nil, fmt.Errorf("%w: longer than %d characters", ErrToken, tokenBytes)
	}
	text = strings.TrimSpace(text)
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrToken, tokenPrefix)
	}
	if len(text) != tokenBytes {
		return nil, fmt.Errorf("%w: %d characters, a whole one has %d", ErrToken, len(text), tokenBytes)
	}
	site, rest, ok := strings.Cut(rest, "::")
	id, secret, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return nil, fmt.Errorf("%w: it is not site::id:secret", ErrToken)
	}
	t := new(Token)
	for _, f := range []struct {
		what, text string
		to         []byte
	}{{"site", site, t.Site[:]}, {"id", id, t.ID[:]}, {"secret", secret, t.secret[:]}} {
		v, err := unhex(f.text, len(f.to))
		if err != nil {
			return nil, fmt.Errorf("%w: its %s %w", ErrToken, f.what, err)
		}
		copy(f.to, v)
	}
	return t, nil
}

// unhex reads n bytes of lower-case hexadecimal digits.
func unhex(text string, n int) ([]byte, error) {
	if len(text) != 2*n || strings.ToLower(text) != text {
		return nil, fmt.Errorf("is not %d lower-case hexadecimal digits", 2*n)
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("is not %d lower-case hexadecimal digits", 2*n)
	}
	return b, nil
}

// SiteHash binds who the members of an epoch are: SHA-256("holdfast site 01" || site || epoch || n || for each member in order the
// length of its public key and the key), numbers big-endian of 8 bytes. Names and addresses are no part of it: they prove nothing, and a
// token stays good when one is corrected.
func SiteHash(m *coord.Members) coord.Digest {
	h := sha256.New()
	h.Write([]byte("holdfast site 01"))
	h.Write(m.Site[:])
	number := func(n uint64) { h.Write(binary.BigEndian.AppendUint64(nil, n)) }
	number(m.Epoch)
	number(uint64(len(m.List)))
	for i := range m.List {
		number(uint64(len(m.List[i].Key)))
		h.Write(m.List[i].Key)
	}
	var d coord.Digest
	h.Sum(d[:0])
	return d
}

// Key is the token's key, made of its secret.
type Key struct {
	private *ecdsa.PrivateKey
	public  []byte
}

// scalarBytesLong is 128 bits more than the group order has, so that taking the remainder favours no key (FIPS 186-5, A.2.1).
const scalarBytesLong = 32 + 16

// Key derives the key: HKDF-SHA256 over the secret, with site hash and id as salt, gives 48 bytes; d = those mod (n-1), plus 1.
func (t *Token) Key() (*Key, error) {
	salt := append(append([]byte{}, t.Site[:]...), t.ID[:]...)
	long, err := hkdf.Key(sha256.New, t.secret[:], salt, "holdfast join p256 1", scalarBytesLong)
	if err != nil {
		return nil, fmt.Errorf("join: derive key: %w", err)
	}
	one := big.NewInt(1)
	less := new(big.Int).Sub(elliptic.P256().Params().N, one)
	d := new(big.Int).SetBytes(long)
	d.Mod(d, less).Add(d, one)
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, 32)))
	if err != nil {
		return nil, fmt.Errorf("join: derive key: %w", err)
	}
	public, err := trust.PublicOf(private)
	if err != nil {
		return nil, fmt.Errorf("join: derive key: %w", err)
	}
	return &Key{private, public}, nil
}

// PublicKey is the public half, PKIX DER: what the site keeps of a token. The caller owns the copy.
func (k *Key) PublicKey() []byte { return append([]byte(nil), k.public...) }
