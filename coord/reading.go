package coord

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Limits of a proven read.
const (
	// NonceBytesMin and NonceBytesMax bound the client's nonce: enough to be never repeated, and small.
	NonceBytesMin = 8
	NonceBytesMax = 64
	// proofBytesMax bounds a ReadProof's text: a key and a value in base64, and signatures.
	proofBytesMax = 2*(KeyBytesMax+ValueBytesMax) + 64<<10
)

// ErrProof says that a proof of a read proves nothing.
var ErrProof = errors.New("coord: no proof")

// Reading is what a box says that a key was at one place in the order, to a client that named a nonce.
type Reading struct {
	Key   []byte `json:"key"`
	Nonce []byte `json:"nonce"`
	// Height is the block in which the question was ordered, Revision the store's there.
	Height   uint64 `json:"height"`
	Revision uint64 `json:"revision"`
	Found    bool   `json:"found"`
	// The rest is zero when the key was not there.
	Value          []byte `json:"value,omitempty"`
	CreateRevision uint64 `json:"create_revision,omitempty"`
	ModRevision    uint64 `json:"mod_revision,omitempty"`
	Version        uint64 `json:"version,omitempty"`
	Lease          int64  `json:"lease,omitempty"`
}

// Digest is what boxes sign: SHA-256 of "holdfast read 01" || site || epoch || height || revision || found || create || mod || version ||
// lease || length and bytes of key, nonce and value; numbers are 8 bytes, big-endian.
func (r *Reading) Digest(site SiteID, epoch uint64) Digest {
	h := sha256.New()
	b := append([]byte("holdfast read 01"), site[:]...)
	found := uint64(0)
	if r.Found {
		found = 1
	}
	for _, v := range [...]uint64{epoch, r.Height, r.Revision, found, r.CreateRevision, r.ModRevision, r.Version, uint64(r.Lease)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for _, v := range [...][]byte{r.Key, r.Nonce, r.Value} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(v)))
		h.Write(b)
		h.Write(v)
		b = b[:0]
	}
	var d Digest
	h.Sum(d[:0])
	return d
}

// ReadVote is one box's signature over a Reading's digest, on its way to the box that asks.
type ReadVote struct {
	Digest Digest
	Sig    Signature
}

// ReadProof is a Reading with the signatures of a quorum: at least f+1 honest boxes had this at that place in the order, and
// as the nonce was new the place is after the question.
type ReadProof struct {
	Site    SiteID    `json:"site"`
	Epoch   uint64    `json:"epoch"`
	Reading Reading   `json:"reading"`
	Sigs    []ReadSig `json:"signatures"`
}

// ReadSig is one member's signature in a ReadProof.
type ReadSig struct {
	Voter uint8     `json:"voter"`
	Sig   Signature `json:"signature"`
}

// ReadReadProof reads a proof as JSON, within bounds. Error: ErrProof.
func ReadReadProof(r io.Reader) (*ReadProof, error) {
	b, err := io.ReadAll(io.LimitReader(r, proofBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(b) > proofBytesMax {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrProof, proofBytesMax)
	}
	p := new(ReadProof)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return p, nil
}
