package site

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
)

// write is the goroutine that owns the log: everything that gathered while the last sync ran goes into
// one append and one sync (group commit), then becomes visible in order.
func (s *Site) write(ctx context.Context) {
	for {
		es := s.effects.take()
		if len(es) == 0 {
			select {
			case <-s.effects.signal:
				continue
			case <-ctx.Done():
				if s.effects.len() == 0 {
					return
				}
				continue
			}
		}
		if s.fault.Load() == nil {
			if err := s.persist(ctx, es); err != nil {
				s.failed(err.Error())
			}
		}
		for i := range es {
			s.release(&es[i])
		}
		s.shown.reach(es[len(es)-1].seq) // before the owner may see that nothing waits
		s.queued.Add(-int64(len(es)))
		select {
		case s.written <- struct{}{}:
		default:
		}
	}
}

func (s *Site) persist(ctx context.Context, es []Effects) error {
	sync, prune := false, false
	for i := range es {
		e := &es[i]
		if len(e.Persist) > 0 {
			if err := s.untilSpace(ctx, &s.fullLog, func() error { return s.o.Log.Append(e.Persist) }); err != nil {
				return err
			}
		}
		// A signed checkpoint drops what it stands for at once: a site that comes to rest would keep it until there is work.
		prune = prune || e.Stable != nil || e.Roll != nil
		sync = sync || e.Sync || e.Stable != nil
		if e.Roll != nil {
			if err := s.untilSpace(ctx, &s.fullLog, func() error { return s.o.Log.Roll(e.Roll) }); err != nil {
				return err
			}
		}
	}
	if sync {
		s.synced.Add(1)
		if err := s.o.Log.Sync(); err != nil {
			return err
		}
	}
	if prune {
		return s.prune()
	}
	return nil
}

// spaceEvery is how often what needs space on the disk is tried again.
const spaceEvery = 500 * time.Millisecond

// untilSpace does something again and again while the disk is full. Meanwhile the box takes nothing in and says why.
func (s *Site) untilSpace(ctx context.Context, says *atomic.Pointer[string], do func() error) error {
	err := do()
	if !errors.Is(err, ErrFull) {
		return err
	}
	why := err.Error()
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		why = p.Error() // what people can act on, without the way that the error came
	}
	says.Store(&why)
	s.log.Error("the disk is full: this box takes nothing in until there is space", "err", err)
	for errors.Is(err, ErrFull) {
		select {
		case <-time.After(spaceEvery):
			err = do()
		case <-ctx.Done():
			return err
		}
	}
	says.Store(nil)
	s.inner.put(Input{}) // the owner takes in again
	if err == nil {
		s.log.Info("there is space on the disk again: this box goes on")
	}
	return err
}

// prune drops blocks that the durable state has and a signed checkpoint stands for.
func (s *Site) prune() error {
	p, f := s.stable.Load(), s.o.Base.Committed()
	if p == nil || f == nil {
		return nil
	}
	return s.o.Log.Prune(min(p.Header.Height, f.Header.Height))
}

// keep is the goroutine that writes the state behind the log, and replaces it by a fetched one.
func (s *Site) keep(ctx context.Context) {
	var in Install
	defer s.keepEvidence()
	for {
		for _, c := range s.commits.take() {
			if err := s.commit(ctx, c); err != nil {
				s.failed(err.Error())
				return
			}
		}
		for _, st := range s.installs.take() {
			in = s.install(in, st)
		}
		s.keepEvidence()
		for _, h := range s.learned.take() {
			if err := s.o.Base.KeepHandover(h); err != nil { // the log has what this box itself needs of it
				s.log.Warn("how an epoch ended was not kept", "epoch", h.Members.Epoch, "err", err)
			}
		}
		select {
		case <-s.learned.signal:
		case <-s.commits.signal:
		case <-s.installs.signal:
		case <-s.findings.signal:
		case <-ctx.Done():
			if s.commits.len() == 0 {
				return
			}
		}
	}
}

func (s *Site) commit(ctx context.Context, c *coord.Commit) error {
	if err := s.untilSpace(ctx, &s.fullBase, func() error { return s.o.Base.Commit(c) }); err != nil {
		return err
	}
	if c.Checkpoint {
		// The snapshot is opened here, between two commits; its digests are computed beside.
		sn, err := s.o.Base.Snapshot(ctx)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := sn.Build(ctx); err != nil {
			sn.Close()
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
		s.snapMu.Lock()
		if s.snap != nil {
			s.snap.Close()
		}
		s.snap = sn
		s.snapMu.Unlock()
		s.inner.put(Input{State: &bft.State{Header: sn.Header(), Digest: sn.State()}})
	}
	s.inner.put(Input{Committed: true})
	return nil
}

// install does one step of putting a fetched state in place.
func (s *Site) install(in Install, st *InstallStep) Install {
	var err error
	switch {
	case st.Abort:
		if in != nil {
			in.Abort()
		}
		return nil
	case st.Begin != nil:
		if in != nil {
			in.Abort()
		}
		s.log.Info("fetching a state that a quorum signed", "height", st.Begin.Header.Height, "pieces", len(st.Manifest)/32)
		s.installing = st.Begin
		in, err = s.o.Base.Install(st.Begin, st.Manifest)
	case in == nil:
		return nil
	case st.Finish:
		err = in.Finish()
	default:
		err = in.Put(st.Chunk, st.Data)
	}
	if err == nil && !st.Finish {
		return in
	}
	if err != nil && in != nil {
		in.Abort()
	}
	s.inner.put(Input{Installed: &Installed{Checkpoint: s.installing, Backend: s.o.Base.Backend(), Err: err}})
	return nil
}

// unverified is a batch whose signature is to be checked with the keys of the epoch that the box is in: what is released may be of the one
// before, which has no key of a new member.
type unverified struct {
	*bft.Held
	keys Keys
}

// verify checks batches' signatures beside the owner.
func (s *Site) verify(ctx context.Context) {
	for {
		for _, h := range s.verifies.take() {
			ok := h.keys.VerifyBatch(h.Batch)
			s.inner.put(Input{Checked: &bft.Checked{Digest: h.Digest, OK: ok}})
		}
		select {
		case <-s.verifies.signal:
		case <-ctx.Done():
			return
		}
	}
}
