package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// A site whose boxes are slots and tries, and whose order is one list of documents: each decision takes effect at once when Check says that it
// follows and who proposes it may. Faults come from the seed.

var newBundle, oldBundle = coord.Digest{2}, coord.Digest{1}

type slot struct {
	bundle  coord.Digest
	counted bool
	left    int
	there   bool
}

// simBox is a box and its machine.
type simBox struct {
	id      coord.BoxID
	slots   [2]slot
	newest  int // the slot that was installed last
	runs    int
	down    int // ticks until it starts; -1: never again
	trial   int // ticks on trial
	staged  bool
	liar    bool
	tried   bool // since its turn began
	because string
}

// boots is what a loader does.
func (b *simBox) boots() {
	order := []int{b.newest, 1 - b.newest}
	slices.SortStableFunc(order, func(x, y int) int {
		bad := func(i int) int {
			if s := b.slots[i]; !s.there || s.counted && s.left == 0 {
				return 1
			}
			return 0
		}
		return bad(x) - bad(y)
	})
	b.runs, b.trial = order[0], 0
	if s := &b.slots[b.runs]; s.counted {
		s.left--
	}
}

// reboot takes a moment, or, when somebody has pulled the plug, longer than the site waits.
func (b *simBox) reboot(r *rand.Rand) {
	if b.down = 1 + r.IntN(20); r.IntN(40) == 0 {
		b.down = 250 + r.IntN(300)
	}
}

func (b *simBox) up() bool { return b.down == 0 }

type simSite struct {
	t       *testing.T
	r       *rand.Rand
	boxes   []*simBox
	ms      *coord.Members
	docs    map[string]coord.Doc
	version uint64
	second  uint64
	leader  int
	// release is how the new one is: "good", "crashes", "sick" or "late".
	release string
	log     []string
	read    uint64 // the version of last
	last    *Plan
}

func (s *simSite) Doc(key string) (coord.Doc, bool) { d, ok := s.docs[key]; return d, ok }
func (s *simSite) Members() *coord.Members          { return s.ms }

// plan is the site's, read once.
func (s *simSite) plan() *Plan {
	if v := s.docs[DocPlan].Version; v != s.read {
		p, err := Read(s)
		if err != nil {
			s.t.Fatal(err)
		}
		s.read, s.last = v, p
	}
	return s.last
}

func (s *simSite) alive() (n int) {
	for _, b := range s.boxes {
		if b.up() && s.ms.Index(b.id) >= 0 {
			n++
		}
	}
	return n
}

// decide has the site decide, as by's word; nil when it took effect.
func (s *simSite) decide(by *simBox, next *Plan, head []byte) error {
	if s.alive() < coord.Quorum(s.ms.N()) {
		return fmt.Errorf("no quorum")
	}
	writes, err := Writes(s, next, head)
	if err != nil {
		return err
	}
	checked, err := Check(s, &coord.Decision{Kind: next.Last.What.Kind(), Writes: writes})
	if err != nil {
		return err
	}
	if e := checked.Last; e.What.Own() && e.Box != by.id {
		return fmt.Errorf("%v may not speak for %v", by.id, e.Box)
	}
	for _, w := range writes {
		s.version++
		if w.Value == nil {
			delete(s.docs, w.Key)
			continue
		}
		d := coord.Doc{Key: w.Key, Version: s.version, Value: w.Value}
		if w.Seconds > 0 {
			d.Ends = s.second + w.Seconds
		}
		s.docs[w.Key] = d
	}
	s.log = append(s.log, fmt.Sprintf("%d %s %v %s", s.second, checked.Last.What, checked.Last.Box, checked.State))
	return nil
}

func (s *simSite) event(by *simBox, e Event) error {
	_, clock := s.docs[DocClock]
	next, err := s.plan().Apply(e, Site{s.ms, clock})
	if err != nil {
		return err
	}
	return s.decide(by, next, nil)
}

func (s *simSite) fail(format string, args ...any) {
	s.t.Helper()
	for _, l := range s.log {
		s.t.Log(l)
	}
	s.t.Fatalf(format, args...)
}

// act is a turn of a box that is up.
func (s *simSite) act(i int) {
	b := s.boxes[i]
	at := &b.slots[b.runs]
	if at.bundle == newBundle && at.counted {
		s.onTrial(b, at)
	}
	if !b.up() {
		return
	}
	p := s.plan()
	if b.liar {
		s.lie(b, p)
		return
	}
	other := &b.slots[1-b.runs]
	need := min(coord.Quorum(s.ms.N()), s.ms.N()-1)
	_, clock := s.docs[DocClock]
	f := Facts{
		Runs: at.bundle, Trial: at.counted, Staged: b.staged || other.there && other.bundle == newBundle && (!other.counted || other.left > 0),
		Before: other.there && !other.counted && other.bundle == oldBundle, Spare: s.alive()-1 >= need, Leads: i == s.leader, Clock: clock, Second: s.second,
	}
	me := p.Find(b.id)
	if me >= 0 && p.Boxes[me].Step == Begun && b.tried && other.bundle == newBundle && other.counted && other.left == 0 {
		f.Fell = "it fell back: " + b.because
	}
	do, e := p.Next(b.id, s.ms, f)
	switch do {
	case Say:
		if (e.What == Late || e.What == Removed) && s.r.IntN(4) > 0 {
			return
		}
		if s.event(b, e) == nil && e.What == Begin {
			b.tried = false
			if p.State == Stopped {
				s.fail("a box begins although the update has stopped")
			}
			if s.leader == i && slices.ContainsFunc(p.Boxes, func(x Box) bool { return x.Step == Waits && x.ID != b.id && !x.Passed }) && !p.Boxes[me].Passed {
				s.fail("the leader goes before others")
			}
			if s.alive()-1 < need {
				s.fail("a box begins when the quorum cannot spare it")
			}
		}
	case Fetch:
		if b.staged {
			return
		}
		if other.counted || other.bundle != newBundle || !other.there {
			*other, b.staged = slot{}, true
		}
	case Switch:
		if p.Undo {
			s.fail("%s changes over although all is undone", p.Boxes[me].Name)
		}
		if b.staged {
			*other, b.staged = slot{newBundle, true, 3, true}, false
			b.newest = 1 - b.runs
		}
		b.tried, b.because = true, "the loader gave up"
		b.reboot(s.r)
	case Return:
		at.counted, at.left = true, 0
		b.newest = b.runs
		b.reboot(s.r)
	}
}

func (s *simSite) onTrial(b *simBox, at *slot) {
	b.trial++
	switch {
	case s.release == "crashes":
		b.reboot(s.r)
	case s.release == "sick" && b.trial > 5:
		at.left, b.because = 0, "the site was not well"
		b.reboot(s.r)
	case s.release == "good" && b.trial > 5:
		at.counted = false
	}
}

// lie says what is not so: nothing of it may take effect that is not the box's own and next step.
func (s *simSite) lie(b *simBox, p *Plan) {
	e := Event{
		What: []What{Pause, Resume, Undo, Pass, Begin, Well, Fail, Late, Removed}[3+s.r.IntN(6)],
		Box:  s.boxes[s.r.IntN(len(s.boxes))].id, Second: s.r.Uint64N(1000), Why: "because",
	}
	err := s.event(b, e)
	if err == nil && e.Box != b.id && e.What != Late && e.What != Removed {
		s.fail("a liar spoke for another: %+v", e)
	}
	if n := p.clone(); len(n.Boxes) > 1 { // a plan that does not follow
		n.Boxes[s.r.IntN(len(n.Boxes))].Step = Good
		n.Last = Event{What: Well, Box: b.id, Second: s.second}
		if me := n.Find(b.id); s.decide(b, n, nil) == nil && p.Boxes[me].Step != Begun && p.Boxes[me].Step != Failed {
			s.fail("a plan took effect that does not follow")
		}
	}
}

func (p *Plan) clone() *Plan {
	n := *p
	n.Boxes = slices.Clone(p.Boxes)
	return &n
}

func (s *simSite) tick(calm bool) {
	s.second++
	for k, d := range s.docs {
		if d.Ends != 0 && d.Ends < s.second {
			delete(s.docs, k)
		}
	}
	for _, b := range s.boxes {
		if b.down > 0 {
			if b.down--; b.down == 0 {
				b.boots()
			}
		}
		if !calm && b.up() && s.r.IntN(600) == 0 {
			b.reboot(s.r) // a power cut
		}
	}
	if s.r.IntN(30) == 0 {
		s.leader = s.r.IntN(len(s.boxes))
	}
	for _, i := range s.r.Perm(len(s.boxes)) {
		if s.boxes[i].up() {
			s.act(i)
		}
	}
	p := s.plan()
	if n := p.Count(Begun); n > 1 {
		s.fail("%d boxes change over at a time", n)
	}
}

func newSite(t *testing.T, seed uint64) *simSite {
	r := rand.New(rand.NewPCG(seed, 9))
	s := &simSite{t: t, r: r, ms: &coord.Members{}, docs: map[string]coord.Doc{}, release: []string{"good", "good", "good", "crashes", "sick"}[r.IntN(5)]}
	n := []int{1, 2, 3, 4, 4, 4, 5, 7, 10}[r.IntN(9)]
	for i := range n {
		b := &simBox{id: coord.BoxID{byte(i + 1)}}
		b.slots[0] = slot{oldBundle, false, 0, true}
		s.boxes = append(s.boxes, b)
		s.ms.List = append(s.ms.List, coord.Member{ID: b.id, Name: fmt.Sprintf("box-%d", i)})
	}
	if coord.MaxFaulty(n) > 0 && r.IntN(4) == 0 {
		s.boxes[r.IntN(n)].liar = true
	}
	return s
}

// Every seed is a site, a release and faults; what a site must keep is checked at every tick, and how it ends when the faults are over.
func TestASiteChangesOverOneBoxAtATimeWhateverHappens(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 100
	}
	ends := map[string]int{}
	for seed := range seeds {
		s := newSite(t, seed)
		rules := Rules{HealthSeconds: 5, LatencyMs: 100, BoxSeconds: 200}
		p, err := New(nil, s.ms, newBundle, "2", "", rules, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.decide(s.boxes[0], p, []byte("head")); err != nil {
			t.Fatal(err)
		}
		dies := -1
		if s.r.IntN(5) == 0 {
			dies = s.r.IntN(1500)
		}
		for tick := range 1500 {
			s.tick(false)
			if tick == dies {
				s.boxes[s.r.IntN(len(s.boxes))].down = -1 // never comes back
			}
			if tick == dies+300 && s.r.IntN(2) == 0 && len(s.boxes) > 1 { // and is removed
				s.ms = &coord.Members{List: slices.DeleteFunc(slices.Clone(s.ms.List), func(m coord.Member) bool { return s.box(m.ID).down < 0 })}
			}
			if s.r.IntN(300) == 0 {
				op := []What{Pause, Pause, Resume, Resume, Resume, Undo}[s.r.IntN(6)]
				_ = s.event(s.boxes[0], Event{What: op, Second: s.second}) // refused when it makes no sense
			}
		}
		resumed := false
		for range 8000 {
			s.tick(true)
			p := s.plan()
			if p.State == Done && s.settled() || s.alive() < coord.Quorum(s.ms.N()) {
				break
			}
			if p.State == Stopped && p.Count(Begun) == 0 && resumed {
				break
			}
			if p.State == Paused || p.State == Stopped && !resumed {
				resumed = s.event(s.boxes[0], Event{What: Resume, Second: s.second}) == nil
			}
		}
		ends[s.check(seed)]++
	}
	t.Log(ends)
	for _, how := range []string{"done good", "done undone", "stopped crashes", "stopped sick", "no quorum"} {
		if ends[how] == 0 {
			t.Errorf("no seed ended %q", how)
		}
	}
}

func (s *simSite) box(id coord.BoxID) *simBox {
	return s.boxes[slices.IndexFunc(s.boxes, func(b *simBox) bool { return b.id == id })]
}

// settled says that every box that comes back is back, and on a release that was good; and that none of an update that was undone is on the new one.
func (s *simSite) settled() bool {
	return !slices.ContainsFunc(s.boxes, func(b *simBox) bool {
		at := b.slots[b.runs]
		return b.down > 0 || b.up() && !b.liar && (at.counted || at.bundle == newBundle && s.plan().Undo)
	})
}

// check says how a site has ended, and whether it may.
func (s *simSite) check(seed uint64) string {
	s.t.Helper()
	p := s.plan()
	if s.alive() < coord.Quorum(s.ms.N()) {
		return "no quorum"
	}
	for _, b := range s.boxes {
		at := b.slots[b.runs]
		i := p.Find(b.id)
		if s.ms.Index(b.id) < 0 {
			if i >= 0 && p.State == Done && p.Boxes[i].Step != Gone && p.Boxes[i].Step != Good && p.Boxes[i].Step != Left {
				s.fail("seed %d: %s is no member, and %s", seed, p.Boxes[i].Name, p.Boxes[i].Step)
			}
			continue
		}
		if b.down != 0 || b.liar || i < 0 {
			continue
		}
		step := p.Boxes[i].Step
		switch {
		case at.counted && step != Begun:
			s.fail("seed %d: %s ends on a release that nobody blessed", seed, p.Boxes[i].Name)
		case step == Good && !p.Boxes[i].Back && at.bundle != newBundle, (step == Left || step == Good && p.Boxes[i].Back) && at.bundle != oldBundle:
			s.fail("seed %d: %s is %s and runs %x", seed, p.Boxes[i].Name, step, at.bundle[0])
		case s.release != "good" && at.bundle == newBundle:
			s.fail("seed %d: %s runs a release that is bad", seed, p.Boxes[i].Name)
		}
	}
	switch {
	case p.State == Done && p.Undo:
		return "done undone"
	case p.State == Done:
		if s.release != "good" {
			for _, b := range s.boxes {
				if !b.liar && b.down == 0 {
					s.fail("seed %d: a bad release is done", seed)
				}
			}
		}
		return "done good"
	case p.State == Stopped && s.release != "good":
		return "stopped " + s.release
	case p.State == Stopped:
		return "stopped " + "by a box"
	}
	s.fail("seed %d: the update ends %s, waiting for box %d: %+v", seed, p.State, p.Turn(), p.Boxes)
	return ""
}

// A reason may be of any bytes, and be cut anywhere: the step that it is in must still be one that the site takes.
func TestAReasonOfAnyBytesDoesNotKeepABoxFromSayingThatItFailed(t *testing.T) {
	for _, why := range []string{
		"a\xffb", "\xc3", strings.Repeat("a", WhyBytesMax-1) + "\u00e9", strings.Repeat("\u2014", WhyBytesMax), strings.Repeat("\xff", WhyBytesMax+1), strings.Repeat("<&>", WhyBytesMax),
	} {
		s := newSite(t, 1)
		p, err := New(nil, s.ms, newBundle, "2", "", Rules{HealthSeconds: 5, LatencyMs: 100, BoxSeconds: 200}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.decide(s.boxes[0], p, []byte("head")); err != nil {
			t.Fatal(err)
		}
		first := s.box(p.Boxes[0].ID)
		if err := s.event(first, Event{What: Begin, Box: first.id}); err != nil {
			t.Fatal(err)
		}
		do, e := s.plan().Next(first.id, s.ms, Facts{Runs: oldBundle, Fell: why, Clock: true})
		if do != Say || e.What != Fail {
			t.Fatalf("%v, %+v", do, e)
		}
		if err := s.event(first, e); err != nil {
			t.Errorf("%.40q: %v", why, err)
		} else if s.plan().State != Stopped {
			t.Errorf("%.40q: %s", why, s.plan().State)
		}
	}
}
