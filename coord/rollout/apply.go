package rollout

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// Site is what is read of the site beside the plan.
type Site struct {
	Members *coord.Members
	// Clock says that DocClock is there: the box whose turn it is has time yet.
	Clock bool
}

// Apply is the plan after an event. Errors: ErrStep, when it is not what can happen next.
func (p *Plan) Apply(e Event, s Site) (*Plan, error) {
	if len(e.Why) > WhyBytesMax {
		return nil, fmt.Errorf("%w: a reason of %d bytes", ErrStep, len(e.Why))
	}
	n := *p
	n.Boxes, n.Last = slices.Clone(p.Boxes), e
	var err error
	switch e.What {
	case Pause, Resume, Undo:
		if e.Box != (coord.BoxID{}) {
			return nil, fmt.Errorf("%w: %s is about no box", ErrStep, e.What)
		}
		err = n.order(e)
	default:
		err = n.step(e, s)
	}
	if err != nil {
		return nil, err
	}
	return &n, nil
}

// late is why a box failed of which nothing was heard.
const late = "was not heard of in time"

// order does what an operator asks for.
func (p *Plan) order(e Event) error {
	switch e.What {
	case Pause:
		if p.State != Running {
			return fmt.Errorf("%w: the update is %s", ErrStep, p.State)
		}
		p.State = Paused
	case Resume:
		if p.State != Paused && p.State != Stopped {
			return fmt.Errorf("%w: the update is %s", ErrStep, p.State)
		}
		p.State, p.Why = Running, ""
		for i := range p.Boxes {
			if b := &p.Boxes[i]; b.Step == Failed {
				b.Step, b.Passed, b.Since = Waits, false, e.Second
			}
		}
		p.end()
	case Undo:
		if p.Undo {
			return fmt.Errorf("%w: it is being undone, or was", ErrStep)
		}
		p.State, p.Undo, p.Why = Running, true, ""
		for i := range p.Boxes {
			switch b := &p.Boxes[i]; b.Step {
			case Good:
				b.Step, b.Back, b.Passed, b.Since = Waits, true, false, e.Second
			case Waits, Failed:
				b.Step, b.Back = Left, b.Why == late // it may come with it yet
			}
		}
		p.end()
	}
	return nil
}

// step does what a box says, of itself or of another.
func (p *Plan) step(e Event, s Site) error {
	i := p.Find(e.Box)
	if i < 0 {
		return fmt.Errorf("%w: box %v has no place in the plan", ErrStep, e.Box)
	}
	b, turn := &p.Boxes[i], p.Turn() == i
	member := s.Members.Index(e.Box) >= 0
	switch {
	case e.What == Removed && !member && b.Step != Gone:
		b.Step = Gone
	case e.What == Pass && turn && b.Step == Waits && !b.Passed && slices.ContainsFunc(p.Boxes[i+1:], func(x Box) bool { return x.Step == Waits }):
		b.Passed, b.Since = true, e.Second
		passed := *b
		p.Boxes = append(slices.Delete(p.Boxes, i, i+1), passed)
		return nil
	case e.What == Begin && turn && b.Step == Waits && member:
		b.Step = Begun
	case e.What == Well && b.Step == Begun, e.What == Well && b.Step == Failed && !p.Undo: // it was late, and came after all
		b.Step, b.Why = Good, e.Why
		if p.Undo && !b.Back { // it was under way when all was undone
			b.Step, b.Back = Waits, true
		}
	case e.What == Well && b.Step == Left && b.Back: // it was late, and came after all: it has to go back, too
		if b.Step, b.Passed = Waits, false; p.State == Done {
			p.State = Running
		}
	case e.What == Fail && turn && p.Undo && !b.Back: // it went back by itself, as it would have had to
		b.Step, b.Why = Left, e.Why
	case e.What == Fail && turn:
		p.fail(b, e.Why)
	case e.What == Late && turn && !s.Clock:
		p.fail(b, late)
	default:
		return fmt.Errorf("%w: %s of %s, which is at %q of an update that is %s", ErrStep, e.What, b.Name, b.Step, p.State)
	}
	b.Since = e.Second
	p.end()
	return nil
}

// fail stops the update.
func (p *Plan) fail(b *Box, why string) {
	b.Step, b.Why = Failed, why
	p.State, p.Why = Stopped, fmt.Sprintf("%s: %s", b.Name, why)
}

// end ends an update that waits for no box any more.
func (p *Plan) end() {
	if p.State == Running && p.Count(Waits)+p.Count(Begun)+p.Count(Failed) == 0 {
		p.State = Done
	}
}

// Needs says whether the plan needs DocClock: it waits for a box.
func (p *Plan) Needs() bool { return p.Turn() >= 0 }

// Docs is what is read of a site's documents; coord/state.Machine has it.
type Docs interface {
	Doc(key string) (coord.Doc, bool)
	Members() *coord.Members
}

// Read is the site's plan; nil when there is none. Errors: ErrPlan.
func Read(st Docs) (*Plan, error) {
	d, ok := st.Doc(DocPlan)
	if !ok {
		return nil, nil
	}
	return Parse(d.Value)
}

// Writes are the documents that a decision for the next plan writes; head is the bundle's, for the first of a plan, else nil.
func Writes(st Docs, next *Plan, head []byte) ([]coord.DocWrite, error) {
	value, err := next.Encode()
	if err != nil {
		return nil, err
	}
	was := func(key string) uint64 { d, _ := st.Doc(key); return d.Version }
	list := []coord.DocWrite{{Key: DocPlan, Was: was(DocPlan), Value: value}}
	clock, there := st.Doc(DocClock)
	switch {
	case next.Needs():
		list = append(list, coord.DocWrite{Key: DocClock, Was: clock.Version, Seconds: uint64(next.Rules.BoxSeconds), Value: []byte("{}")})
	case there:
		list = append(list, coord.DocWrite{Key: DocClock, Was: clock.Version})
	}
	if head != nil {
		list = append(list, coord.DocWrite{Key: DocBundle, Was: was(DocBundle), Value: head})
	}
	return list, nil
}

// Check says why a decision is not the next step of the site's update: it does not write exactly what follows. It gives the next plan.
// Whether who asks for it may is another's to say. Errors: ErrStep, ErrPlan.
func Check(st Docs, d *coord.Decision) (*Plan, error) {
	if len(d.Writes) == 0 || d.Writes[0].Key != DocPlan {
		return nil, fmt.Errorf("%w: it does not write %s", ErrStep, DocPlan)
	}
	next, err := Parse(d.Writes[0].Value)
	if err != nil {
		return nil, err
	}
	last, err := Read(st)
	if err != nil && next.Last.What != Start { // a plan that cannot be read does not keep a site from its next one
		return nil, err
	}
	if next.Last.What.Kind() != d.Kind {
		return nil, fmt.Errorf("%w: %s in a decision %s", ErrStep, next.Last.What, d.Kind)
	}
	_, clock := st.Doc(DocClock)
	var want *Plan
	var head []byte
	switch {
	case next.Last.What == Start:
		if i := slices.IndexFunc(d.Writes, func(w coord.DocWrite) bool { return w.Key == DocBundle }); i >= 0 {
			head = d.Writes[i].Value
		}
		if head == nil {
			return nil, fmt.Errorf("%w: it does not write %s", ErrStep, DocBundle)
		}
		want, err = New(last, st.Members(), next.Bundle, next.Version, next.URL, next.Rules, next.Last.Second)
	case last == nil:
		return nil, fmt.Errorf("%w: there is none", ErrStep)
	default:
		want, err = last.Apply(next.Last, Site{st.Members(), clock})
	}
	if err != nil {
		return nil, err
	}
	list, err := Writes(st, want, head)
	if err != nil {
		return nil, err
	}
	if !slices.EqualFunc(list, d.Writes, func(a, b coord.DocWrite) bool {
		return a.Key == b.Key && a.Was == b.Was && a.Seconds == b.Seconds && (a.Value == nil) == (b.Value == nil) && bytes.Equal(a.Value, b.Value)
	}) {
		return nil, fmt.Errorf("%w: it does not write what follows", ErrStep)
	}
	return next, nil
}

// ReadHead is the head of the plan's bundle.
func ReadHead(st Docs) []byte {
	d, _ := st.Doc(DocBundle)
	return d.Value
}
