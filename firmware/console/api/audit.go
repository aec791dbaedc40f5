package api

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// ErrAudit says that what should be heads of an audit log is not.
var ErrAudit = errors.New("api: not the heads of an audit log")

const (
	// auditLineMax bounds a line: a head with its marks and signatures.
	auditLineMax = 256 << 10
	// AuditLogMax bounds a log that is read into memory, in bytes, auditHeadsMax the heads.
	AuditLogMax   = 1 << 30
	auditHeadsMax = 1 << 20
)

// ReadAuditHeads reads what /api/v1/audit/heads answers. Nothing in it is checked but its form. The error is ErrAudit or the reader's.
func ReadAuditHeads(r io.Reader) (heads []audit.SignedHead, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, auditLineMax)
	for s.Scan() {
		var h audit.SignedHead
		if err := json.Unmarshal(s.Bytes(), &h); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAudit, err)
		}
		if len(h.Sigs) > coord.MembersMax || len(h.Marks) > audit.HeadRecordsMax*audit.MarkBytes || len(heads) >= auditHeadsMax {
			return nil, fmt.Errorf("%w: too many heads, marks or signatures", ErrAudit)
		}
		heads = append(heads, h)
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%w: %w", ErrAudit, err)
	} else if err != nil {
		return nil, err
	}
	return heads, nil
}
