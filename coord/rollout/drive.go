package rollout

import (
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// Facts are what a box knows of itself and its site, beside the plan.
type Facts struct {
	// Runs is the bundle of the release that the box runs; zero: not known. Trial says that it is not blessed yet.
	Runs  coord.Digest
	Trial bool
	// Cannot, if not empty, is why the box cannot take the plan's bundle.
	Cannot string
	// Staged says that the plan's bundle is in the other slot, whole. Before: a good release of another bundle is there.
	Staged, Before bool
	// Armed says that the loader takes the plan's bundle at the next start.
	Armed bool
	// Fell, if not empty, is why the box went back from the bundle since its turn began.
	Fell string
	// Spare says that the site works without this box now. Leads: the box leads.
	Spare, Leads bool
	// Clock says that DocClock is there. Second is the site's clock.
	Clock  bool
	Second uint64
}

// Do is what a box does next for the plan.
type Do uint8

// What a box does.
const (
	Nothing Do = iota
	Say        // propose the event
	Fetch      // get the bundle into the other slot
	Switch     // start the other slot, which has the bundle
	Return     // give the bundle up and start the other slot, which has the release before
)

// Next is what box me does now, and the event for Say.
func (p *Plan) Next(me coord.BoxID, members *coord.Members, f Facts) (Do, Event) {
	i := p.Find(me)
	if i < 0 || members.Index(me) < 0 {
		return p.nextForOthers(members, f)
	}
	b := &p.Boxes[i]
	say := func(w What, why string) (Do, Event) {
		// Of a letter that is cut in its middle, or no letter at all, nothing stays: a plan has each text in one form only.
		return Say, Event{What: w, Box: me, Why: strings.ToValidUTF8(why[:min(len(why), WhyBytesMax)], ""), Second: f.Second}
	}
	has := f.Runs == p.Bundle
	switch {
	case b.Step == Begun && !b.Back:
		switch {
		case has && !f.Trial:
			return say(Well, "")
		case has: // whether it is good shows
			return Nothing, Event{}
		case f.Fell != "":
			return say(Fail, f.Fell)
		case p.Undo && !f.Armed: // it has not gone yet, and need not
			return say(Fail, "all is undone")
		case f.Cannot != "":
			return say(Fail, f.Cannot)
		case f.Staged:
			return Switch, Event{}
		}
		return Fetch, Event{}
	case b.Step == Begun:
		switch {
		case !has && !f.Trial:
			return say(Well, "")
		case !has:
			return Nothing, Event{}
		case !f.Before:
			return say(Fail, "the release before is not there any more")
		}
		return Return, Event{}
	case b.Step == Waits && p.Turn() == i:
		switch {
		case f.Cannot != "" && !p.Undo:
			return say(Fail, f.Cannot)
		case !has && !f.Staged && !p.Undo:
			return Fetch, Event{}
		case f.Leads && !b.Passed && slices.ContainsFunc(p.Boxes[i+1:], func(x Box) bool { return x.Step == Waits }):
			return say(Pass, "")
		case !f.Spare:
			return Nothing, Event{}
		}
		return say(Begin, "")
	case b.Step == Waits && !p.Undo && !has && !f.Staged && f.Cannot == "" && p.State == Running:
		return Fetch, Event{} // so that its turn is short
	case (b.Step == Failed && !p.Undo || b.Step == Left && b.Back) && has && !f.Trial:
		return say(Well, "it came after all")
	}
	return p.nextForOthers(members, f)
}

// nextForOthers says what others cannot say themselves. Its events are the same on every box.
func (p *Plan) nextForOthers(members *coord.Members, f Facts) (Do, Event) {
	for i := range p.Boxes {
		if b := &p.Boxes[i]; b.Step != Gone && members.Index(b.ID) < 0 && p.State != Done {
			return Say, Event{What: Removed, Box: b.ID, Second: f.Second}
		}
	}
	if i := p.Turn(); i >= 0 && !f.Clock {
		return Say, Event{What: Late, Box: p.Boxes[i].ID, Second: f.Second}
	}
	return Nothing, Event{}
}
