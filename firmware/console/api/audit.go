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

// ErrAudit says that what should be an audit log or its heads is not.
var ErrAudit = errors.New("api: not an audit log")

const (
	// auditLineMax bounds a line: a record in base64, or a head with its marks and signatures.
	auditLineMax = 256 << 10
	// auditLogMax and auditHeadsMax bound what is read into memory.
	auditLogMax   = 1 << 30
	auditHeadsMax = 1 << 20
)

// AuditLog is the first line of /api/v1/audit/log: whose log follows, the place of its first record, and the tree before that
// (audit.PeaksOf). Each further line is a record as it was hashed, in base64.
type AuditLog struct {
	Box    coord.BoxID    `json:"box"`
	First  int64          `json:"first"`
	Before []coord.Digest `json:"before"`
}

// ReadAuditLog reads what /api/v1/audit/log answers. Nothing in it is checked but its form. The error is ErrAudit or the reader's.
func ReadAuditLog(r io.Reader) (*audit.Log, error) {
	lines := newLines(r)
	var head AuditLog
	if more, err := lines.next(&head); err != nil {
		return nil, err
	} else if !more {
		return nil, fmt.Errorf("%w: it is empty", ErrAudit)
	}
	before, err := audit.PeaksOf(head.First, head.Before)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAudit, err)
	}
	l := &audit.Log{Box: head.Box, First: head.First, Before: before}
	for size := 0; ; {
		var rec []byte
		more, err := lines.next(&rec)
		if err != nil || !more {
			return l, err
		}
		if size += len(rec); size > auditLogMax {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrAudit, auditLogMax)
		}
		l.Records = append(l.Records, rec)
	}
}

// ReadAuditHeads reads what /api/v1/audit/heads answers. Nothing in it is checked but its form. The error is ErrAudit or the reader's.
func ReadAuditHeads(r io.Reader) (heads []audit.SignedHead, err error) {
	lines := newLines(r)
	for {
		var h audit.SignedHead
		more, err := lines.next(&h)
		if err != nil || !more {
			return heads, err
		}
		if len(h.Sigs) > coord.MembersMax || len(h.Marks) > audit.HeadRecordsMax*audit.MarkBytes || len(heads) >= auditHeadsMax {
			return nil, fmt.Errorf("%w: too many heads, marks or signatures", ErrAudit)
		}
		heads = append(heads, h)
	}
}

// lines reads JSON, a value a line.
type lines struct{ s *bufio.Scanner }

func newLines(r io.Reader) *lines {
	s := bufio.NewScanner(r)
	s.Buffer(nil, auditLineMax)
	return &lines{s}
}

func (l *lines) next(into any) (more bool, err error) {
	if !l.s.Scan() {
		if err := l.s.Err(); errors.Is(err, bufio.ErrTooLong) {
			return false, fmt.Errorf("%w: %w", ErrAudit, err)
		} else if err != nil {
			return false, err
		}
		return false, nil
	}
	if err := json.Unmarshal(l.s.Bytes(), into); err != nil {
		return false, fmt.Errorf("%w: %w", ErrAudit, err)
	}
	return true, nil
}
