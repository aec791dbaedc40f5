package access

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	// ProofWindowMs is how far a proof's time may be from the box's clock, either way.
	ProofWindowMs = 30_000
	proofPrefix   = "hfp1."
	proofVersion  = 1
	proofBytes    = 1 + 16 + 8 + 8 + 16 + 32 + 64
)

// Proof says that who sends it has the key of a token's last holder, now and to one box.
type Proof struct {
	Token TokenID
	// Audience is the box that it is for; zero is any box of the site, for what the site does once whoever is asked.
	Audience coord.BoxID
	TimeMs   uint64 // Unix milliseconds by the holder's clock
	Nonce    [16]byte
	// Binding, if not zero, ties it to a channel (the digest of a TLS exporter, RFC 9266) or to what is asked for.
	Binding coord.Digest

	Sig coord.Signature
}

func (p *Proof) body(dst []byte) []byte {
	dst = append(append(append(dst, proofVersion), p.Token[:]...), p.Audience[:]...)
	dst = binary.BigEndian.AppendUint64(dst, p.TimeMs)
	return append(append(dst, p.Nonce[:]...), p.Binding[:]...)
}

func (p *Proof) digest(site coord.SiteID) coord.Digest {
	return digestOf("holdfast proof1", site[:], p.body(nil))
}

// Sign fills in the token's id and the signature of the holder's key; nil is the one that travels with the token.
// Errors: ErrHolder, or the signer's.
func (p *Proof) Sign(t *Token, by Signer) (err error) {
	if by == nil {
		k := t.Secret()
		if k == nil {
			return fmt.Errorf("%w: its key does not travel with it, so the holder's is needed", ErrHolder)
		}
		by = k
	}
	p.Token = t.ID()
	p.Sig, err = by.SignDigest(p.digest(t.blocks[0].Site))
	return err
}

// String is the proof as text, hfp1. and base64url:
//
//	1 | token id 16 | box 8 | time 8 | nonce 16 | binding 32 | signature 64
func (p *Proof) String() string {
	return proofPrefix + base64.RawURLEncoding.EncodeToString(append(p.body(nil), p.Sig[:]...))
}

// ParseProof reads what String wrote, and nothing else. The error is ErrMalformed.
func ParseProof(s string) (*Proof, error) {
	text, ok := strings.CutPrefix(s, proofPrefix)
	if !ok || base64.RawURLEncoding.DecodedLen(len(text)) != proofBytes || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: a proof is %s and %d bytes", ErrMalformed, proofPrefix, proofBytes)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || b[0] != proofVersion {
		return nil, fmt.Errorf("%w: a proof of another form", ErrMalformed)
	}
	p := new(Proof)
	r := reader{b: b[1:]}
	copy(p.Token[:], r.take(16))
	copy(p.Audience[:], r.take(8))
	p.TimeMs = binary.BigEndian.Uint64(r.take(8))
	copy(p.Nonce[:], r.take(16))
	copy(p.Binding[:], r.take(32))
	copy(p.Sig[:], r.take(64))
	return p, nil
}

// CheckProof says whether who sent p has the token's key, to box me at nowMs (Unix milliseconds), over the channel that binding names (zero: none
// is asked for). A proof is good once: seen remembers it.
// Errors: ErrHolder, ErrSite (for another box), ErrExpired and ErrEarly (not of now), ErrReplayed, ErrBusy.
func (g *Grant) CheckProof(p *Proof, me coord.BoxID, binding coord.Digest, nowMs uint64, seen *Replays) error {
	switch {
	case p.Token != g.token.ID():
		return fmt.Errorf("%w: the proof is for token %v", ErrHolder, p.Token)
	case p.Audience != me && p.Audience != (coord.BoxID{}):
		return fmt.Errorf("%w: the proof is for box %v", ErrSite, p.Audience)
	case p.Binding != binding && binding != (coord.Digest{}):
		return fmt.Errorf("%w: the proof is for another channel", ErrHolder)
	case p.TimeMs+ProofWindowMs < nowMs:
		return fmt.Errorf("%w: the proof is %d ms old; is the clock right?", ErrExpired, nowMs-p.TimeMs)
	case p.TimeMs > nowMs+ProofWindowMs:
		return fmt.Errorf("%w: the proof is of %d ms from now; is the clock right?", ErrEarly, p.TimeMs-nowMs)
	}
	key, err := g.e.Holder.parse()
	if err != nil {
		return err
	}
	if !verify(key, p.digest(g.e.Site), &p.Sig) {
		return fmt.Errorf("%w: the proof is not signed with its key", ErrHolder)
	}
	return seen.take(g.Issuer(), g.token.IDs(), p, nowMs)
}
