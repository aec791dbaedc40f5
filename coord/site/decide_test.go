package site_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

func change(key, value string, was uint64) *coord.Decision {
	return &coord.Decision{Kind: "setting.change", Subject: key, Principal: "operator:ann", Writes: []coord.DocWrite{{Key: key, Was: was, Value: []byte(value)}}}
}

// decide proposes on a box and gives how it ended, or why not within a minute.
func (r *rig) decide(i int, d *coord.Decision) (site.Outcome, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), waitMax)
	defer cancel()
	return r.boxes[i].site.Decide(ctx, d)
}

func (r *rig) word(i int, id coord.Digest, yes bool) error {
	ctx, cancel := context.WithTimeout(r.t.Context(), waitMax)
	defer cancel()
	return r.boxes[i].site.Word(ctx, id, yes)
}

// written waits until boxes have a document.
func (r *rig) written(key, value string, boxes ...int) {
	r.t.Helper()
	for _, i := range boxes {
		r.eventually("a box has the document "+key, func() bool {
			d, ok := r.boxes[i].site.State().Doc(key)
			return ok && string(d.Value) == value
		})
	}
}

func TestJudgesDecideWithoutOperators(t *testing.T) {
	synctestSite(t, 4, func(r *rig) {
		r.judges = func(_ int, _ *state.Machine, d *coord.Decision) site.Judgement {
			if string(d.Authority) == "good" {
				return site.Judgement{Word: site.Yes, Why: "the authority is good"}
			}
			return site.Judgement{Word: site.No, Why: "the authority is bad"}
		}
	}, func(r *rig) {
		d := change("a", "x", 0)
		d.Authority = []byte("good")
		o, err := r.decide(2, d)
		if err != nil || o.Outcome != state.TookEffect || len(o.Yes) != 3 {
			t.Fatalf("%+v %v", o, err)
		}
		r.written("a", "x", 0, 1, 2, 3)
		for i := range r.boxes {
			r.eventually("a box tells how it ended", func() bool {
				b := r.boxes[i]
				b.mu.Lock()
				defer b.mu.Unlock()
				return len(b.decided) == 1 && b.decided[0].ID == o.ID && b.decided[0].Decision != nil
			})
		}
		if again, err := r.decide(1, d); err != nil || again.ID != o.ID || again.Height != o.Height {
			t.Errorf("proposed again: %+v %v", again, err)
		}
		bad := change("a", "y", 1)
		if o, err := r.decide(0, bad); !errors.Is(err, site.ErrRefused) || o.Outcome != state.Refused || !strings.Contains(err.Error(), "box-") {
			t.Errorf("%+v %v", o, err)
		}
		if _, err := r.decide(0, change("a", "y", 0)); !errors.Is(err, site.ErrStale) {
			t.Error(err)
		}
		if _, err := r.decide(0, &coord.Decision{Kind: "nonsense"}); !errors.Is(err, site.ErrDecision) || !errors.Is(err, coord.ErrDecision) {
			t.Error(err)
		}
		if _, err := r.decide(0, &coord.Decision{Kind: "a.b", Writes: []coord.DocWrite{{Key: coord.DocMembers}}}); !errors.Is(err, site.ErrDecision) {
			t.Error(err)
		}
	})
}

func TestOperatorsOnTheirBoxesDecide(t *testing.T) {
	synctestSite(t, 4, func(r *rig) {
		r.judges = func(i int, _ *state.Machine, _ *coord.Decision) site.Judgement {
			if i == 3 {
				panic("a bug in the judge")
			}
			return site.Judgement{Word: site.Wait, Why: "the policy asks for an operator"}
		}
	}, func(r *rig) {
		d := change("a", "x", 0)
		id := d.Digest(r.members.Site)
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		_, err := r.boxes[0].site.Decide(ctx, d)
		if !errors.Is(err, site.ErrWaits) || !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "1 of 3 words are there; box-1, box-2, box-3 gave none: `holdfast decision approve "+id.Short()) {
			t.Fatal(err)
		}
		for i, want := range []string{"", "the policy asks for an operator", "the policy asks for an operator", "this box could not judge it: a bug in the judge"} {
			v := r.view(i)
			if len(v.Decisions) != 1 || v.Decisions[0].ID != id || v.Decisions[0].Waits != want || len(v.Decisions[0].Missing) != 3 || v.Decisions[0].Needed != 3 {
				t.Errorf("box %d shows %+v", i, v.Decisions)
			}
		}
		if w := r.view(0).Decisions[0]; w.Word != "yes" {
			t.Errorf("%+v", w)
		}
		if err := r.word(0, id, false); !errors.Is(err, site.ErrDecision) {
			t.Errorf("a yes is taken back: %v", err)
		}
		if err := r.word(1, id, false); err != nil {
			t.Fatal(err)
		}
		if err := r.word(1, id, true); err != nil {
			t.Fatal(err)
		}
		if err := r.word(3, id, true); err != nil {
			t.Fatal(err)
		}
		r.written("a", "x", 0, 1, 2, 3)
		if err := r.word(2, id, true); !errors.Is(err, site.ErrNoDecision) || !strings.Contains(err.Error(), "it took effect at height") {
			t.Error(err)
		}
		if err := r.word(2, coord.Digest{1}, true); !errors.Is(err, site.ErrNoDecision) {
			t.Error(err)
		}
		r.eventually("nothing is open", func() bool { v := r.view(2); return len(v.Decisions) == 0 && len(v.Decided) == 1 })

		refused := change("b", "x", 0)
		go func() { _, _ = r.decide(0, refused) }()
		id = refused.Digest(r.members.Site)
		r.eventually("it is open", func() bool { o, _ := r.boxes[1].site.State().Decision(id); return o != nil })
		if err := errors.Join(r.word(1, id, false), r.word(2, id, false)); err != nil {
			t.Fatal(err)
		}
		r.eventually("it is refused", func() bool {
			_, d := r.boxes[3].site.State().Decision(id)
			return d != nil && d.Outcome == state.Refused
		})
	})
}

func TestBoxesThatProposeTheSameAtOnceLearnTheSame(t *testing.T) {
	synctestSite(t, 4, func(*rig) {}, func(r *rig) {
		type end struct {
			site.Outcome
			err error
		}
		ends := make(chan end, 4)
		for i := range 4 {
			go func() {
				d := change("a", "x", 0)
				d.Authority = []byte{byte(i)} // what convinces may differ
				o, err := r.decide(i, d)
				ends <- end{o, err}
			}()
		}
		first := <-ends
		for range 3 {
			if e := <-ends; e.err != nil || e.ID != first.ID || e.Height != first.Height || e.Outcome.Outcome != state.TookEffect {
				t.Errorf("%+v, another %+v", e, first)
			}
		}
		for i := range 4 {
			if v := r.boxes[i].site.State().DocsVersion(); v != 1 {
				t.Errorf("box %d has %d changes of documents", i, v)
			}
		}
	})
}

// A box that comes back judges what was opened while it was away, and what it judged before it went away.
func TestADecisionSurvivesRestarts(t *testing.T) {
	var may atomic.Bool
	synctestSite(t, 4, func(r *rig) {
		r.judges = func(int, *state.Machine, *coord.Decision) site.Judgement {
			if may.Load() {
				return site.Judgement{Word: site.Yes}
			}
			return site.Judgement{Word: site.Wait, Why: "not yet"}
		}
	}, func(r *rig) {
		d := change("a", "x", 0)
		id := d.Digest(r.members.Site)
		if err := r.stop(3); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = r.decide(1, d) }()
		r.eventually("it is open", func() bool { o, _ := r.boxes[2].site.State().Decision(id); return o != nil && len(o.Yes) == 1 })
		r.start(3)
		r.eventually("the box that was away hears of it", func() bool { return len(r.view(3).Decisions) == 1 })
		r.restart(0, 1, 2, 3)
		r.eventually("it is open again", func() bool { o, _ := r.boxes[0].site.State().Decision(id); return o != nil && len(o.Yes) == 1 })
		may.Store(true)
		r.restart(0, 2)
		r.written("a", "x", 0, 1, 2, 3)
	})
}

// Judges are asked again when what they may have looked at changes, and one that hangs stops neither its box nor the others'.
func TestJudgesAreAskedAgainAndMayHang(t *testing.T) {
	var hang chan struct{}
	synctestSite(t, 4, func(r *rig) {
		hang = make(chan struct{})
		r.judges = func(i int, st *state.Machine, d *coord.Decision) site.Judgement {
			if i == 3 {
				<-hang
			}
			if _, allowed := st.Doc("allow"); !allowed && d.Subject == "a" {
				return site.Judgement{Word: site.Wait, Why: "no document allows it"}
			}
			return site.Judgement{Word: site.Yes, Why: "it is allowed"}
		}
	}, func(r *rig) {
		defer close(hang)
		done := make(chan error, 1)
		go func() { _, err := r.decide(0, change("a", "x", 0)); done <- err }()
		r.eventually("it waits", func() bool {
			v := r.view(1)
			return len(v.Decisions) == 1 && v.Decisions[0].Waits == "no document allows it"
		})
		if _, err := r.decide(1, change("allow", "", 0)); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		r.written("a", "x", 0, 1, 2, 3)
		if err := r.stop(3); err != nil {
			t.Fatal(err)
		}
	})
}

func TestABoxWithTooManyOpenDecisionsSaysWhatEndsThem(t *testing.T) {
	synctestSite(t, 4, func(r *rig) {
		r.judges = func(int, *state.Machine, *coord.Decision) site.Judgement {
			return site.Judgement{Word: site.Wait, Why: "an operator must say"}
		}
	}, func(r *rig) {
		for i := range state.OpenOfOneMax + 1 {
			ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
			_, err := r.boxes[0].site.Decide(ctx, change(string(rune('a'+i)), "x", 0))
			cancel()
			want := site.ErrWaits
			if i == state.OpenOfOneMax {
				want = site.ErrBusy
			}
			if !errors.Is(err, want) || i == state.OpenOfOneMax && !strings.Contains(err.Error(), "holdfast decision list") {
				t.Errorf("decision %d: %v", i, err)
			}
		}
	})
}
