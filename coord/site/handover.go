package site

import (
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
)

const (
	// HandoversMax is how many handovers a box keeps: one that was away over more changes of members needs to be told the members anew.
	HandoversMax = 128
	// badHandoversMax is how many handovers with signatures that do not hold a box looks at from one sender between two retransmissions.
	badHandoversMax = 4
	// strangersMax bounds the boxes in other epochs that a box remembers something of: twice a site.
	strangersMax = 2 * coord.MembersMax
)

// step is a handover that f+1 members of its epoch signed, from an epoch that the box has not come to the end of.
type step struct {
	h    *coord.Handover
	next *Epoch
}

// told is what a box remembers of one in another epoch.
type told struct {
	epoch  uint64 // of the last handover that we sent it, or asked it for
	at     int64  // when
	height uint64 // what it said of its height
	bad    int    // handovers of it that did not hold
	badAt  int64
}

func (b *Box) stranger(box coord.BoxID) *told {
	t := b.strangers[box]
	if t == nil {
		if len(b.strangers) >= strangersMax {
			clear(b.strangers)
		}
		t = new(told)
		b.strangers[box] = t
	}
	return t
}

// handover is how the epoch ends, with our signature.
func (b *Box) handover() *coord.Handover {
	e := b.ends
	h := &coord.Handover{Members: b.ep.Members, Header: e.final.Header, Next: e.next}
	if b.ep.Self >= 0 {
		h.Sigs = []coord.VoteSig{{
			Voter: uint8(b.ep.Self),
			Sig:   b.ep.Keys.SignVote(coord.VoteEpoch, b.ep.Members.Epoch, h.Header.Height, h.Digest()),
		}}
	}
	return h
}

// heardOf is what others signed that says the same, or nil.
func (b *Box) heardOf(h *coord.Handover) *coord.Handover {
	d := h.Digest()
	for _, o := range b.heard {
		if o.Digest() == d {
			return o
		}
	}
	return nil
}

// merge is what two handovers that say the same prove together.
func merge(a, b *coord.Handover) *coord.Handover {
	m := *a
	m.Sigs = mergeSigs(a.Sigs, b.Sigs)
	switch {
	case a.Checkpoint == nil:
		m.Checkpoint = b.Checkpoint
	case b.Checkpoint != nil && b.Checkpoint.State == a.Checkpoint.State:
		p := *a.Checkpoint
		x := *p.Cert
		x.Sigs = mergeSigs(x.Sigs, b.Checkpoint.Cert.Sigs)
		p.Cert, m.Checkpoint = &x, &p
	}
	return &m
}

func mergeSigs(a, b []coord.VoteSig) []coord.VoteSig {
	out := slices.Clone(a)
	for _, s := range b {
		at, there := slices.BinarySearchFunc(out, s.Voter, func(x coord.VoteSig, v uint8) int { return int(x.Voter) - int(v) })
		if !there {
			out = slices.Insert(out, at, s)
		}
	}
	return out
}

// keepHandover puts one in its place among those of the epochs before ours, and has it kept.
func (b *Box) keepHandover(h *coord.Handover) {
	b.placeHandover(h)
	b.fx.Handovers = append(b.fx.Handovers, h)
}

func (b *Box) placeHandover(h *coord.Handover) {
	at, there := slices.BinarySearchFunc(b.past, h.Members.Epoch, func(p *coord.Handover, e uint64) int {
		return compare(p.Members.Epoch, e)
	})
	if there {
		b.past[at] = h
	} else {
		b.past = slices.Insert(b.past, at, h)
	}
	b.past = b.past[max(0, len(b.past)-HandoversMax):]
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// pastOf is the handover of an epoch before ours, or nil.
func (b *Box) pastOf(epoch uint64) *coord.Handover {
	for _, h := range b.past {
		if h.Members.Epoch == epoch {
			return h
		}
	}
	return nil
}

// spread tells a handover to all whom it concerns.
func (b *Box) spread(h *coord.Handover, old *Epoch) {
	m := &coord.PeerMsg{Epoch: b.ep.Members.Epoch, Handover: h}
	if !b.out {
		b.fx.Send = append(b.fx.Send, coord.Parcel{Msg: m})
	}
	for i := range old.Members.List {
		if id := old.Members.List[i].ID; id != b.me && (b.out || b.ep.Members.Index(id) < 0) && i != old.Self {
			b.fx.Send = append(b.fx.Send, coord.Parcel{To: id, Msg: m})
		}
	}
}

// signState adds our signature of the state at the end of the epoch before ours, as a member of that one, for those who can only
// believe its members.
func (b *Box) signState(s *bft.State) {
	h := b.pastOf(b.ep.Members.Epoch - 1)
	if h == nil || h.Header.Digest() != s.Header.Digest() {
		return
	}
	old, err := b.cfg.KeysOf.epoch(h.Members)
	if err != nil || old.Self < 0 {
		return
	}
	d := coord.CheckpointDigest(s.Header.Digest(), s.Digest)
	epoch, height := h.Members.Epoch, s.Header.Height
	m := merge(h, &coord.Handover{Checkpoint: &coord.Checkpoint{Header: s.Header.Header(), State: s.Digest, Cert: &coord.Cert{
		Kind: coord.VoteCheckpoint, Epoch: epoch, Round: height, Digest: d,
		Sigs: []coord.VoteSig{{Voter: uint8(old.Self), Sig: old.Keys.SignVote(coord.VoteCheckpoint, epoch, height, d)}},
	}}})
	if m.Checkpoint.State != s.Digest {
		b.fx.Fault = "our state differs from that of other boxes at the end of an epoch"
		return
	}
	if h.Checkpoint == nil || len(m.Checkpoint.Cert.Sigs) > len(h.Checkpoint.Cert.Sigs) {
		b.keepHandover(m)
		b.spread(m, old)
	}
}

// top is the last epoch that the box knows the members of.
func (b *Box) top() *Epoch {
	if n := len(b.ahead); n > 0 {
		return b.ahead[n-1].next
	}
	return b.ep
}

// onHandover learns how an epoch ended.
func (b *Box) onHandover(box coord.BoxID, h *coord.Handover) {
	t := b.stranger(box)
	if t.badAt < b.now {
		t.bad, t.badAt = 0, b.now+int64(b.cfg.Tuning.Retransmit)
	}
	if t.bad >= badHandoversMax || b.fault != "" {
		return
	}
	if !h.Fits() || h.Members.Site != b.ep.Members.Site || !b.learn(box, h) {
		t.bad++
		b.count.BadMessages++
	}
}

// learn takes a handover in; false: it does not hold.
func (b *Box) learn(box coord.BoxID, h *coord.Handover) bool {
	epoch := h.Members.Epoch
	if epoch < b.ep.Members.Epoch {
		if p := b.pastOf(epoch); p != nil {
			return b.complete(p, h)
		}
		return true
	}
	k := int(min(epoch-b.ep.Members.Epoch, HandoversMax))
	if k < len(b.ahead) {
		if k == 0 && b.ahead[0].h.Digest() == h.Digest() {
			b.last(box, h)
		}
		return true
	}
	from := b.top()
	if k > len(b.ahead) || k >= HandoversMax {
		return true // the ones between are asked for
	}
	if h.Members.Digest() != from.Members.Digest() {
		return false
	}
	if !h.Signed(from.Keys.VerifyVote) {
		if k > 0 {
			return false // nobody tells of an end that is not proven but to members of the epoch
		}
		var holds bool
		if h, holds = b.gather(box, h); h == nil {
			return holds
		}
	}
	h = proven(h, from.Keys.VerifyVote)
	next, err := b.cfg.KeysOf.epoch(h.Next)
	switch {
	case err != nil:
		return false
	case b.out: // it has no state to bring to the end of an epoch
		b.follow(h, next)
	case k == 0 && b.ends != nil:
		if b.ends.h != nil && b.ends.h.Digest() == h.Digest() {
			b.ends.h = merge(b.ends.h, h)
		}
		b.ahead = append(b.ahead, step{h, next})
	default:
		b.ahead = append(b.ahead, step{h, next})
		if next.Self >= 0 {
			b.fx.Reach = next
		}
		b.askNext(box)
		if k == 0 {
			b.last(box, h)
		}
	}
	return true
}

// proven is a handover with nothing in it but what holds.
func proven(h *coord.Handover, verify func(v *coord.Vote) bool) *coord.Handover {
	x := *h
	n := h.Members.N()
	x.Sigs = goodSigs(&coord.Cert{Kind: coord.VoteEpoch, Epoch: h.Members.Epoch, Round: h.Header.Height, Digest: h.Digest(), Sigs: h.Sigs}, n, verify)
	x.Checkpoint = provenState(h, h.Checkpoint, verify)
	return &x
}

// provenState is a state p at the end of an epoch with nothing in it but what holds; nil when that is not enough.
func provenState(h *coord.Handover, p *coord.Checkpoint, verify func(v *coord.Vote) bool) *coord.Checkpoint {
	epoch, n := h.Members.Epoch, h.Members.N()
	if p == nil || p.Header == nil || p.Header.Digest() != h.Header.Digest() || !p.Holds(epoch, n, verify) {
		return nil
	}
	c := *p.Cert
	c.Sigs = goodSigs(p.Cert, n, verify)
	return &coord.Checkpoint{Header: p.Header.Header(), State: p.State, Cert: &c}
}

// goodSigs is the signatures of a certificate that are good, ascending by voter, as merge wants them.
func goodSigs(x *coord.Cert, n int, verify func(v *coord.Vote) bool) []coord.VoteSig {
	sigs, _ := newSigs(nil, x.Sigs, n, func(s *coord.VoteSig) bool {
		return verify(&coord.Vote{Kind: x.Kind, Epoch: x.Epoch, Round: x.Round, Digest: x.Digest, Voter: s.Voter, Sig: s.Sig})
	})
	return mergeSigs(nil, sigs)
}

// gather collects what members of our epoch sign one by one, until f+1 of them say the same. nil: not yet. holds: what came is good.
func (b *Box) gather(box coord.BoxID, h *coord.Handover) (whole *coord.Handover, holds bool) {
	from := b.ep.Members.Index(box)
	if from < 0 {
		return nil, true
	}
	have := &coord.Handover{Members: b.ep.Members, Header: h.Header, Next: h.Next}
	old := b.heardOf(h)
	if old != nil {
		have = old
	}
	sigs, holds := newSigs(have.Sigs, h.Sigs, b.ep.Members.N(), func(s *coord.VoteSig) bool {
		return b.ep.Keys.VerifyVote(&coord.Vote{
			Kind: coord.VoteEpoch, Epoch: b.ep.Members.Epoch, Round: h.Header.Height, Digest: h.Digest(), Voter: s.Voter, Sig: s.Sig,
		})
	})
	if len(sigs) == 0 {
		return nil, holds
	}
	b.expose(h, sigs)
	m := merge(have, &coord.Handover{Sigs: sigs})
	who := box
	for id, o := range b.heard { // one a box: a liar may sign many ends
		if o == old {
			who = id
		}
	}
	b.heard[who] = m
	if e := b.ends; e != nil && e.h != nil && e.h.Digest() == m.Digest() {
		e.h = merge(e.h, m)
	}
	if len(m.Sigs) > coord.MaxFaulty(b.ep.Members.N()) {
		return m, holds
	}
	return nil, holds
}

// expose finds members among those whose signatures are new that signed another end of the epoch before.
func (b *Box) expose(h *coord.Handover, sigs []coord.VoteSig) {
	ms := b.ep.Members
	vote := func(o *coord.Handover, s *coord.VoteSig) coord.Vote {
		return coord.Vote{Kind: coord.VoteEpoch, Epoch: ms.Epoch, Round: o.Header.Height, Digest: o.Digest(), Voter: s.Voter, Sig: s.Sig}
	}
	for i := range ms.List {
		o := b.heard[ms.List[i].ID]
		if o == nil || o.Digest() == h.Digest() {
			continue
		}
		for j := range o.Sigs {
			for k := range sigs {
				if sigs[k].Voter == o.Sigs[j].Voter {
					b.count.Evidence++
					b.fx.Evidence = append(b.fx.Evidence, coord.Evidence{A: vote(o, &o.Sigs[j]), B: vote(h, &sigs[k])})
				}
			}
		}
	}
}

// follow takes a box that is no member to the next epoch; if it is one there again it comes without the state of it.
func (b *Box) follow(h *coord.Handover, next *Epoch) {
	b.keepHandover(h)
	b.enter(next, nil, next.Self >= 0)
}

// last tells the core which block ends its epoch.
func (b *Box) last(box coord.BoxID, h *coord.Handover) {
	if b.ends != nil || b.out {
		return
	}
	from := b.ep.Members.Index(box)
	b.step(bft.Input{From: from, Last: h.Header})
	if height := b.core.Height(); from < 0 && height < h.Header.Height && !b.core.Blank() {
		b.fx.Send = append(b.fx.Send, coord.Parcel{To: box, Msg: &coord.PeerMsg{Epoch: b.ep.Members.Epoch, FetchFrom: &height}})
	}
}

// complete takes from a handover of an epoch that is over what we do not have yet.
func (b *Box) complete(p, h *coord.Handover) bool {
	if h.Digest() != p.Digest() {
		return false
	}
	var add coord.Handover
	var ep *Epoch
	verify := func(v *coord.Vote) bool {
		if ep == nil {
			var err error
			if ep, err = b.cfg.KeysOf.epoch(p.Members); err != nil {
				return false
			}
		}
		return ep.Keys.VerifyVote(v)
	}
	holds := true
	add.Sigs, holds = newSigs(p.Sigs, h.Sigs, p.Members.N(), func(s *coord.VoteSig) bool {
		return verify(&coord.Vote{Kind: coord.VoteEpoch, Epoch: p.Members.Epoch, Round: p.Header.Height, Digest: p.Digest(), Voter: s.Voter, Sig: s.Sig})
	})
	if c := h.Checkpoint; c != nil && c.Header != nil && c.Header.Digest() == p.Header.Digest() && c.Cert != nil {
		switch o := p.Checkpoint; {
		case o == nil:
			add.Checkpoint = provenState(p, c, verify)
		case o.State == c.State:
			sigs, good := newSigs(o.Cert.Sigs, c.Cert.Sigs, p.Members.N(), func(s *coord.VoteSig) bool {
				x := o.Cert
				return verify(&coord.Vote{Kind: x.Kind, Epoch: x.Epoch, Round: x.Round, Digest: x.Digest, Voter: s.Voter, Sig: s.Sig})
			})
			holds = holds && good
			if len(sigs) > 0 {
				x := *o.Cert
				x.Sigs = sigs
				add.Checkpoint = &coord.Checkpoint{Header: o.Header, State: o.State, Cert: &x}
			}
		}
	}
	if len(add.Sigs) > 0 || add.Checkpoint != nil {
		m := merge(p, &add)
		b.keepHandover(m)
		p = m
	}
	if b.lacks() && p.Members.Epoch+1 == b.ep.Members.Epoch && p.Checkpoint != nil {
		b.onOffer(coord.BoxID{}, p.Checkpoint)
	}
	return holds
}

// newSigs is those of more, of members that have does not have, that are good; holds: all were.
func newSigs(have, more []coord.VoteSig, n int, good func(s *coord.VoteSig) bool) (add []coord.VoteSig, holds bool) {
	holds = true
	for i := range more {
		s := &more[i]
		has := func(x coord.VoteSig) bool { return x.Voter == s.Voter }
		switch {
		case int(s.Voter) >= n || slices.ContainsFunc(add, has):
			holds = false
		case slices.ContainsFunc(have, has):
		case good(s):
			add = append(add, *s)
		default:
			holds = false
		}
	}
	return add, holds
}

// lacks says whether the box is a member without the state of its epoch.
func (b *Box) lacks() bool { return !b.out && b.core.Blank() }

// tellHandover sends a box what ended an epoch, at most now and then.
func (b *Box) tellHandover(box coord.BoxID, epoch uint64) {
	h := b.pastOf(epoch)
	if h == nil {
		return
	}
	if t := b.stranger(box); t.epoch < epoch || b.now >= t.at+int64(b.cfg.Tuning.Retransmit)/2 {
		t.epoch, t.at = epoch, b.now
		b.fx.Send = append(b.fx.Send, coord.Parcel{To: box, Msg: &coord.PeerMsg{Epoch: b.ep.Members.Epoch, Handover: h}})
	}
}

// askNext asks a box for the handover of the last epoch that we know the members of.
func (b *Box) askNext(box coord.BoxID) {
	epoch := b.top().Members.Epoch
	b.fx.Send = append(b.fx.Send, coord.Parcel{To: box, Msg: &coord.PeerMsg{Epoch: b.ep.Members.Epoch, HandoverAsk: &epoch}})
}

// onOlder helps a box in an epoch that is over here: it is told how that ended, and given what it lacks up to there.
func (b *Box) onOlder(box coord.BoxID, m *coord.PeerMsg) {
	h := b.pastOf(m.Epoch)
	if h == nil || h.Members.Index(box) < 0 && b.ep.Members.Index(box) < 0 {
		return
	}
	b.tellHandover(box, m.Epoch)
	v := Serve{To: box, Epoch: m.Epoch}
	switch {
	case m.Status != nil:
		b.stranger(box).height = m.Status.Height
		return
	case m.FetchFrom != nil:
		v.Blocks, v.After = true, *m.FetchFrom
	case m.FetchBlock != nil:
		v.Blocks, v.After = true, b.stranger(box).height
	case m.Fetch != nil && len(m.Fetch) <= coord.FetchDigestsMax:
		v.Batches = m.Fetch
	default:
		return
	}
	b.fx.Serve = append(b.fx.Serve, v)
}

// onNewer asks a box in a later epoch how ours ended.
func (b *Box) onNewer(box coord.BoxID, m *coord.PeerMsg) {
	if m.Epoch <= b.top().Members.Epoch {
		return
	}
	if t := b.stranger(box); b.now >= t.at+int64(b.cfg.Tuning.Retransmit)/2 {
		t.at = b.now
		b.askNext(box)
	}
}

// seek asks all for what a box without state, or one that is no member, is waiting for.
func (b *Box) seek() {
	if !b.out && !b.core.Blank() || b.fault != "" || b.draining {
		return
	}
	if b.now >= b.askAt {
		b.askAt = b.now + int64(b.cfg.Tuning.IdleStatus)
		epoch := b.ep.Members.Epoch
		if !b.out {
			b.askAt = b.now + int64(b.cfg.Tuning.Retransmit)
			epoch-- // with it comes the state that the epoch begins with
		}
		b.fx.Send = append(b.fx.Send, coord.Parcel{Msg: &coord.PeerMsg{Epoch: b.ep.Members.Epoch, HandoverAsk: &epoch}})
		if !b.out && len(b.ahead) > 0 && b.snap == nil { // the members of our epoch have gone on: any of their states will do
			var all uint64
			b.fx.Send = append(b.fx.Send, coord.Parcel{Msg: &coord.PeerMsg{Epoch: b.ep.Members.Epoch, FetchFrom: &all}})
		}
	}
	b.wake(b.askAt)
}
