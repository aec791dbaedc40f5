package site

import (
	"context"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	// serveBlocks and serveBytes bound one answer to a box that was away.
	serveBlocks = 64
	serveBytes  = 1 << 20
)

// serve is the goroutine that reads the log and the snapshot for boxes that were away.
func (s *Site) serve(ctx context.Context) {
	for {
		for _, v := range s.serves.take() {
			s.serveOne(v)
		}
		for _, a := range s.pieces.take() {
			s.servePiece(a)
		}
		select {
		case <-s.serves.signal:
		case <-s.pieces.signal:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Site) serveOne(v Serve) {
	for _, d := range v.Batches {
		if b, err := s.o.Log.Batch(d); err == nil {
			s.send(coord.Parcel{To: v.To, Msg: &coord.PeerMsg{Epoch: v.Epoch, Batch: b}})
		}
	}
	if !v.Blocks {
		return
	}
	if from := s.o.Log.LogFrom(); from > v.After+1 {
		s.offer(v.To)
		return
	}
	bs, x, err := s.o.Log.Blocks(v.After, serveBlocks)
	if err != nil || len(bs) == 0 {
		return
	}
	if bs[0].Epoch < v.Epoch { // it has no state to put these on
		s.offer(v.To)
		return
	}
	// Of the last blocks of an epoch there may be no certificate below the next one: who asks was told which the last is.
	if bs, x = OfEpoch(bs, x, v.Epoch); len(bs) == 0 || x == nil && v.Epoch == s.ep.Load().Members.Epoch {
		return
	}
	s.send(coord.Parcel{To: v.To, Msg: &coord.PeerMsg{Epoch: v.Epoch, CatchUp: &coord.CatchUp{Blocks: bs, Cert: x}}})
	size := 0
	for _, b := range bs {
		for i := range b.Refs {
			bt, err := s.o.Log.Batch(b.Refs[i].Digest)
			if err != nil {
				continue
			}
			if size += len(bt.Body); size > serveBytes {
				return // it asks for the rest
			}
			s.send(coord.Parcel{To: v.To, Msg: &coord.PeerMsg{Epoch: v.Epoch, Batch: bt}})
		}
	}
}

// OfEpoch is the first of some blocks that are of an epoch, and the certificate of the last one, if that is what x is.
func OfEpoch(bs []*coord.Block, x *coord.Cert, epoch uint64) ([]*coord.Block, *coord.Cert) {
	for i := range bs {
		if bs[i].Epoch != epoch {
			return bs[:i], nil
		}
	}
	return bs, x
}

// offer names the signed state that we can serve, or has one made.
func (s *Site) offer(to coord.BoxID) {
	p := s.offered.Load()
	s.snapMu.Lock()
	have := p != nil && s.snap != nil && s.snap.Header().Height == p.Header.Height
	ask := !have && time.Since(s.askedAt) > pointEvery
	if ask {
		s.askedAt = time.Now()
	}
	s.snapMu.Unlock()
	switch {
	case have:
		s.send(coord.Parcel{To: to, Msg: &coord.PeerMsg{Epoch: s.ep.Load().Members.Epoch, Checkpoint: p}})
	case ask:
		s.inner.put(Input{Checkpoint: true})
	}
}

func (s *Site) servePiece(a SnapAsk) {
	part := &coord.SnapshotPart{Height: a.Ask.Height, Chunk: a.Ask.Chunk, Checkpoint: s.offered.Load()}
	s.snapMu.Lock()
	if s.snap != nil && s.snap.Header().Height == a.Ask.Height {
		if a.Ask.Chunk < 0 {
			part.Data = s.snap.Manifest()
		} else if data, err := s.snap.Chunk(a.Ask.Chunk); err == nil {
			part.Data = data
		}
	}
	s.snapMu.Unlock()
	s.send(coord.Parcel{To: a.From, Msg: &coord.PeerMsg{Epoch: s.ep.Load().Members.Epoch, SnapshotPart: part}})
}
