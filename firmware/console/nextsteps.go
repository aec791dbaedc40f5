package console

import (
	"fmt"
	"strings"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

// nextStep is something that the reader of the overview should do, with the page where it is done.
type nextStep struct {
	Text, Path, Link string
}

// nextSteps say what to do about the site as it is; none: nothing.
func (c *Console) nextSteps(v *site.View, d *overview) (steps []nextStep) {
	say := func(path, link, format string, a ...any) {
		steps = append(steps, nextStep{fmt.Sprintf(format, a...), path, link})
	}
	var away, silent, late []string
	for i := range d.Members {
		m := &d.Members[i]
		switch name := memberName(&m.MemberView); {
		case !m.Up:
			away = append(away, name)
		case m.Twins > 0:
			say("/boxes", "Boxes", "%s: two machines use its identity. Switch one of them off, or replace the box.", name)
		case m.VotesFrom > v.Round:
			silent = append(silent, name)
		case m.Behind > 0:
			late = append(late, name)
		}
	}
	switch {
	case v.Fault != "":
		say("", "", "Read this box's log for what happened to its disk or its files. Start it again when that is mended; if it cannot be, replace the box.")
	case v.Removed:
		say("", "", "Open the console of a box that is a member. This one can be switched off.")
	case v.Full != "":
		say("/boxes", "Boxes", "Make space on this box's disk. Nothing is lost meanwhile, and it goes on by itself.")
	case d.Up < v.Quorum:
		say("/boxes", "Boxes", "Bring back at least %d of %s: power, cable, switch, in this order. If they are up, look at the network between them and this box.", v.Quorum-d.Up, strings.Join(away, ", "))
	case len(away) > 0:
		say("/boxes", "Boxes", "See what happened to %s. A box that comes back catches up by itself; one that is lost for good is replaced.", strings.Join(away, ", "))
	case !v.Serving:
		say("", "", "Wait some seconds. If this stays, look at which boxes are late, and at the network between them.")
	}
	if len(silent) > 0 {
		say("", "", "Wait for %s: a box that does not know what it signed keeps silent until that is safe, some minutes at most.", strings.Join(silent, ", "))
	}
	if len(late) > 0 {
		say("/boxes", "Boxes", "%s: behind the others, and of no help if one more fails. It catches up by itself; if it does not, look at its disk and its link.", strings.Join(late, ", "))
	}
	if n := v.Counters.Evidence; n > 0 {
		say("/trust", "Trust", "A box was caught lying, and the proof is kept. Expel it, unless the site has done so.")
	}
	for i := range v.Trust {
		if t := &v.Trust[i]; t.Level == suspicion.Suspect {
			say("/trust", "Trust", "This box suspects %s. See what for.", nameOf(v, t.Box))
		}
	}
	waits := 0
	for i := range v.Decisions {
		if v.Decisions[i].Word == "" {
			waits++
		}
	}
	if waits > 0 {
		say("/decisions", "Decisions", "%s for this box's word.", plural(waits, "A decision waits", "%d decisions wait"))
	}
	if c.cfg.Notice != "" {
		say("", "", "%s", c.cfg.Notice)
	}
	if c.cfg.Desk.Fresh() {
		say("/setup", "Set up", "The site has no operator yet, and anybody who has the setup code can become the first.")
	}
	return steps
}

// plural picks one of two wordings; that of many has the number.
func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(many, n)
}
