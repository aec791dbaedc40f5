package update

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/slots"
	"github.com/holdfast-edge/holdfast/store"
)

// View is how this box and its site's update stand.
func (r *Runner) View() *api.Update {
	st := r.c.State()
	v := &api.Update{Version: r.c.Version, Board: r.c.Machine.Board, Arch: r.c.Machine.Arch, Slots: []api.UpdateSlot{}, Keys: []api.UpdateKey{}, Turn: -1}
	for _, d := range st.Docs(rollout.DocKey) {
		if k, err := release.ParseKey(string(d.Value)); err == nil {
			v.Keys = append(v.Keys, api.UpdateKey{Name: strings.TrimPrefix(d.Key, rollout.DocKey), ID: k.ID(), Key: k.String()})
		}
	}
	if v.Own = len(v.Keys) == 0; v.Own {
		for _, k := range r.c.Keys {
			v.Keys = append(v.Keys, api.UpdateKey{Name: "configuration", ID: k.ID(), Key: k.String()})
		}
	}
	if p, err := rollout.Read(st); err == nil && p != nil {
		v.Plan, v.Turn = p, p.Turn()
	}
	r.mu.Lock()
	v.Cannot, v.Waits = r.cannot, r.waits
	if r.trial != nil {
		v.Trial = r.trial.String()
	}
	if j := r.job; j != nil {
		v.Job = &api.UpdateJob{Phase: string(j.Phase), Bundle: j.Bundle, Version: j.Version, From: j.From, Slot: string(j.Slot), By: j.By, Why: j.Why, At: j.At}
	}
	if r.fetch != nil {
		f := r.fetch.show
		v.Fetch = &f
	}
	r.mu.Unlock()
	if r.esp == nil {
		return v
	}
	v.Slot = string(r.c.Machine.Slot)
	for _, s := range []slots.Slot{slots.A, slots.B} {
		v.Slots = append(v.Slots, r.slot(s))
	}
	return v
}

func (r *Runner) slot(s slots.Slot) api.UpdateSlot {
	x := api.UpdateSlot{Slot: string(s), Runs: s == r.c.Machine.Slot, State: "empty"}
	e, found, err := r.esp.Entry(s)
	switch {
	case err != nil:
		x.Reason = err.Error()
	case !found:
	case !e.Counted:
		x.State = "good"
	case e.Left > 0 || x.Runs:
		x.State, x.Left = "tried", e.Left
	default:
		x.State, x.Reason = "given up", r.esp.Reason(s)
	}
	x.Version = e.Version
	if h := bundleOf(r.esp, s); h != nil {
		x.Bundle = h.ID().String()
		if !found {
			x.Version, x.State = h.Version, "taken"
			x.Have, x.Bytes = staged(r.esp, s, h)
		}
	}
	return x
}

// staged is how much of a bundle is in a slot that has no entry, by the length of its files, and how much it has.
func staged(e *slots.ESP, s slots.Slot, h *release.Head) (have, bytes int64) {
	for _, p := range parts(h) {
		bytes += p.file.Bytes
		f, err := e.File(s, p.name)
		if err != nil {
			continue // it has not begun
		}
		if n, err := f.Size(); err == nil {
			have += min(n, p.file.Bytes)
		}
		_ = f.Close() // was only asked
	}
	return have, bytes
}

// Apply starts this box with a bundle that is in its other slot; by is who asks. It returns when the machine was asked to start again.
// Errors: ErrCannot, ErrBusy, the disk's.
func (r *Runner) Apply(ctx context.Context, id coord.Digest, rules rollout.Rules, by string, force bool) error {
	if why := r.cannotNow(); why != "" {
		return fmt.Errorf("update: %w: %s", ErrCannot, why)
	}
	if err := r.alone(); err != nil {
		return err
	}
	if v := r.c.View(); !spare(v) && !force {
		return fmt.Errorf("update: %w: the site would not order without this box (%s)", ErrCannot, v.Verdict)
	}
	s, h, err := r.find(id)
	if err != nil || s == r.c.Machine.Slot {
		return fmt.Errorf("update: %w: the other slot does not have bundle %s", ErrCannot, id.Short())
	}
	// It was good when it came; since then a key may have been distrusted, or what runs have changed.
	if _, err := release.ParseHead(h.Bytes(), r.keys(r.c.State())); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if err := h.Fits(r.running(), true); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if err := startable(r.esp, s); err != nil {
		return err
	}
	if rules == (rollout.Rules{}) {
		rules = rollout.RulesDefault
	}
	return r.now(func() error {
		return r.arm(ctx, &Job{Bundle: id, Version: h.Version, From: r.c.Version, Slot: s, Rules: rules, By: by})
	})
}

// Return leaves the release that runs, and starts the other slot's, which was good once. Errors: as Apply's.
func (r *Runner) Return(ctx context.Context, by string, force bool) error {
	if r.esp == nil {
		return fmt.Errorf("update: %w: %s", ErrCannot, r.cannotNow())
	}
	if err := r.alone(); err != nil {
		return err
	}
	if v := r.c.View(); !spare(v) && !force {
		return fmt.Errorf("update: %w: the site would not order without this box (%s)", ErrCannot, v.Verdict)
	}
	return r.now(func() error {
		return r.giveUp(ctx, &Job{Bundle: r.runs, Version: r.c.Version, Slot: r.c.Machine.Slot, Rules: rollout.RulesDefault, By: by}, by+" asked for it")
	})
}

// alone says whether the site's update lets a box be changed by itself.
func (r *Runner) alone() error {
	p, err := rollout.Read(r.c.State())
	if err == nil && p != nil && p.Turn() >= 0 {
		return fmt.Errorf("update: %w: the site changes over to %s; pause that first", ErrCannot, p.Version)
	}
	return nil
}

func (r *Runner) now(fn func() error) error {
	select {
	case r.using <- struct{}{}:
		defer func() { <-r.using }()
		return fn()
	default:
		return fmt.Errorf("update: %w", ErrBusy)
	}
}

// Site asks the site to change over to a bundle that this box has. Errors: ErrCannot; rollout's; Decide's.
func (r *Runner) Site(ctx context.Context, id coord.Digest, url string, rules rollout.Rules, by operators.By) error {
	_, h, err := r.find(id)
	if err != nil {
		return fmt.Errorf("update: %w: this box does not have bundle %s; give it to it first", ErrCannot, id.Short())
	}
	if rules == (rollout.Rules{}) {
		rules = rollout.RulesDefault
	}
	st := r.c.State()
	if len(st.Docs(rollout.DocKey)) == 0 { // all boxes must judge by the same keys, and each has a configuration of its own
		return fmt.Errorf("update: %w: the site has decided on no key that signs, and update.keys are good for one box only; `holdfast update trust NAME KEY` first", ErrCannot)
	}
	last, err := rollout.Read(st)
	if err != nil {
		last = nil // one that cannot be read is followed by the first
	}
	p, err := rollout.New(last, st.Members(), id, h.Version, url, rules, st.Seconds())
	if err != nil {
		return err
	}
	d, err := deciding(st, p, h.Bytes())
	if err != nil {
		return err
	}
	return r.c.Decide(ctx, d, by)
}

// Order pauses, resumes or undoes the site's update. Errors: rollout's; Decide's.
func (r *Runner) Order(ctx context.Context, what rollout.What, by operators.By) error {
	// Boxes take steps all the time: an operator's word must not lose against them.
	var err error
	for range orderTries {
		st := r.c.State()
		var p *rollout.Plan
		if p, err = rollout.Read(st); err != nil {
			return err
		}
		if p == nil {
			return fmt.Errorf("%w: the site has had no update", rollout.ErrStep)
		}
		var d *coord.Decision
		if d, err = decision(st, p, rollout.Event{What: what, Second: st.Seconds()}); err != nil {
			return err
		}
		if err = r.c.Decide(ctx, d, by); !errors.Is(err, site.ErrStale) {
			return err
		}
	}
	return err
}

// orderTries is how often an operator's word about a plan is said anew because the plan took a step meanwhile.
const orderTries = 8

// Key has the site trust a key that signs firmware, or, with an empty one, trust it no more. Errors: release.ErrKey, ErrNoKey; Decide's.
func (r *Runner) Key(ctx context.Context, name, key string, by operators.By) error {
	st := r.c.State()
	old, found := st.Doc(rollout.DocKey + name)
	if !found && key == "" {
		return fmt.Errorf("%w %q", ErrNoKey, name)
	}
	w := coord.DocWrite{Key: rollout.DocKey + name, Was: old.Version}
	if key != "" {
		k, err := release.ParseKey(key)
		if err != nil {
			return err
		}
		w.Value = []byte(k.String())
	}
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return err
	}
	return r.c.Decide(ctx, &coord.Decision{Kind: rollout.KindKey, Subject: w.Key, Nonce: binary.BigEndian.Uint64(nonce[:]), Writes: []coord.DocWrite{w}}, by)
}

// Bundle opens a bundle that a slot of this box has; the caller closes it. Errors: one that is fs.ErrNotExist.
func (r *Runner) Bundle(id coord.Digest) (b io.ReadSeekCloser, err error) {
	s, h, err := r.find(id)
	if err != nil {
		return nil, fmt.Errorf("update: %w: %w", fs.ErrNotExist, err)
	}
	x := &bundle{head: h.Bytes(), size: h.BundleBytes(), kernel: h.Kernel.Bytes}
	if x.files[0], err = r.esp.File(s, slots.Kernel); err != nil {
		return nil, err
	}
	if x.files[1], err = r.esp.File(s, slots.Initrd); err != nil {
		return nil, errors.Join(err, x.files[0].Close())
	}
	return x, nil
}

// bundle is a slot's content as the bundle that it was.
type bundle struct {
	head         []byte
	files        [2]store.File
	kernel, size int64
	at           int64
}

func (b *bundle) Read(p []byte) (int, error) {
	if b.at >= b.size {
		return 0, io.EOF
	}
	var n int
	var err error
	at := b.at - int64(len(b.head))
	switch {
	case at < 0:
		n = copy(p, b.head[b.at:])
	case at < b.kernel:
		n, err = b.files[0].ReadAt(p[:min(int64(len(p)), b.kernel-at)], at)
	default:
		n, err = b.files[1].ReadAt(p[:min(int64(len(p)), b.size-b.at)], at-b.kernel)
	}
	b.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// Seek implements io.Seeker.
func (b *bundle) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	b.at = offset
	return offset, nil
}

// Close implements io.Closer.
func (b *bundle) Close() error { return errors.Join(b.files[0].Close(), b.files[1].Close()) }

// Rules reads rules as people write them; empty ones are the usual ones. Errors: rollout.ErrPlan.
func (*Runner) Rules(health, latency, box string) (rollout.Rules, error) {
	rules := rollout.RulesDefault
	for _, x := range []struct {
		text string
		unit time.Duration
		to   *uint32
	}{{health, time.Second, &rules.HealthSeconds}, {latency, time.Millisecond, &rules.LatencyMs}, {box, time.Second, &rules.BoxSeconds}} {
		if x.text == "" {
			continue
		}
		d, err := time.ParseDuration(x.text)
		if err != nil || d < x.unit || d/x.unit > 1<<31 {
			return rules, fmt.Errorf("%w: %q is no duration such as 30s or 500ms", rollout.ErrPlan, x.text)
		}
		*x.to = uint32(d / x.unit)
	}
	if rules.BoxSeconds <= 2*rules.HealthSeconds {
		return rules, fmt.Errorf("%w: a box gives a release up after half of its box time, so %d s of that are too few to be well for %d s", rollout.ErrPlan, rules.BoxSeconds, rules.HealthSeconds)
	}
	return rules, nil
}
