package wire

import "github.com/vmihailenco/msgpack/v5"

// packer appends msgpack to a buffer. Writing to memory cannot fail, so what the
// library returns as errors is not looked at.
type packer struct {
	b   []byte
	enc *msgpack.Encoder
}

// pack runs fill on a packer that appends to dst, with an encoder of the library's pool.
func pack(dst []byte, fill func(p *packer)) []byte {
	p := &packer{b: dst, enc: msgpack.GetEncoder()}
	p.enc.ResetWriter(p)
	fill(p)
	msgpack.PutEncoder(p.enc)
	return p.b
}

// Write and WriteByte are the library's way to the buffer.
func (p *packer) Write(b []byte) (int, error) {
	p.b = append(p.b, b...)
	return len(b), nil
}

// WriteByte appends one byte.
func (p *packer) WriteByte(c byte) error {
	p.b = append(p.b, c)
	return nil
}

func (p *packer) array(n int)   { _ = p.enc.EncodeArrayLen(n) }
func (p *packer) uint(v uint64) { _ = p.enc.EncodeUint(v) }
func (p *packer) null()         { _ = p.enc.EncodeNil() }
func (p *packer) text(s string) { _ = p.enc.EncodeString(s) }

// bin appends v as a binary; a nil v is an empty one.
func (p *packer) bin(v []byte) {
	p.binLen(len(v))
	p.b = append(p.b, v...)
}

// binLen appends a binary's header; the caller appends the n bytes to p.b.
func (p *packer) binLen(n int) { _ = p.enc.EncodeBytesLen(n) }
