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
	next     int // the chunk to ask for, -1: the manifest
	from     int
	at       int64 // when to ask again, from the next member
	// complete: all pieces are there, so blocks are only gathered; finishing: the state is being
	// replaced, after the last commit to the old one.
	complete, finishing bool
}

// frozen says that the state is about to be replaced: nothing is applied or committed.
func (b *Box) frozen() bool { return b.snap != nil && b.snap.complete }

// onOffer: a box that cannot give us blocks names a state instead.
func (b *Box) onOffer(from int, p *coord.Checkpoint) {
	if b.snap != nil || b.fault != "" || p.Header == nil || p.Header.Height <= b.core.Height() || !b.core.VerifyCheckpoint(p) {
		return
	}
	b.snap = &snapFetch{cp: p, next: -1, from: from, at: b.now}
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
		s.from = (s.from + 1) % b.ep.Members.N()
		if s.from == b.ep.Self {
			s.from = (s.from + 1) % b.ep.Members.N()
		}
		b.askPiece()
	}
	b.wake(s.at)
}

func (b *Box) askPiece() {
	s := b.snap
	s.at = b.now + 2*int64(b.cfg.Tuning.Timeout)
	b.fx.Send = append(b.fx.Send, b.ep.parcel(coord.Out{To: s.from, Msg: &coord.PeerMsg{
		Epoch: b.ep.Members.Epoch, SnapshotAsk: &coord.SnapshotAsk{Height: s.cp.Header.Height, Chunk: s.next},
	}}))
}

// onPart takes one piece when it is the one asked for and its digest is right, whoever sends it: where links are slow
// the answer of one comes when another has been asked.
func (b *Box) onPart(from int, p *coord.SnapshotPart) {
	s := b.snap
	if s == nil || s.complete || p.Height != s.cp.Header.Height || p.Chunk != s.next {
		return
	}
	if len(p.Data) == 0 && p.Chunk >= 0 || p.Chunk < 0 && sha256.Sum256(p.Data) != s.cp.State {
		// It has not got it: the next one. A newer checkpoint is offered by whoever has one, and f+1 have signed it.
		if c := p.Checkpoint; c != nil && c.Header != nil && c.Header.Height > s.cp.Header.Height && b.core.VerifyCheckpoint(c) {
			if s.manifest != nil {
				b.fx.Install = append(b.fx.Install, InstallStep{Abort: true})
			}
			b.snap = nil
			b.onOffer(from, p.Checkpoint)
			return
		}
		if from == s.from {
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
			if from == s.from {
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
	b.nextSeq = max(b.nextSeq, st.LastSeq(b.me)+1)
	for len(b.backlog) > 0 && b.backlog[0].Block.Height <= st.Height() {
		b.backlog = b.backlog[1:]
	}
	b.step(bft.Input{Installed: in.Checkpoint})
	b.drainBacklog()
	b.fx.Roll = b.core.LiveRecords()
	for _, seq := range slices.Sorted(maps.Keys(b.own)) {
		if !st.BatchDone(b.me, seq) {
			continue
		}
		for _, r := range b.own[seq].requests { // it took effect, with results that nobody knows here
			b.answer(r, coord.Reply{Code: coord.CodeStopping})
		}
		delete(b.own, seq)
		b.bat.Done(0)
	}
}
