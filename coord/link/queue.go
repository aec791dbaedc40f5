package link

import (
	"sync"
	"sync/atomic"

	"github.com/holdfast-edge/holdfast/coord"
)

// Class says how much the protocol misses a message that is dropped. When a queue is full, the
// lowest class that waits goes first, its oldest message first.
type Class uint8

// The classes, from what is missed least.
const (
	// ClassRepair is what is said again anyway, or asked for again: status, announcements,
	// certificates, requests.
	ClassRepair Class = iota
	// ClassBulk is data that can be fetched: batches, blocks, catch-up, snapshots.
	ClassBulk
	// ClassVital is votes, proposals and handovers: losing one costs a time-out of the round, or holds up an epoch.
	ClassVital

	classes = 3
)

// ClassOf is the class of a message.
func ClassOf(m *coord.PeerMsg) Class {
	switch {
	case m.Vote != nil, m.Proposal != nil, m.Handover != nil:
		return ClassVital
	case m.Batch != nil, m.Block != nil, m.CatchUp != nil, m.SnapshotPart != nil:
		return ClassBulk
	}
	return ClassRepair
}

// pooledBytesMax bounds the buffers that are kept for reuse: a full batch body and its frame are below
// it, snapshot manifests above.
const pooledBytesMax = 512 << 10

// frame is one encoded message, shared by the queues of the peers it goes to. It is
// immutable while anyone holds it.
type frame struct {
	bytes   []byte
	holders atomic.Int32
	pool    *sync.Pool
}

// newFrame encodes a message; the caller holds the frame.
func newFrame(pool *sync.Pool, m *coord.PeerMsg) *frame {
	f, ok := pool.Get().(*frame)
	if !ok {
		f = &frame{pool: pool}
	}
	f.bytes = appendMessage(f.bytes[:0], m)
	f.holders.Store(1)
	return f
}

func (f *frame) hold() { f.holders.Add(1) }

func (f *frame) release() {
	if f.holders.Add(-1) == 0 && cap(f.bytes) <= pooledBytesMax {
		f.pool.Put(f)
	}
}

// entry is a frame in a queue; seq orders entries over all lanes.
type entry struct {
	frame *frame
	seq   uint64
}

// lane is a first-in, first-out list of entries of one class.
type lane struct {
	entries []entry
	head    int
}

func (l *lane) empty() bool   { return l.head == len(l.entries) }
func (l *lane) front() *entry { return &l.entries[l.head] }
func (l *lane) push(e entry)  { l.entries = append(l.entries, e) }

func (l *lane) pop() *frame {
	f := l.entries[l.head].frame
	l.entries[l.head] = entry{}
	l.head++
	if l.head > len(l.entries)/2 { // at most one move per pop, on average
		n := copy(l.entries, l.entries[l.head:])
		clear(l.entries[n:])
		l.entries, l.head = l.entries[:n], 0
	}
	return f
}

// queue is what waits to be written to one connection, bounded in bytes and frames. One goroutine takes,
// many push.
type queue struct {
	// wake has a token when something may be there to take.
	wake chan struct{}

	mu                  sync.Mutex
	lanes               [classes]lane
	seq                 uint64
	frames, bytes       int
	framesMax, bytesMax int
	closed              bool
	// next, if not nil, gets what is pushed from now on.
	next *queue
}

func newQueue(framesMax, bytesMax int) *queue {
	return &queue{wake: make(chan struct{}, 1), framesMax: framesMax, bytesMax: bytesMax}
}

// push adds f at the end and says how many messages of each class had to go for it, f itself included when
// nothing less needed could make room. It never blocks.
func (q *queue) push(f *frame, class Class) (dropped [classes]uint64) {
	q.mu.Lock()
	if next := q.next; next != nil {
		q.mu.Unlock()
		return next.push(f, class)
	}
	fits := !q.closed && q.makeRoom(len(f.bytes), class, &dropped)
	if fits {
		f.hold()
		q.lanes[class].push(entry{f, q.seq})
		q.seq++
		q.frames++
		q.bytes += len(f.bytes)
	} else {
		dropped[class]++
	}
	q.mu.Unlock()
	if fits {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return dropped
}

// makeRoom drops from the lowest class up to, and not above, class, until n bytes fit.
func (q *queue) makeRoom(n int, class Class, dropped *[classes]uint64) bool {
	if n > q.bytesMax {
		return false
	}
	for c := ClassRepair; q.frames >= q.framesMax || q.bytes+n > q.bytesMax; {
		for c <= class && q.lanes[c].empty() {
			c++
		}
		if c > class {
			return false
		}
		q.popFrom(c).release()
		dropped[c]++
	}
	return true
}

// take appends to dst, in the order of pushing, frames of at least one and at most about limit bytes. The caller
// releases them.
func (q *queue) take(dst []*frame, limit int) []*frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := 0; n < limit && q.frames > 0; {
		var next Class
		oldest := ^uint64(0)
		for c := range q.lanes {
			if l := &q.lanes[c]; !l.empty() && l.front().seq < oldest {
				next, oldest = Class(c), l.front().seq
			}
		}
		f := q.popFrom(next)
		n += len(f.bytes)
		dst = append(dst, f)
	}
	return dst
}

func (q *queue) popFrom(c Class) *frame {
	f := q.lanes[c].pop()
	q.frames--
	q.bytes -= len(f.bytes)
	return f
}

// close refuses all further pushes; what waits can still be taken.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
}

// divert makes next get what is pushed from now on, also by who does not know of it yet.
func (q *queue) divert(next *queue) {
	q.mu.Lock()
	q.next = next
	q.mu.Unlock()
}

// waiting is what is in the queue now.
func (q *queue) waiting() (frames, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.frames, q.bytes
}
