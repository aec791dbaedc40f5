package roster

import (
	"fmt"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// Sums is what a number of boxes stands.
type Sums struct {
	Boxes  int `json:"boxes"`
	Faulty int `json:"faulty"` // f, so many may lie
	Quorum int `json:"quorum"` // n - f, so many must be there
}

// SumsOf counts for n boxes.
func SumsOf(n int) Sums { return Sums{n, coord.MaxFaulty(n), coord.Quorum(n)} }

// String is such as "4 boxes: f = 1, quorum 3".
func (s Sums) String() string {
	word := "boxes"
	if s.Boxes == 1 {
		word = "box"
	}
	return fmt.Sprintf("%d %s: f = %d, quorum %d", s.Boxes, word, s.Faulty, s.Quorum)
}

// Verdict says whether a change may be asked for.
type Verdict uint8

// The verdicts.
const (
	Fine   Verdict = iota
	Forced         // only by who says that it is meant
	Never          // nobody could want it, or it cannot be
)

var verdicts = [...]string{Fine: "fine", Forced: "needs-force", Never: "refused"}

// MarshalText makes JSON show a verdict as a word.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(verdicts[min(v, Never)]), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Verdict) UnmarshalText(t []byte) error {
	for i, word := range verdicts {
		if word == string(t) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("roster: %q is no verdict", t)
}

// Advice is the arithmetic of a change, and what follows from it.
type Advice struct {
	Now     Sums    `json:"now"`
	After   Sums    `json:"after"`
	Up      int     `json:"up"`       // boxes of the list now that are reached now
	UpAfter int     `json:"up_after"` // of the list after, the new one counted only where it waits
	Verdict Verdict `json:"verdict"`
	// Why is for people: one remark each.
	Why []string `json:"why,omitempty"`
}

// String is the whole of it in a line.
func (a *Advice) String() string {
	s := fmt.Sprintf("now %v; after: %v", a.Now, a.After)
	if len(a.Why) > 0 {
		s += ": " + strings.Join(a.Why, "; ")
	}
	return s
}

// Weigh does the arithmetic of going from one list to the next. up says whether a box is reached now (the one that is asked counts as
// reached); waits says that the new box of next, if there is one, runs already and waits to be let in.
//
// What would lock the site is refused whatever is said: after the change fewer boxes would be there than the new quorum, and without a
// quorum nothing can be decided any more, not even the change back. A new box that is not known to wait is another thing: it
// may be about to be started, so who says so is believed.
func Weigh(now, next *coord.Members, up func(coord.BoxID) bool, waits bool) Advice {
	a := Advice{Now: SumsOf(now.N()), After: SumsOf(next.N())}
	for i := range now.List {
		if up(now.List[i].ID) {
			a.Up++
		}
	}
	fresh := 0
	for i := range next.List {
		id := next.List[i].ID
		switch {
		case now.Index(id) < 0:
			fresh++
		case up(id):
			a.UpAfter++
		}
	}
	sure := a.UpAfter
	if waits {
		a.UpAfter += fresh
	}
	raise := func(v Verdict, text string, args ...any) {
		a.Verdict = max(a.Verdict, v)
		a.Why = append(a.Why, fmt.Sprintf(text, args...))
	}
	if a.Up < a.Now.Quorum {
		raise(Never, "only %d of %d boxes are reached and a decision needs %d: bring one back first", a.Up, a.Now.Boxes, a.Now.Quorum)
	}
	switch {
	case sure+fresh < a.After.Quorum:
		raise(Never, "%d of the %d boxes would be reached: the site could decide nothing any more, not even to undo this", sure+fresh, a.After.Boxes)
	case a.UpAfter < a.After.Quorum:
		raise(Forced, "the site stands still until the new box runs: start it first, so that it waits, or be sure of it")
	case sure < a.After.Quorum:
		raise(Fine, "the site waits for the new box before it goes on")
	case fresh > 0 && !waits && sure == a.After.Quorum && a.After.Faulty > 0:
		raise(Fine, "until the new box runs no other may be away")
	}
	switch {
	case a.Now.Faulty > 0 && a.After.Faulty == 0:
		raise(Forced, "a single box that lies or is away stops or forks the site")
	case a.After.Faulty < a.Now.Faulty:
		raise(Fine, "fewer boxes may lie or be away than now")
	case a.After.Faulty == 0 && a.After.Boxes > a.Now.Boxes:
		raise(Fine, "no box may lie or be away yet; that begins with 4 boxes")
	case a.After.Quorum == a.After.Boxes && a.After.Boxes > 1:
		raise(Fine, "every box must be there")
	}
	return a
}
