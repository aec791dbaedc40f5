package state

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// Machine is the state after some block. One goroutine applies blocks and takes changes
// (Begin, Batch, End, Take, Committed); the other methods may be called from any. A
// reader may see a block of which only some batches are applied.
type Machine struct {
	mu   sync.RWMutex
	back Backend
	err  error // sticky

	meta     meta
	inBlock  bool
	changed  bool // since the last Take
	inFlight int  // Takes that are not Committed
	// readBytes is what reads of the batch being applied gave.
	readBytes int

	keys     overlay[string, []byte]
	counters overlay[uint64, uint64]
	top      topSet
	sessions sessionTable
	boxes    boxTable
	rule     Rule

	history, revs, leaseKeys overlay[string, []byte] // by historyKey, revisionKey, leaseKey
	leases                   leaseTable

	tx        change        // the revision being made
	page      page          // the events of the batch being applied that are not in revs yet
	events    []kv.Revision // since the last TakeEvents
	watched   bool          // events are wanted
	eventSlab []kv.Event
	founders  *coord.Members // whose ticks and words count before a decision wrote others
	self      coord.BoxID    // whose messages get answers; zero: all
	author    coord.BoxID    // of the batch being applied
	asked     []Asked        // since the last TakeAsked
	lead      coord.BoxID    // who was asked to lead since the last TakeLead
	audits    auditTable
	opinions  opinionTable
	accused   []Accused // since the last TakeAccused
	site      siteTable
}

// New gives the state as the backend has it. It reads all sessions, authors and counters
// (the latter for Top), not the keys. Errors: ErrBackend, ErrDamaged, ErrVersion.
func New(b Backend) (*Machine, error) {
	m := &Machine{
		back:      b,
		keys:      newStrings(cleanKeyBytesMax),
		history:   newStrings(0),
		revs:      newStrings(0),
		leaseKeys: newStrings(0),
		leases:    newLeaseTable(),
		meta:      meta{revision: 1}, // etcd's empty store
		counters:  newOverlay(cleanEntriesMax, func(*entry[uint64, uint64]) int { return 1 }),
		top:       topSet{at: map[uint64]int{}},
		rule:      DefaultRule(),
		sessions:  newSessionTable(),
		boxes:     newBoxTable(),
		audits:    newAuditTable(),
		opinions:  newOpinionTable(),
		site:      newSiteTable(),
	}
	v, ok, err := b.Get(coord.SpaceMeta, []byte(metaKey))
	if err != nil {
		return nil, fmt.Errorf("state: load meta: %w: %w", ErrBackend, err)
	}
	if ok {
		if m.meta, err = decodeMeta(v); err != nil {
			return nil, damaged(coord.SpaceMeta, []byte(metaKey), err)
		}
	}
	for _, l := range []struct {
		sp   coord.Space
		load func(k, v []byte) error
	}{
		{coord.SpaceCounters, m.loadCounter},
		{coord.SpaceSessions, m.loadSession},
		{coord.SpaceBoxes, m.loadBox},
		{coord.SpaceLeases, m.loadLease},
		{coord.SpaceAudit, m.loadAudit},
		{coord.SpaceOpinions, m.loadOpinion},
		{coord.SpaceSite, m.loadSite},
	} {
		if err := scanAll(b, l.sp, l.load); err != nil {
			return nil, err
		}
	}
	if err := m.loadedSite(); err != nil {
		return nil, err
	}
	return m, nil
}

func newStrings(bytesMax int) overlay[string, []byte] {
	return ordered(newOverlay(bytesMax, func(e *entry[string, []byte]) int { return len(e.key) + cap(e.val) + entryBytes }))
}

// entryBytes is roughly what an overlay entry costs beside its key and value.
const entryBytes = 96

func scanAll(b Backend, sp coord.Space, load func(k, v []byte) error) error {
	var bad error
	err := b.Scan(sp, nil, func(k, v []byte) bool {
		if e := load(k, v); e != nil {
			bad = damaged(sp, k, e)
		}
		return bad == nil
	})
	if err != nil {
		return fmt.Errorf("state: load space %d: %w: %w", sp, ErrBackend, err)
	}
	return bad
}

func (m *Machine) loadSession(k, v []byte) error {
	if len(k) != 8 || len(m.sessions.m) >= SessionsMax {
		return ErrDamaged
	}
	s, err := decodeSession(v)
	if err != nil {
		return err
	}
	s.id = binary.BigEndian.Uint64(k)
	m.sessions.restore(s)
	return nil
}

func (m *Machine) loadBox(k, v []byte) error {
	if len(k) != len(coord.BoxID{}) || len(m.boxes.m) >= boxesMax {
		return ErrDamaged
	}
	seen, err := decodeBox(v)
	id := coord.BoxID(k)
	m.boxes.m[id] = &box{id: id, seen: seen}
	return err
}

func (m *Machine) loadCounter(k, v []byte) error {
	if len(k) != 8 {
		return ErrDamaged
	}
	n, err := decodeCounter(v)
	m.top.update(Count{binary.BigEndian.Uint64(k), n})
	return err
}

// Begin starts a block: its height must be one above the last. The block's refs are not looked at.
func (m *Machine) Begin(header *coord.Block) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil && (m.inBlock || header.Height != m.meta.height+1) {
		m.err = fmt.Errorf("state: begin block %d after %d: %w", header.Height, m.meta.height, ErrOrder)
	}
	if m.err != nil {
		return
	}
	m.inBlock, m.changed = true, true
	m.site.next = nil
	m.meta.height = header.Height
	m.meta.logBytes += blockLogBytes
}

// Batch applies one batch of the block. cols are its messages; they are not kept. nil
// says that the body could not be decoded: the batch counts as done and has no effect.
//
// The outcomes, one a message, are written over results, whose memory is used again; a
// Value in them is a copy of the caller's own. The second answer says whether the batch
// took effect. If not, outcomes are empty when it had taken effect before or its body is
// broken; and there is one CodeBusy for each message when its author has too many batches
// above its floor: such a batch is not done and may be ordered again.
func (m *Machine) Batch(author coord.BoxID, seq, floor uint64, cols *coord.Columns, results []coord.Result) ([]coord.Result, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	results = results[:0]
	if m.err == nil && !m.inBlock {
		m.err = fmt.Errorf("state: batch outside a block: %w", ErrOrder)
	}
	if m.err != nil {
		return results, false
	}
	switch m.boxes.admit(author, seq, floor) {
	case batchDone:
		return results, false
	case batchFull:
		if cols != nil {
			for range cols.Len() {
				results = append(results, coord.Result{Code: coord.CodeBusy, Revision: m.meta.revision})
			}
		}
		return results, false
	}
	if cols == nil {
		m.meta.logBytes += brokenBatchLogBytes
		return results, false
	}
	m.meta.logBytes += uint64(cols.Bytes() + messageLogBytes*cols.Len())
	m.readBytes, m.author = 0, author
	results = m.apply(cols, results)
	m.cutPage()
	if m.err != nil {
		return results[:0], false
	}
	return results, true
}

// End finishes the block and says whether a checkpoint of the state is due now: when as
// much was ordered since the last one as the state was large then, and at least 32 MiB; or
// when a KindCheckpoint asked for one and the last is at least 256 blocks ago. (The size
// then, not now: a state that only grows would run ahead of its log for ever.) The rule
// looks only at ordered data and at what is itself part of the state, so all boxes agree.
func (m *Machine) End() (checkpointDue bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil && !m.inBlock {
		m.err = fmt.Errorf("state: end outside a block: %w", ErrOrder)
	}
	if m.err != nil {
		return false
	}
	m.clean()
	m.inBlock = false
	due := m.meta.logBytes >= max(m.rule.BytesMin, m.meta.checkpointBytes) ||
		m.meta.asked && m.meta.height-m.meta.checkpoint >= m.rule.GapBlocks
	if due {
		m.meta.checkpoint, m.meta.checkpointBytes = m.meta.height, m.stateBytes()
		m.meta.logBytes, m.meta.asked = 0, false
	}
	return due
}

// Take gives the changes of all blocks since the last Take, the newest value of each
// key, by ascending (space, key); nil when there was no block. The slices are immutable
// from now on. The changes are not forgotten until Committed says that they are durable;
// blocks may be applied meanwhile. Not to be called between Begin and End.
func (m *Machine) Take() []coord.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil && m.inBlock {
		m.err = fmt.Errorf("state: take inside a block: %w", ErrOrder)
	}
	if m.err != nil || !m.changed {
		return nil
	}
	m.changed = false
	m.inFlight++
	keys, counters, history, revs, leaseKeys := m.keys.take(), m.counters.take(), m.history.take(), m.revs.take(), m.leaseKeys.take()
	out := make([]coord.Change, 0, 1+len(keys)+len(counters)+len(m.sessions.dirty)+len(m.sessions.dropped)+len(m.boxes.dirty)+
		len(history)+len(revs)+len(m.leases.dirty)+len(m.leases.dropped)+len(leaseKeys)+len(m.audits.dirty)+len(m.site.dirty))
	out = append(out, coord.Change{Space: coord.SpaceMeta, Key: []byte(metaKey), Value: appendMeta(nil, &m.meta)})
	out = takeStrings(out, coord.SpaceKeys, keys)
	out = takeCounters(out, counters)
	out = m.sessions.take(out)
	out = m.boxes.take(out)
	out = takeStrings(out, coord.SpaceHistory, history)
	out = takeStrings(out, coord.SpaceRevisions, revs)
	out = m.leases.take(out)
	out = takeStrings(out, coord.SpaceLeaseKeys, leaseKeys)
	out = m.audits.take(out)
	out = m.opinions.take(out)
	return m.site.take(out)
}

// Committed says that the changes of the oldest Take that gave any are durable: the
// backend's Get has them.
func (m *Machine) Committed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.inFlight == 0 {
		return
	}
	m.inFlight--
	m.keys.committed()
	m.counters.committed()
	m.history.committed()
	m.revs.committed()
	m.leaseKeys.committed()
}

// Err says why the machine stopped, or nil. Once it is not nil no block is applied, and
// nothing is handed out: ErrBackend, ErrDamaged, ErrVersion, ErrOrder.
func (m *Machine) Err() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.err
}

// fail makes err sticky.
func (m *Machine) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// stateBytes is about what the state takes in storage.
func (m *Machine) stateBytes() uint64 {
	return m.meta.keyBytes + m.meta.histBytes + m.meta.distinct*counterStateBytes + uint64(len(m.sessions.m))*sessionStateBytes +
		uint64(len(m.leases.m))*leaseStateBytes + m.site.siteBytes()
}
