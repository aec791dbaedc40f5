package wire

import (
	"bytes"
	"fmt"
	"math"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	handoverFields = 5
	membersFields  = 3
	boxFields      = 8 // a member

	// boxTextBytesMax bounds a member's name, its key and each of its addresses: coord.DecodeMembers takes none that are longer.
	boxTextBytesMax = 260
)

func (p *packer) handover(h *coord.Handover) {
	p.array(handoverFields)
	p.members(h.Members)
	p.block(h.Header)
	p.members(h.Next)
	p.sigs(h.Sigs)
	p.checkpoint(h.Checkpoint)
}

func (u *unpacker) handover() *coord.Handover {
	h := new(coord.Handover)
	u.tuple(handoverFields)
	h.Members = u.members()
	h.Header = u.block()
	h.Next = u.members()
	h.Sigs = u.sigs()
	if !u.absent() {
		h.Checkpoint = u.checkpoint()
	}
	return h
}

func (p *packer) members(m *coord.Members) {
	p.array(membersFields)
	p.bin(m.Site[:])
	p.uint(m.Epoch)
	p.array(len(m.List))
	for i := range m.List {
		x := &m.List[i]
		p.array(boxFields)
		p.bin(x.ID[:])
		for _, s := range [...]string{x.Name, string(x.Key), x.Peer, x.Client, x.Native, x.Console} {
			p.bin([]byte(s))
		}
		p.uint(x.VotesFrom)
	}
}

func (u *unpacker) members() *coord.Members {
	m := new(coord.Members)
	u.tuple(membersFields)
	u.fixed(m.Site[:])
	m.Epoch = u.uint(math.MaxUint64)
	m.List = make([]coord.Member, u.array(coord.MembersMax))
	for i := range m.List {
		x := &m.List[i]
		u.tuple(boxFields)
		u.fixed(x.ID[:])
		x.Name = string(u.bin(boxTextBytesMax))
		x.Key = bytes.Clone(u.bin(boxTextBytesMax))
		for _, s := range [...]*string{&x.Peer, &x.Client, &x.Native, &x.Console} {
			*s = string(u.bin(boxTextBytesMax))
		}
		x.VotesFrom = u.uint(math.MaxUint64)
		if u.err != nil {
			return nil
		}
	}
	return m
}

// AppendHandover appends the encoding of h as a stored value.
func AppendHandover(dst []byte, h *coord.Handover) []byte {
	return pack(dst, func(p *packer) { p.array(storedFields); p.uint(storedVersion); p.handover(h) })
}

// DecodeHandover decodes what AppendHandover wrote; Checkpoint is nil when it was, the rest is there.
func DecodeHandover(b []byte) (h *coord.Handover, err error) {
	err = unpack(b, func(u *unpacker) { u.tuple(storedFields); u.version(storedVersion); h = u.handover() })
	if err != nil {
		return nil, fmt.Errorf("wire: handover: %w", err)
	}
	return h, nil
}
