package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"testing"

	"github.com/golang/snappy"

	"github.com/holdfast-edge/holdfast/coord"
)

// decoders are all ways from foreign bytes to a value, by name.
func decoders() map[string]func(b []byte) error {
	return map[string]func(b []byte) error{
		"body":       func(b []byte) error { return NewBodyDecoder().DecodeBody(b, new(coord.Columns)) },
		"peer":       func(b []byte) error { _, err := DecodePeer(b); return err },
		"record":     func(b []byte) error { _, err := DecodeRecord(b); return err },
		"final":      func(b []byte) error { _, err := DecodeFinal(b); return err },
		"checkpoint": func(b []byte) error { _, err := DecodeCheckpoint(b); return err },
		"handover":   func(b []byte) error { _, err := DecodeHandover(b); return err },
		"client":     func(b []byte) error { _, err := DecodeClient(b); return err },
	}
}

// samples are one good input of every kind for each decoder, small enough to try every byte.
func samples(t testing.TB) map[string][][]byte {
	g, s := newGen(11), make(map[string][][]byte)
	c := g.columns(0)
	fillState(c, 20)
	s["body"] = append(s["body"], NewBodyEncoder().AppendBody(nil, c))
	for seed := range uint64(6) {
		s["body"] = append(s["body"], NewBodyEncoder().AppendBody(nil, newGen(seed).columns(20)))
	}
	for _, f := range fields(coord.PeerMsg{}) {
		s["peer"] = append(s["peer"], AppendPeer(nil, g.peer(t, f)))
	}
	for _, f := range fields(coord.Record{}) {
		s["record"] = append(s["record"], AppendRecord(nil, g.record(t, f)))
	}
	for _, f := range fields(ClientMsg{}) {
		s["client"] = append(s["client"], AppendClient(nil, g.client(t, f)))
	}
	s["final"] = append(s["final"], AppendFinal(nil, g.final()))
	s["checkpoint"] = append(s["checkpoint"], AppendCheckpoint(nil, g.checkpoint()))
	s["handover"] = append(s["handover"], AppendHandover(nil, g.handover()))
	for name := range decoders() {
		if len(s[name]) == 0 {
			t.Fatalf("no samples for decoder %s", name)
		}
	}
	return s
}

// allocated is how many bytes f allocated, in all.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// memoryMax is what decoding n foreign bytes may allocate: what they can expand to, as values several times
// as large as their encoding (a message of 3 bytes takes 33 in columns, a certificate's slot 16), and the decoder itself.
func memoryMax(n int) uint64 { return uint64(expansionMax*n)*16 + 16<<10 }

func TestAnInputCutAtAnyByteIsAnErrorAndTakesLittleMemory(t *testing.T) {
	for name, decode := range decoders() {
		for i, b := range samples(t)[name] {
			if err := decode(b); err != nil {
				t.Fatalf("%s %d does not decode uncut: %v", name, i, err)
			}
			step := 1 + len(b)/3000
			for n := 0; n < len(b); n += step {
				cut := b[:n:n]
				if err := decode(cut); err == nil {
					t.Fatalf("%s %d decodes when cut at byte %d of %d", name, i, n, len(b))
				}
				if n%97 != 0 {
					continue
				}
				if got := allocated(func() { _ = decode(cut) }); got > memoryMax(n) {
					t.Fatalf("%s %d cut at byte %d: %d bytes allocated", name, i, n, got)
				}
			}
		}
	}
}

func TestAByteAfterTheEndIsAnError(t *testing.T) {
	for name, decode := range decoders() {
		for i, b := range samples(t)[name] {
			if err := decode(append(bytes.Clone(b), 0)); err == nil {
				t.Errorf("%s %d decodes with a byte after it", name, i)
			}
		}
	}
}

// A flipped bit may make another value, never a panic and never much memory.
func TestFlippedBitsAreHarmless(t *testing.T) {
	for name, decode := range decoders() {
		for i, b := range samples(t)[name] {
			step := 1 + len(b)/400
			for at := 0; at < len(b); at += step {
				bad := bytes.Clone(b)
				for bit := range 8 {
					bad[at] = b[at] ^ 1<<bit
					_ = decode(bad)
				}
				if got := allocated(func() { _ = decode(bad) }); got > memoryMax(len(b)) {
					t.Fatalf("%s %d with a bit flipped in byte %d: %d bytes allocated", name, i, at, got)
				}
			}
		}
	}
}

// pk makes msgpack by hand.
func pk(fill func(p *packer)) []byte { return pack(nil, fill) }

func be32(head byte, n uint32, rest ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{head}, n), rest...)
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestHostileInputsAreRefusedWithLittleMemory(t *testing.T) {
	const array32, bin32, str32, map32 = 0xdd, 0xc6, 0xdb, 0xdf
	raw := []byte{flagRaw}
	head := func(typ uint64) []byte {
		return pk(func(p *packer) { p.array(headFields); p.uint(1); p.uint(typ) })
	}
	said := func(typ uint64) []byte {
		return pk(func(p *packer) { p.array(peerFields); p.uint(peerVersion); p.uint(typ); p.uint(1) })
	}
	bomb := func(n int) []byte { return append([]byte{flagSnappy}, snappy.Encode(nil, make([]byte, n))...) }
	// A body's fields up to its columns, for n messages.
	body := func(n uint64, layout uint64, rest ...[]byte) []byte {
		return cat(raw, pk(func(p *packer) { p.array(bodyFields); p.uint(bodyVersion); p.uint(n); p.uint(layout) }), cat(rest...))
	}
	bin := func(b ...byte) []byte { return pk(func(p *packer) { p.bin(b) }) }
	num := func(v uint64) []byte { return pk(func(p *packer) { p.uint(v) }) }
	run := func(n uint64) []byte { return bin(append(binary.AppendUvarint(nil, n), make([]byte, 8)...)...) }
	sigs := func(voter byte, n int) []byte {
		c := &coord.Cert{Kind: coord.VoteNotarize}
		for range n {
			c.Sigs = append(c.Sigs, coord.VoteSig{Voter: voter})
		}
		return AppendRecord(nil, &coord.Record{Cert: c})
	}
	vote := func(kind coord.VoteKind, voter uint8) []byte {
		return AppendPeer(nil, &coord.PeerMsg{Vote: &coord.Vote{Kind: kind, Voter: voter}})
	}

	for _, x := range []struct {
		name, decoder string
		b             []byte
		want          error
	}{
		{"nothing", "peer", nil, ErrTruncated},
		{"nothing", "body", nil, ErrTruncated},
		{"nothing", "record", nil, ErrTruncated},
		{"2^31-1 elements", "record", be32(array32, math.MaxInt32), ErrLimit},
		{"2^32-1 elements", "record", be32(array32, math.MaxUint32), ErrLimit},
		{"2^31-1 elements", "peer", append(raw, be32(array32, math.MaxInt32)...), ErrLimit},
		{"2^31-1 elements behind snappy", "peer", append([]byte{flagSnappy}, snappy.Encode(nil, be32(array32, math.MaxInt32))...), ErrLimit},
		{"2^31-1 elements behind snappy", "body", append([]byte{flagSnappy}, snappy.Encode(nil, be32(array32, math.MaxInt32))...), ErrLimit},
		{"2^31-1 certificates", "peer", cat(raw, said(peerCerts), be32(array32, math.MaxInt32)), ErrLimit},
		{"2^31-1 blocks", "peer", cat(raw, said(peerCatchUp), []byte{0x92}, be32(array32, math.MaxInt32)), ErrLimit},
		{"2^32-1 bytes of references", "peer", cat(raw, said(peerAnnounce), be32(bin32, math.MaxUint32)), ErrLimit},
		{"2^32-1 bytes of digests", "peer", cat(raw, said(peerFetch), be32(bin32, math.MaxUint32)), ErrLimit},
		{"as many blocks as may be, none there", "peer", cat(raw, said(peerCatchUp), []byte{0x92, 0xdc, 1, 0}), ErrTruncated},
		{"a batch body of 1 MiB that is not there", "record", cat(head(recordBatch), []byte{0x96}, bin(make([]byte, 8)...), num(1), num(1), num(1), be32(bin32, 1<<20)), ErrTruncated},
		{"nested 2^20 deep", "record", bytes.Repeat([]byte{0x91}, 1<<20), ErrFormat},
		{"nested 2^20 deep", "peer", append(raw, bytes.Repeat([]byte{0x93}, 1<<20)...), ErrFormat},
		{"nested 2^20 deep in the content", "client", cat(head(clientHello), bytes.Repeat([]byte{0x94}, 1<<20)), ErrFormat},
		{"a map", "record", be32(map32, 2, 1, 1), ErrFormat},
		{"an extension", "record", []byte{0xc7, 1, 1, 1}, ErrFormat},
		{"the code that msgpack never uses", "record", []byte{0xc1}, ErrFormat},
		{"nil in place of a value", "record", []byte{0xc0}, ErrFormat},
		{"a float in place of a number", "record", []byte{0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0}, ErrFormat},
		{"a negative number", "record", []byte{0x93, 0xff}, ErrFormat},
		{"a number in a longer form", "record", []byte{0x93, 0xcc, 1}, ErrFormat},
		{"a number in a signed form", "record", []byte{0x93, 0xd1, 0x7f, 0xff}, ErrFormat},
		{"nil for a number", "record", []byte{0x93, 0xc0}, ErrFormat},
		{"a length in a longer form", "record", []byte{0xdc, 0, 3, 1, 1}, ErrFormat},
		{"a binary in a longer form", "peer", cat(raw, said(peerFetchBlock), []byte{0xc5, 0, 32}, make([]byte, 32)), ErrFormat},
		{"a string for a binary", "peer", cat(raw, said(peerFetchBlock), []byte{0xd9, 32}, make([]byte, 32)), ErrFormat},
		{"a binary for a string", "client", cat(head(clientError), []byte{0x92}, num(1), bin(1)), ErrFormat},
		{"a string of 2^32-1 bytes", "client", cat(head(clientError), []byte{0x92}, num(1), be32(str32, math.MaxUint32)), ErrLimit},
		{"a token too long", "client", AppendClient(nil, &ClientMsg{Hello: &Hello{Token: make([]byte, TokenBytesMax+1)}}), ErrLimit},
		{"an unknown version", "record", []byte{0x93, 2, 1, 0xc0}, ErrVersion},
		{"an unknown version", "peer", []byte{flagRaw, 0x94, 9, 1, 1, 0xc0}, ErrVersion},
		{"an unknown version", "client", []byte{0x93, 2, 1, 0xc0}, ErrVersion},
		{"an unknown version", "final", []byte{0x92, 2, 0xc0}, ErrVersion},
		{"an unknown version", "body", cat(raw, pk(func(p *packer) { p.array(bodyFields); p.uint(9) })), ErrVersion},
		{"an unknown type", "record", []byte{0x93, 1, 99, 0xc0}, ErrType},
		{"an unknown type", "peer", []byte{flagRaw, 0x94, 2, 99, 1, 0xc0}, ErrType},
		{"an unknown type", "client", []byte{0x93, 1, 99, 0xc0}, ErrType},
		{"an unknown flag", "peer", []byte{7, 0x93, 1, 3}, ErrFormat},
		{"a field too few", "peer", cat(raw, said(peerVote), []byte{0x95}), ErrFormat},
		{"a digest too short", "peer", cat(raw, said(peerFetchBlock), bin(make([]byte, 31)...)), ErrLength},
		{"a digest too long", "peer", cat(raw, said(peerFetchBlock), bin(make([]byte, 33)...)), ErrLimit},
		{"digests with half a digest", "peer", cat(raw, said(peerFetch), bin(make([]byte, 48)...)), ErrLength},
		{"a vote of kind 0", "peer", vote(0, 0), ErrType},
		{"a vote of kind 6", "peer", vote(6, 0), ErrType},
		{"a voter beyond the largest site", "peer", vote(coord.VoteEmpty, coord.MembersMax), ErrLimit},
		{"a certificate's voter beyond the largest site", "record", sigs(coord.MembersMax, 1), ErrLimit},
		{"a certificate of more than all", "record", sigs(0, coord.MembersMax+1), ErrLimit},
		{"a proposal without a block", "peer", AppendPeer(nil, &coord.PeerMsg{Proposal: &coord.Proposal{}}), ErrFormat},
		{"a checkpoint without a header", "checkpoint", AppendCheckpoint(nil, &coord.Checkpoint{}), ErrFormat},
		{"a nil certificate among others", "peer", AppendPeer(nil, &coord.PeerMsg{Certs: []*coord.Cert{nil}}), ErrFormat},
		{"a handover without a header", "peer", AppendPeer(nil, &coord.PeerMsg{Handover: &coord.Handover{Members: &coord.Members{}, Next: &coord.Members{}}}), ErrFormat},
		{"2^31-1 members", "handover", cat([]byte{0x92, 1, 0x95, 0x93}, bin(make([]byte, 8)...), num(1), be32(array32, math.MaxInt32)), ErrLimit},
		{"a chunk beyond the last", "peer", AppendPeer(nil, &coord.PeerMsg{SnapshotAsk: &coord.SnapshotAsk{Chunk: coord.SnapshotChunksMax}}), ErrLimit},
		{"more messages than a batch can say", "peer", AppendPeer(nil, &coord.PeerMsg{Batch: &coord.Batch{Count: coord.BatchMessagesMax + 1}}), ErrLimit},
		{"a batch body too long", "peer", AppendPeer(nil, &coord.PeerMsg{Batch: &coord.Batch{Body: make([]byte, coord.BatchBodyBytesMax+2)}}), ErrLimit},

		{"snappy that claims 4 GiB", "body", []byte{flagSnappy, 0xff, 0xff, 0xff, 0xff, 0x0f, 0}, ErrLimit},
		{"snappy that claims 4 GiB", "peer", []byte{flagSnappy, 0xff, 0xff, 0xff, 0xff, 0x0f, 0}, ErrLimit},
		{"snappy that claims a full frame in 8 bytes", "peer", append(binary.AppendUvarint([]byte{flagSnappy}, coord.FrameBytesMax), 0, 0, 0, 0), ErrCompression},
		{"snappy with an endless length", "body", append([]byte{flagSnappy}, bytes.Repeat([]byte{0xff}, 20)...), ErrCompression},
		{"a snappy bomb beyond the limit", "body", bomb(coord.BatchBodyBytesMax + 1), ErrLimit},
		{"a snappy bomb of 64 MiB", "peer", bomb(64 << 20), ErrLimit},
		{"a snappy bomb within the limit", "body", bomb(coord.BatchBodyBytesMax), ErrFormat},
		{"snappy within snappy", "peer", append([]byte{flagSnappy}, snappy.Encode(nil, bomb(1<<20))...), ErrFormat},

		{"2^13+1 messages", "body", body(coord.BatchMessagesMax+1, 0), ErrLimit},
		{"2^64-1 messages", "body", body(math.MaxUint64, 0), ErrLimit},
		{"8192 messages in 40 bytes", "body", body(8192, 0, num(2), run(8192), bin(), bin(), num(0), num(0), bin(), bin()), ErrLength},
		{"8192 kinds in 40 bytes", "body", body(8192, 0, bin(1, 2), run(8192), bin(), bin(), num(0), num(0), bin(), bin()), ErrLength},
		{"a kind of 256", "body", body(1, 0, num(256), bin(make([]byte, 8)...), bin(2), bin(2), num(0), num(0), bin(), bin()), ErrLimit},
		{"a layout of tomorrow", "body", body(1, 4, num(2)), ErrLimit},
		{"a transposed slab of different lengths", "body", body(2, layoutKeysTurned, num(2), run(2), bin(2, 2), bin(2, 2), bin(1, 2), num(0), bin(1, 1, 1), bin()), ErrFormat},
		{"a run of no messages", "body", body(2, 0, num(2), run(0), bin(2, 2), bin(2, 2), num(0), num(0), bin(), bin()), ErrLength},
		{"a run of more messages than there are", "body", body(2, 0, num(2), run(3), bin(2, 2), bin(2, 2), num(0), num(0), bin(), bin()), ErrLength},
		{"runs that end early", "body", body(2, 0, num(2), run(1), bin(2, 2), bin(2, 2), num(0), num(0), bin(), bin()), ErrLength},
		{"a run cut short", "body", body(2, 0, num(2), bin(2, 0, 0), bin(2, 2), bin(2, 2), num(0), num(0), bin(), bin()), ErrFormat},
		{"deltas too many", "body", body(2, 0, num(2), run(2), bin(2, 2, 2), bin(2, 2), num(0), num(0), bin(), bin()), ErrLength},
		{"a delta without an end", "body", body(2, 0, num(2), run(2), bin(2, 0x80), bin(2, 2), num(0), num(0), bin(), bin()), ErrFormat},
		{"a delta of 11 bytes", "body", body(2, 0, num(2), run(2), bin(append(bytes.Repeat([]byte{0xff}, 11), 0, 2)...), bin(2, 2), num(0), num(0), bin(), bin()), ErrFormat},
		{"a column longer than its numbers", "body", body(2, 0, num(2), run(2), bin(make([]byte, 17)...), bin(2, 2), num(0), num(0), bin(), bin()), ErrLimit},
		{"equal lengths that do not add up", "body", body(2, 0, num(2), run(2), bin(2, 2), bin(2, 2), num(3), num(0), bin(1, 1), bin()), ErrLength},
		{"lengths that add up to less", "body", body(2, 0, num(2), run(2), bin(2, 2), bin(2, 2), bin(1, 0), num(0), bin(1, 1), bin()), ErrLength},
		{"lengths that add up to more", "body", body(2, 0, num(2), run(2), bin(2, 2), bin(2, 2), bin(1, 2), num(0), bin(1, 1), bin()), ErrLength},
		{"a key length beyond the limit", "body", body(2, 0, num(2), run(2), bin(2, 2), bin(2, 2), bin(append([]byte{1}, binary.AppendUvarint(nil, coord.KeyBytesMax+1)...)...), num(0), bin(1, 1), bin()), ErrLimit},
		{"lengths too many", "body", body(2, 0, num(2), run(2), bin(2, 2), bin(2, 2), bin(1, 1, 0), num(0), bin(1, 1), bin()), ErrLength},
		{"keys and values beyond a batch together", "body", body(2, 0, num(2), run(2), bin(2, 2), bin(2, 2), num(0), num(0), bin(make([]byte, 1<<20)...), be32(bin32, 1<<20+1)), ErrLimit},

		{"8192 results in a few bytes", "client", cat(head(clientAnswer), []byte{0x95}, num(1), num(0), num(1), num(0), []byte{0x96}, num(8192), bin(), bin(), bin(), bin(), bin()), ErrLength},
		{"8193 results", "client", cat(head(clientAnswer), []byte{0x95}, num(1), num(0), num(1), num(0), []byte{0x96}, num(8193)), ErrLimit},
		{"unknown flags of a result", "client", cat(head(clientAnswer), []byte{0x95}, num(1), num(0), num(1), num(0), []byte{0x96}, num(1), bin(0), bin(8), bin(2), bin(), bin()), ErrFormat},
		{"a value without a length", "client", cat(head(clientAnswer), []byte{0x95}, num(1), num(0), num(1), num(0), []byte{0x96}, num(1), bin(0), bin(4), bin(2), bin(), bin()), ErrLength},
		{"a length without a value", "client", cat(head(clientAnswer), []byte{0x95}, num(1), num(0), num(1), num(0), []byte{0x96}, num(1), bin(0), bin(0), bin(2), bin(0), bin()), ErrLength},
		{"a retry hint of a million years", "client", cat(head(clientAnswer), []byte{0x95}, num(1), num(0), num(1), num(math.MaxUint64)), ErrLimit},
	} {
		t.Run(x.decoder+" "+x.name, func(t *testing.T) {
			decode := decoders()[x.decoder]
			var err error
			got := allocated(func() { err = decode(x.b) })
			if !errors.Is(err, x.want) {
				t.Errorf("got %v, want %v", err, x.want)
			}
			if got > memoryMax(len(x.b)) || got > 8<<20 {
				t.Errorf("%d bytes allocated for %d", got, len(x.b))
			}
		})
	}
}
