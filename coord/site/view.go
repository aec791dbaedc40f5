package site

import (
	"fmt"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// What a View shows of decisions at most.
const (
	viewDecisionsMax = 64
	viewDecidedMax   = 16
)

// ask runs fn on the owner's goroutine and waits; false when the site does not run.
func (s *Site) ask(fn func(*Box)) bool {
	if !s.running.Load() {
		return false
	}
	done := make(chan struct{})
	s.calls.put(func(b *Box) { fn(b); close(done) })
	select {
	case <-done:
		return true
	case <-s.stopped:
		return false
	}
}

// View is the box and its site now, or as it was opened or stopped when it does not run.
func (s *Site) View() *View {
	s.ask(func(*Box) { s.publish() })
	return s.lastView.Load()
}

// Top is the n most observed objects, as this box has them.
func (s *Site) Top(n int) (t Top, err error) {
	if !s.ask(func(b *Box) {
		var top []state.Count
		t.Total, t.Distinct, top, err = b.st.TopScan(n)
		t.Top = make([]Count, len(top))
		for i, c := range top {
			t.Top[i] = Count(c)
		}
	}) {
		return t, ErrStopped
	}
	return t, err
}

// Get reads a key as this box has it now (it may be behind the site). The value is the caller's.
func (s *Site) Get(key []byte) (value []byte, revision uint64, found bool, err error) {
	if !s.ask(func(b *Box) {
		var kv state.KeyValue
		kv, found, err = b.st.Get(key)
		value, revision = kv.Value, kv.ModRevision
	}) {
		err = ErrStopped
	}
	return value, revision, found, err
}

// Log calls fn for the final blocks from..to (to 0: all), in order, as far as the log goes back.
func (s *Site) Log(from, to uint64, fn func(*LogBlock) error) error {
	low := s.o.Log.LogFrom()
	if from == 0 {
		from = max(low, 1)
	}
	if low > from {
		return fmt.Errorf("site: the log begins at height %d; heights below it are in the state only", low)
	}
	for h := from - 1; to == 0 || h < to; {
		bs, x, err := s.o.Log.Blocks(h, serveBlocks)
		if err != nil {
			return err
		}
		if len(bs) == 0 {
			return nil
		}
		for i, b := range bs {
			if to != 0 && b.Height > to {
				return nil
			}
			lb, err := s.logBlock(b)
			if err != nil {
				return err
			}
			if i == len(bs)-1 {
				lb.Cert = x
			}
			for k := range b.Refs {
				bt, err := s.o.Log.Batch(b.Refs[k].Digest)
				if err != nil {
					return fmt.Errorf("site: batch of height %d: %w", b.Height, err)
				}
				lb.Batches = append(lb.Batches, bt)
			}
			if err := fn(lb); err != nil {
				return err
			}
			h = b.Height
		}
	}
	return nil
}

// logBlock is a block with who its epoch's members were, and without its batches.
func (s *Site) logBlock(b *coord.Block) (*LogBlock, error) {
	ms, err := s.membersOf(b.Epoch)
	if err != nil {
		return nil, err
	}
	lb := &LogBlock{Block: b, Digest: b.Digest(), Members: ms}
	if ms != nil {
		lb.Leader = s.leaderOf(ms, b.Round)
	}
	return lb, nil
}

func (s *Site) leaderOf(ms *coord.Members, round uint64) coord.BoxID {
	return ms.List[int(round/s.box.cfg.Tuning.TermRounds)%len(ms.List)].ID
}

// membersOf are the members of an epoch, nil when this box does not know them.
func (s *Site) membersOf(epoch uint64) (*coord.Members, error) {
	if now := s.ep.Load().Members; now.Epoch == epoch {
		return now, nil
	}
	s.sets.Lock()
	defer s.sets.Unlock()
	if ms, ok := s.sets.of[epoch]; ok {
		return ms, nil
	}
	past, err := s.o.Base.Handovers()
	if err != nil {
		return nil, fmt.Errorf("site: members of epoch %d: %w", epoch, err)
	}
	s.sets.of = map[uint64]*coord.Members{} // as many as the store keeps, whatever is asked for
	for _, h := range past {
		s.sets.of[h.Members.Epoch], s.sets.of[h.Next.Epoch] = h.Members, h.Next
	}
	return s.sets.of[epoch], nil
}

// publish makes a new View; on the owner's goroutine.
func (s *Site) publish() {
	b, now, wall := s.box, s.now(), time.Now()
	core, ms, self := b.core, b.ep.Members, b.ep.Self
	final, digest := b.Final()
	n := ms.N()
	v := &View{
		ID: b.me, Index: self, Name: b.name, Site: ms.Site, Epoch: ms.Epoch, Version: s.o.Version,
		Started: s.start, Taken: wall, N: n, F: coord.MaxFaulty(n), Quorum: coord.Quorum(n),
		Leader: s.leaderOf(ms, core.Round()), Round: core.Round(), Term: core.Term(core.Round()), Height: final.Height, Final: digest,
		Revision: b.st.Revision(), Applied: b.applied, Duplicates: b.duplicates, Rate: b.meter.rate(now),
		Pending: core.Pending(), Inflight: b.inflight(), LogFrom: s.o.Log.LogFrom(), Blocks: b.meter.blocks(now, wall),
	}
	if v.ID == (coord.BoxID{}) { // it started as no member of its site any more
		v.ID, v.Name = s.o.Self.ID, s.o.Self.Name
	}
	if v.Removed = b.Removed(); v.Removed {
		v.RemovedBy = removedBy(b.st)
	}
	if p := core.Stable(); p != nil {
		v.Checkpoint = p.Header.Height
	}
	if f := s.fault.Load(); f != nil {
		v.Fault = *f
	}
	v.Full = s.waits()
	peers := map[coord.BoxID]*PeerState{}
	for _, p := range s.links.Peers() {
		peers[p.ID] = &p
	}
	up := 0
	for i := range ms.List {
		m := MemberView{Member: ms.List[i], Index: i, Self: i == self}
		if m.Self {
			m.Up, m.Height, m.Round, m.Heard = true, final.Height, core.Round(), wall
			m.VotesFrom, v.Asking = core.Silent()
		} else {
			h := core.Heard(i)
			m.Height, m.Round, m.VotesFrom = h.Height, h.Round, max(m.VotesFrom, h.VotesFrom)
			if p := peers[m.ID]; p != nil {
				m.Up, m.Heard, m.RTT, m.Twins = p.Up, p.Heard, p.RTT, p.Twins
				m.Since, m.Silences, m.Stalls, m.Timeout = p.Since, p.Silences, p.Stalls, p.Timeout
				m.Control, m.Bulk = p.Control, p.Bulk
				v.Counters.SentBytes += p.SentBytes
				v.Counters.ReceivedBytes += p.ReceivedBytes
				v.Counters.SentMessages += p.SentMessages
				v.Counters.DroppedSends += p.Dropped
				v.Counters.BadMessages += p.BadFrames
			}
		}
		m.Suspect = core.Suspect(i)
		if p := peers[m.ID]; p != nil {
			m.Suspect += p.BadFrames
		}
		if m.Up {
			up++
		}
		v.Members = append(v.Members, m)
	}
	v.Decisions, v.Decided = s.Decisions()
	v.Decisions = v.Decisions[:min(len(v.Decisions), viewDecisionsMax)]
	v.Decided = v.Decided[:min(len(v.Decided), viewDecidedMax)]
	s.fillCounters(v)
	v.Serving = !v.Removed && s.running.Load() && v.Fault == "" && v.Full == "" && up >= v.Quorum && !core.Overdue(now) && !s.draining.Load()
	v.Trust, v.Audit = s.trustView(now, wall), s.audited.Load()
	v.Verdict = verdict(v, up, s.draining.Load(), core.Overdue(now)) + alarm(v, s.ears.lacked()) + auditAlarm(v)
	s.lastView.Store(v)
}

// removedBy says which decision made the member set that the state has last, as far as the state knows.
func removedBy(st *state.Machine) string {
	since := st.MembersSince()
	for _, d := range st.Decided() {
		if d.Height == since && d.Outcome == state.TookEffect {
			return fmt.Sprintf(": by decision %s (%s %s, asked for by %s) at height %d", d.ID.Short(), d.Kind, d.Subject, d.Principal, d.Height)
		}
	}
	return ""
}

func (s *Site) fillCounters(v *View) {
	links := v.Counters
	st := s.box.core.Stats()
	c := s.box.count
	c.SentBytes, c.ReceivedBytes = links.SentBytes, links.ReceivedBytes
	c.SentMessages, c.DroppedSends = links.SentMessages, links.DroppedSends
	c.BadMessages += links.BadMessages
	c.Starved = s.links.Starved()
	c.Syncs, c.LogBytes = s.synced.Load(), s.o.Log.Written()
	c.SignedVotes, c.EmptyVotes, c.LeaderChanges = st.Signed, st.EmptyVotes, st.Terms
	c.Verified += st.Verified
	for _, n := range st.Bad {
		c.BadMessages += n
	}
	v.Counters = c
}

// lateMin and lateFor are what a member may lag without being late: it says where it is every now and then only.
const (
	lateMin = 50
	lateFor = 5 * time.Second
)

// Late is how many blocks a member is behind a box that was at height at taken, as far as that is more than the member's last word is old; blocks
// are the box's last ones, the newest first. 0: it is not late.
func Late(taken time.Time, height uint64, blocks []BlockView, m *MemberView) uint64 {
	most := uint64(lateMin)
	if n := len(blocks); n > 1 {
		if span := taken.Sub(blocks[n-1].Time); span > 0 {
			most += uint64(float64(n-1) / span.Seconds() * lateFor.Seconds())
		}
	}
	if height <= m.Height+most {
		return 0
	}
	return height - m.Height
}

// more says how many more boxes may fail.
func more(n int) string {
	if n <= 0 {
		return "if one more fails it cannot write"
	}
	return fmt.Sprintf("%d more may fail", n)
}

// verdict is the site's state in one sentence.
func verdict(v *View, up int, draining, overdue bool) string {
	down, silent := v.N-up, 0
	for i := range v.Members {
		if v.Members[i].Up && v.Members[i].VotesFrom > v.Round {
			silent++
		}
	}
	switch {
	case v.Fault != "":
		return "This box has stopped voting: " + v.Fault + "."
	case v.Removed:
		return "This box is no member of the site any more" + v.RemovedBy + ". It orders nothing, and shows what it has."
	case draining:
		return "This box is stopping."
	case v.Full != "":
		return "This box takes nothing in, because its disk is full; it goes on when there is space: " + v.Full + "."
	case up < v.Quorum:
		return fmt.Sprintf("The site cannot write: this box reaches %d of %d boxes, %d are needed.", up, v.N, v.Quorum)
	case overdue:
		return "The site is changing its leader; writes wait."
	case silent > 0 && down+silent <= v.F:
		return fmt.Sprintf("The site works: %d of %d boxes are here, %d of them with a log that is not whole and not voting yet; %s.",
			up, v.N, silent, more(v.F-down-silent))
	case down > 0 && v.F == 0:
		return fmt.Sprintf("The site works, but %d of %d boxes is away and none may fail.", down, v.N)
	case down > 0:
		return fmt.Sprintf("The site works with %d of %d boxes; %s.", up, v.N, more(v.F-down))
	case v.F == 0:
		boxes := fmt.Sprintf("%d boxes", v.N)
		if v.N == 1 {
			boxes = "one box"
		}
		return "The site works; with " + boxes + " none may lie or fail for good (4 tolerate one)."
	}
	return fmt.Sprintf("The site works: all %d boxes are here, any %d may fail or lie.", v.N, v.F)
}
