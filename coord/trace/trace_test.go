package trace

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestATraceparentIsReadAsW3CSays(t *testing.T) {
	c, err := ParseTraceparent(parent)
	if err != nil || c.Trace.String() != "4bf92f3577b34da6a3ce929d0e0e4736" || c.Span.String() != "00f067aa0ba902b7" || c.Flags != FlagSampled {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := ParseTraceparent("01" + parent[2:] + "-of-a-later-version"); err != nil {
		t.Error("a later version is not read:", err)
	}
	for name, bad := range map[string]string{
		"nothing": "", "too short": parent[:54], "longer than version 00": parent + "-x", "version ff": "ff" + parent[2:],
		"capitals": strings.ToUpper(parent), "no trace": "00-" + strings.Repeat("0", 32) + parent[35:],
		"no span": parent[:36] + strings.Repeat("0", 16) + "-01", "another separator": strings.ReplaceAll(parent, "-", "_"),
		"a later version without separator": "01" + parent[2:] + "x", "not digits": parent[:53] + "zz",
	} {
		if c, err := ParseTraceparent(bad); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestTheContextsOfABatchComeBack(t *testing.T) {
	c, _ := ParseTraceparent(parent)
	if got := ContextOf(c.Bytes()); got != c {
		t.Error("alone:", got)
	}
	if got := ContextOf((&Context{Trace: ID{1}, Flags: 1}).Bytes()); got != (Context{}) {
		t.Error("one without a span:", got)
	}
	other := Context{Trace: ID{1}, Span: SpanID{2}}
	if got, ok := FirstContext(AppendContexts(nil, []Context{c, other})); !ok || got != c {
		t.Error(got, ok)
	}
	if got := AppendContexts(nil, make([]Context, 100)); len(got) != ContextsBytesMax {
		t.Error(len(got), "bytes")
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "a format alone": {contextsFormat}, "a byte more": append(AppendContexts(nil, []Context{c}), 0),
		"another format": append([]byte{9}, AppendContexts(nil, []Context{c})[1:]...), "zeros": AppendContexts(nil, make([]Context, 1)),
		"too many": append(AppendContexts(nil, make([]Context, ContextsMax)), make([]byte, contextBytes)...),
	} {
		if got, ok := FirstContext(bad); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func someRecord(r *rand.Rand) Record {
	rec := Record{
		Epoch: r.Uint64(), Seq: r.Uint64(), Round: r.Uint64(), Height: r.Uint64(), Messages: r.Uint32(), Bytes: r.Uint32(), Batches: r.Uint32(),
		Code: coord.Code(r.IntN(9)), Reasons: Reason(r.IntN(1 << reasonsEnd)), Part: uint8(r.IntN(ContextsMax)), Trace: ID{1},
	}
	for _, b := range [][]byte{rec.Trace[1:], rec.Parent[:], rec.Batch[:], rec.Of[:], rec.Author[:], rec.Box[:], rec.Leader[:]} {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	for i := range rec.At {
		rec.At[i] = int64(r.Uint64())
	}
	return rec
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range RecordsMax + 1 {
		want := make([]Record, n)
		for i := range want {
			want[i] = someRecord(r)
		}
		b := AppendRecords(nil, want)
		got, err := DecodeRecords(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%d records: %v", n, err)
		}
		if len(b) > RecordsBytesMax || RecordsBytesMax > coord.TracePartBytesMax {
			t.Fatal(len(b), "bytes")
		}
	}
}

func FuzzRecords(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	f.Add(AppendRecords(nil, []Record{someRecord(r), someRecord(r)}))
	f.Add([]byte{recordFormat})
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := DecodeRecords(b)
		if err != nil {
			return
		}
		if got := AppendRecords(nil, rs); string(got) != string(b) {
			t.Fatalf("%x\n%x", got, b)
		}
		for i := range rs {
			for _, s := range rs[i].Spans(nil) {
				if s.End < s.Start || s.Start == 0 {
					t.Fatalf("%+v", s)
				}
			}
		}
	})
}

func FuzzContext(f *testing.F) {
	f.Add(parent, AppendContexts(nil, []Context{{Trace: ID{1}, Span: SpanID{2}}}))
	f.Fuzz(func(t *testing.T, s string, b []byte) {
		if c, err := ParseTraceparent(s); err == nil && !c.Valid() {
			t.Fatal("an invalid context is taken")
		}
		if c, ok := FirstContext(b); ok && !c.Valid() {
			t.Fatal("an invalid context is taken")
		}
	})
}

// own is the record of an own batch that took d.
func own(n uint64, d time.Duration) Record {
	r := Record{Author: coord.BoxID{1}, Box: coord.BoxID{1}, Seq: n}
	binary.BigEndian.PutUint64(r.Batch[:], n+1)
	// Chance is in the last 7 bytes; the multiplier spreads the numbers.
	binary.BigEndian.PutUint64(r.Batch[8:], n*0x9e3779b97f4a7c15)
	r.Trace = BatchTrace(r.Batch)
	r.At[Accepted], r.At[Answered] = 1, 1+int64(d)
	return r
}

// judged answers a batch at a time.
func judged(g *Ring, r Record, with Reason, now int64) Reason {
	d := r.At[Answered] - r.At[Accepted]
	r.At[Accepted], r.At[Answered] = now-d, 0
	got, _ := g.Answered(g.Put(&r), with, now)
	return got.Reasons
}

func TestChanceKeepsTheShareThatItIsTold(t *testing.T) {
	for _, rate := range []float64{0, 0.01, 0.5, 1} {
		g, kept := NewRing(4, rate), 0.0
		const n = 20000
		for i := range uint64(n) {
			if judged(g, own(i, time.Millisecond), 0, int64(i)*int64(time.Second)+int64(time.Hour))&Random != 0 {
				kept++
			}
		}
		if kept/n < rate*0.9-0.0001 || kept/n > rate*1.1 {
			t.Errorf("rate %v: %v of %v", rate, kept, n)
		}
	}
}

func TestABatchIsSlowAgainstTheRecentOnes(t *testing.T) {
	g, now := NewRing(4, 0), int64(time.Hour)
	r := rand.New(rand.NewPCG(3, 4))
	run := func(n int, usual time.Duration) (kept int) {
		for i := range uint64(n) {
			now += int64(time.Second)
			d := time.Duration(float64(usual) * (0.5 + r.Float64()))
			if judged(g, own(i, d), 0, now) != 0 {
				kept++
			}
		}
		return kept
	}
	if n := run(slowAfter-1, 10*time.Millisecond); n != 0 {
		t.Error(n, "slow ones before it is known what is usual")
	}
	if n := run(5000, 10*time.Millisecond); n > 150 {
		t.Error(n, "of 5000 usual ones are slow")
	}
	if got := judged(g, own(1, 40*time.Millisecond), 0, now); got != Slow {
		t.Errorf("one of 40 ms among ones of 10: %v", got.Names())
	}
	run(30000, 100*time.Millisecond)
	if got := judged(g, own(1, 40*time.Millisecond), 0, now); got != 0 {
		t.Errorf("one of 40 ms when 100 became usual: %v", got.Names())
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	g, kept := NewRing(4, 1), 0
	const n = 5000 // in ten seconds
	for i := range uint64(n) {
		if judged(g, own(i, time.Millisecond), Failed, int64(time.Hour)+int64(i)*int64(10*time.Second)/n) != 0 {
			kept++
		}
	}
	if want := int(10*time.Second/time.Duration(keepEvery)) + keepBurst; kept > want+1 || kept < want-2 {
		t.Errorf("%d kept, want %d", kept, want)
	}
	if judged, k, spared := g.Counts(); judged != n || int(k) != kept || k+spared != n {
		t.Error(judged, k, spared)
	}
}

func TestAnAnomalyLeavesRoomForWhatFails(t *testing.T) {
	g, now := NewRing(4, 0), int64(time.Hour)
	g.Unusual(now + int64(time.Hour))
	kept := 0
	for i := range uint64(1000) {
		now += int64(time.Millisecond)
		if judged(g, own(i, time.Millisecond), 0, now) != 0 {
			kept++
		}
	}
	if want := int(time.Second/time.Duration(keepEvery)) + keepBurst/2; kept > want+1 || kept < want-1 {
		t.Errorf("%d of a second kept, want %d", kept, want)
	}
	for i := range uint64(keepBurst / 2) {
		if got := judged(g, own(i, time.Millisecond), Failed, now); got != Failed|Unusual {
			t.Fatalf("failure %d: %v", i, got.Names())
		}
	}
}

func TestReasonsAreTold(t *testing.T) {
	g, now := NewRing(4, 0), int64(time.Hour)
	g.Unusual(now + 10)
	r := own(1, time.Millisecond)
	r.Reasons = Turned
	if got := judged(g, r, Failed, now); got != Turned|Failed|Unusual || strings.Join(got.Names(), " ") != "error round_change anomaly" {
		t.Error(got.Names())
	}
	if got := judged(g, own(2, time.Millisecond), 0, now+10); got != 0 {
		t.Error("after the anomaly:", got.Names())
	}
	for _, n := range Reason(1<<reasonsEnd - 1).Names() {
		if r := ReasonNamed(n); len(r.Names()) != 1 || r.Names()[0] != n {
			t.Error(n)
		}
	}
}

func TestTheRingForgetsTheOldest(t *testing.T) {
	g := NewRing(8, 0)
	for i := range uint64(20) {
		r := own(i, time.Millisecond)
		g.Put(&r)
	}
	if got := g.Find(nil, own(11, 0).Trace, 0); len(got) != 0 {
		t.Error("one that was overwritten is found")
	}
	got := g.Find(nil, own(12, 0).Trace, 1000)
	if len(got) != 1 || got[0].Seq != 12 || got[0].At[Accepted] != 1001 || got[0].At[Held] != 0 {
		t.Errorf("%+v", got)
	}
	if _, ok := g.Answered(11, 0, 5); ok {
		t.Error("one that was overwritten is answered")
	}
	if a, b := g.Once(nil, got[0].Trace, 0), g.Once(nil, got[0].Trace, 0); len(a) != 1 || len(b) != 0 || len(g.Find(nil, got[0].Trace, 0)) != 1 {
		t.Error("once:", len(a), len(b))
	}
}

func TestTheHotPathAllocatesNothing(t *testing.T) {
	g := NewRing(64, 0.5)
	i := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		i++
		r := own(i, time.Millisecond)
		at := g.Put(&r)
		g.Applied(at, at+1, int64(i))
		g.Answered(at, 0, int64(i))
	}); n != 0 {
		t.Error(n, "allocations a batch")
	}
}

func TestSpansOfAllBoxesAreOneTree(t *testing.T) {
	c, _ := ParseTraceparent(parent)
	r := own(1, time.Millisecond)
	r.Trace, r.Parent = c.Trace, c.Span
	for p := range r.At {
		r.At[p] = int64(1000 + 10*p)
	}
	other := r
	other.Box = coord.BoxID{2}
	other.At[Accepted], other.At[Taken], other.At[Closed], other.At[Answered] = 0, 0, 0, 0
	spans := other.Spans(r.Spans(nil))
	byID := map[SpanID]*Span{}
	for i := range spans {
		if byID[spans[i].ID] != nil {
			t.Errorf("two spans %v", spans[i].ID)
		}
		byID[spans[i].ID] = &spans[i]
	}
	names := map[string]int{}
	for i := range spans {
		s := &spans[i]
		names[s.Name]++
		if s.Trace != c.Trace {
			t.Errorf("%s is of trace %v", s.Name, s.Trace)
		}
		up := byID[s.Parent]
		switch {
		case s.Name == SpanMessage:
			if s.Parent != c.Span || !s.Remote {
				t.Errorf("the message does not go on from the client: %+v", s)
			}
		case up == nil:
			t.Errorf("%s on %v has no parent", s.Name, s.Box)
		case s.Remote != (up.Box != s.Box):
			t.Errorf("%s on %v below %s on %v: remote %v", s.Name, s.Box, up.Name, up.Box, s.Remote)
		case s.Start < up.Start || s.End > up.End:
			t.Errorf("%s is not within %s", s.Name, up.Name)
		}
	}
	want := map[string]int{
		SpanMessage: 1, SpanSubmit: 1, SpanBatch: 1, SpanAnswer: 1, SpanOrder: 2, SpanPropose: 2, SpanVote: 2, SpanFinalize: 2, SpanApply: 2,
	}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("%v", names)
	}
}

func TestAPartOfABatchIsLinkedToIt(t *testing.T) {
	r := own(1, time.Millisecond)
	p := r
	p.Trace, p.Parent, p.Part, p.Of, p.Code = ID{7}, SpanID{8}, 1, r.Trace, coord.CodeBad
	spans := p.Spans(nil)
	if len(spans) != 1 || spans[0].Trace != p.Trace || spans[0].Parent != p.Parent || spans[0].Error == "" {
		t.Fatalf("%+v", spans)
	}
	if l := spans[0].Links; len(l) != 1 || l[0].Trace != r.Trace || l[0].Span != r.Spans(nil)[0].ID {
		t.Errorf("%+v", l)
	}
}

// A box hears the proposal before it has the batch that it names, and of a quorum's votes too: what it waits for begins when it has it.
func TestAPhaseIsWithinTheTimeThatABoxHasTheBatch(t *testing.T) {
	r := Record{Box: coord.BoxID{1}, Author: coord.BoxID{2}}
	r.At[Proposed], r.At[Notarized], r.At[Held], r.At[Final], r.At[Applied] = 10, 20, 30, 40, 50
	got := map[string][2]int64{}
	for _, s := range r.Spans(nil) {
		got[s.Name] = [2]int64{s.Start, s.End}
	}
	want := map[string][2]int64{SpanOrder: {30, 50}, SpanPropose: {30, 30}, SpanVote: {30, 30}, SpanFinalize: {30, 40}, SpanApply: {40, 50}}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
