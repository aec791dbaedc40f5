package site_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
)

func TestWhatIsReadIsSettledWhenTheLogHasIt(t *testing.T) {
	inSite(t, 1, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		r.must(0, r.put(1, "k", "old"))
		b := r.boxes[0]
		gate, blocked := make(chan struct{}), make(chan struct{})
		b.log.mu.Lock()
		b.log.gate, b.log.blocked = gate, blocked
		b.log.mu.Unlock()
		a := r.submit(0, r.put(1, "k", "new"))
		<-blocked
		k, _, err := b.site.State().Get([]byte("k"))
		if err != nil || string(k.Value) != "new" {
			t.Fatalf("the state has %q, %v: this test is about what is applied and not durable", k.Value, err)
		}
		if err := b.site.Settled(r.t.Context(), time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("settled while the log does not have it: %v", err)
		}
		settled := make(chan error, 1)
		go func() { settled <- b.site.Settled(r.t.Context(), time.Minute) }()
		time.Sleep(time.Second)
		b.log.mu.Lock()
		b.log.gate = nil
		b.log.mu.Unlock()
		close(gate)
		r.answer(a)
		if err := <-settled; err != nil {
			t.Errorf("when the log has it: %v", err)
		}
		if err := b.site.Settled(r.t.Context(), time.Second); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}
