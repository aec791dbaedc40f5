package sim

import "github.com/holdfast-edge/holdfast/coord"

// event is something due at a time; ties are broken by the order of their making.
type event struct {
	at  int64
	seq uint64
	// node and inc say for whom: an event for an earlier incarnation is void. node -1: run fn.
	node, inc     int
	from, fromInc int         // the machine a message comes from
	name          coord.BoxID // and as whom it said it
	kind          eventKind
	ready         bool // it waited for the machine to be free
	msg           *coord.PeerMsg
	fn            func()
}

type eventKind uint8

const (
	evCall eventKind = iota
	evMessage
	evWake
	evSynced
)

// queue is a binary heap of events; container/heap would allocate for each.
type queue []event

func (q queue) less(i, j int) bool {
	return q[i].at < q[j].at || (q[i].at == q[j].at && q[i].seq < q[j].seq)
}

func (q *queue) push(e event) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0; {
		p := (i - 1) / 2
		if !h.less(i, p) {
			return
		}
		h[i], h[p] = h[p], h[i]
		i = p
	}
}

func (q *queue) pop() event {
	h := *q
	e := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h[last] = event{}
	h = h[:last]
	*q = h
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			return e
		}
		if c+1 < last && h.less(c+1, c) {
			c++
		}
		if !h.less(c, i) {
			return e
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

func (s *Sim) post(at int64, e event) {
	s.seq++
	e.at, e.seq = at, s.seq
	s.q.push(e)
}

// call runs fn at a time, whatever happens to boxes until then.
func (s *Sim) call(at int64, fn func()) { s.post(at, event{node: -1, fn: fn}) }

// callFor runs fn at a time unless the box was restarted or is down.
func (s *Sim) callFor(m *machine, at int64, fn func()) {
	s.post(at, event{node: m.idx, inc: m.inc, fn: fn})
}

// digest tells runs apart: FNV-1a over what happened when to whom.
type digest uint64

func (d *digest) add(e *event) {
	h := uint64(*d)
	if h == 0 {
		h = 14695981039346656037
	}
	for _, v := range [...]uint64{uint64(e.at), e.seq, uint64(e.node), uint64(e.kind), uint64(e.from)} {
		h = (h ^ v) * 1099511628211
		h ^= h >> 32
	}
	*d = digest(h)
}
