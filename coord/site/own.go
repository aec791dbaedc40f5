package site

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// ownBatch is a batch of this box that is not applied yet, and whom to answer.
type ownBatch struct {
	digest   coord.Digest
	requests []*Request
	closedAt int64
	takenAt  int64
}

// onRequest puts a client's messages into the open batch.
func (b *Box) onRequest(r *Request) {
	b.count.Requests++
	code := coord.CodeOK
	switch n := r.Cols.Len(); {
	case b.draining || b.fault != "" || b.out:
		code = coord.CodeStopping
	case n == 0:
		code = coord.CodeBad
	case n > coord.BatchMessagesMax || r.Cols.Bytes() > coord.BatchBytesMax:
		code = coord.CodeTooLarge
	case !b.takeIn(r.Cols):
		code = coord.CodeBusy
		b.count.Refused++
	}
	if code != coord.CodeOK {
		b.answer(r, coord.Reply{Code: code, RetryAfter: b.cfg.Tuning.RetryAfter})
		return
	}
	if len(b.waiting) == 0 {
		b.takenAt = b.now
	}
	b.waiting = append(b.waiting, r)
}

// takeIn adds messages to the open batch, after closing it when they do not fit.
func (b *Box) takeIn(c *coord.Columns) bool {
	if b.bat.Add(c, b.now) {
		return true
	}
	b.closeBatch()
	return b.bat.Add(c, b.now)
}

func (b *Box) answer(r *Request, p coord.Reply) {
	b.fx.Answers = append(b.fx.Answers, Answer{r, p})
}

// closeBatch makes the open messages a batch when the batcher says so.
func (b *Box) closeBatch() {
	if b.out {
		return
	}
	if b.askPoint && b.fault == "" && !b.draining {
		b.askPoint = false
		b.cols.Reset()
		b.cols.Add(state.KindCheckpoint, 0, 0, 0, nil, nil)
		b.bat.Sent()
		b.sendOwn(nil)
	}
	for b.fault == "" && b.bat.Ready(b.now) {
		b.bat.Take(&b.cols)
		rs := b.waiting
		b.waiting = nil
		b.carry(rs)
		b.sendOwn(rs)
	}
}

// sendOwn encodes, numbers and signs b.cols and gives the batch to the core.
func (b *Box) sendOwn(rs []*Request) {
	bt := &coord.Batch{
		Author: b.me, Seq: b.nextSeq, Floor: b.ownFloor(), Count: uint32(b.cols.Len()),
		Body: b.codec.AppendBody(nil, &b.cols),
	}
	b.nextSeq++
	d := bt.Digest(b.ep.Members.Site)
	bt.Sig = b.ep.Keys.SignBatch(bt)
	b.own[bt.Seq] = &ownBatch{digest: d, requests: rs, closedAt: b.now, takenAt: b.takenAt}
	b.count.OwnBatches++
	b.step(bft.Input{From: b.ep.Self, Batch: bt, BatchDigest: d, Verified: true})
}

// ownFloor is the number below which none of our batches waits any more.
func (b *Box) ownFloor() uint64 {
	low := b.nextSeq
	for s := range b.own {
		low = min(low, s)
	}
	return low - 1
}

func (b *Box) inflight() int {
	n := len(b.waiting)
	for _, o := range b.own {
		n += len(o.requests)
	}
	return n
}

// finishOwn answers the requests of a batch of ours that is final and applied. When another batch with our
// number took effect (an old disk image was restored), the clients retry.
func (b *Box) finishOwn(seq uint64, d coord.Digest, height uint64, took bool) {
	if seq >= b.nextSeq {
		b.nextSeq = seq + 1
	}
	o := b.own[seq]
	if o == nil {
		return
	}
	delete(b.own, seq)
	lat := time.Duration(b.now - o.closedAt)
	b.bat.Done(lat)
	b.count.latency(lat)
	at := 0
	for _, r := range o.requests {
		n := r.Cols.Len()
		p := coord.Reply{Height: height}
		if !took || o.digest != d {
			p.Code = coord.CodeStopping
		} else {
			p.Results = make([]coord.Result, n)
			copy(p.Results, b.results[at:at+n])
			for i := range p.Results {
				if p.Code == coord.CodeOK && p.Results[i].Code != coord.CodeOK {
					p.Code, p.RetryAfter = p.Results[i].Code, b.cfg.Tuning.RetryAfter
				}
			}
		}
		at += n
		b.answer(r, p)
	}
}
