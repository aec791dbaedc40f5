package update

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/slots"
)

const (
	// lookEvery is how often a box looks what there is to do.
	lookEvery = time.Second
	// rebootAgain is after how long a machine that was asked to start again and did not is asked once more.
	rebootAgain = 30 * time.Second
	// othersTurn: what any box may say of another is said by one at a time, each waits for those before it in the list.
	othersTurn = 3 * time.Second
	// sayAgain is how long a box waits when the site has not taken what it said: it may be open, and a decision is for a minute.
	sayAgain = 20 * time.Second
	// probeMax is how long an ordered message may take at all.
	probeMax = 5 * time.Second
	// noteMax is how long the audit log may take.
	noteMax = 2 * time.Second
)

// Docs is what is read of the site's state; *state.Machine has it.
type Docs interface {
	Doc(key string) (coord.Doc, bool)
	Docs(prefix string) []coord.Doc
	Members() *coord.Members
	Seconds() uint64
}

// Config of New; all fields but Keys are required.
type Config struct {
	Dir     string // the box's data directory
	Machine Machine
	Version string
	Keys    []release.Key // that sign while the site has decided on none
	Self    func() coord.BoxID
	State   func() Docs
	View    func() *site.View
	Submit  func(*site.Request)
	// Decide has the site decide, in the name of By, and waits a moment. AsBox is the box itself.
	Decide func(ctx context.Context, d *coord.Decision, by operators.By) error
	AsBox  func() operators.By
	Record func(ctx context.Context, r audit.Record) error
	Logger *slog.Logger
}

// Runner changes the firmware of one box.
type Runner struct {
	c   Config
	log *slog.Logger
	esp *slots.ESP // nil: this machine takes no updates

	runs    coord.Digest  // the bundle that runs; zero: not known
	version string        // as its manifest has it
	using   chan struct{} // holds a token while somebody changes the slots

	mu     sync.Mutex
	cannot string
	trial  *health // nil: what runs is blessed
	job    *Job    // nil: none; never changed, only replaced
	fetch  *fetching
	waits  string
	life   context.Context             // Run's; nil: it does not run
	good   map[slots.Slot]coord.Digest // slots whose files were found whole, and of which bundle
	asked  time.Time                   // when the machine was last asked to start again

	// Only the goroutine of Run has these.
	said    time.Time
	saidOf  uint64    // the version of the plan when it was said
	others  time.Time // since when there is something to say of another box
	fetches sync.WaitGroup
}

// New makes a runner. It looks at the slots and changes nothing.
func New(c Config) *Runner {
	r := &Runner{c: c, log: c.Logger, using: make(chan struct{}, 1), good: map[slots.Slot]coord.Digest{}, cannot: c.Machine.Cannot}
	if r.cannot == "" {
		var err error
		if r.esp, err = slots.Open(c.Machine.ESP); err != nil {
			r.cannot = err.Error()
		}
	}
	return r
}

// Run works until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	defer r.fetches.Wait()
	r.mu.Lock()
	r.life = ctx
	r.mu.Unlock()
	if r.esp != nil {
		if err := r.settle(ctx, time.Now()); err != nil {
			r.log.Error("this box cannot be updated now", "err", err)
			r.mu.Lock()
			r.cannot = err.Error()
			r.mu.Unlock()
		}
	}
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			r.look(ctx)
		}
	}
}

// settle finds out what became of what the box was about to do when it stopped.
func (r *Runner) settle(ctx context.Context, now time.Time) error {
	me := r.c.Machine.Slot
	entry, found, err := r.esp.Entry(me)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("update: slot %s runs, and the loader has no entry for it", me)
	}
	if h := bundleOf(r.esp, me); h != nil {
		r.runs, r.version = h.ID(), h.Version
	}
	job, err := loadJob(r.c.Dir)
	if err != nil {
		r.log.Warn("where an update was is not known", "err", err)
	}
	switch {
	case entry.Counted:
		if job == nil || job.Slot != me || job.Phase != Armed && job.Phase != Trial {
			job = &Job{Slot: me, Version: r.c.Version, Bundle: r.runs, Rules: rollout.RulesDefault}
		}
		job = job.at(Trial, "", now)
		r.trial = newHealth(job.Rules, now)
		r.log.Info("new firmware is on trial", "version", r.c.Version, "slot", me, "for_s", job.Rules.HealthSeconds, "latency_ms", job.Rules.LatencyMs)
	case job == nil || job.Phase != Armed && job.Phase != Trial:
		r.setJob(job)
		return nil
	case job.Slot == me:
		job = job.at(Kept, "", now)
	default:
		other, found, err := r.esp.Entry(job.Slot)
		if err != nil {
			return err
		}
		if found && !other.Bootable() {
			why := r.esp.Reason(job.Slot)
			if why == "" {
				why = fmt.Sprintf("it did not come up: the machine was started with it %d times", other.Done)
			}
			job = job.at(Back, why, now)
			r.note(ctx, audit.Failed, job, "went back to "+r.c.Version+": "+why)
			r.log.Error("this box went back to the firmware before", "version", r.c.Version, "from", job.Version, "why", why)
		}
	}
	return r.saveJob(job)
}

// at is the job in another phase.
func (j *Job) at(p Phase, why string, now time.Time) *Job {
	n := *j
	n.Phase, n.Why, n.At = p, why, now.UTC().Format(time.RFC3339)
	return &n
}

func (r *Runner) setJob(j *Job) {
	r.mu.Lock()
	r.job = j
	r.mu.Unlock()
}

// saveJob writes where the box is. It holds for this process also when the disk does not take it.
func (r *Runner) saveJob(j *Job) error {
	r.setJob(j)
	return j.save(r.c.Dir)
}

func (r *Runner) state() (j *Job, trial *health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.job, r.trial
}

// look does what there is to do now.
func (r *Runner) look(ctx context.Context) {
	job, trial := r.state()
	if r.esp == nil {
		r.lookAtPlan(ctx)
		return
	}
	if trial != nil {
		r.lookAtTrial(ctx, job, trial)
	}
	// What somebody asked of this box alone; the site's update asks again itself.
	if job != nil && job.Phase == Armed && job.Plan == 0 && job.Slot != r.c.Machine.Slot && !r.waiting() {
		r.act("start the new firmware", func() error { return r.armAgain(ctx, job) })
	}
	r.lookAtPlan(ctx)
}

// act does something with the slots, unless somebody else does.
func (r *Runner) act(what string, fn func() error) bool {
	select {
	case r.using <- struct{}{}:
	default:
		return false
	}
	defer func() { <-r.using }()
	if err := fn(); err != nil {
		r.log.Error("an update does not go on", "what", what, "err", err)
		r.mu.Lock()
		r.waits = err.Error()
		r.mu.Unlock()
		return false
	}
	return true
}

// lookAtTrial judges a release that nobody has blessed.
func (r *Runner) lookAtTrial(ctx context.Context, job *Job, trial *health) {
	if r.waiting() {
		return // it is over already
	}
	wrong := unwell(r.c.View())
	var took time.Duration
	if wrong == "" {
		if took, wrong = r.probe(ctx); ctx.Err() != nil {
			return
		}
	}
	now := time.Now()
	r.mu.Lock()
	trial.second(wrong, took)
	good, why := trial.good(), trial.over(now)
	r.mu.Unlock()
	switch {
	case good:
		r.act("bless the new firmware", func() error {
			if err := r.esp.Bless(r.c.Machine.Slot); err != nil {
				return err
			}
			r.mu.Lock()
			r.trial = nil
			r.mu.Unlock()
			r.log.Info("the new firmware is kept: the site is well with it", "version", r.c.Version, "p99", trial.p99())
			r.note(ctx, audit.Allowed, job, fmt.Sprintf("kept %s: the site was well with it for %d s, p99 %v", r.c.Version, trial.rules.HealthSeconds, trial.p99().Round(time.Millisecond)))
			return r.saveJob(job.at(Kept, "", now))
		})
	case why != "":
		r.act("go back", func() error { return r.giveUp(ctx, job, why) })
	}
}

// giveUp leaves the slot that runs, and starts the other one.
func (r *Runner) giveUp(ctx context.Context, job *Job, why string) error {
	if err := r.esp.Spoil(r.c.Machine.Slot, why); err != nil {
		if _, trial := r.state(); trial == nil || errors.Is(err, slots.ErrLast) {
			return err
		}
		// The partition takes no name from us. The loader has its own way to it, and counts this start.
		return errors.Join(err, r.reboot(ctx))
	}
	r.note(ctx, audit.Failed, job, "gives "+r.c.Version+" up: "+why)
	r.log.Error("this firmware is given up; the machine starts with the one before", "version", r.c.Version, "why", why)
	// The slot says that it was given up, and why: a box that cannot write its journal must not stay with a release that is bad.
	err := r.saveJob(job.at(Back, why, time.Now()))
	return errors.Join(err, r.reboot(ctx))
}

func (r *Runner) reboot(ctx context.Context) error {
	r.mu.Lock()
	r.asked = time.Now()
	r.mu.Unlock()
	return r.c.Machine.Reboot(ctx)
}

// waiting says that the machine was just asked to start again.
func (r *Runner) waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.asked.IsZero() && time.Since(r.asked) < rebootAgain
}

// armAgain goes on with what somebody asked of this box, unless the slot has another bundle by now: then that is over.
func (r *Runner) armAgain(ctx context.Context, job *Job) error {
	if h := bundleOf(r.esp, job.Slot); h == nil || h.ID() != job.Bundle {
		return r.saveJob(job.at(Back, "another bundle took its place before it was started", time.Now()))
	}
	return r.arm(ctx, job)
}

// arm has the loader take the other slot, which holds the job's bundle, and starts the machine again.
func (r *Runner) arm(ctx context.Context, job *Job) error {
	to := r.c.Machine.Slot.Other()
	h := bundleOf(r.esp, to)
	if h == nil || h.ID() != job.Bundle || !r.whole(to, h) {
		return fmt.Errorf("update: %w: slot %s does not have %s", ErrCannot, to, job.Version)
	}
	entry, found, err := r.esp.Entry(to)
	if err != nil {
		return err
	}
	if err := r.saveJob(job.at(Armed, "", time.Now())); err != nil {
		return err
	}
	if !found || !entry.Counted || entry.Left == 0 {
		if err := r.esp.Clear(to); err != nil {
			return err
		}
		if err := r.esp.Commit(to, slots.Release{Version: h.Version, Cmdline: h.Cmdline}); err != nil {
			return err
		}
	}
	r.log.Info("the machine starts again with other firmware", "version", h.Version, "slot", to)
	r.note(ctx, audit.Allowed, job, "starts "+h.Version+" in slot "+string(to)+", for "+job.By)
	return r.reboot(ctx)
}

// whole says whether a slot has all of a bundle; it is read once.
func (r *Runner) whole(s slots.Slot, h *release.Head) bool {
	r.mu.Lock()
	known := r.good[s] == h.ID()
	r.mu.Unlock()
	if known {
		return true
	}
	if !whole(r.esp, s, h) {
		return false
	}
	r.mu.Lock()
	r.good[s] = h.ID()
	r.mu.Unlock()
	return true
}

func (r *Runner) forget(s slots.Slot) {
	r.mu.Lock()
	delete(r.good, s)
	r.mu.Unlock()
}

// probe orders a message that changes nothing, and says how long that took or what is wrong.
func (r *Runner) probe(ctx context.Context) (took time.Duration, wrong string) {
	cols := new(coord.Columns)
	cols.Add(coord.KindBarrier, 0, 0, 0, nil, nil)
	done := make(chan coord.Reply, 1)
	began := time.Now()
	r.c.Submit(&site.Request{Cols: cols, Done: func(x coord.Reply) { done <- x }})
	late := time.NewTimer(probeMax)
	defer late.Stop()
	select {
	case x := <-done:
		if len(x.Results) == 0 {
			return 0, fmt.Sprintf("the site orders nothing: %v", x.Code)
		}
		return time.Since(began), ""
	case <-late.C:
		return 0, fmt.Sprintf("the site ordered a message not within %v", probeMax)
	case <-ctx.Done():
		return 0, ctx.Err().Error()
	}
}

// note records what the box does by itself.
func (r *Runner) note(ctx context.Context, o audit.Outcome, j *Job, what string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteMax)
	defer cancel()
	id := r.c.Self()
	rec := audit.Record{Principal: access.Box + ":" + id.String(), Action: rollout.KindStep, Resource: access.Box + ":" + id.String(), Outcome: o, Reason: what}
	rec.Clip()
	if err := r.c.Record(ctx, rec); err != nil {
		r.log.Error("an update was not recorded", "what", what, "err", err)
	}
}

// lookAtPlan does this box's part of the site's update.
func (r *Runner) lookAtPlan(ctx context.Context) {
	st := r.c.State()
	p, err := rollout.Read(st)
	if p == nil {
		if err != nil {
			r.setWaits("the site's update cannot be read: " + err.Error())
		}
		return
	}
	f := r.facts(st, p)
	do, e := p.Next(r.c.Self(), st.Members(), f)
	i := p.Find(r.c.Self())
	if i < 0 || p.Turn() != i || do != rollout.Nothing {
		r.setWaits("")
	} else if f.Spare {
		r.setWaits("the new firmware shows whether it is good")
	} else {
		r.setWaits("the site cannot spare this box now")
	}
	switch do {
	case rollout.Say:
		r.say(ctx, st, p, e)
	case rollout.Fetch:
		r.startFetch(ctx, p.Bundle, p.URL, rollout.ReadHead(st))
	case rollout.Switch:
		if r.waiting() {
			return
		}
		job := &Job{Bundle: p.Bundle, Version: p.Version, From: r.c.Version, Slot: r.c.Machine.Slot.Other(), Rules: p.Rules, Plan: p.Number, Turn: p.Boxes[i].Since, By: fmt.Sprintf("update %d of the site", p.Number)}
		r.act("start the new firmware", func() error { return r.arm(ctx, job) })
	case rollout.Return:
		if r.waiting() {
			return
		}
		job := &Job{Bundle: p.Bundle, Version: p.Version, From: r.c.Version, Slot: r.c.Machine.Slot, Rules: p.Rules, Plan: p.Number, Turn: p.Boxes[i].Since, By: fmt.Sprintf("update %d of the site", p.Number)}
		r.act("go back", func() error { return r.giveUp(ctx, job, "the site goes back from it") })
	}
}

func (r *Runner) setWaits(why string) {
	r.mu.Lock()
	r.waits = why
	r.mu.Unlock()
}

// facts are what this box knows, for what it does next.
func (r *Runner) facts(st Docs, p *rollout.Plan) rollout.Facts {
	v := r.c.View()
	r.mu.Lock()
	f := rollout.Facts{Runs: r.runs, Trial: r.trial != nil, Cannot: r.cannot, Leads: v.Leader == r.c.Self(), Second: st.Seconds()}
	job := r.job
	r.mu.Unlock()
	_, f.Clock = st.Doc(rollout.DocClock)
	f.Spare = spare(v)
	if r.esp == nil {
		return f
	}
	if h, err := release.ParseHead(rollout.ReadHead(st), r.keys(st)); err != nil {
		f.Cannot = err.Error()
	} else if err := h.Fits(r.running(), true); err != nil && r.runs != p.Bundle {
		f.Cannot = err.Error()
	}
	to := r.c.Machine.Slot.Other()
	entry, found, err := r.esp.Entry(to)
	if err != nil {
		f.Cannot = err.Error()
	}
	if h := bundleOf(r.esp, to); h != nil && h.ID() == p.Bundle {
		f.Staged = len(r.using) == 0 && r.whole(to, h)
		f.Armed = found && entry.Bootable()
	} else {
		f.Before = found && !entry.Counted
	}
	if i := p.Find(r.c.Self()); i >= 0 && job != nil && job.Phase == Back && job.Plan == p.Number && job.Turn == p.Boxes[i].Since {
		f.Fell = job.Why
	}
	return f
}

// spare says whether the site orders without this box: that as many others are here as it needs, or all, where it needs all.
func spare(v *site.View) bool {
	others := 0
	for i := range v.Members {
		if m := &v.Members[i]; m.Up && !m.Self && m.VotesFrom <= v.Round {
			others++
		}
	}
	return v.Serving && others >= min(v.Quorum, v.N-1)
}

func (r *Runner) running() *release.Running {
	return &release.Running{Version: cmp.Or(r.version, r.c.Version), Board: r.c.Machine.Board, Arch: r.c.Machine.Arch, Formats: Formats()}
}

// keys are those that sign: the site's, or, while it has none, the configuration's.
func (r *Runner) keys(st Docs) []release.Key {
	if list := access.UpdateKeys(st); len(list) > 0 {
		return list
	}
	return r.c.Keys
}

// say proposes an event, as this box.
func (r *Runner) say(ctx context.Context, st Docs, p *rollout.Plan, e rollout.Event) {
	now := time.Now()
	doc, _ := st.Doc(rollout.DocPlan)
	if r.saidOf == doc.Version && now.Sub(r.said) < sayAgain {
		return
	}
	if e.What.Own() {
		r.others = time.Time{}
	} else {
		if r.others.IsZero() || now.Sub(r.others) > time.Minute {
			r.others = now
		}
		if now.Sub(r.others) < time.Duration(st.Members().Index(r.c.Self()))*othersTurn {
			return
		}
	}
	r.said, r.saidOf = now, doc.Version
	d, err := decision(st, p, e)
	if err == nil {
		err = r.c.Decide(ctx, d, r.c.AsBox())
	}
	if err != nil {
		r.log.Info("the site has not taken a step of its update yet", "step", e.What, "box", e.Box, "err", err)
		return
	}
	r.log.Info("a step of the site's update", "step", e.What, "box", e.Box, "why", e.Why)
}

// decision is the decision in which an event happens.
func decision(st Docs, p *rollout.Plan, e rollout.Event) (*coord.Decision, error) {
	_, clock := st.Doc(rollout.DocClock)
	next, err := p.Apply(e, rollout.Site{Members: st.Members(), Clock: clock})
	if err != nil {
		return nil, err
	}
	return deciding(st, next, nil)
}

func deciding(st Docs, next *rollout.Plan, head []byte) (*coord.Decision, error) {
	writes, err := rollout.Writes(st, next, head)
	if err != nil {
		return nil, err
	}
	e, subject := next.Last, next.Version
	if i := next.Find(e.Box); i >= 0 {
		subject = fmt.Sprintf("%s, %s: %s", next.Version, next.Boxes[i].Name, e.What)
	}
	d := &coord.Decision{Kind: e.What.Kind(), Subject: subject, Reason: e.Why, Writes: writes}
	if e.What.Kind() == rollout.KindStep {
		d.Seconds = coord.DecisionSecondsMin
	}
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	d.Nonce = binary.BigEndian.Uint64(nonce[:])
	return d, nil
}

var errNoBundle = errors.New("no such bundle is on this box")

// find is the bundle of that id, in a slot of this box that has all of it.
func (r *Runner) find(id coord.Digest) (slots.Slot, *release.Head, error) {
	if r.esp == nil {
		return "", nil, errNoBundle
	}
	for _, s := range []slots.Slot{slots.A, slots.B} {
		if h := bundleOf(r.esp, s); h != nil && h.ID() == id && r.whole(s, h) {
			return s, h, nil
		}
	}
	return "", nil, errNoBundle
}
