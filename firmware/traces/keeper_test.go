package traces

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/store"
)

var me, peer = coord.BoxID{1}, coord.BoxID{2}

// pair is a site of two boxes as the keeper of the first sees it: what it asks and tells is noted.
type pair struct {
	asked []trace.ID
	told  [][]byte
}

func (p *pair) View() *site.View {
	return &site.View{ID: me, N: 2, Members: []site.MemberView{{Member: coord.Member{ID: me, Name: "one"}}, {Member: coord.Member{ID: peer, Name: "two"}}}}
}
func (p *pair) AskTrace(id trace.ID)                           { p.asked = append(p.asked, id) }
func (p *pair) TellTrace(_ coord.BoxID, _ trace.ID, rs []byte) { p.told = append(p.told, rs) }
func (p *pair) Clock() int64                                   { return 0 }
func (p *pair) Ahead(coord.BoxID) time.Duration                { return 0 }
func (p *pair) Block(uint64) (*site.LogBlock, uint64, error)   { return nil, 0, nil }
func (p *pair) State() *state.Machine                          { return nil }
func keeperIn(t *testing.T, dir string) (*Keeper, *pair, func()) {
	t.Helper()
	d, err := store.OpenTraces(dir, store.TracesOptions{Site: coord.SiteID{1}, Box: me})
	if err != nil {
		t.Fatal(err)
	}
	k, p := New(Config{Ring: trace.NewRing(64, 0), Disk: d, Logger: slog.New(slog.DiscardHandler)}), new(pair)
	k.Attach(p)
	closed := false
	closing := func() {
		if !closed {
			closed = true
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(closing)
	return k, p, closing
}

// record is what a box knows of the batch with a number, which it began a moment ago.
func record(box coord.BoxID, n byte) trace.Record {
	r := trace.Record{Trace: trace.ID{n, 1}, Batch: coord.Digest{n, 16: n}, Author: me, Box: box, Leader: me, Seq: uint64(n), Messages: 1}
	now := time.Now().UnixNano()
	for i := range r.At {
		r.At[i] = now + int64(i)
	}
	return r
}

// judged is an own batch as the ring judges it, and then hands it over when it is worth that.
func judged(k *Keeper, n byte, with trace.Reason) {
	r := record(me, n)
	now := r.At[trace.Answered]
	place := k.cfg.Ring.Put(&r)
	if got, ok := k.cfg.Ring.Answered(place, with, now); ok && got.Reasons != 0 {
		k.begin(&got)
	}
}

func listed(t *testing.T, k *Keeper, why trace.Reason) (ids []trace.ID) {
	t.Helper()
	l, err := k.List(api.TraceQuery{Reason: why})
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Traces {
		ids = append(ids, l.Traces[i].ID)
	}
	return ids
}

func TestWhatIsKeptIsFoundByItsReasonAlsoAfterARestart(t *testing.T) {
	dir := t.TempDir()
	k, _, closing := keeperIn(t, dir)
	judged(k, 1, 0)
	judged(k, 2, trace.Failed)
	judged(k, 3, trace.Turned|trace.Asked)
	k.cfg.Ring.Unusual(time.Now().Add(time.Hour).UnixNano())
	judged(k, 4, 0)
	k.finish(time.Now().Add(2 * gatherTime))
	for _, when := range []string{"before it is written", "when it is written", "after a restart"} {
		switch when {
		case "when it is written":
			k.flush()
		case "after a restart":
			closing()
			k, _, _ = keeperIn(t, dir)
		}
		for why, want := range map[trace.Reason][]trace.ID{
			trace.Failed: {{2, 1}}, trace.Turned: {{3, 1}}, trace.Asked: {{3, 1}}, trace.Unusual: {{4, 1}}, trace.Slow: nil, trace.Random: nil,
		} {
			if got := listed(t, k, why); !slices.Equal(got, want) {
				t.Errorf("%s %v are %v, want %v", when, why.Names(), got, want)
			}
		}
	}
	if got := listed(t, k, 0); len(got) != 3 {
		t.Errorf("%d traces are kept, one of which was worth nothing", len(got))
	}
}

func TestTheOthersAreAskedOnceAndSpeakOfThemselves(t *testing.T) {
	k, p, _ := keeperIn(t, t.TempDir())
	judged(k, 1, trace.Failed)
	id := trace.ID{1, 1}
	now := time.Now()
	k.finish(now)
	if len(p.asked) != 0 {
		t.Error("they are asked before they can know")
	}
	for range 3 {
		k.finish(now.Add(2 * lookEvery))
	}
	if !slices.Equal(p.asked, []trace.ID{id}) {
		t.Errorf("asked for %v", p.asked)
	}
	k.take(telling{question{peer, id}, []byte("noise")})
	foreign, own, other := record(coord.BoxID{7}, 1), record(peer, 1), record(peer, 2)
	k.take(telling{question{peer, id}, trace.AppendRecords(nil, []trace.Record{foreign, own, other})})
	k.flush() // it is complete, and waits for nobody
	tr, err := k.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	boxes := map[coord.BoxID]bool{}
	for i := range tr.Spans {
		boxes[tr.Spans[i].Box] = true
	}
	if tr.Boxes != 2 || len(boxes) != 2 || !boxes[me] || !boxes[peer] {
		t.Errorf("%d boxes, spans of %v", tr.Boxes, boxes)
	}
	if _, _, _, lost := k.Counts(); lost != 1 {
		t.Errorf("%d are lost, one was noise", lost)
	}
	k.take(telling{question{peer, trace.ID{5}}, trace.AppendRecords(nil, []trace.Record{record(peer, 5)})})
	if got := listed(t, k, 0); len(got) != 1 {
		t.Errorf("what nobody asked for is kept: %v", got)
	}
}

func TestWhatAMemberMayAskForIsBounded(t *testing.T) {
	k, p, _ := keeperIn(t, t.TempDir())
	r := record(me, 1)
	k.cfg.Ring.Put(&r)
	for range asksBurst + 50 {
		k.answer(question{peer, r.Trace})
	}
	_, _, _, lost := k.Counts()
	if n := len(p.told); n < asksBurst || n > asksBurst+50 || lost != uint64(asksBurst+50-n) {
		t.Errorf("%d answers, %d refused", n, lost)
	}
	if rs, err := trace.DecodeRecords(p.told[0]); err != nil || len(rs) != 1 || rs[0].Batch != r.Batch {
		t.Errorf("%+v %v", rs, err)
	}
	if got := listed(t, k, 0); !slices.Equal(got, []trace.ID{r.Trace}) {
		t.Errorf("what another keeps is kept here too: %v", got)
	}
	now, refused := time.Now().Add(time.Hour), 0
	for range asksBurst + 1 {
		if !k.mayAsk(peer, now) {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("an hour later %d of a burst and one are refused", refused)
	}
}

func TestEveryQueueOfTheKeeperIsBoundedAndWhatDoesNotFitIsCounted(t *testing.T) {
	k, _, _ := keeperIn(t, t.TempDir())
	r := record(me, 1)
	for range queueMax + 3 {
		k.Kept(&r)
		k.Asked(peer, r.Trace)
		k.Told(peer, r.Trace, nil)
	}
	want := uint64(9)
	counted := func(what string) {
		t.Helper()
		if _, _, _, lost := k.Counts(); lost != want {
			t.Errorf("%s: %d are lost, want %d", what, lost, want)
		}
	}
	counted("queues")
	for i := range gathersMax + 4 {
		k.open(trace.ID{byte(i), byte(i >> 8), 9}, true)
	}
	want += 4
	counted("gatherings")
	list := make([]trace.Revised, revisedMax)
	for i := range list {
		list[i] = trace.Revised{From: uint64(i), To: uint64(i) + 1, Height: uint64(i) + 1}
	}
	k.Revised(list)
	k.Revised(list[:5])
	want += 5
	counted("revisions")
	if len(k.kept) != queueMax || len(k.gathers) != gathersMax || len(k.revised) != revisedMax {
		t.Error(len(k.kept), len(k.gathers), len(k.revised))
	}
}

func TestWhichBatchMadeARevisionIsKnownAfterARestart(t *testing.T) {
	dir := t.TempDir()
	k, _, closing := keeperIn(t, dir)
	k.Revised([]trace.Revised{{From: 0, To: 3, Height: 10, Batch: 1}, {From: 3, To: 4, Height: 12}})
	want := trace.Revised{From: 0, To: 3, Height: 10, Batch: 1}
	if got, ok := k.locate(2); !ok || got != want {
		t.Errorf("before it is written: %+v %v", got, ok)
	}
	k.Durable()
	closing()
	k, _, _ = keeperIn(t, dir)
	if got, ok := k.locate(2); !ok || got != want {
		t.Errorf("after a restart: %+v %v", got, ok)
	}
	if got, ok := k.locate(5); ok {
		t.Errorf("one that is not there: %+v", got)
	}
}

func TestAKeeperThatStopsWritesWhatItHas(t *testing.T) {
	dir := t.TempDir()
	k, _, closing := keeperIn(t, dir)
	judged(k, 1, trace.Failed)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Run(ctx); err != nil {
		t.Fatal(err)
	}
	closing()
	k, _, _ = keeperIn(t, dir)
	if got := listed(t, k, trace.Failed); len(got) != 1 {
		t.Errorf("%v", got)
	}
}
