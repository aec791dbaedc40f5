package coord

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrID says that a text is not a box's or site's name.
var ErrID = errors.New("coord: not 16 hexadecimal digits")

// BoxID names one box for as long as it has its key: the first 8 bytes of SHA-256 over
// its public key in PKIX DER form.
type BoxID [8]byte

// BoxIDOf derives a box's name from its public key (PKIX DER).
func BoxIDOf(publicKeyDER []byte) BoxID {
	h := sha256.Sum256(publicKeyDER)
	return BoxID(h[:8])
}

// String is 16 lower-case hexadecimal digits.
func (b BoxID) String() string { return hex.EncodeToString(b[:]) }

// MarshalText makes JSON and TOML show a BoxID as its String.
func (b BoxID) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads what String wrote.
func (b *BoxID) UnmarshalText(t []byte) error {
	v, err := parse8(t)
	if err == nil {
		*b = v
	}
	return err
}

// SiteID names a site: 8 random bytes chosen when it is founded. Everything signed
// carries it, so that nothing said in one site means anything in another.
type SiteID [8]byte

// String is 16 lower-case hexadecimal digits.
func (s SiteID) String() string { return hex.EncodeToString(s[:]) }

// MarshalText makes JSON and TOML show a SiteID as its String.
func (s SiteID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what String wrote.
func (s *SiteID) UnmarshalText(t []byte) error {
	v, err := parse8(t)
	if err == nil {
		*s = v
	}
	return err
}

func parse8(t []byte) (v [8]byte, err error) {
	if len(t) != 16 {
		return v, fmt.Errorf("%w: %q", ErrID, t)
	}
	if _, err := hex.Decode(v[:], t); err != nil {
		return v, fmt.Errorf("%w: %q", ErrID, t)
	}
	return v, nil
}

// Digest is a SHA-256.
type Digest [32]byte

// String is 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short is the first 8 digits, for logs and tables.
func (d Digest) Short() string { return hex.EncodeToString(d[:4]) }

// MarshalText makes JSON show a Digest as its String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Signature is ECDSA over P-256 as r || s, 32 bytes each, big-endian (IEEE P1363).
type Signature [64]byte

// MarshalText makes JSON show a Signature in hexadecimal.
func (s Signature) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s[:])), nil }

// Member is one box of a site as the others know it. Its place in Members.List is its index.
type Member struct {
	ID   BoxID  `json:"id"`
	Name string `json:"name"`
	// Key is the public key, PKIX DER.
	Key []byte `json:"key"`
	// Addresses, host:port. Peer is for other boxes, Client for the etcd API, Native for
	// the native stream, Console for the HTTP console.
	Peer    string `json:"peer"`
	Client  string `json:"client"`
	Native  string `json:"native"`
	Console string `json:"console"`
	// VotesFrom, when not 0, is the first round in which the box votes: it took the place of one whose disk is lost.
	VotesFrom uint64 `json:"votes_from,omitempty"`
}

// Members is the member set of one epoch.
type Members struct {
	Site  SiteID   `json:"site"`
	Epoch uint64   `json:"epoch"`
	List  []Member `json:"members"`
}

// N is the number of boxes.
func (m *Members) N() int { return len(m.List) }

// Index is the place of a box in the list, or -1.
func (m *Members) Index(id BoxID) int {
	for i := range m.List {
		if m.List[i].ID == id {
			return i
		}
	}
	return -1
}

// MaxFaulty is f = floor((n-1)/3), how many of n boxes may lie.
func MaxFaulty(n int) int { return (n - 1) / 3 }

// Quorum is n - f.
func Quorum(n int) int { return n - MaxFaulty(n) }
