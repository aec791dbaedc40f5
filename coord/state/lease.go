package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// The site's clock counts seconds, while there are leases, open decisions or documents that end. A box orders a tick when by its own monotonic time a second has
// passed since it applied the last one; f+1 boxes must say so. So at least one honest box has seen each second pass:
// f liars cannot make leases expire early, and as n-f honest boxes tick without them, they cannot keep them
// from expiring. When the site cannot order, its clock stands still, and no lease expires.

// TickSeconds is what a tick of the site's clock stands for.
const TickSeconds = 1

// leaseTTLMin is the shortest lease in seconds: etcd's with its default election time-out.
const leaseTTLMin = 2

// lease is one lease; its keys are in SpaceLeaseKeys.
type lease struct {
	id      int64
	ttl     int64  // seconds, as granted
	expires uint64 // of the site's clock: the first second in which it is over
	dirty   bool
}

type leaseTable struct {
	m       map[int64]*lease
	dirty   []*lease
	dropped []int64
}

func newLeaseTable() leaseTable { return leaseTable{m: map[int64]*lease{}} }

func (t *leaseTable) touch(l *lease) {
	if !l.dirty {
		l.dirty = true
		t.dirty = append(t.dirty, l)
	}
}

func (t *leaseTable) drop(l *lease) {
	delete(t.m, l.id)
	t.dropped = append(t.dropped, l.id)
}

// take appends what changed since the last take, by ascending id.
func (t *leaseTable) take(out []coord.Change) []coord.Change {
	ids := t.dropped
	for _, l := range t.dirty {
		l.dirty = false
		ids = append(ids, l.id)
	}
	t.dirty, t.dropped = t.dirty[:0], nil
	slices.SortFunc(ids, func(a, b int64) int { return bytes.Compare(key64(uint64(a)), key64(uint64(b))) })
	for _, id := range slices.Compact(ids) {
		ch := coord.Change{Space: coord.SpaceLeases, Key: key64(uint64(id))}
		if l := t.m[id]; l != nil {
			ch.Value = appendLease(nil, l)
		}
		out = append(out, ch)
	}
	return out
}

func appendLease(b []byte, l *lease) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(append(b, format), uint64(l.ttl)), l.expires)
}

func decodeLease(b []byte) (*lease, error) {
	r := newReader(b)
	l := &lease{ttl: int64(r.uvarint()), expires: r.uvarint()}
	r.check(l.ttl >= leaseTTLMin && l.ttl <= kv.LeaseTTLMax)
	return l, r.end("lease")
}

func (m *Machine) loadLease(k, v []byte) error {
	if len(k) != 8 || len(m.leases.m) >= kv.LeasesMax {
		return ErrDamaged
	}
	l, err := decodeLease(v)
	if err != nil {
		return err
	}
	l.id = int64(binary.BigEndian.Uint64(k))
	m.leases.m[l.id] = l
	return nil
}

// leaseStateBytes is what a lease counts for in StateBytes.
const leaseStateBytes = 32

func leaseKey(id int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(key)), uint64(id)), key...)
}

func (m *Machine) attach(key []byte, id int64) {
	if id != 0 {
		m.leaseKeys.set(string(leaseKey(id, key)), attached, false)
		m.meta.histBytes += uint64(8 + len(key) + len(attached))
	}
}

// attached is the value in SpaceLeaseKeys.
var attached = []byte{format}

func (m *Machine) detach(key []byte, id int64) {
	if id != 0 {
		m.leaseKeys.set(string(leaseKey(id, key)), nil, true)
		m.meta.histBytes -= uint64(8 + len(key) + len(attached))
	}
}

// keysOf gives the keys of a lease, ascending.
func (m *Machine) keysOf(id int64) (keys [][]byte, err error) {
	end := leaseKey(id+1, nil)
	if id == -1 { // the last in the order of keys
		end = nil
	}
	err = m.walk(coord.SpaceLeaseKeys, &m.leaseKeys, leaseKey(id, nil), end, func(k, _ []byte, _ bool) bool {
		keys = append(keys, bytes.Clone(k[8:]))
		return true
	})
	return keys, err
}

// leaseOp applies a lease's message.
func (m *Machine) leaseOp(value []byte) (coord.Code, *kv.Answer) {
	action, id, ttl, err := kv.DecodeLease(value)
	a := &kv.Answer{LeaseID: id, Err: err, Revision: m.meta.revision}
	if err != nil {
		return coord.CodeBad, a
	}
	l := m.leases.m[id]
	switch {
	case action == kv.LeaseGrant && l != nil:
		a.Err = kv.ErrLeaseExists
	case action == kv.LeaseGrant && len(m.leases.m) >= kv.LeasesMax:
		a.Err = kv.ErrTooManyLeases
	case action == kv.LeaseGrant:
		l = &lease{id: id, ttl: max(ttl, leaseTTLMin)}
		m.leases.m[id] = l
		m.renew(l)
		a.TTL = l.ttl
	case action == kv.LeaseKeepAlive && l != nil:
		m.renew(l)
		a.TTL = l.ttl
	case action == kv.LeaseRevoke && l == nil:
		a.Err = kv.ErrLeaseNotFound
	case action == kv.LeaseRevoke:
		m.revoke(l)
		a.Revision = m.meta.revision
	}
	return coord.CodeOK, a
}

// renew lets a lease last its whole time from now on: the second that runs may be nearly over, hence one more.
func (m *Machine) renew(l *lease) {
	l.expires = m.meta.clock + uint64(l.ttl)/TickSeconds + 1
	m.leases.touch(l)
}

// revoke ends a lease: its keys go in one revision.
func (m *Machine) revoke(l *lease) {
	keys, err := m.keysOf(l.id)
	if err != nil {
		m.fail(err)
		return
	}
	for _, k := range keys {
		m.remove(k)
	}
	m.leases.drop(l)
	m.finish()
}

// tick takes a box's word that a second has passed. Whose batches are ordered was a member then; who is one now may be another
// thing where old blocks are replayed after a member was replaced by hand, and must not matter; but where the state has the members.
func (m *Machine) tick(author coord.BoxID, value []byte) coord.Code {
	to, err := kv.DecodeNumber(value)
	if err != nil {
		return coord.CodeBad
	}
	if to != m.meta.clock+1 || slices.Contains(m.meta.voted, author) || m.site.members != nil && m.site.members.Index(author) < 0 {
		return coord.CodeOK
	}
	m.meta.voted = append(m.meta.voted, author)
	if len(m.meta.voted) <= coord.MaxFaulty(m.size()) {
		return coord.CodeOK
	}
	m.meta.voted = m.meta.voted[:0]
	m.meta.clock++
	var over []*lease
	for _, l := range m.leases.m {
		if l.expires <= m.meta.clock {
			over = append(over, l)
		}
	}
	slices.SortFunc(over, func(a, b *lease) int { return bytes.Compare(key64(uint64(a.id)), key64(uint64(b.id))) })
	for _, l := range over {
		if m.err == nil {
			m.revoke(l)
		}
	}
	m.passed()
	return coord.CodeOK
}

// Clock is the site's clock, and whether it must go on: whether there are leases, open decisions or documents that end.
func (m *Machine) Clock() (now uint64, runs bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.meta.clock, len(m.leases.m) > 0 || m.site.timed(m.meta.clock)
}

// Lease is a lease as this box has it now: seconds granted and left (0: about to end), and its keys if they are asked for.
// Errors: kv.ErrLeaseNotFound, ErrBackend.
func (m *Machine) Lease(id int64, withKeys bool) (granted, left int64, keys [][]byte, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	l := m.leases.m[id]
	if l == nil {
		return 0, 0, nil, fmt.Errorf("state: lease %x: %w", id, kv.ErrLeaseNotFound)
	}
	if withKeys {
		if keys, err = m.keysOf(id); err != nil {
			return 0, 0, nil, err
		}
	}
	left = int64(l.expires-m.meta.clock)*TickSeconds - 1
	return l.ttl, max(left, 0), keys, nil
}

// Leases lists the leases by ascending id.
func (m *Machine) Leases() []int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	ids := make([]int64, 0, len(m.leases.m))
	for id := range m.leases.m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
