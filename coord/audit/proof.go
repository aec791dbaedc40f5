package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-edge/holdfast/coord"
)

// proofBytesMax bounds a proof's text: a record of escaped characters, 64 hashes, a head with marks, signatures.
const proofBytesMax = 6*RecordBytesMax + 2*HeadBytesMax + 16<<10

// ErrProof says that a proof does not show what it says.
var ErrProof = errors.New("audit: proves nothing")

// Proof shows that a record is in a box's log at a place, to whoever has the members' keys; it is a file of JSON.
type Proof struct {
	Entry
	// Path leads from the record to the head's root (RFC 6962, 2.1.1).
	Path []coord.Digest `json:"path"`
	Head SignedHead     `json:"head"`
}

// Check says whether the proof holds. The errors are ErrProof, ErrUnproven and ErrRecord.
func (p *Proof) Check(m *coord.Members, verify Verifier) error {
	if err := p.Record.Check(); err != nil {
		return err
	}
	if p.Box != p.Head.Box {
		return fmt.Errorf("%w: a record of box %v and a head of %v", ErrProof, p.Box, p.Head.Box)
	}
	if err := p.Head.Check(m, verify); err != nil {
		return err
	}
	leaf := tlog.RecordHash(p.Append(nil))
	if err := tlog.CheckRecord(hashes(p.Path), p.Head.Size, tlog.Hash(p.Head.Root), p.Index, leaf); err != nil {
		return fmt.Errorf("%w: the record is not number %d of the log that was signed: %w", ErrProof, p.Index, err)
	}
	return nil
}

// ReadProof reads a proof as JSON, within bounds. Nothing in it is checked but its form. The error is ErrProof or the reader's.
func ReadProof(r io.Reader) (*Proof, error) {
	b, err := io.ReadAll(io.LimitReader(r, proofBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(b) > proofBytesMax {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrProof, proofBytesMax)
	}
	p := new(Proof)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	if len(p.Path) > pathMax || len(p.Head.Marks) > HeadRecordsMax*MarkBytes || len(p.Head.Sigs) > coord.MembersMax {
		return nil, fmt.Errorf("%w: too many hashes or signatures", ErrProof)
	}
	return p, nil
}
