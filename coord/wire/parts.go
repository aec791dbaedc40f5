package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/holdfast-edge/holdfast/coord"
)

// The parts that messages and records are made of; each is an array of its fields, in the order of
// coord's declaration. Sizes of what stands in lists, one after the other in one binary:
const (
	refBytes  = 8 + 8 + 32 // author, sequence number, digest
	hashBytes = 32
	sigBytes  = 1 + 8 + 64 // voter, level, signature
)

const (
	batchFields      = 6
	blockFields      = 7
	voteFields       = 6
	certFields       = 5
	checkpointFields = 3
	finalFields      = 2
)

func (p *packer) batch(b *coord.Batch) {
	p.array(batchFields)
	p.bin(b.Author[:])
	p.uint(b.Seq)
	p.uint(b.Floor)
	p.uint(uint64(b.Count))
	p.bin(b.Body)
	p.bin(b.Sig[:])
}

func (u *unpacker) batch() *coord.Batch {
	b := new(coord.Batch)
	u.tuple(batchFields)
	u.fixed(b.Author[:])
	b.Seq = u.uint(math.MaxUint64)
	b.Floor = u.uint(math.MaxUint64)
	b.Count = uint32(u.uint(coord.BatchMessagesMax))
	b.Body = bytes.Clone(u.bin(coord.BatchBodyBytesMax + 1)) // and its flag
	u.fixed(b.Sig[:])
	return b
}

func (p *packer) refs(refs []coord.BatchRef) {
	p.binLen(refBytes * len(refs))
	for i := range refs {
		r := &refs[i]
		p.b = append(p.b, r.Author[:]...)
		p.b = binary.BigEndian.AppendUint64(p.b, r.Seq)
		p.b = append(p.b, r.Digest[:]...)
	}
}

// refs is never nil.
func (u *unpacker) refs(most int) []coord.BatchRef {
	v, n := u.list(refBytes, most)
	refs := make([]coord.BatchRef, n)
	for i := range refs {
		r := v[i*refBytes:]
		refs[i] = coord.BatchRef{
			Author: coord.BoxID(r[:8]), Seq: binary.BigEndian.Uint64(r[8:]), Digest: coord.Digest(r[16:refBytes]),
		}
	}
	return refs
}

// block keeps the difference between nil refs, a header, and no refs, an empty block.
func (p *packer) block(b *coord.Block) {
	if b == nil {
		p.null()
		return
	}
	p.array(blockFields)
	p.uint(b.Epoch)
	p.uint(b.Round)
	p.uint(b.ParentRound)
	p.uint(b.Height)
	p.bin(b.Parent[:])
	p.bin(b.Root[:])
	if b.Refs == nil {
		p.null()
	} else {
		p.refs(b.Refs)
	}
}

func (u *unpacker) block() *coord.Block {
	b := new(coord.Block)
	u.tuple(blockFields)
	b.Epoch = u.uint(math.MaxUint64)
	b.Round = u.uint(math.MaxUint64)
	b.ParentRound = u.uint(math.MaxUint64)
	b.Height = u.uint(math.MaxUint64)
	u.fixed(b.Parent[:])
	u.fixed(b.Root[:])
	if !u.absent() {
		b.Refs = u.refs(coord.BlockRefsMax)
	}
	return b
}

func (p *packer) vote(v *coord.Vote) {
	p.array(voteFields)
	p.uint(uint64(v.Kind))
	p.uint(v.Epoch)
	p.uint(v.Round)
	p.bin(v.Digest[:])
	p.uint(uint64(v.Voter))
	p.bin(v.Sig[:])
}

func (u *unpacker) vote() *coord.Vote {
	v := new(coord.Vote)
	u.tuple(voteFields)
	v.Kind = u.voteKind()
	v.Epoch = u.uint(math.MaxUint64)
	v.Round = u.uint(math.MaxUint64)
	u.fixed(v.Digest[:])
	v.Voter = uint8(u.uint(coord.MembersMax - 1))
	u.fixed(v.Sig[:])
	return v
}

func (u *unpacker) voteKind() coord.VoteKind {
	k := coord.VoteKind(u.uint(math.MaxUint8))
	if u.err == nil && (k < coord.VoteNotarize || k > coord.VoteEpoch) {
		u.fail(fmt.Errorf("%w: vote of kind %d", ErrType, k))
	}
	return k
}

func (p *packer) cert(c *coord.Cert) {
	if c == nil {
		p.null()
		return
	}
	p.array(certFields)
	p.uint(uint64(c.Kind))
	p.uint(c.Epoch)
	p.uint(c.Round)
	p.bin(c.Digest[:])
	p.sigs(c.Sigs)
}

func (p *packer) sigs(sigs []coord.VoteSig) {
	p.binLen(sigBytes * len(sigs))
	for i := range sigs {
		s := &sigs[i]
		p.b = append(p.b, s.Voter)
		p.b = binary.BigEndian.AppendUint64(p.b, s.Level)
		p.b = append(p.b, s.Sig[:]...)
	}
}

func (u *unpacker) cert() *coord.Cert {
	c := new(coord.Cert)
	u.tuple(certFields)
	c.Kind = u.voteKind()
	c.Epoch = u.uint(math.MaxUint64)
	c.Round = u.uint(math.MaxUint64)
	u.fixed(c.Digest[:])
	c.Sigs = u.sigs()
	return c
}

// sigs is never nil.
func (u *unpacker) sigs() []coord.VoteSig {
	v, n := u.list(sigBytes, coord.MembersMax)
	sigs := make([]coord.VoteSig, n)
	for i := range sigs {
		s := v[i*sigBytes:]
		if s[0] >= coord.MembersMax {
			u.fail(fmt.Errorf("%w: voter %d", ErrLimit, s[0]))
		}
		sigs[i] = coord.VoteSig{
			Voter: s[0], Level: binary.BigEndian.Uint64(s[1:]), Sig: coord.Signature(s[9:sigBytes]),
		}
	}
	return sigs
}

// certOrNil reads a certificate that may be absent.
func (u *unpacker) certOrNil() *coord.Cert {
	if u.absent() {
		return nil
	}
	return u.cert()
}

func (p *packer) certs(cs []*coord.Cert) {
	p.array(len(cs))
	for _, c := range cs {
		p.cert(c)
	}
}

// certs is never nil, nor is any of its elements.
func (u *unpacker) certs() []*coord.Cert {
	cs := make([]*coord.Cert, u.array(coord.ProofCertsMax))
	for i := range cs {
		if cs[i] = u.cert(); u.err != nil {
			return nil
		}
	}
	return cs
}

func (p *packer) checkpoint(c *coord.Checkpoint) {
	if c == nil {
		p.null()
		return
	}
	p.array(checkpointFields)
	p.block(c.Header)
	p.bin(c.State[:])
	p.cert(c.Cert)
}

func (u *unpacker) checkpoint() *coord.Checkpoint {
	c := new(coord.Checkpoint)
	u.tuple(checkpointFields)
	c.Header = u.block()
	u.fixed(c.State[:])
	c.Cert = u.certOrNil()
	return c
}

func (p *packer) final(f *coord.Final) {
	p.array(finalFields)
	p.block(f.Header)
	p.cert(f.Cert)
}

func (u *unpacker) final() *coord.Final {
	f := new(coord.Final)
	u.tuple(finalFields)
	f.Header = u.block()
	f.Cert = u.certOrNil()
	return f
}
