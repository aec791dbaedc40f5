package sim

import (
	"container/heap"

	"github.com/holdfast-edge/holdfast/coord"
)

// event is something due at a time; ties are broken by the order of their making.
type event struct {
	at  int64
	seq uint64
	// node and inc say for whom: an event for an earlier incarnation is void. node -1: run fn.
	node, inc int
	kind      eventKind
	from      int
	msg       *coord.PeerMsg
	fn        func()
}

type eventKind uint8

const (
	evCall eventKind = iota
	evMessage
	evWake
	evSynced
)

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || (q[i].at == q[j].at && q[i].seq < q[j].seq)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	o := *q
	x := o[len(o)-1]
	o[len(o)-1] = event{}
	*q = o[:len(o)-1]
	return x
}

func (s *Sim) post(at int64, e event) {
	s.seq++
	e.at, e.seq = at, s.seq
	heap.Push(&s.q, e)
}

// call runs fn at a time, whatever happens to boxes until then.
func (s *Sim) call(at int64, fn func()) { s.post(at, event{node: -1, fn: fn}) }

// callFor runs fn at a time unless the box was restarted or is down.
func (s *Sim) callFor(m *machine, at int64, fn func()) {
	s.post(at, event{node: m.idx, inc: m.inc, fn: fn})
}
