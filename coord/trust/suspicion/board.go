package suspicion

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Reason is what a box is suspected for.
type Reason uint8

// The reasons.
const (
	Volume       Reason = iota // it sends more than it may
	WrongState                 // its state digest is not the quorum's
	Clock                      // its clock is off the quorum's median
	Late                       // it leads, and proposes later than the others do
	BadSignature               // it sent what it had not signed rightly
	Challenge                  // it answered wrongly, or too often not at all
	reasons
)

var reasonNames = [...]string{
	Volume: "excessive volume", WrongState: "another state than the quorum", Clock: "clock off the median",
	Late: "late proposals", BadSignature: "bad signatures", Challenge: "failed challenges",
}

// String is for people.
func (r Reason) String() string {
	if r >= reasons {
		return "unknown"
	}
	return reasonNames[r]
}

// MarshalText makes JSON show a reason as its String.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote; what it does not know is no error, since a later release may have more.
func (r *Reason) UnmarshalText(t []byte) error {
	*r = reasons
	for i, name := range reasonNames {
		if name == string(t) {
			*r = Reason(i)
		}
	}
	return nil
}

// Scores are points. They halve every halfLife: what a box did an hour ago weighs a sixty-fourth.
const (
	halfLife = 10 * time.Minute
	// watchedAt is one serious event, suspectAt several: no single event but another state makes a suspect. clearAt is lower than
	// suspectAt, so that a score about there does not move the leader back and forth.
	watchedAt = 3.0
	suspectAt = 10.0
	clearAt   = 5.0
	// pointsMax bounds the points of one reason: who stops is clear after two half-lives, whatever it did.
	pointsMax = 20.0
	// detailBytesMax bounds the text beside a reason.
	detailBytesMax = 160
)

// Level is what a score comes to.
type Level uint8

// The levels.
const (
	Fine Level = iota
	Watched
	Suspect
)

// String is for people.
func (l Level) String() string { return [...]string{"fine", "watched", "suspect"}[min(l, Suspect)] }

// MarshalText makes JSON show a level as its String.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (l *Level) UnmarshalText(t []byte) error {
	for v := Fine; v <= Suspect; v++ {
		if v.String() == string(t) {
			*l = v
			return nil
		}
	}
	return fmt.Errorf("suspicion: no level: %.20q", t)
}

// event is what a detector has to say of a box.
type event struct {
	box    coord.BoxID
	reason Reason
	points float64
	detail string
}

// Ground is one reason of a standing.
type Ground struct {
	Reason Reason  `json:"reason"`
	Points float64 `json:"points"` // now
	Events uint64  `json:"events"` // ever, since the box was a member
	Last   int64   `json:"last"`   // when the last one was, in the caller's nanoseconds
	Detail string  `json:"detail"` // of the last one
}

// Standing is a box's score and why.
type Standing struct {
	Box     coord.BoxID `json:"box"`
	Level   Level       `json:"level"`
	Points  float64     `json:"points"`
	Grounds []Ground    `json:"grounds"` // those with events, most points first
	// FineIn is how long until the level is Fine if nothing happens, 0 if it is: an upper bound.
	FineIn time.Duration `json:"fine_in"`
}

// Why names the reasons that weigh, with what happened last, for people.
func (s *Standing) Why() string {
	var b strings.Builder
	for _, g := range s.Grounds {
		if g.Points < 1 {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (%s)", g.Reason, g.Detail)
	}
	return b.String()
}

// Change is a box that came to another level.
type Change struct {
	From Level
	Standing
}

// board keeps the scores of the members.
type board struct {
	boxes map[coord.BoxID]*score
}

type score struct {
	grounds [reasons]Ground // points as of at
	at      int64
	suspect bool  // held until clearAt
	said    Level // by the last changes
}

// members forgets who is none any more.
func (b *board) members(ids []coord.BoxID) {
	old := b.boxes
	b.boxes = make(map[coord.BoxID]*score, len(ids))
	for _, id := range ids {
		if b.boxes[id] = old[id]; b.boxes[id] == nil {
			b.boxes[id] = new(score)
		}
	}
}

// note adds an event; of a box that is no member it does nothing.
func (b *board) note(e *event, now int64) {
	s := b.boxes[e.box]
	if s == nil {
		return
	}
	s.decay(now)
	g := &s.grounds[e.reason]
	g.Points = min(g.Points+e.points, pointsMax)
	g.Events++
	g.Last, g.Detail = now, strings.ToValidUTF8(e.detail[:min(len(e.detail), detailBytesMax)], "")
	s.level()
}

// decay brings the points to now. Time that goes back does nothing.
func (s *score) decay(now int64) {
	if now <= s.at {
		return
	}
	left := math.Exp2(-float64(now-s.at) / float64(halfLife))
	for i := range s.grounds {
		s.grounds[i].Points *= left
	}
	s.at = now
}

func (s *score) points() (sum float64) {
	for i := range s.grounds {
		sum += s.grounds[i].Points
	}
	return sum
}

func (s *score) level() Level {
	p := s.points()
	s.suspect = p >= suspectAt || s.suspect && p >= clearAt
	switch {
	case s.suspect:
		return Suspect
	case p >= watchedAt:
		return Watched
	}
	return Fine
}

func (s *score) standing(box coord.BoxID, now int64) Standing {
	s.decay(now)
	st := Standing{Box: box, Level: s.level(), Points: s.points(), Grounds: []Ground{}}
	for i := range s.grounds {
		if s.grounds[i].Events > 0 {
			g := s.grounds[i]
			g.Reason = Reason(i)
			st.Grounds = append(st.Grounds, g)
		}
	}
	slices.SortStableFunc(st.Grounds, func(a, b Ground) int { return cmp.Compare(b.Points, a.Points) })
	if st.Level != Fine {
		st.FineIn = time.Duration(math.Log2(st.Points/watchedAt)*float64(halfLife)) + 1
	}
	return st
}

// standings are all members', the highest score first, then by id.
func (b *board) standings(now int64) []Standing {
	out := make([]Standing, 0, len(b.boxes))
	for id, s := range b.boxes {
		out = append(out, s.standing(id, now))
	}
	slices.SortFunc(out, func(x, y Standing) int {
		return cmp.Or(cmp.Compare(y.Points, x.Points), bytes.Compare(x.Box[:], y.Box[:]))
	})
	return out
}

// changes are the boxes whose level is another one than when it was asked last.
func (b *board) changes(now int64) (out []Change) {
	for _, st := range b.standings(now) {
		s := b.boxes[st.Box]
		if s.said != st.Level {
			out = append(out, Change{From: s.said, Standing: st})
			s.said = st.Level
		}
	}
	return out
}

// Aside is which members should not lead, when opinions are ordered as state: opinions[i] has bit j when member i says that it suspects
// member j. At least f+1 others must say so, one of them honest; at most f are set aside, those that most suspect, then the lower
// index, so that liars cannot take the lead from more boxes than there are liars. It is a pure function: all boxes agree. Who is
// set aside still votes and counts.
func Aside(n int, opinions []uint32) (members []int) {
	f := coord.MaxFaulty(n)
	var votes [coord.MembersMax]int
	for i := range min(n, len(opinions), coord.MembersMax) {
		for j := range min(n, coord.MembersMax) {
			if i != j && opinions[i]&(1<<j) != 0 {
				votes[j]++
			}
		}
	}
	for j := range min(n, coord.MembersMax) {
		if f > 0 && votes[j] > f {
			members = append(members, j)
		}
	}
	slices.SortStableFunc(members, func(a, b int) int { return cmp.Compare(votes[b], votes[a]) })
	members = members[:min(len(members), f)]
	slices.Sort(members)
	return members
}

func detail(format string, args ...any) string { return fmt.Sprintf(format, args...) }
