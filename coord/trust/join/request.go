package join

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// RequestBytesMax bounds an encoded request: names and addresses at their longest.
const RequestBytesMax = 1536

// Bounds of the texts of a request, as coord/trust has them for members. keyBytesMax is the size of a P-256 key in PKIX DER.
const (
	nameBytesMax    = 64
	addressBytesMax = 253 + 6
	keyBytesMax     = 91
)

// Request is a box's wish to be a member. It is signed by the token's key, which says that the site invited it, and by the box's own,
// which says that whoever asks has that key.
type Request struct {
	Site     coord.SiteID
	SiteHash coord.Digest // the token's
	Token    TokenID
	// Box is the entry in the member list; its ID is that of its key.
	Box coord.Member
	// Seconds is the site's clock as the box that was asked told it. Other boxes compare it with theirs.
	Seconds uint64
	// WallMs is the new box's own clock, Unix milliseconds: for people who must decide, no more. A new box boots in 1970.
	WallMs uint64
	Nonce  [16]byte

	TokenSig coord.Signature
	BoxSig   coord.Signature
}

// Append appends the encoding; a length and a number are uvarints, all else is as long as is written here:
//
//	1 | site 8 | site hash 32 | token id 8 | name, key, peer, client, native, console: length and bytes each |
//	seconds | wall ms | nonce 16 | token's signature 64 | box's signature 64
func (r *Request) Append(dst []byte) []byte {
	dst = r.appendBody(dst)
	dst = append(dst, r.TokenSig[:]...)
	return append(dst, r.BoxSig[:]...)
}

func (r *Request) appendBody(dst []byte) []byte {
	dst = append(dst, 1)
	dst = append(dst, r.Site[:]...)
	dst = append(dst, r.SiteHash[:]...)
	dst = append(dst, r.Token[:]...)
	for _, s := range []string{r.Box.Name, string(r.Box.Key), r.Box.Peer, r.Box.Client, r.Box.Native, r.Box.Console} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	dst = binary.AppendUvarint(dst, r.Seconds)
	dst = binary.AppendUvarint(dst, r.WallMs)
	return append(dst, r.Nonce[:]...)
}

// Digest is what both keys sign and what names the request: SHA-256("holdfast join r1" || encoding up to the signatures).
func (r *Request) Digest() coord.Digest {
	return sha256.Sum256(r.appendBody([]byte("holdfast join r1")))
}

// Signer is the new box's identity (coord/trust.Identity is one).
type Signer interface {
	SignDigest(d coord.Digest) coord.Signature
	PublicKey() []byte
}

// Sign makes r the request of the box whose key box is, with the token t: it sets what follows from them and the signatures. Everything
// else is set before. Errors: ErrMalformed, for texts beyond the limits.
func (r *Request) Sign(t *Token, box Signer) error {
	key, err := t.Key()
	if err != nil {
		return err
	}
	r.SiteHash, r.Token = t.Site, t.ID
	r.Box.Key = box.PublicKey()
	r.Box.ID, r.Box.VotesFrom = coord.BoxIDOf(r.Box.Key), 0
	d := r.Digest()
	if r.TokenSig, err = trust.SignWith(key.private, d); err != nil {
		return fmt.Errorf("join: sign: %w", err)
	}
	r.BoxSig = box.SignDigest(d)
	_, err = DecodeRequest(r.Append(nil))
	return err
}

// DecodeRequest reads what Append wrote, and nothing else. The result shares no memory with b. It judges form only: see
// Request.Check. Errors: ErrMalformed.
func DecodeRequest(b []byte) (*Request, error) {
	if len(b) > RequestBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	r, d := new(Request), reader{b: b}
	if f := d.take(1); len(f) != 1 || f[0] != 1 {
		return nil, fmt.Errorf("%w: unknown format", ErrMalformed)
	}
	copy(r.Site[:], d.take(8))
	copy(r.SiteHash[:], d.take(32))
	copy(r.Token[:], d.take(8))
	r.Box.Name = string(d.text(nameBytesMax))
	r.Box.Key = bytes.Clone(d.text(keyBytesMax))
	for _, s := range []*string{&r.Box.Peer, &r.Box.Client, &r.Box.Native, &r.Box.Console} {
		*s = string(d.text(addressBytesMax))
	}
	r.Seconds, r.WallMs = d.number(), d.number()
	copy(r.Nonce[:], d.take(16))
	copy(r.TokenSig[:], d.take(64))
	copy(r.BoxSig[:], d.take(64))
	if d.bad || len(d.b) > 0 {
		return nil, fmt.Errorf("%w: it is cut, or something follows it", ErrMalformed)
	}
	if err := trust.CheckKey(r.Box.Key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r.Box.ID = coord.BoxIDOf(r.Box.Key)
	if err := trust.CheckMembers(&coord.Members{Site: coord.SiteID{1}, Epoch: 1, List: []coord.Member{r.Box}}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return r, nil
}

// reader reads fields and remembers whether one was not there.
type reader struct {
	b   []byte
	bad bool
}

// take is the next n bytes, or nil.
func (d *reader) take(n int) []byte {
	if n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	s := d.b[:n]
	d.b = d.b[n:]
	return s
}

func (d *reader) number() uint64 {
	n, w := binary.Uvarint(d.b)
	if w <= 0 || w > 1 && d.b[w-1] == 0 { // one encoding of a number
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[w:]
	return n
}

func (d *reader) text(most uint64) []byte {
	n := d.number()
	if n > most {
		d.bad, d.b = true, nil
		return nil
	}
	return d.take(int(n))
}
