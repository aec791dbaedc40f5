package box

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

func TestTheEndOfADecisionAndTheBoxesOwnWordsAreRecorded(t *testing.T) {
	records := make(chan audit.Record, 8)
	c := newClerk(func(_ context.Context, r audit.Record) error { records <- r; return nil }, coord.BoxID{7}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.run(ctx); close(done) }()
	defer func() { stop(); <-done }()

	d := &coord.Decision{Kind: "role.grant", Subject: "cache", Principal: "operator:ann"}
	id := d.Digest(coord.SiteID{1})
	for outcome, want := range map[state.Outcome]audit.Record{
		state.TookEffect: {Action: "decision.effect", Outcome: audit.Allowed}, state.Refused: {Action: "decision.end", Outcome: audit.Failed},
	} {
		c.take(&site.Outcome{ID: id, Kind: d.Kind, Subject: d.Subject, Principal: d.Principal, Outcome: outcome, Height: 9})
		r := <-records
		if r.Action != want.Action || r.Outcome != want.Outcome || r.Principal != "operator:ann" || r.Resource != "decision:"+id.String() ||
			!strings.Contains(r.Reason, outcome.String()+" at height 9") {
			t.Errorf("%v: %+v", outcome, r)
		}
	}

	word := site.Wait
	judge := c.judged(func(*state.Machine, *coord.Decision) site.Judgement {
		return site.Judgement{Word: word, Why: "signed by ann"}
	}, coord.SiteID{1})
	judge(nil, d)
	for _, x := range []struct {
		word   site.Verdict
		action string
	}{{site.Yes, "decision.approve"}, {site.No, "decision.refuse"}} {
		word = x.word
		if j := judge(nil, d); j.Word != x.word {
			t.Error(j)
		}
		r := <-records
		if r.Action != x.action || r.Principal != "box:0700000000000000" || !strings.Contains(r.Reason, "signed by ann") || r.Resource != "decision:"+id.String() {
			t.Errorf("%+v", r)
		}
	}
	if c.judged(nil, coord.SiteID{}) != nil {
		t.Error("a judge out of nothing")
	}
	if len(records) != 0 {
		t.Errorf("one more: %+v", <-records)
	}
}
