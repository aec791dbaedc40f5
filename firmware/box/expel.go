package box

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
)

const (
	// expelLook is how often a box looks whether what it can prove has consequences, when it has something.
	expelLook = 5 * time.Second
	// expelTurn: where operators decide, only one box should propose what all can prove, for who proposes says yes. So each waits for those before
	// it in the list.
	expelTurn = 20 * time.Second
	// proposeMax is how long a proposal may take to be ordered; what comes of it is looked up later.
	proposeMax = 10 * time.Second
)

// expelState is what an expeller reads of a site's state; *state.Machine has it.
type expelState interface {
	access.State
	Open() []state.OpenDecision
}

// expelSite is what an expeller needs of a site.
type expelSite interface {
	Evidence() (*coord.Exhibit, error)
	Decide(ctx context.Context, d *coord.Decision) (site.Outcome, error)
}

// expeller proposes that a box is removed that is proved to have lied, by evidence that this box keeps, also of before it started.
type expeller struct {
	self  coord.BoxID
	terms uint64
	log   *slog.Logger
	proof chan struct{} // has a token when there may be something new
	since map[coord.Digest]time.Time
	done  map[coord.Digest]bool
}

func newExpeller(self coord.BoxID, log *slog.Logger) *expeller {
	x := &expeller{
		self: self, terms: site.TermRounds, log: log, proof: make(chan struct{}, 1), since: map[coord.Digest]time.Time{}, done: map[coord.Digest]bool{},
	}
	x.found()
	return x
}

// found says that there may be new evidence; it does not block.
func (x *expeller) found() {
	select {
	case x.proof <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (x *expeller) run(ctx context.Context, s *site.Site) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		fresh := false
		select {
		case <-x.proof:
			fresh = true // it may be on its way to the disk
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if x.look(ctx, s, s.State(), time.Now()) || fresh {
			timer.Reset(expelLook)
		}
	}
}

// look proposes what is to be proposed now, and says whether something waits.
func (x *expeller) look(ctx context.Context, s expelSite, st expelState, now time.Time) (waits bool) {
	exhibit, err := s.Evidence()
	if err != nil {
		x.log.Warn("evidence cannot be read", "err", err)
		return true
	}
	for i := range exhibit.Findings {
		f := &exhibit.Findings[i]
		ms := st.Members()
		if ms == nil || ms.Index(f.Box) < 0 || ms.Index(x.self) < 0 || f.Box == x.self || f.Site != ms.Site || f.TermRounds != x.terms {
			continue
		}
		if _, _, err := trust.CheckFinding(f); err != nil {
			continue
		}
		d, err := expulsion(st, f)
		switch {
		case errors.Is(err, roster.ErrLast), errors.Is(err, roster.ErrUnknown), errors.Is(err, roster.ErrChanged): // the list changes just now
			continue
		case err != nil:
			x.log.Error("an expulsion cannot be proposed", "member", f.Box, "err", err)
			continue
		}
		id := d.Digest(ms.Site)
		if x.done[id] {
			continue
		}
		waits = true
		if x.since[id].IsZero() {
			x.since[id] = now
		}
		if x.turn(st, id, now, ms) {
			x.propose(ctx, s, d, id)
		}
	}
	return waits
}

// turn says whether this box proposes now. Where proof is enough all do, each with its yes; where operators decide, the first who can.
func (x *expeller) turn(st expelState, id coord.Digest, now time.Time, ms *coord.Members) bool {
	automatic := access.Setting(st, access.SettingExpulsion) == access.ExpulsionAutomatic
	open := st.Open()
	for i := range open {
		if open[i].ID == id && (!automatic || slices.Contains(open[i].Yes, x.self)) {
			return false
		}
	}
	return automatic || now.Sub(x.since[id]) >= time.Duration(ms.Index(x.self))*expelTurn
}

func (x *expeller) propose(ctx context.Context, s expelSite, d *coord.Decision, id coord.Digest) {
	short, cancel := context.WithTimeout(ctx, proposeMax)
	defer cancel()
	_, err := s.Decide(short, d)
	switch {
	case err == nil:
		x.log.Warn("a box that lied was expelled", "member", d.Subject, "decision", id.Short())
	case errors.Is(err, site.ErrWaits):
		x.log.Warn("a box lied: its expulsion is proposed and waits; see `holdfast decision list`", "member", d.Subject, "decision", id.Short())
		return
	case errors.Is(err, site.ErrRefused), errors.Is(err, site.ErrExpired), errors.Is(err, site.ErrDecision):
		x.log.Warn("a box that lied is not expelled", "member", d.Subject, "decision", id.Short(), "err", err)
	default: // busy, stale or stopping: again later
		return
	}
	x.done[id] = true
}

// expulsion is the decision that removes the box of a finding. Boxes that hold other proofs of the same box make the same one: only its authority
// differs, which is no part of what is decided.
// Errors: roster's.
func expulsion(st roster.State, f *coord.Finding) (*coord.Decision, error) {
	ms := st.Members()
	if ms.Index(f.Box) < 0 {
		return nil, fmt.Errorf("%w: %v", roster.ErrUnknown, f.Box)
	}
	next, err := roster.Removing(st, f.Box)
	if err != nil {
		return nil, err
	}
	writes, err := roster.Writes(st, next)
	if err != nil {
		return nil, err
	}
	authority, err := (&access.Authority{Evidence: f}).Encode()
	if err != nil {
		return nil, fmt.Errorf("box: expulsion: %w", err)
	}
	h := sha256.New()
	h.Write([]byte("holdfast expel 01"))
	h.Write(f.Box[:])
	_ = binary.Write(h, binary.BigEndian, ms.Epoch) // never fails
	return &coord.Decision{
		Kind: roster.Remove, Subject: roster.Subject(roster.Remove, ms, next), Principal: "evidence",
		Reason: "it signed what no honest box signs: holdfast trust evidence", Nonce: binary.BigEndian.Uint64(h.Sum(nil)),
		Writes: writes, Authority: authority,
	}, nil
}
