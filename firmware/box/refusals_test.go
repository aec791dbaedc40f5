package box

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/audit"
)

func denied(resource, reason, source string) audit.Record {
	return audit.Record{Action: "kv.put", Outcome: audit.Denied, Resource: resource, Reason: reason, Source: source}
}

func TestRefusalsOfOtherThingsOrForOtherReasonsAreNotPutTogether(t *testing.T) {
	var l refusals
	at := time.Unix(1000, 0)
	for i, tc := range []struct {
		r   audit.Record
		now bool
	}{
		{denied("key:a", "no token", "10.0.0.1:1"), true},
		{denied("key:b", "no token", "10.0.0.1:2"), true},
		{denied("key:a", "revoked", "10.0.0.1:3"), true},
		{denied("key:a", "no token", "10.0.0.1:4"), false}, // from another port it is the same source
		{denied("key:a", "no token", "10.0.0.2:1"), true},
	} {
		if got := l.take(&tc.r, at); got != tc.now {
			t.Errorf("%d: recorded %v, want %v", i, got, tc.now)
		}
	}
	r := denied("key:a", "no token", "10.0.0.1:9")
	if !l.take(&r, at.Add(refusalsEvery)) || r.Reason != "no token (and 1 more like it before)" {
		t.Errorf("a second later: %q", r.Reason)
	}
}

func TestTheCountOfTheLastRefusalsIsNotLost(t *testing.T) {
	var l refusals
	at := time.Unix(1000, 0)
	for range 4 {
		r := denied("key:a", "no token", "10.0.0.1:1")
		l.take(&r, at)
	}
	if got := l.settle(at.Add(refusalsEvery/2), false); len(got) != 0 {
		t.Errorf("settled too early: %+v", got)
	}
	got := l.settle(at.Add(refusalsEvery), false)
	if len(got) != 1 || got[0].Reason != "no token (and 2 more like it before)" || got[0].Resource != "key:a" {
		t.Errorf("settled: %+v", got)
	}
	if len(l) != 0 {
		t.Errorf("%d are remembered for nothing", len(l))
	}
	for range 2 {
		r := denied("key:a", "no token", "10.0.0.1:1")
		l.take(&r, at)
	}
	if got := l.settle(at, true); len(got) != 1 || got[0].Reason != "no token" {
		t.Errorf("at the end: %+v", got)
	}
}

func TestWhoAsksForAnotherKeyEachTimeDoesNotFillTheLog(t *testing.T) {
	var l refusals
	at := time.Unix(1000, 0)
	recorded := 0
	for i := range 10_000 {
		r := denied(fmt.Sprint("key:", i), strings.Repeat("ü", audit.ReasonBytesMax), "10.0.0.1:1")
		if l.take(&r, at) {
			recorded++
		}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if recorded != refusalKinds+1 {
		t.Errorf("%d records of one second and one source", recorded)
	}
	got := l.settle(at, true)
	if len(got) != 1 || !strings.Contains(got[0].Reason, fmt.Sprintf("(and %d more refusals, of others", 10_000-recorded-1)) {
		t.Errorf("settled: %+v", got)
	}
	for _, r := range got {
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
	for i := range 2 * refusalsMax {
		r := denied("key:a", "no token", fmt.Sprintf("10.%d.%d.1:1", i/256, i%256))
		l.take(&r, at)
	}
	if len(l) > refusalsMax+1 {
		t.Errorf("%d sources are told apart", len(l))
	}
}
