package rollout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// The documents.
const (
	DocPlan  = "update/plan"
	DocClock = "update/clock"
	// DocBundle is the head of the bundle (coord/release).
	DocBundle = "update/bundle"
	// DocKey and a name is a key that signs bundles, base64 of PKIX DER.
	DocKey = "update/key/"
	// KeysMax bounds those keys.
	KeysMax = 8
)

// The kinds of decisions.
const (
	KindSite   = "update.site"     // a plan begins
	KindPause  = "update.pause"    // no further box begins
	KindResume = "update.resume"   // boxes begin again, also the one that failed
	KindUndo   = "update.rollback" // boxes go back, one by one
	KindStep   = "update.step"     // a box says how it is with it
	KindKey    = "update.key"      // which keys sign
)

// Errors.
var (
	// ErrPlan says that a document is not a plan.
	ErrPlan = errors.New("not a plan of an update")
	// ErrStep says that an event is not the next one.
	ErrStep = errors.New("not the next step of the update")
)

// Step is how far a box is.
type Step string

// The steps.
const (
	Waits  Step = "waits"  // for its turn
	Begun  Step = "begun"  // it changes over: it may be away for a moment
	Good   Step = "good"   // it has the release, and blessed it
	Failed Step = "failed" // it went back by itself, or was not heard of
	Left   Step = "left"   // it stays as it is, because all is undone
	Gone   Step = "gone"   // it is no member any more
)

// State is how the whole is.
type State string

// The states.
const (
	Running State = "running"
	Paused  State = "paused"
	Stopped State = "stopped" // a box failed
	Done    State = "done"
)

// Limits of a plan.
const (
	planFormat = 1
	// PlanBytesMax bounds a plan: 32 boxes with a reason each.
	PlanBytesMax = 32 << 10
	// WhyBytesMax bounds a reason.
	WhyBytesMax = 300
	urlBytesMax = 512
)

// Rules are what a box goes by.
type Rules struct {
	// HealthSeconds is for how long the site must be well with the new release before a box keeps it: it orders, the box is with it, and of
	// its batches 99 of 100 take at most LatencyMs.
	HealthSeconds uint32 `json:"health_s"`
	LatencyMs     uint32 `json:"latency_ms"`
	// BoxSeconds is how long a box may take, by the site's clock, from its turn on.
	BoxSeconds uint32 `json:"box_s"`
}

// RulesDefault: half a minute is some hundred rounds of ordering, also at idle; the slowest sites that were measured, with 16 boxes on two cores,
// have their p99 at half of the latency; half an hour is a bundle over 256 kbit/s and a slow board's start.
var RulesDefault = Rules{HealthSeconds: 30, LatencyMs: 500, BoxSeconds: 1800}

func (r *Rules) check() error {
	if r.HealthSeconds < 1 || r.HealthSeconds > 86400 || r.LatencyMs < 1 || r.LatencyMs > 60_000 || r.BoxSeconds < 10 || r.BoxSeconds > 7*86400 {
		return fmt.Errorf("%w: health_s 1 to 86400, latency_ms 1 to 60000 and box_s 10 to 604800 are possible", ErrPlan)
	}
	return nil
}

// Box is one box of a plan.
type Box struct {
	ID   coord.BoxID `json:"id"`
	Name string      `json:"name"`
	Step Step        `json:"step"`
	// Why it failed, or went back.
	Why string `json:"why,omitempty"`
	// Since is the second of the site's clock of its last step, as who said it has it.
	Since uint64 `json:"since"`
	// Back says that it has the release and is to go back from it; of one that was left, that it may have it yet.
	Back bool `json:"back,omitempty"`
	// Passed says that it led when its turn came, and let others go first.
	Passed bool `json:"passed,omitempty"`
}

// Plan is the update of a site. It is a value: what changes it makes another one.
type Plan struct {
	Format int    `json:"format"` // 1
	Number uint64 `json:"number"` // counts the plans of the site
	// Bundle is the id of its bundle, Version what is in it, URL where it is beside the boxes that have it; may be empty.
	Bundle  coord.Digest `json:"bundle"`
	Version string       `json:"version"`
	URL     string       `json:"url,omitempty"`
	Rules   Rules        `json:"rules"`
	State   State        `json:"state"`
	// Undo says that boxes go back.
	Undo bool `json:"undo,omitempty"`
	// Why it stopped.
	Why string `json:"why,omitempty"`
	// Boxes are in the order in which they take their turns.
	Boxes []Box `json:"boxes"`
	// Last is what made this plan of the one before.
	Last Event `json:"last"`
}

// What is what happened.
type What string

// The events. Pause, Resume and Undo are operators'; Late and Removed may be said by any box; the rest by the box itself.
const (
	Start   What = "start"
	Pause   What = "pause"
	Resume  What = "resume"
	Undo    What = "undo"
	Pass    What = "pass"  // it is my turn and I lead: others first
	Begin   What = "begin" // it is my turn, and I go
	Well    What = "good"  // I have done it, and am well
	Fail    What = "failed"
	Late    What = "late"
	Removed What = "removed"
)

// Kind is the kind of decision that an event is in.
func (w What) Kind() string {
	switch w {
	case Start:
		return KindSite
	case Pause:
		return KindPause
	case Resume:
		return KindResume
	case Undo:
		return KindUndo
	}
	return KindStep
}

// Own says that only the box that it is about may say it.
func (w What) Own() bool { return w == Pass || w == Begin || w == Well || w == Fail }

// Event is one step.
type Event struct {
	What What        `json:"what"`
	Box  coord.BoxID `json:"box,omitzero"`
	Why  string      `json:"why,omitempty"`
	// Second is the site's clock, as who says it has it; for people.
	Second uint64 `json:"second"`
}

// Parse reads a plan. Errors: ErrPlan.
func Parse(b []byte) (*Plan, error) {
	if len(b) > PlanBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrPlan, len(b))
	}
	p := new(Plan)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPlan, err)
	}
	if again, err := p.Encode(); err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: not as one is written", ErrPlan)
	}
	return p, nil
}

// Encode is the document's value. Errors: ErrPlan when it is too long.
func (p *Plan) Encode() ([]byte, error) {
	b, err := json.Marshal(p)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrPlan, err)
	case p.Format != planFormat || len(b) > PlanBytesMax || len(p.URL) > urlBytesMax || len(p.Last.Why) > WhyBytesMax:
		return nil, fmt.Errorf("%w: format %d, %d bytes", ErrPlan, p.Format, len(b))
	}
	return b, p.Rules.check()
}

// New is the plan of an update that follows last, nil for the first, in the order of the members. Errors: ErrStep, while another one is under way; ErrPlan.
func New(last *Plan, ms *coord.Members, bundle coord.Digest, version, url string, r Rules, second uint64) (*Plan, error) {
	p := &Plan{Format: planFormat, Number: 1, Bundle: bundle, Version: version, URL: url, Rules: r, State: Running, Last: Event{What: Start, Second: second}, Boxes: []Box{}}
	if last != nil {
		if last.State == Running || last.begun() >= 0 {
			return nil, fmt.Errorf("%w: the site is changing over to %s; pause that first", ErrStep, last.Version)
		}
		p.Number = last.Number + 1
	}
	for i := range ms.List {
		p.Boxes = append(p.Boxes, Box{ID: ms.List[i].ID, Name: ms.List[i].Name, Step: Waits, Since: second})
	}
	if _, err := p.Encode(); err != nil {
		return nil, err
	}
	return p, nil
}

// Find is the place of a box in the plan, -1 when it has none.
func (p *Plan) Find(id coord.BoxID) int {
	return slices.IndexFunc(p.Boxes, func(b Box) bool { return b.ID == id })
}

func (p *Plan) begun() int {
	return slices.IndexFunc(p.Boxes, func(b Box) bool { return b.Step == Begun })
}

// Turn is the place of the box for which the plan waits now: the one that has begun, or the one whose turn it is. -1: for none.
func (p *Plan) Turn() int {
	if i := p.begun(); i >= 0 {
		return i
	}
	if p.State != Running {
		return -1
	}
	return slices.IndexFunc(p.Boxes, func(b Box) bool { return b.Step == Waits })
}

// Count is how many boxes are at a step.
func (p *Plan) Count(s Step) (n int) {
	for i := range p.Boxes {
		if p.Boxes[i].Step == s {
			n++
		}
	}
	return n
}
