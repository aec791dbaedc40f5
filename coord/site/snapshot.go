package site

import (
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// SnapAsk is a member asking for a piece of our newest snapshot.
type SnapAsk struct {
	From coord.BoxID
	Ask  coord.SnapshotAsk
}

// InstallStep is one step of putting a fetched state in place: Begin with a manifest, then chunks in
// order, then Finish (alone), which is answered by Input.Installed; or Abort.
type InstallStep struct {
	Begin    *coord.Checkpoint
	Manifest []byte
	Chunk    int
	Data     []byte
	Finish   bool
	Abort    bool
}

// snapFetch is a state being fetched because the blocks that we miss are in nobody's log any more. Every
// piece is checked against the checkpoint that a quorum signed, so it may come from anybody.
type snapFetch struct {
	cp       *coord.Checkpoint
	manifest []byte
	next     int           // the chunk to ask for, -1: the manifest
	peers    []coord.BoxID // who may have it, and the one that is asked
	from     int
	at       int64 // when to ask again, from the next
	// complete: all pieces are there, so blocks are only gathered; finishing: the state is being
	// replaced, after the last commit to the old one.
	complete, finishing bool
}

// frozen says that the state is about to be replaced: nothing is applied or committed.
func (b *Box) frozen() bool { return b.snap != nil && b.snap.complete }

// onOffer: a box that cannot give us blocks names a state instead.
func (b *Box) onOffer(box coord.BoxID, p *coord.Checkpoint) {
	if b.snap != nil || b.fault != "" || p.Header == nil || p.Header.Height <= b.core.Height() {
		return
	}
	ep := b.judges(p)
	if ep == nil {
		return
	}
	s := &snapFetch{cp: p, next: -1, at: b.now}
	for _, ms := range [...]*coord.Members{ep.Members, b.top().Members} {
		for i := range ms.List {
			if id := ms.List[i].ID; id != b.me && !slices.Contains(s.peers, id) {
				s.peers = append(s.peers, id)
			}
		}
	}
	if len(s.peers) > 0 {
		s.from = max(slices.Index(s.peers, box), 0)
		b.snap = s
	}
}

// judges is the epoch whose members' word a checkpoint is, when f+1 of them gave it and we can use that state: it is of our epoch or of a
// later one that we are a member of; or it is what our epoch begins with, and that of nobody else.
func (b *Box) judges(p *coord.Checkpoint) *Epoch {
	if p.Cert == nil {
		return nil
	}
	ep, mine := (*Epoch)(nil), b.ep.Members.Epoch
	switch epoch := p.Cert.Epoch; {
	case epoch == mine:
		ep = b.ep
	case epoch > mine && epoch-mine <= uint64(len(b.ahead)):
		ep = b.ahead[epoch-mine-1].next
	case epoch+1 == mine && b.lacks():
		h := b.pastOf(epoch)
		if h == nil || p.Header.Digest() != h.Header.Digest() {
			return nil
		}
		old, err := b.cfg.KeysOf.epoch(h.Members)
		if err != nil || !p.Holds(epoch, old.Members.N(), old.Keys.VerifyVote) {
			return nil
		}
		return old
	}
	if ep == nil || ep.Self < 0 || !p.Holds(ep.Members.Epoch, ep.Members.N(), ep.Keys.VerifyVote) {
		return nil
	}
	return ep
}

// stepSnapshot asks for the piece that is due and gives up what is not needed any more.
func (b *Box) stepSnapshot() {
	s := b.snap
	if s == nil {
		return
	}
	if s.complete {
		if !s.finishing && b.commits == 0 {
			s.finishing = true
			b.fx.Install = append(b.fx.Install, InstallStep{Finish: true})
		}
		return
	}
	if b.core.Height() >= s.cp.Header.Height {
		b.snap = nil
		if s.manifest != nil {
			b.fx.Install = append(b.fx.Install, InstallStep{Abort: true})
		}
		return
	}
	if b.now >= s.at {
		s.from = (s.from + 1) % len(s.peers)
		b.askPiece()
	}
	b.wake(s.at)
}

func (b *Box) askPiece() {
	s := b.snap
	s.at = b.now + 2*int64(b.cfg.Tuning.Timeout)
	b.fx.Send = append(b.fx.Send, coord.Parcel{To: s.peers[s.from], Msg: &coord.PeerMsg{
		Epoch: b.ep.Members.Epoch, SnapshotAsk: &coord.SnapshotAsk{Height: s.cp.Header.Height, Chunk: s.next},
	}})
}

// onPart takes one piece when it is the one asked for and its digest is right, whoever sends it: where links are slow
// the answer of one comes when another has been asked.
func (b *Box) onPart(box coord.BoxID, p *coord.SnapshotPart) {
	s := b.snap
	if s == nil || s.complete || p.Height != s.cp.Header.Height || p.Chunk != s.next {
		return
	}
	if len(p.Data) == 0 && p.Chunk >= 0 || p.Chunk < 0 && sha256.Sum256(p.Data) != s.cp.State {
		// It has not got it: the next one. A newer checkpoint is offered by whoever has one, and f+1 have signed it.
		if c := p.Checkpoint; c != nil && c.Header != nil && c.Header.Height > s.cp.Header.Height && b.judges(c) != nil {
			if s.manifest != nil {
				b.fx.Install = append(b.fx.Install, InstallStep{Abort: true})
			}
			b.snap = nil
			b.onOffer(box, p.Checkpoint)
			return
		}
		if box == s.peers[s.from] {
			s.at = b.now
		}
		return
	}
	if p.Chunk < 0 {
		if len(p.Data)%32 != 0 || len(p.Data)/32 > coord.SnapshotChunksMax {
			return
		}
		s.manifest = append([]byte{}, p.Data...)
		b.fx.Install = append(b.fx.Install, InstallStep{Begin: s.cp, Manifest: s.manifest})
		s.next = 0
	} else {
		if d := sha256.Sum256(p.Data); string(d[:]) != string(s.manifest[32*p.Chunk:32*p.Chunk+32]) {
			b.count.BadMessages++
			if box == s.peers[s.from] {
				s.at = b.now
			}
			return
		}
		b.fx.Install = append(b.fx.Install, InstallStep{Chunk: p.Chunk, Data: p.Data})
		s.next++
	}
	if s.next == len(s.manifest)/32 {
		s.complete = true
		return
	}
	b.askPiece()
}

// onInstalled moves to the fetched state. What became final meanwhile and is not in it is applied now.
func (b *Box) onInstalled(in *Installed) {
	if b.snap == nil {
		return
	}
	b.snap = nil
	if in.Err != nil { // the old state is still there
		b.drainBacklog()
		b.step(bft.Input{})
		return
	}
	st, err := state.New(in.Backend)
	if err != nil {
		b.fx.Fault = "a fetched state could not be read: " + err.Error()
		return
	}
	b.use(st)
	b.setAside()
	b.catchUpDecided()
	if b.cfg.Watch {
		b.fx.Changes = &Changes{Jump: true, Revision: st.Revision()}
	}
	b.wantPoint, b.dirty = false, 0
	b.lastFinal = &coord.Final{Header: in.Checkpoint.Header}
	b.count.Snapshots++
	if !b.arrive(in.Checkpoint) {
		return
	}
	b.older = false
	b.nextSeq = max(b.nextSeq, st.LastSeq(b.me)+1)
	b.drainBacklog()
	b.rollNow = true
	for _, seq := range slices.Sorted(maps.Keys(b.own)) {
		if st.BatchDone(b.me, seq) { // it took effect, with results that nobody knows here
			b.giveUp(b.own[seq])
			delete(b.own, seq)
		}
	}
}

// arrive tells the core of a fetched state, or goes to the epoch that it is of.
func (b *Box) arrive(p *coord.Checkpoint) bool {
	members := b.st.Members()
	if members.Epoch == b.ep.Members.Epoch && !b.out {
		for len(b.backlog) > 0 && b.backlog[0].Block.Height <= b.st.Height() {
			b.backlog = b.backlog[1:]
		}
		b.step(bft.Input{Installed: p})
		return true
	}
	var hs []*bft.Held
	for _, d := range b.backlog { // what of it is final is in the state
		for i, bt := range d.Batches {
			if bt != nil {
				hs = append(hs, &bft.Held{Batch: bt, Digest: d.Block.Refs[i].Digest})
			}
		}
	}
	if b.ends != nil {
		hs = append(hs, b.ends.void...)
	}
	hs = append(hs, b.core.Held()...)
	b.backlog, b.ends = nil, nil
	for len(b.ahead) > 0 && b.ahead[0].h.Members.Epoch < members.Epoch {
		if next := b.ahead[0].next.Members; next.Epoch == members.Epoch && next.Digest() != members.Digest() {
			b.fx.Fault = "a fetched state has other members than those who signed it"
			return false
		}
		b.keepHandover(b.ahead[0].h)
		b.ahead = b.ahead[1:]
	}
	ep, err := b.cfg.KeysOf.epoch(members)
	if err != nil {
		b.fx.Fault = err.Error()
		return false
	}
	return b.enter(ep, hs, false)
}
