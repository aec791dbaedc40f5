package work

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
)

// A port that goes up and down all the time must not keep the machine from being looked at.
func TestEventsThatNeverStopDoNotKeepFromLooking(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	b := eventBox{news: make(chan struct{}, 1)}
	b.put(hal.Event{Kind: "link-up"})
	go func() {
		for ctx.Err() == nil {
			b.put(hal.Event{Kind: "link-down"})
			time.Sleep(quiet / 10)
		}
	}()
	if !b.wait(ctx) {
		t.Error("never looked")
	}
}
