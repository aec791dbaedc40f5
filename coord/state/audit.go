package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// auditTable has the last head of each box's audit log that took effect. There are no more of them than authors of batches.
type auditTable struct {
	m     map[coord.BoxID]*auditTop
	dirty []*auditTop
}

type auditTop struct {
	audit.Top
	box   coord.BoxID
	dirty bool
}

func newAuditTable() auditTable { return auditTable{m: map[coord.BoxID]*auditTop{}} }

// auditHead judges a head that a box orders about its own log, and has it signed when it follows the box's last one. A head that
// contradicts that is remembered for TakeAccused: the batch that it came in has the box's signature.
func (m *Machine) auditHead(value []byte) coord.Code {
	h, err := audit.DecodeHead(value)
	if err != nil || h.Box != m.author {
		return coord.CodeBad
	}
	if len(m.asked) >= provesMax {
		return coord.CodeBusy
	}
	t := m.audits.m[h.Box]
	if t == nil {
		t = &auditTop{box: h.Box}
	}
	if err := h.Extends(t.Top); err != nil {
		if errors.Is(err, audit.ErrShortened) || errors.Is(err, audit.ErrRewritten) {
			m.accused = append(m.accused, Accused{Box: h.Box, Height: m.meta.height, Err: err})
		}
		return coord.CodeBad
	}
	t.Top = audit.Top{Size: h.Size, Root: h.Root}
	m.audits.m[h.Box] = t
	if !t.dirty {
		t.dirty = true
		m.audits.dirty = append(m.audits.dirty, t)
	}
	m.asked = append(m.asked, Asked{Author: h.Box, Reading: coord.Reading{Height: m.meta.height}, Head: h})
	return coord.CodeOK
}

// Accused is a box whose audit log is not what it said before, by a head that it ordered at Height: Err is audit.ErrShortened or
// audit.ErrRewritten.
type Accused struct {
	Box    coord.BoxID
	Height uint64
	Err    error
}

// TakeAccused gives whom heads accused since the last call.
func (m *Machine) TakeAccused() []Accused {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accused
	m.accused = nil
	return a
}

// AuditTop is the last head of a box that took effect.
func (m *Machine) AuditTop(id coord.BoxID) audit.Top {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if t := m.audits.m[id]; t != nil {
		return t.Top
	}
	return audit.Top{}
}

// take appends what changed since the last take, by ascending id.
func (t *auditTable) take(out []coord.Change) []coord.Change {
	slices.SortFunc(t.dirty, func(a, b *auditTop) int { return bytes.Compare(a.box[:], b.box[:]) })
	for _, x := range t.dirty {
		x.dirty = false
		out = append(out, coord.Change{Space: coord.SpaceAudit, Key: bytes.Clone(x.box[:]), Value: appendAuditTop(nil, x)})
	}
	t.dirty = t.dirty[:0]
	return out
}

func appendAuditTop(b []byte, t *auditTop) []byte {
	return append(binary.AppendUvarint(append(b, format), uint64(t.Size)), t.Root[:]...)
}

func decodeAuditTop(b []byte) (*auditTop, error) {
	r := newReader(b)
	t := &auditTop{}
	t.Size = int64(r.uvarint())
	r.check(t.Size > 0 && len(r.b) >= len(t.Root))
	copy(t.Root[:], r.bytes(len(t.Root)))
	return t, r.end("audit")
}

func (m *Machine) loadAudit(k, v []byte) error {
	if len(k) != len(coord.BoxID{}) || len(m.audits.m) >= boxesMax {
		return ErrDamaged
	}
	t, err := decodeAuditTop(v)
	if err != nil {
		return err
	}
	t.box = coord.BoxID(k)
	m.audits.m[t.box] = t
	return nil
}
