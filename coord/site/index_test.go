package site_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// index asks box i, and waits until it has what the others claim.
func (r *rig) index(i int) error {
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
	defer cancel()
	round, err := r.boxes[i].site.Index(ctx)
	if err != nil {
		return err
	}
	return r.boxes[i].site.Reached(ctx, round)
}

func TestABoxThatWaitsForWhatAQuorumClaimsHasAllThatWasAcknowledged(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(1, 1)
		for _, v := range []string{"a", "b", "c"} {
			r.must(1, r.put(1, "k", v))
			for i := range r.boxes {
				if err := r.index(i); err != nil {
					t.Fatalf("box %d: %v", i, err)
				}
				if k, found, err := r.boxes[i].site.State().Get([]byte("k")); err != nil || !found || string(k.Value) != v {
					t.Fatalf("box %d reads %q %v, acknowledged is %q", i, k.Value, err, v)
				}
			}
		}
	})
}

func TestAClaimOfAnotherEpochDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, site.Tuning{})
		defer r.end()
		r.hub.lie = func(_ int, m *coord.PeerMsg) *coord.PeerMsg {
			if m.Index == nil {
				return m
			}
			return &coord.PeerMsg{Epoch: m.Epoch + 1, Index: m.Index}
		}
		for i := range r.boxes {
			r.start(i)
		}
		r.session(0, 1)
		if err := r.index(1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a box reads by what members of another epoch claim: %v", err)
		}
	})
}

func TestABoxThatIsCutOffFindsNoQuorum(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		for i := range 3 {
			r.hub.setCut(i, 3, true)
		}
		r.must(0, r.put(1, "k", "v"))
		if err := r.index(3); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a box that is cut off may read: %v", err)
		}
		if err := r.index(0); err != nil {
			t.Fatalf("three of four: %v", err)
		}
		for i := range 3 {
			r.hub.setCut(i, 3, false)
		}
		r.eventually("the box is back", func() bool { return r.index(3) == nil })
		r.reads(3, "k", "v")
	})
}

func TestWhoClaimsWhatNeverComesIsNotListenedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, site.Tuning{})
		defer r.end()
		r.hub.lie = func(from int, m *coord.PeerMsg) *coord.PeerMsg {
			if from == 3 && m.Index != nil {
				return &coord.PeerMsg{Epoch: m.Epoch, Index: &coord.Index{Nonce: m.Index.Nonce, Round: 1 << 40}}
			}
			return m
		}
		for i := range r.boxes {
			r.start(i)
		}
		r.session(0, 1)
		r.hub.setCut(0, 2, true) // so that the liar is needed
		if err := r.index(0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a round that is not there was reached: %v", err)
		}
		time.Sleep(3 * time.Second)
		r.must(0, r.put(1, "k", "v"))
		r.boxes[0].site.Doubt()
		r.hub.setCut(0, 2, false)
		if err := r.index(0); err != nil {
			t.Fatalf("the liar is still listened to: %v", err)
		}
	})
}

func TestAQuestionThatIsLostIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, site.Tuning{})
		defer r.end()
		var asked atomic.Int32
		r.hub.lie = func(_ int, m *coord.PeerMsg) *coord.PeerMsg {
			if m.IndexAsk == nil || asked.Add(1) > 2 {
				return m
			}
			return &coord.PeerMsg{Epoch: m.Epoch, Index: &coord.Index{Nonce: 1 << 60}} // nobody asked for that: the question is lost
		}
		for i := range r.boxes {
			r.start(i)
		}
		r.session(0, 1)
		r.must(0, r.put(1, "k", "v"))
		if err := r.index(1); err != nil {
			t.Fatal(err)
		}
		if n := asked.Load(); n != 3 {
			t.Errorf("asked %d times; once more than twice in vain would do", n)
		}
	})
}
