package box

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/audit"
)

const (
	// refusalsEvery: of refusals that are alike one is recorded in this time, and the next says how many there were.
	refusalsEvery = time.Second
	// refusalsMax bounds those that ask and are told apart, by who asked, for what and from where; refusalKinds the resources and reasons of
	// each: who asks for another key each time must not fill the log.
	refusalsMax  = 1024
	refusalKinds = 16
)

// refusals puts refusals together that are alike in principal, action, source, resource and reason. Beyond its bounds it goes by fewer of
// these, and its records say so. The zero value is ready.
type refusals map[party]*asked

type party struct{ principal, action, source string }

type asked struct {
	kinds map[kind]*repeated
	// rest are those of further kinds.
	rest repeated
}

type kind struct{ resource, reason string }

// repeated counts what was not recorded since until began.
type repeated struct {
	until time.Time
	more  int
	last  audit.Record
}

// take says whether r is to be recorded now, and has it say how many like it were not.
func (l *refusals) take(r *audit.Record, at time.Time) bool {
	r.Clip()
	host, _, err := net.SplitHostPort(r.Source)
	if err != nil {
		host = r.Source
	}
	k := party{r.Principal, r.Action, host}
	if *l == nil {
		*l = refusals{}
	}
	a := (*l)[k]
	if a == nil && len(*l) >= refusalsMax {
		k = party{} // a flood from many sources: those beyond are one
		a = (*l)[k]
	}
	if a == nil {
		a = &asked{kinds: map[kind]*repeated{}}
		(*l)[k] = a
	}
	x := a.kinds[kind{r.Resource, r.Reason}]
	switch {
	case x != nil:
	case len(a.kinds) < refusalKinds:
		x = new(repeated)
		a.kinds[kind{r.Resource, r.Reason}] = x
	default:
		x = &a.rest
	}
	if at.Before(x.until) {
		x.more++
		x.last = *r
		return false
	}
	if x.more > 0 {
		x.say(r, x == &a.rest || k == party{})
	}
	x.until, x.more = at.Add(refusalsEvery), 0
	return true
}

// say puts into r how many were not recorded; mixed says that they were not quite like it.
func (x *repeated) say(r *audit.Record, mixed bool) {
	what := "more like it"
	if mixed {
		what = "more refusals, of others or for other reasons"
	}
	note := fmt.Sprintf(" (and %d %s before)", x.more, what)
	r.Reason = r.Reason[:min(len(r.Reason), audit.ReasonBytesMax-len(note))]
	r.Reason = strings.ToValidUTF8(r.Reason, "") + note // the cut may be within a letter
}

// settle gives records of those that were counted and are waited for no longer, all of them when it is the last time, and forgets what is over.
func (l *refusals) settle(at time.Time, last bool) (list []audit.Record) {
	for k, a := range *l {
		over := func(x *repeated, mixed bool) bool {
			if at.Before(x.until) && !last {
				return false
			}
			if x.more > 0 {
				// The last of them is in the record itself.
				x.more--
				r := x.last
				if x.more > 0 {
					x.say(&r, mixed)
				}
				list = append(list, r)
			}
			*x = repeated{}
			return true
		}
		maps.DeleteFunc(a.kinds, func(_ kind, x *repeated) bool { return over(x, k == party{}) })
		if over(&a.rest, true) && len(a.kinds) == 0 {
			delete(*l, k)
		}
	}
	slices.SortFunc(list, func(a, b audit.Record) int { return int(a.TimeMs - b.TimeMs) })
	return list
}
