package site

import (
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
)

// KeysOf gives what a box signs and checks with among members, and its place there. A box may have two identities, around a change of
// its key; it speaks as the one that is a member. self is -1 when none is: the keys then check and do not sign.
type KeysOf func(members *coord.Members) (keys Keys, self int, err error)

// Epoch is a member set that a box works in, its place there (-1: none any more), and what it signs and checks with. It is immutable.
type Epoch struct {
	Members *coord.Members
	Self    int
	Keys    Keys
}

// Me is the box's name in the epoch; zero when it is no member.
func (e *Epoch) Me() (id coord.BoxID) {
	if e.Self >= 0 {
		id = e.Members.List[e.Self].ID
	}
	return id
}

func (f KeysOf) epoch(members *coord.Members) (*Epoch, error) {
	keys, self, err := f(members)
	if err != nil {
		return nil, fmt.Errorf("site: keys of epoch %d: %w", members.Epoch, err)
	}
	return &Epoch{members, self, keys}, nil
}

// parcel puts a box's name on what the core says to a member.
func (e *Epoch) parcel(o coord.Out) coord.Parcel {
	p := coord.Parcel{Msg: o.Msg}
	if o.To != coord.ToAll {
		p.To = e.Members.List[o.To].ID
	}
	return p
}

// ending is an epoch whose last block is applied. Nothing is applied above it, but the box goes on to vote, so that the others come to that
// end, too, until f+1 members have signed it: whoever is still in the epoch then can be told.
type ending struct {
	next  *coord.Members
	final *coord.Final
	// void is the batches of void blocks: they wait to be ordered in the next epoch.
	void    []*bft.Held
	durable ended
	h       *coord.Handover // when the state is durable: with the signatures that we have
	state   *bft.State      // of the last block, when its digest came before the next epoch
	tellAt  int64           // when to say again that we are here
}

// ended is how far the commit of the last block of an epoch is.
type ended uint8

const (
	toCommit ended = iota
	committing
	committed
)

// endEpoch notes that the block just applied is the last of its epoch.
func (b *Box) endEpoch(next *coord.Members, final *coord.Final) {
	if next.Epoch != b.ep.Members.Epoch+1 {
		b.fx.Fault = fmt.Sprintf("epoch %d cannot follow epoch %d", next.Epoch, b.ep.Members.Epoch)
		return
	}
	b.ends, b.wantPoint = &ending{next: next, final: final}, true
}

// void takes a final block above the end of the epoch.
func (b *Box) void(d bft.Delivery) {
	for i, bt := range d.Batches {
		if bt != nil {
			b.ends.void = append(b.ends.void, &bft.Held{Batch: bt, Digest: d.Block.Refs[i].Digest})
		}
	}
}

// onCommitted: what a commit gave is durable.
func (b *Box) onCommitted() {
	b.commits--
	b.st.Committed()
	if e := b.ends; e != nil && e.durable == committing {
		e.durable = committed
		e.h = b.handover()
		if o := b.heardOf(e.h); o != nil {
			e.h = merge(e.h, o)
		}
		if len(b.ahead) > 0 && b.ahead[0].h.Digest() == e.h.Digest() {
			e.h = merge(e.h, b.ahead[0].h)
		}
	}
	b.step(bft.Input{})
}

// advance goes from an epoch, all of whose blocks are applied and durable, to the next, when it can prove to anybody that it may. The
// proof is in the log before anything that the box says in the new epoch, and from then on it says nothing in the old one.
func (b *Box) advance() {
	e := b.ends
	if e == nil || e.durable != committed || b.fault != "" || b.frozen() {
		return
	}
	if len(e.h.Sigs) <= coord.MaxFaulty(b.ep.Members.N()) {
		if b.now >= e.tellAt {
			e.tellAt = b.now + int64(b.cfg.Tuning.Retransmit)
			b.fx.Send = append(b.fx.Send, coord.Parcel{Msg: &coord.PeerMsg{Epoch: b.ep.Members.Epoch, Handover: e.h}})
		}
		b.wake(e.tellAt)
		return
	}
	if len(b.ahead) > 0 {
		if b.ahead[0].h.Digest() != e.h.Digest() {
			b.fx.Fault = "the others ended the epoch in another way"
			return
		}
		b.ahead = b.ahead[1:]
	}
	ep, err := b.cfg.KeysOf.epoch(e.next)
	if err != nil {
		b.fx.Fault = err.Error()
		return
	}
	old, hs := b.ep, append(e.void, b.core.Held()...)
	b.ends = nil
	b.keepHandover(e.h)
	b.fx.Persist, b.fx.Sync = append(b.fx.Persist, coord.Record{Handover: e.h}), true
	if !b.enter(ep, hs, false) {
		return
	}
	b.spread(e.h, old)
	if e.state != nil {
		b.onState(e.state)
	}
	for b.out && len(b.ahead) > 0 { // what it had heard of while it was a member; nobody tells it that again
		next := b.ahead[0]
		b.ahead = b.ahead[1:]
		b.follow(next.h, next.next)
	}
}

// replayHandover: the log says that the box went on to the next epoch.
func (b *Box) replayHandover(h *coord.Handover) {
	if p := b.pastOf(h.Members.Epoch); h.Members.Epoch < b.ep.Members.Epoch && (p == nil || len(h.Sigs) > len(p.Sigs)) {
		b.placeHandover(h)
	}
	e := b.ends
	if e == nil || h.Members.Epoch != b.ep.Members.Epoch || h.Header.Digest() != e.final.Header.Digest() {
		return
	}
	ep, err := b.cfg.KeysOf.epoch(e.next)
	if err != nil {
		b.fault = err.Error()
		return
	}
	hs, silent := b.core.Held(), b.forgot()
	b.ends = nil
	b.placeHandover(h)
	b.replaced(ep)
	b.nextSeq = max(b.nextSeq, b.st.LastSeq(b.me))
	if b.core, err = b.newCore(b.lastFinal.Header, b.lastFinal.Cert, false, silent); err != nil {
		b.fault = err.Error()
		return
	}
	b.watchMembers()
	if !b.out {
		b.core.Adopt(hs)
	}
}

// replaced makes ep what the box speaks as.
func (b *Box) replaced(ep *Epoch) {
	b.ep, b.out = ep, ep.Self < 0
	if !b.out {
		b.me, b.name = ep.Me(), ep.Members.List[ep.Self].Name
	}
	b.st.SetSite(ep.Members, b.me)
	clear(b.heard)
}

// forgot says whether the box may have been in the next epoch before it lost its log.
func (b *Box) forgot() bool {
	until, _ := b.core.Silent()
	return until != 0 && b.older
}

// epochOf is the epoch of a record of Box.later.
func epochOf(r *coord.Record) uint64 {
	switch {
	case r.Vote != nil:
		return r.Vote.Epoch
	case r.Cert != nil:
		return r.Cert.Epoch
	case r.Block != nil:
		return r.Block.Epoch
	case r.Silent != nil:
		return r.Silent.Epoch
	}
	return 0
}

// enter makes ep the box's epoch, on the state as it is, with what waits to be ordered. blank: the state is not that of ep.
func (b *Box) enter(ep *Epoch, hs []*bft.Held, blank bool) bool {
	was, silent := b.me, b.forgot()
	b.replaced(ep)
	core, err := b.newCore(b.lastFinal.Header, b.lastFinal.Cert, blank, silent)
	if err != nil {
		b.fx.Fault = err.Error()
		return false
	}
	b.core = core
	b.watchMembers()
	if b.out {
		b.dropOwn()
	} else {
		if was != b.me {
			hs = b.reauthor(hs)
		}
		core.Adopt(hs)
		for i := range b.later {
			core.Replay(&b.later[i])
		}
		b.later = slices.DeleteFunc(b.later, func(r coord.Record) bool { return epochOf(&r) <= ep.Members.Epoch }) // it does not go back
		core.Start()
	}
	b.fx.Epoch, b.fx.Reach = ep, ep
	if top := b.top(); top.Self >= 0 {
		b.fx.Reach = top
	}
	b.clock = clock{}
	b.rollNow = !b.out
	b.askAt = 0
	for i := range ep.Members.List {
		if id := ep.Members.List[i].ID; b.cut[id] {
			b.step(bft.Input{Link: &bft.Link{Peer: i}})
		}
	}
	if len(b.ahead) > 0 {
		b.step(bft.Input{From: -1, Last: b.ahead[0].h.Header})
	}
	return true
}

// newCore makes the core of the box's epoch.
func (b *Box) newCore(base *coord.Block, cert *coord.Cert, blank, silent bool) (*bft.Core, error) {
	ep, t := b.ep, &b.cfg.Tuning
	from := uint64(0)
	if ep.Self >= 0 {
		from = ep.Members.List[ep.Self].VotesFrom
	}
	if silent {
		from = coord.SilentUnknown
	}
	if blank {
		base, cert = &coord.Block{Epoch: ep.Members.Epoch}, nil
	}
	core, err := bft.New(bft.Config{
		Self: ep.Self, Members: ep.Members.IDs(), Site: ep.Members.Site, Epoch: ep.Members.Epoch,
		TermRounds: t.TermRounds, Timeout: int64(t.Timeout), LeaderDown: int64(t.LeaderDown),
		Retransmit: int64(t.Retransmit), IdleStatus: int64(t.IdleStatus), FetchDelay: int64(t.FetchDelay),
		Starve: int64(t.Starve), DepthMax: t.DepthMax,
		PipelineBytes: t.PipelineBytes, PipelineDelay: int64(t.PipelineDelay), Spacing: int64(t.Spacing), BlockBytes: t.BlockBytes, PendingMax: t.PendingMax,
		Done: func(a coord.BoxID, seq uint64) bool { return b.st.BatchDone(a, seq) },
		Keys: ep.Keys, Blank: blank, VotesFrom: from, Nonce: b.cfg.Nonce,
	}, base, cert)
	if err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	return core, nil
}

// reauthor gives our unfinished batches to our new identity: the old one is no member any more, so that what it signed can never be
// ordered, and nothing takes effect twice.
func (b *Box) reauthor(hs []*bft.Held) []*bft.Held {
	bodies := map[coord.Digest]*coord.Batch{}
	for _, h := range hs {
		bodies[h.Digest] = h.Batch
	}
	own := b.own
	b.own = map[uint64]*ownBatch{}
	b.nextSeq = (b.st.LastSeq(b.me)>>seqBitsPerStart + 1) << seqBitsPerStart
	floor := b.nextSeq - 1
	for _, seq := range slices.Sorted(maps.Keys(own)) {
		o := own[seq]
		old := bodies[o.digest]
		if old == nil {
			b.giveUp(o)
			continue
		}
		bt := &coord.Batch{Author: b.me, Seq: b.nextSeq, Floor: floor, Count: old.Count, Body: old.Body}
		b.nextSeq++
		d := bt.Digest(b.ep.Members.Site)
		bt.Sig = b.ep.Keys.SignBatch(bt)
		b.own[bt.Seq] = &ownBatch{digest: d, requests: o.requests, closedAt: o.closedAt}
		hs = append(hs, &bft.Held{Batch: bt, Digest: d})
	}
	return hs
}

// giveUp answers the clients of a batch that this box can do nothing for any more: they try another one.
func (b *Box) giveUp(o *ownBatch) {
	for _, r := range o.requests {
		b.answer(r, coord.Reply{Code: coord.CodeStopping})
	}
	b.bat.Done(0)
}

// dropOwn answers all clients of a box that is no member any more.
func (b *Box) dropOwn() {
	for _, seq := range slices.Sorted(maps.Keys(b.own)) {
		b.giveUp(b.own[seq])
		delete(b.own, seq)
	}
	for _, r := range b.waiting {
		b.answer(r, coord.Reply{Code: coord.CodeStopping})
	}
	b.waiting = nil
	if b.bat.Open() > 0 {
		b.bat.Take(&b.cols)
		b.bat.Done(0)
	}
}

// onState signs the state at a checkpoint; at the end of an epoch for both that meet there.
func (b *Box) onState(s *bft.State) {
	switch e := b.ends; {
	case e != nil && e.final.Header.Height == s.Header.Height:
		e.state = s
		return
	case e != nil:
	case s.Header.Epoch < b.ep.Members.Epoch:
		b.signState(s)
	}
	b.step(bft.Input{State: s})
}

// places are what the box has applied and what it claims (0: nothing), as readers count them. Who has applied the end of an epoch is in
// the next one for them, so that they ask its members.
func (b *Box) places() (applied, claim uint64) {
	epoch := b.ep.Members.Epoch
	if b.out {
		return placeOf(epoch, 0), 0
	}
	if round, ok := b.core.Claim(); ok && !b.core.Blank() {
		claim = placeOf(epoch, round)
	}
	if b.ends != nil {
		return placeOf(epoch+1, 0), claim
	}
	round := b.lastFinal.Header.Round
	if b.lastFinal.Header.Epoch < epoch { // the block that the epoch builds on stands for the rounds before its first
		round = b.core.Root()
	}
	return placeOf(epoch, round), claim
}

// Removed says that the box is no member of the site any more: it has come to the end of its last epoch, or f+1 members told it so.
func (b *Box) Removed() bool {
	return b.out || len(b.ahead) > 0 && b.ahead[len(b.ahead)-1].next.Self < 0
}

// Epoch is what the box works in now.
func (b *Box) Epoch() *Epoch { return b.ep }

// resume finds the epoch to start in, and takes over the handovers of those before. Where the state is that of the end of an epoch, the box
// went on only if it had f+1 signatures for that, which are here or in the log.
func (b *Box) resume(members *coord.Members, final *coord.Final) (*coord.Members, error) {
	end := final != nil && final.Header.Height > 0 && final.Header.Epoch < members.Epoch
	for _, h := range b.cfg.Handovers {
		if h.Members.Epoch >= members.Epoch {
			continue
		}
		if end && h.Next.Epoch == members.Epoch && h.Header.Digest() == final.Header.Digest() {
			old, err := b.cfg.KeysOf.epoch(h.Members)
			if err != nil {
				return nil, err
			}
			if !h.Signed(old.Keys.VerifyVote) {
				// Only the log says whether it went on nevertheless.
				b.ends, b.wantPoint, b.older = &ending{next: members, final: final}, true, true
				return h.Members, nil
			}
		}
		b.past = append(b.past, h)
	}
	b.wantPoint = end // who begins with this epoch needs the state at its beginning
	return members, nil
}

// Final is the header of the last block that is applied, and its digest. Its core may have delivered more, which may be void.
func (b *Box) Final() (*coord.Block, coord.Digest) {
	return b.lastFinal.Header, b.lastFinal.Header.Digest()
}

// Past is the handovers of the epochs before the box's, ascending; the caller must not change them.
func (b *Box) Past() []*coord.Handover { return b.past }

// String describes the box for people who look into a stall.
func (b *Box) String() string {
	return fmt.Sprintf("epoch %d knows %d more, at its end %v, fetches %v, removed %v, backlog %d, %v",
		b.ep.Members.Epoch, len(b.ahead), b.ends != nil, b.snap != nil, b.out, len(b.backlog), b.core)
}
