package site

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// Judgement is what a box thinks of a decision by itself.
type Judgement struct {
	Word Verdict
	// Why is for people: what convinced it, what it waits for, what is wrong.
	Why string
}

// Verdict is a judgement in one word.
type Verdict uint8

// The verdicts.
const (
	// Wait: an operator on this box must say. Also where the authority does not hold: another box may propose the same decision with
	// one that does.
	Wait Verdict = iota
	Yes
	// No: the decision is wrong, whoever asks for it.
	No
)

// judgeSlow is when the time that a judgement took is worth a warning: it costs nobody else anything, but is odd.
const judgeSlow = time.Second

// deciding is what a box thinks of the open decisions that it has given no word on, and who waits for them.
type deciding struct {
	kick chan struct{}

	mu     sync.Mutex
	change chan struct{} // closed and made anew with every change
	judged map[coord.Digest]Judgement
	of     coord.Digest // what was judged: the documents and the open decisions
}

func newDeciding() deciding {
	return deciding{kick: make(chan struct{}, 1), change: make(chan struct{}), judged: map[coord.Digest]Judgement{}}
}

// changed is closed when decisions, words or documents have changed.
func (d *deciding) changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.change
}

func (d *deciding) tell() {
	d.mu.Lock()
	close(d.change)
	d.change = make(chan struct{})
	d.mu.Unlock()
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// why is what this box waits for before it gives its word; empty: it has not judged yet.
func (d *deciding) why(id coord.Digest) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.judged[id].Why
}

// judge is the goroutine that judges open decisions one after the other, and gives this box's word on those that it is sure of. A word that was
// lost with a crash is found missing in the state, and given again.
func (s *Site) judge(ctx context.Context) {
	s.decisions.tell() // what was open before this start
	for {
		select {
		case <-s.decisions.kick:
			s.judgeAll(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// judgeAll judges what is new, or all when the documents or the open decisions have changed.
func (s *Site) judgeAll(ctx context.Context) {
	st, me := s.State(), s.ep.Load().Me()
	open, key := st.Open(), sha256.New()
	_ = binary.Write(key, binary.BigEndian, st.DocsVersion())
	for i := range open {
		key.Write(open[i].ID[:])
		key.Write([]byte{byte(len(open[i].Others))})
	}
	of := coord.Digest(key.Sum(nil))
	d := &s.decisions
	d.mu.Lock()
	if d.of != of {
		d.of = of
		clear(d.judged)
	}
	d.mu.Unlock()
	if ms := st.Members(); ms == nil || ms.Index(me) < 0 {
		return
	}
	for i := range open {
		o := &open[i]
		d.mu.Lock()
		j, known := d.judged[o.ID]
		d.mu.Unlock()
		if slices.Contains(o.Yes, me) || slices.Contains(o.No, me) {
			continue
		}
		if !known {
			var ok bool
			if j, ok = s.judgeOne(ctx, st, o); !ok {
				return // the box stops
			}
			d.mu.Lock()
			d.judged[o.ID] = j
			d.mu.Unlock()
		}
		if j.Word == Wait {
			continue
		}
		why, err := s.sayWord(ctx, state.AppendWord(nil, o.ID, j.Word == Yes))
		if err != nil {
			return // so it does then
		}
		s.log.Info("this box gave its word on a decision", "id", o.ID.Short(), "kind", o.Decision.Kind, "subject", o.Decision.Subject,
			"yes", j.Word == Yes, "why", j.Why, "taken", why == state.NotRefused)
	}
}

// judgeOne asks the judge about a decision as each of its proposers put it: one whose authority holds is enough.
func (s *Site) judgeOne(ctx context.Context, st *state.Machine, o *state.OpenDecision) (j Judgement, ok bool) {
	if s.o.Judge == nil {
		return Judgement{Wait, "an operator must approve it on this box"}, true
	}
	for i, d := range append([]*coord.Decision{o.Decision}, o.Others...) {
		x, ok := s.askJudge(ctx, st, o.ID, d)
		if !ok {
			return j, false
		}
		if x.Word == Yes {
			return x, true
		}
		if i == 0 || x.Word == Wait && j.Word == No {
			j = x
		}
	}
	return j, true
}

// askJudge runs the judge on a goroutine of its own: it may panic, and if it never comes back the box can still stop.
func (s *Site) askJudge(ctx context.Context, st *state.Machine, id coord.Digest, d *coord.Decision) (Judgement, bool) {
	start := time.Now()
	out := make(chan Judgement, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				s.log.Error("the judge of decisions panicked; an operator must give this box's word", "id", id.Short(), "kind", d.Kind, "panic", r)
				out <- Judgement{Wait, fmt.Sprintf("this box could not judge it: %v", r)}
			}
		}()
		out <- s.o.Judge(st, d)
	}()
	slow := time.NewTimer(judgeSlow)
	defer slow.Stop()
	for {
		select {
		case j := <-out:
			s.log.Debug("judged a decision", "id", id.Short(), "kind", d.Kind, "took", time.Since(start), "why", j.Why)
			return j, true
		case <-slow.C:
			s.log.Warn("judging a decision takes long; other decisions wait for it", "id", id.Short(), "kind", d.Kind, "for", judgeSlow)
		case <-ctx.Done():
			return Judgement{}, false
		}
	}
}
