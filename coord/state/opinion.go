package state

import (
	"bytes"
	"maps"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// opinionTable has whom each member suspects, as it said last. Opinions name boxes and not places in the member set, so they stay true
// when that changes; those of boxes that are no members any more are forgotten when a member says something new.
type opinionTable struct {
	m       map[coord.BoxID][]coord.BoxID
	dirty   map[coord.BoxID]struct{}
	changed bool // since the last TakeOpinions
}

func newOpinionTable() opinionTable {
	return opinionTable{m: map[coord.BoxID][]coord.BoxID{}, dirty: map[coord.BoxID]struct{}{}}
}

// Opinion is whom a member suspects.
type Opinion struct {
	Box coord.BoxID
	Of  []coord.BoxID // ascending; immutable
}

// AppendOpinion appends what a box says of whom it suspects: their ids in ascending order, once each, at most coord.MembersMax; none
// takes back what it said before.
func AppendOpinion(dst []byte, of []coord.BoxID) []byte {
	dst = append(dst, format)
	for i := range of {
		dst = append(dst, of[i][:]...)
	}
	return dst
}

// decodeOpinion reads what AppendOpinion wrote; the result shares no memory with b.
func decodeOpinion(b []byte) ([]coord.BoxID, error) {
	const width = len(coord.BoxID{})
	if len(b) == 0 || b[0] != format || (len(b)-1)%width != 0 || (len(b)-1)/width > coord.MembersMax {
		return nil, ErrDamaged
	}
	of := make([]coord.BoxID, 0, len(b)/width)
	for b = b[1:]; len(b) > 0; b = b[width:] {
		id := coord.BoxID(b[:width])
		if n := len(of); n > 0 && bytes.Compare(of[n-1][:], id[:]) >= 0 {
			return nil, ErrDamaged
		}
		of = append(of, id)
	}
	return of, nil
}

// opine takes a member's opinion in place of its last one.
func (m *Machine) opine(value []byte) coord.Code {
	of, err := decodeOpinion(value)
	if err != nil || !m.isMember(m.author) || slices.Contains(of, m.author) {
		return coord.CodeBad
	}
	t := &m.opinions
	for id := range t.m {
		if !m.isMember(id) {
			t.set(id, nil)
		}
	}
	t.set(m.author, of)
	return coord.CodeOK
}

func (t *opinionTable) set(id coord.BoxID, of []coord.BoxID) {
	t.dirty[id], t.changed = struct{}{}, true
	if len(of) == 0 {
		delete(t.m, id)
		return
	}
	t.m[id] = of
}

// Opinions are the members' that suspect somebody, by ascending id.
func (m *Machine) Opinions() []Opinion {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]Opinion, 0, len(m.opinions.m))
	for id, of := range m.opinions.m {
		out = append(out, Opinion{id, of})
	}
	slices.SortFunc(out, func(a, b Opinion) int { return bytes.Compare(a.Box[:], b.Box[:]) })
	return out
}

// TakeOpinions says whether one changed since the last call.
func (m *Machine) TakeOpinions() (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed, m.opinions.changed = m.opinions.changed, false
	return changed
}

// take appends what changed since the last take, by ascending id.
func (t *opinionTable) take(out []coord.Change) []coord.Change {
	ids := slices.SortedFunc(maps.Keys(t.dirty), func(a, b coord.BoxID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		c := coord.Change{Space: coord.SpaceOpinions, Key: bytes.Clone(id[:])}
		if of := t.m[id]; of != nil {
			c.Value = AppendOpinion(nil, of)
		}
		out = append(out, c)
	}
	clear(t.dirty)
	return out
}

func (m *Machine) loadOpinion(k, v []byte) error {
	of, err := decodeOpinion(v)
	if err != nil || len(k) != len(coord.BoxID{}) || len(of) == 0 || len(m.opinions.m) >= boxesMax {
		return ErrDamaged
	}
	m.opinions.m[coord.BoxID(k)] = of
	return nil
}
