package site_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

// traceLog is the traces that a box would keep, and what it is asked and told.
type traceLog struct {
	ring *trace.Ring
	mu   sync.Mutex
	kept []trace.Record
	revs []trace.Revised
	asks []coord.BoxID
	told map[coord.BoxID][]byte
}

func (l *traceLog) Kept(r *trace.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, *r)
}

func (l *traceLog) Asked(from coord.BoxID, _ trace.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asks = append(l.asks, from)
}

func (l *traceLog) Told(from coord.BoxID, _ trace.ID, records []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told[from] = records
}

func (l *traceLog) revised(list []trace.Revised) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revs = append(l.revs, list...)
}

func (l *traceLog) look(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
}

func TestEveryBoxKnowsTheTraceOfAClient(t *testing.T) {
	logs := make([]*traceLog, 4)
	for i := range logs {
		logs[i] = &traceLog{ring: trace.NewRing(64, 0), told: map[coord.BoxID][]byte{}}
	}
	edit := func(i int, o *site.Options) {
		o.Box.Ring, o.Traces, o.Revised = logs[i].ring, logs[i], logs[i].revised
	}
	synctestSite(t, 4, func(r *rig) { r.edit = edit }, func(r *rig) {
		r.session(1, 9)
		want := trace.Context{Trace: trace.ID{7}, Span: trace.SpanID{8}, Flags: trace.FlagSampled}
		other := trace.Context{Trace: trace.ID{9}, Span: trace.SpanID{10}}
		// The first leaves at once; the others wait for it, and share a batch.
		for i, c := range []trace.Context{{}, want, other} {
			_, q := r.request(1, r.put(9, fmt.Sprint("key", i), "v"))
			q.Trace = c
			r.boxes[1].site.Submit(q)
		}
		r.eventually("all boxes have a record of the trace", func() bool {
			for i := range logs {
				if len(logs[i].ring.Find(nil, want.Trace, 0)) != 1 {
					return false
				}
			}
			return true
		})
		r.eventually("the author keeps it", func() (kept bool) {
			logs[1].look(func() { kept = len(logs[1].kept) > 0 })
			return kept
		})
		logs[1].look(func() {
			for _, k := range logs[1].kept {
				if k.Reasons&trace.Asked == 0 || k.Trace != want.Trace || k.Parent != want.Span || k.Box != boxID(1) || k.Author != boxID(1) || k.Messages != 2 ||
					k.At[trace.Accepted] == 0 || k.At[trace.Answered] < k.At[trace.Applied] || k.At[trace.Applied] < k.At[trace.Final] ||
					k.At[trace.Final] < k.At[trace.Notarized] || k.At[trace.Notarized] < k.At[trace.Proposed] || k.At[trace.Proposed] == 0 {
					t.Errorf("%+v", k)
				}
			}
		})
		if part := logs[1].ring.Find(nil, other.Trace, 0); len(part) != 1 || part[0].Part == 0 || part[0].Of != want.Trace || part[0].Parent != other.Span || part[0].Messages != 1 {
			t.Errorf("the second client's part: %+v", part)
		}
		r.agree(0, 1, 2, 3)
		for i := range logs {
			last := uint64(1)
			logs[i].look(func() {
				for _, v := range logs[i].revs {
					if v.From != last || v.To <= v.From || v.Height == 0 {
						t.Errorf("box %d: after revision %d: %+v", i, last, v)
					}
					last = v.To
				}
			})
			if now := r.view(i).Revision; last != now {
				t.Errorf("box %d: revisions up to %d of %d", i, last, now)
			}
		}
		r.boxes[1].site.AskTrace(want.Trace)
		r.eventually("the others are asked", func() bool {
			n := 0
			for i := range logs {
				logs[i].look(func() { n += len(logs[i].asks) })
			}
			return n == 3
		})
		r.boxes[2].site.TellTrace(boxID(1), want.Trace, []byte("records"))
		r.eventually("and one tells", func() (told bool) {
			logs[1].look(func() { told = string(logs[1].told[boxID(2)]) == "records" })
			return told
		})
	})
}
