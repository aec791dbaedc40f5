package site

import (
	"fmt"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

// Traces keeps traces and answers for them. None of its methods blocks.
type Traces interface {
	// Kept gives the record of an own batch whose trace is to be kept; Reasons says why. r is valid during the call.
	Kept(r *trace.Record)
	// Asked says that a member asks for this box's part of a trace, to be answered by Site.TellTrace.
	Asked(from coord.BoxID, id trace.ID)
	// Told gives a member's answer: what trace.DecodeRecords reads, or garbage.
	Told(from coord.BoxID, id trace.ID, records []byte)
}

// tracing is what the box knows of the block that it applies.
type tracing struct {
	leader coord.BoxID
	turned trace.Reason
	value  [trace.ContextsBytesMax]byte
}

// block: a round before this one was given up, or another box leads than before.
func (t *tracing) block(b *coord.Block, leader coord.BoxID) {
	t.turned = 0
	if b.Round != b.ParentRound+1 || leader != t.leader && t.leader != (coord.BoxID{}) {
		t.turned = trace.Turned
	}
	t.leader = leader
}

// carry appends the contexts of the requests' traces to the batch that is being closed.
func (b *Box) carry(rs []*Request) {
	var cs [trace.ContextsMax]trace.Context
	n := 0
	for _, r := range rs {
		if n < len(cs) && r.Trace.Valid() {
			cs[n] = r.Trace
			n++
		}
	}
	if n == 0 || b.cols.Len() >= coord.BatchMessagesMax || b.cols.Bytes()+trace.ContextsBytesMax > coord.BatchBytesMax {
		return
	}
	b.cols.Add(coord.KindTrace, 0, 0, 0, nil, trace.AppendContexts(b.tracing.value[:0], cs[:n]))
}

// contextIn is the context that a batch carries.
func contextIn(cols *coord.Columns) (c trace.Context, ok bool) {
	if cols == nil || cols.Len() == 0 || cols.Kinds[cols.Len()-1] != coord.KindTrace {
		return c, false
	}
	return trace.FirstContext(cols.Value(cols.Len() - 1))
}

// revised notes whether a batch, just applied, changed the revision.
func (b *Box) revised(height uint64, batch int) {
	if n := len(b.results); n > 0 && b.results[n-1].Revision > b.revision {
		to := b.results[n-1].Revision
		b.fx.Revised = append(b.fx.Revised, trace.Revised{From: b.revision, To: to, Height: height, Batch: uint32(batch)})
		b.revision = to
	}
}

// trace puts the record of a batch, just applied, into the ring, and those of the requests whose clients have other traces.
func (b *Box) trace(d *bft.Delivery, i int, cols *coord.Columns) {
	bt, at := d.Batches[i], &d.At
	r := trace.Record{
		Trace: trace.BatchTrace(d.Block.Refs[i].Digest), Batch: d.Block.Refs[i].Digest, Author: bt.Author, Box: b.me, Leader: b.tracing.leader,
		Epoch: d.Block.Epoch, Seq: bt.Seq, Round: d.Block.Round, Height: d.Block.Height,
		Messages: bt.Count, Bytes: uint32(len(bt.Body)), Batches: uint32(len(d.Block.Refs)), Reasons: b.tracing.turned,
	}
	c, carried := contextIn(cols)
	if carried {
		r.Trace, r.Parent = c.Trace, c.Span
		r.Messages--
	}
	r.At[trace.Held], r.At[trace.Final] = at.Held[i], at.Final
	r.At[trace.Proposed], r.At[trace.Voted] = at.Proposed, at.Voted
	r.At[trace.Notarized], r.At[trace.Finalizing] = at.Notarized, at.Finalizing
	o := b.own[bt.Seq]
	if bt.Author != b.me || o == nil || o.digest != r.Batch {
		b.put(&r)
		return
	}
	r.At[trace.Taken], r.At[trace.Closed], r.At[trace.Accepted] = o.takenAt, o.closedAt, o.takenAt
	if len(o.requests) > 0 && o.requests[0].at != 0 {
		r.At[trace.Accepted] = o.requests[0].at
	}
	for k := range b.results[:min(len(b.results), int(r.Messages))] {
		if r.Code = b.results[k].Code; r.Code != coord.CodeOK {
			r.Reasons |= trace.Failed
			break
		}
	}
	if c.Flags&trace.FlagSampled != 0 {
		r.Reasons |= trace.Asked
	}
	b.fx.Own = append(b.fx.Own, b.put(&r))
	if carried {
		b.parts(&r, o.requests)
	}
}

// put puts a record into the ring, which is told when it was applied after the Step.
func (b *Box) put(r *trace.Record) (place uint64) {
	place = b.cfg.Ring.Put(r)
	if b.fx.TracedTo == 0 {
		b.fx.Traced = place
	}
	b.fx.TracedTo = place + 1
	return place
}

// parts puts a record for each further request that has a trace.
func (b *Box) parts(of *trace.Record, rs []*Request) {
	n := uint8(0)
	for _, q := range rs {
		if !q.Trace.Valid() || q.Trace.Span == of.Parent && q.Trace.Trace == of.Trace {
			continue
		}
		if n++; n >= trace.ContextsMax {
			return
		}
		r := *of
		r.Trace, r.Parent, r.Part, r.Of = q.Trace.Trace, q.Trace.Span, n, of.Trace
		r.Messages, r.At = uint32(q.Cols.Len()), of.At
		clear(r.At[:])
		if r.At[trace.Accepted] = q.at; q.at == 0 {
			r.At[trace.Accepted] = of.At[trace.Accepted]
		}
		if r.Reasons &^= trace.Asked; q.Trace.Flags&trace.FlagSampled != 0 {
			r.Reasons |= trace.Asked
		}
		b.fx.Own = append(b.fx.Own, b.put(&r))
	}
}

// answered judges the traces of own batches whose answers have left.
func (s *Site) answered(places []uint64) {
	now := s.now()
	var main trace.Reason // why the batch is kept, its parts are too
	for _, place := range places {
		r, ok := s.o.Box.Ring.Answered(place, 0, now)
		if !ok {
			continue
		}
		if r.Part == 0 {
			main = r.Reasons
			if s.o.Finished != nil {
				s.o.Finished(&r)
			}
		}
		if r.Reasons |= main & trace.Failed; r.Reasons == 0 || s.o.Traces == nil {
			continue
		}
		s.o.Traces.Kept(&r)
	}
}

// Clock gives what is to be added to times of the site's clock, as a trace.Ring has them, for Unix nanoseconds as the system has them
// now.
func (s *Site) Clock() (shift int64) { return time.Now().UnixNano() - s.now() }

// Ahead is how far another member's clock is ahead of this box's, as the links measured it last; 0 when that is not known.
func (s *Site) Ahead(box coord.BoxID) time.Duration {
	for _, p := range s.links.Peers() {
		if p.ID == box && !p.Compared.IsZero() {
			return p.Ahead
		}
	}
	return 0
}

// Unusual has all traces of the next while kept, because something is not as it mostly is.
func (s *Site) Unusual(until time.Duration) {
	if r := s.o.Box.Ring; r != nil {
		r.Unusual(s.now() + int64(until))
	}
}

// AskTrace asks the other members for their part of a trace; the answers come by Traces.Told. Members of a release that knows no traces
// are not asked.
func (s *Site) AskTrace(id trace.ID) {
	ask := [16]byte(id)
	s.send(coord.Parcel{Msg: &coord.PeerMsg{Epoch: s.ep.Load().Members.Epoch, TraceAsk: &ask}})
}

// TellTrace answers Traces.Asked; records is trace.AppendRecords's, and not changed afterwards.
func (s *Site) TellTrace(to coord.BoxID, id trace.ID, records []byte) {
	part := &coord.TracePart{ID: id, Records: records}
	s.send(coord.Parcel{To: to, Msg: &coord.PeerMsg{Epoch: s.ep.Load().Members.Epoch, Trace: part}})
}

// Block is the final block of a height with its batches, and the height of the one whose certificate it is final by. nil: the log does not
// have it.
func (s *Site) Block(height uint64) (b *LogBlock, certAt uint64, err error) {
	if height == 0 {
		return nil, 0, nil
	}
	bs, x, err := s.o.Log.Blocks(height-1, 1)
	if err != nil || len(bs) == 0 {
		return nil, 0, err
	}
	if b, err = s.logBlock(bs[0]); err != nil {
		return nil, 0, err
	}
	b.Cert = x
	for i := range b.Block.Refs {
		bt, err := s.o.Log.Batch(b.Block.Refs[i].Digest)
		if err != nil {
			return nil, 0, fmt.Errorf("site: batch of height %d: %w", height, err)
		}
		b.Batches = append(b.Batches, bt)
	}
	return b, bs[len(bs)-1].Height, nil
}
