package sim

import (
	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// installing is a state being put in place.
type installing struct {
	cp      *coord.Checkpoint
	changes []coord.Change
}

// offer names the newest signed state that a box can serve, or has one made.
func (s *Sim) offer(m *machine, to coord.BoxID) {
	p := m.box.Core().Offer()
	if p == nil || m.disk.snap == nil || m.disk.snap.header.Height != p.Header.Height {
		s.callFor(m, s.now+1, func() { s.step(m, site.Input{Checkpoint: true}) })
		return
	}
	s.send(m, coord.Parcel{To: to, Msg: &coord.PeerMsg{Epoch: m.box.Epoch().Members.Epoch, Checkpoint: p}})
}

func (s *Sim) servePiece(m *machine, a site.SnapAsk) {
	part := &coord.SnapshotPart{Height: a.Ask.Height, Chunk: a.Ask.Chunk, Checkpoint: m.box.Core().Offer()}
	if sn := m.disk.snap; sn != nil && sn.header.Height == a.Ask.Height {
		switch {
		case a.Ask.Chunk < 0:
			part.Data = sn.manifest
		case a.Ask.Chunk < len(sn.chunks):
			part.Data = sn.chunks[a.Ask.Chunk]
		}
	}
	s.send(m, coord.Parcel{To: a.From, Msg: &coord.PeerMsg{Epoch: m.box.Epoch().Members.Epoch, SnapshotPart: part}})
}

func (s *Sim) installStep(m *machine, st *site.InstallStep) {
	switch {
	case st.Abort:
		m.install = nil
		return
	case st.Begin != nil:
		m.install = &installing{cp: st.Begin}
	case m.install == nil:
		return
	case !st.Finish:
		err := coord.DecodeChunk(st.Data, func(sp coord.Space, k, v []byte) error {
			m.install.changes = append(m.install.changes, coord.Change{Space: sp, Key: append([]byte{}, k...), Value: append([]byte{}, v...)})
			return nil
		})
		if err != nil {
			s.bad("INSTALL: box %d: a chunk with the right digest does not decode: %v", m.idx, err)
		}
	}
	if !st.Finish {
		return
	}
	in := m.install
	s.callFor(m, s.now+s.rng.Int64N(30*ms)+1, func() {
		m.install = nil
		b := state.NewMemBackend()
		if err := b.Commit(&coord.Commit{Header: in.cp.Header, Changes: in.changes}); err != nil {
			s.bad("INSTALL: box %d: %v", m.idx, err)
			return
		}
		m.disk.back = b
		s.log(m.idx, "install", "the state of height %d", in.cp.Header.Height)
		s.step(m, site.Input{Installed: &site.Installed{Checkpoint: in.cp, Backend: b}})
	})
}

// chunks cuts a state as store does.
func chunks(b *state.MemBackend) (cs [][]byte, manifest []byte, d coord.Digest) {
	w := coord.NewSnapshotWriter(func(data []byte, _ coord.Digest) error {
		cs = append(cs, append([]byte{}, data...))
		return nil
	})
	for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
		_ = b.Scan(sp, nil, func(k, v []byte) bool { return w.Add(sp, k, v) == nil })
	}
	manifest, d, _ = w.Finish()
	return cs, manifest, d
}
