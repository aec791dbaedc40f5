package wire

import (
	"fmt"
	"math"

	"github.com/holdfast-edge/holdfast/coord"
)

// storedVersion is that of records and of values in bbolt.
const storedVersion = 1

// The types of records; the numbers are part of the log: never reuse one.
const (
	recordNothing = 0 // of a Record without content; nobody decodes it
	recordBatch   = 1
	recordBlock   = 2
	recordVote    = 3
	recordCert    = 4
	recordFinal   = 5
	recordStable  = 6
	// recordSilent has a round alone: what releases before epochs wrote.
	recordSilent   = 7
	recordSilence  = 8
	recordHandover = 9
)

const (
	// headFields is a record: version, type, content.
	headFields = 3
	// storedFields is a stored value: version, content.
	storedFields = 2

	silenceFields = 2
)

// head reads a record up to its content.
func (u *unpacker) head(version uint64) (typ uint64) {
	u.tuple(headFields)
	u.version(version)
	return u.uint(math.MaxUint64)
}

// AppendRecord appends the encoding of r.
func AppendRecord(dst []byte, r *coord.Record) []byte {
	return pack(dst, func(p *packer) { p.record(r) })
}

func (p *packer) record(r *coord.Record) {
	head := func(typ uint64) {
		p.array(headFields)
		p.uint(storedVersion)
		p.uint(typ)
	}
	switch {
	case r.Batch != nil:
		head(recordBatch)
		p.batch(r.Batch)
	case r.Block != nil:
		head(recordBlock)
		p.block(r.Block)
	case r.Vote != nil:
		head(recordVote)
		p.vote(r.Vote)
	case r.Cert != nil:
		head(recordCert)
		p.cert(r.Cert)
	case r.Final != nil:
		head(recordFinal)
		p.final(r.Final)
	case r.Stable != nil:
		head(recordStable)
		p.checkpoint(r.Stable)
	case r.Silent != nil:
		head(recordSilence)
		p.array(silenceFields)
		p.uint(r.Silent.Epoch)
		p.uint(r.Silent.From)
	case r.Handover != nil:
		head(recordHandover)
		p.handover(r.Handover)
	default:
		head(recordNothing)
		p.null()
	}
}

// DecodeRecord decodes one record; it shares no memory with b. Exactly one field is set.
func DecodeRecord(b []byte) (*coord.Record, error) {
	r := new(coord.Record)
	if err := unpack(b, func(u *unpacker) { u.record(r) }); err != nil {
		return nil, fmt.Errorf("wire: record: %w", err)
	}
	return r, nil
}

func (u *unpacker) record(r *coord.Record) {
	switch typ := u.head(storedVersion); typ {
	case recordBatch:
		r.Batch = u.batch()
	case recordBlock:
		r.Block = u.block()
	case recordVote:
		r.Vote = u.vote()
	case recordCert:
		r.Cert = u.cert()
	case recordFinal:
		r.Final = u.final()
	case recordStable:
		r.Stable = u.checkpoint()
	case recordSilent:
		r.Silent = &coord.Silence{From: u.uint(math.MaxUint64)}
	case recordHandover:
		r.Handover = u.handover()
	case recordSilence:
		u.tuple(silenceFields)
		r.Silent = &coord.Silence{Epoch: u.uint(math.MaxUint64), From: u.uint(math.MaxUint64)}
	default:
		u.fail(fmt.Errorf("%w: %d", ErrType, typ))
	}
}

// AppendFinal appends the encoding of f as a stored value.
func AppendFinal(dst []byte, f *coord.Final) []byte {
	return pack(dst, func(p *packer) { p.array(storedFields); p.uint(storedVersion); p.final(f) })
}

// DecodeFinal decodes what AppendFinal wrote; Cert is nil when it was.
func DecodeFinal(b []byte) (f *coord.Final, err error) {
	err = unpack(b, func(u *unpacker) { u.tuple(storedFields); u.version(storedVersion); f = u.final() })
	if err != nil {
		return nil, fmt.Errorf("wire: final: %w", err)
	}
	return f, nil
}

// AppendCheckpoint appends the encoding of c as a stored value.
func AppendCheckpoint(dst []byte, c *coord.Checkpoint) []byte {
	return pack(dst, func(p *packer) { p.array(storedFields); p.uint(storedVersion); p.checkpoint(c) })
}

// DecodeCheckpoint decodes what AppendCheckpoint wrote; Cert is nil when it was.
func DecodeCheckpoint(b []byte) (c *coord.Checkpoint, err error) {
	err = unpack(b, func(u *unpacker) { u.tuple(storedFields); u.version(storedVersion); c = u.checkpoint() })
	if err != nil {
		return nil, fmt.Errorf("wire: checkpoint: %w", err)
	}
	return c, nil
}
