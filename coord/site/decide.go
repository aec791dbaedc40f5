package site

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// Errors of decisions. Their texts say what to do.
var (
	// ErrDecision: the site did not take a proposal or a word.
	ErrDecision = errors.New("site: not taken")
	// ErrNoDecision: no such decision is open.
	ErrNoDecision = errors.New("site: no such decision is open")
	// ErrRefused: more than f members said no.
	ErrRefused = errors.New("site: refused")
	// ErrStale: another decision changed what this one writes; make it again.
	ErrStale = errors.New("site: overtaken by another decision")
	// ErrExpired: its time was over before enough members had said yes.
	ErrExpired = errors.New("site: expired")
	// ErrNoRoom: the site's documents have no room for it.
	ErrNoRoom = errors.New("site: no room")
	// ErrWaits: it is open and waits for words of other boxes.
	ErrWaits = errors.New("site: waits for other boxes")
)

// Outcome is how a decision ended.
type Outcome = state.Decided

// Decide proposes a decision with this box's yes and waits until it has ended, or ctx has. If it was proposed before, here or elsewhere,
// this is one more yes, and if it has ended, how. With every error but ErrDecision, ErrBusy and ErrStopped the site knows the
// decision. Errors: ErrDecision, ErrRefused, ErrStale, ErrExpired, ErrNoRoom, ErrBusy (too many are open), ErrStopped; ErrWaits with ctx's.
func (s *Site) Decide(ctx context.Context, d *coord.Decision) (Outcome, error) {
	value := state.AppendProposal(nil, d)
	if _, err := state.DecodeWord(value); err != nil {
		return Outcome{}, fmt.Errorf("site: decide: %w: %w", ErrDecision, err)
	}
	id := d.Digest(s.ep.Load().Members.Site)
	why, err := s.sayWord(ctx, value)
	switch {
	case err != nil:
		return Outcome{}, fmt.Errorf("site: decide: %w", err)
	case why == state.RefuseStale:
		return Outcome{}, fmt.Errorf("site: decide: %w: %v; make it again", ErrStale, why)
	case why == state.RefuseFull:
		return Outcome{}, fmt.Errorf("site: decide: %w: %v: %s", ErrBusy, why, makeRoom)
	case why != state.NotRefused && why != state.RefuseDone:
		return Outcome{}, fmt.Errorf("site: decide: %w: %v", ErrDecision, why)
	}
	return s.ended(ctx, id)
}

// Word gives this box's word on an open decision, as an operator on it wants. It returns when the word counts. Errors: ErrNoDecision,
// ErrDecision (a yes cannot be taken back), ErrBusy, ErrStopped, ctx's.
func (s *Site) Word(ctx context.Context, id coord.Digest, yes bool) error {
	why, err := s.sayWord(ctx, state.AppendWord(nil, id, yes))
	switch why {
	case state.NotRefused:
	case state.RefuseDone:
		if _, d := s.State().Decision(id); d != nil {
			return fmt.Errorf("site: word: %w: %s was decided before: it %v at height %d", ErrNoDecision, id.Short(), d.Outcome, d.Height)
		}
		return fmt.Errorf("site: word: %w: %s was decided before", ErrNoDecision, id.Short())
	case state.RefuseUnknown:
		return fmt.Errorf("site: word: %w: %s; see `holdfast decision list`", ErrNoDecision, id.Short())
	default:
		err = fmt.Errorf("%w: %v", ErrDecision, why)
	}
	if err != nil {
		return fmt.Errorf("site: word: %w", err)
	}
	return nil
}

// makeRoom says what ends decisions that stand in the way of others.
const makeRoom = "`holdfast decision list` shows them; on other boxes approve those that are wanted, and refuse the others, which more than f boxes end; or wait"

// wordAgain is how long a word that could not be ordered waits.
const wordAgain = 200 * time.Millisecond

// sayWord orders a KindDecide message, again as long as that is not done and ctx lasts: to say it twice changes nothing.
func (s *Site) sayWord(ctx context.Context, value []byte) (state.Refusal, error) {
	for {
		cols := new(coord.Columns)
		cols.Add(coord.KindDecide, 0, 0, 0, nil, value)
		reply := make(chan coord.Reply, 1)
		s.Submit(&Request{Cols: cols, Done: func(r coord.Reply) { reply <- r }})
		var r coord.Reply
		select {
		case r = <-reply:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if len(r.Results) == 1 {
			if why := state.RefusalOf(&r.Results[0]); why != state.NotRefused || r.Code == coord.CodeOK {
				return why, nil
			}
		}
		if s.fault.Load() != nil || s.draining.Load() {
			return 0, ErrStopped
		}
		again := time.NewTimer(max(wordAgain, r.RetryAfter))
		select {
		case <-again.C:
		case <-s.stopped:
			again.Stop()
			return 0, ErrStopped
		case <-ctx.Done():
			again.Stop()
			return 0, fmt.Errorf("%w: the site orders nothing now: %v", ctx.Err(), r.Code)
		}
	}
}

// ended waits until a decision that the site knows has ended.
func (s *Site) ended(ctx context.Context, id coord.Digest) (Outcome, error) {
	for {
		changed := s.decisions.changed()
		st := s.State()
		open, done := st.Decision(id)
		if done != nil {
			return *done, outcomeError(st, done)
		}
		select {
		case <-changed:
		case <-s.stopped:
			return Outcome{}, fmt.Errorf("site: decide: %w", ErrStopped)
		case <-ctx.Done():
			return Outcome{}, fmt.Errorf("site: decide: %w: %w: %s", ErrWaits, ctx.Err(), s.missing(st, id, open))
		}
	}
}

func outcomeError(st *state.Machine, d *state.Decided) error {
	switch d.Outcome {
	case state.Refused:
		return fmt.Errorf("site: decide: %w: %s said no", ErrRefused, names(st.Members(), d.No))
	case state.Stale:
		return fmt.Errorf("site: decide: %w at height %d; make it again", ErrStale, d.Height)
	case state.Expired:
		return fmt.Errorf("site: decide: %w: %d members had said yes: %s", ErrExpired, len(d.Yes), names(st.Members(), d.Yes))
	case state.NoRoom:
		return fmt.Errorf("site: decide: %w: %v", ErrNoRoom, state.RefuseRoom)
	}
	return nil
}

// missing says which words an open decision waits for.
func (s *Site) missing(st *state.Machine, id coord.Digest, o *state.OpenDecision) string {
	if o == nil {
		return "this box has not heard of it again yet"
	}
	v := s.showDecision(st, o)
	text := fmt.Sprintf("%d of %d words are there; %s gave none: `holdfast decision approve %s` there", len(v.Yes), v.Needed, names(st.Members(), v.Missing), id.Short())
	if v.Waits != "" {
		text += "; this box waits: " + v.Waits
	}
	return text
}

// names lists boxes for people; some may be members no more.
func names(ms *coord.Members, ids []coord.BoxID) string {
	var out []string
	for _, id := range ids {
		if i := ms.Index(id); i >= 0 {
			out = append(out, ms.List[i].Name)
		} else {
			out = append(out, id.String())
		}
	}
	if len(out) == 0 {
		return "nobody"
	}
	return strings.Join(out, ", ")
}

// DecisionView is an open decision as a box shows it.
type DecisionView struct {
	ID        coord.Digest   `json:"id"`
	Kind      string         `json:"kind"`
	Subject   string         `json:"subject"`
	Principal string         `json:"principal"`
	Reason    string         `json:"reason"`
	By        coord.BoxID    `json:"by"` // the box that proposed it first
	Writes    []DocWriteView `json:"writes"`
	// Yes and No are the members that gave their word, Missing those that gave none; Needed is how many must say yes.
	Yes     []coord.BoxID `json:"yes"`
	No      []coord.BoxID `json:"no"`
	Missing []coord.BoxID `json:"missing"`
	Needed  int           `json:"needed"`
	// Left is for how many seconds of the site's clock it stays open.
	Left uint64 `json:"left_s"`
	// Word is this box's: "yes", "no" or nothing; then Waits says what for, when it has judged.
	Word  string `json:"word,omitempty"`
	Waits string `json:"waits,omitempty"`
}

// DocWriteView is a document that a decision writes, or removes.
type DocWriteView struct {
	Key     string `json:"key"`
	Was     uint64 `json:"was"`
	Removes bool   `json:"removes,omitempty"`
	Bytes   int    `json:"bytes"`
	Seconds uint64 `json:"seconds,omitempty"`
}

func (s *Site) showDecision(st *state.Machine, o *state.OpenDecision) DecisionView {
	ms, d := st.Members(), o.Decision
	v := DecisionView{
		ID: o.ID, Kind: d.Kind, Subject: d.Subject, Principal: d.Principal, Reason: d.Reason, By: o.By, Yes: o.Yes, No: o.No,
		Needed: coord.Quorum(ms.N()), Left: o.Ends - min(o.Ends, st.Seconds()), Missing: []coord.BoxID{},
	}
	for i := range d.Writes {
		w := &d.Writes[i]
		v.Writes = append(v.Writes, DocWriteView{w.Key, w.Was, w.Value == nil, len(w.Value), w.Seconds})
	}
	for i := range ms.List {
		if id := ms.List[i].ID; !slices.Contains(o.Yes, id) && !slices.Contains(o.No, id) {
			v.Missing = append(v.Missing, id)
		}
	}
	switch me := s.ep.Load().Me(); {
	case slices.Contains(o.Yes, me):
		v.Word = "yes"
	case slices.Contains(o.No, me):
		v.Word = "no"
	default:
		v.Waits = s.decisions.why(o.ID)
	}
	return v
}

// Decisions are the open decisions by ascending id, and how others ended, the newest first, as this box has them.
func (s *Site) Decisions() (open []DecisionView, ended []Outcome) {
	st := s.State()
	open = []DecisionView{}
	for _, o := range st.Open() {
		open = append(open, s.showDecision(st, &o))
	}
	return open, st.Decided()
}

// tellDecided gives away how decisions ended, also those in a state that was fetched, and that there is something to judge.
func (b *Box) tellDecided() {
	if n := b.st.SiteChanges(); n != b.siteChanges {
		b.siteChanges, b.fx.Decisions = n, true
	}
	for _, d := range b.st.TakeDecided() {
		b.decidedTo = d.Number
		b.fx.Decided = append(b.fx.Decided, d)
	}
}

// catchUpDecided does so after the state was replaced, as far back as it remembers.
func (b *Box) catchUpDecided() {
	b.siteChanges, b.fx.Decisions = b.st.SiteChanges(), true
	all := b.st.Decided()
	slices.Reverse(all)
	for _, d := range all {
		if d.Number > b.decidedTo {
			b.decidedTo = d.Number
			b.fx.Decided = append(b.fx.Decided, d)
		}
	}
}
