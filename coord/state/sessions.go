package state

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// session is one client's numbering: which of its messages took effect, and how the
// last of them ended.
type session struct {
	id     uint64
	name   []byte
	opened uint64 // height
	used   uint64 // height of its newest message
	seen   seqSet
	// acks is a ring: once it is full, acks[next] is the oldest.
	acks  []ack
	next  int
	dirty bool
	// heapUsed is used as the table's heap has it: never later than used.
	heapUsed uint64
}

// ack is the outcome of a put or delete.
type ack struct {
	seq   uint64
	rev   uint64
	found bool
}

func (s *session) remember(a ack) {
	if len(s.acks) < sessionAcksMax {
		s.acks = append(s.acks, a)
		return
	}
	s.acks[s.next] = a
	s.next = (s.next + 1) % sessionAcksMax
}

// recall is the outcome of message seq, zero when it is forgotten.
func (s *session) recall(seq uint64) ack {
	for i := range s.acks {
		if s.acks[i].seq == seq {
			return s.acks[i]
		}
	}
	return ack{}
}

// oldestFirst calls fn for each outcome in the order in which they were remembered.
func (s *session) oldestFirst(fn func(ack)) {
	for i := range s.acks {
		fn(s.acks[(s.next+i)%len(s.acks)])
	}
}

// sessionTable holds all sessions, and gives up the least recently used one (the lower
// id of two used at the same height) when there are too many.
//
// The order for that is a heap in which an entry's place is corrected only when it comes
// to the top: used only grows, so the top entry is the true least as soon as its place
// is correct, and using a session costs nothing.
type sessionTable struct {
	m     map[uint64]*session
	heap  []*session
	dirty []*session
	// dropped lists ids that must be removed from storage.
	dropped []uint64
}

func newSessionTable() sessionTable { return sessionTable{m: map[uint64]*session{}} }

// open gives session id, new if there was none.
func (t *sessionTable) open(id uint64, name []byte, height uint64) (s *session, existed bool) {
	if s = t.m[id]; s != nil {
		t.touch(s, height)
		return s, true
	}
	if len(t.m) >= SessionsMax {
		t.evict()
	}
	s = &session{id: id, opened: height, name: slices.Clone(name[:min(len(name), sessionNameBytesMax)])}
	t.touch(s, height)
	t.restore(s)
	return s, false
}

// restore adds a session that is not there.
func (t *sessionTable) restore(s *session) {
	s.heapUsed = s.used
	t.m[s.id] = s
	t.heap = append(t.heap, s)
	for i := len(t.heap) - 1; i > 0; {
		p := (i - 1) / 2
		if !idler(t.heap[i], t.heap[p]) {
			break
		}
		t.heap[i], t.heap[p] = t.heap[p], t.heap[i]
		i = p
	}
}

// touch says that s changes at height.
func (t *sessionTable) touch(s *session, height uint64) {
	s.used = height
	if !s.dirty {
		s.dirty = true
		t.dirty = append(t.dirty, s)
	}
}

func (t *sessionTable) evict() {
	for t.heap[0].heapUsed != t.heap[0].used {
		t.heap[0].heapUsed = t.heap[0].used
		t.down()
	}
	s := t.heap[0]
	last := len(t.heap) - 1
	t.heap[0], t.heap[last] = t.heap[last], nil
	t.heap = t.heap[:last]
	t.down()
	delete(t.m, s.id)
	t.dropped = append(t.dropped, s.id)
}

func (t *sessionTable) down() {
	for i := 0; ; {
		c := 2*i + 1
		if c >= len(t.heap) {
			return
		}
		if c+1 < len(t.heap) && idler(t.heap[c+1], t.heap[c]) {
			c++
		}
		if !idler(t.heap[c], t.heap[i]) {
			return
		}
		t.heap[i], t.heap[c] = t.heap[c], t.heap[i]
		i = c
	}
}

func idler(a, b *session) bool {
	return a.heapUsed < b.heapUsed || a.heapUsed == b.heapUsed && a.id < b.id
}

// take appends what changed since the last take, by ascending id.
func (t *sessionTable) take(out []coord.Change) []coord.Change {
	ids := t.dropped
	for _, s := range t.dirty {
		s.dirty = false
		ids = append(ids, s.id)
	}
	t.dirty, t.dropped = t.dirty[:0], nil
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		ch := coord.Change{Space: coord.SpaceSessions, Key: key64(id)}
		if s := t.m[id]; s != nil {
			ch.Value = appendSession(nil, s)
		}
		out = append(out, ch)
	}
	return out
}

// SessionView is what is known of one client session.
type SessionView struct {
	ID uint64
	// Name is what its client called itself, cut to 64 bytes.
	Name string
	// Opened and Used are the heights of its first and its newest message.
	Opened, Used uint64
	// Floor: all of its messages up to this number took effect.
	Floor uint64
}

func (t *sessionTable) view() []SessionView {
	out := make([]SessionView, 0, len(t.m))
	for s := range maps.Values(t.m) {
		out = append(out, SessionView{s.id, string(s.name), s.opened, s.used, s.seen.floor})
	}
	slices.SortFunc(out, func(a, b SessionView) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// key64 is how a number is stored as a key: 8 bytes, big-endian, so that the order of
// keys is the order of numbers.
func key64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
