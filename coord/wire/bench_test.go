package wire

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

const benchMessages = 100

// fillState adds n status records of 88 payload bytes: an 8-byte key and 80 bytes of slowly changing numbers, as a
// box reports of itself.
func fillState(c *coord.Columns, n int) {
	g, v, k := newGen(1), make([]byte, 80), make([]byte, 8)
	for i := range n {
		for j := 0; j < len(v); j += 8 {
			x := binary.LittleEndian.Uint64(v[j:])
			binary.LittleEndian.PutUint64(v[j:], x+uint64(g.IntN(1<<(j/4))))
		}
		binary.BigEndian.PutUint64(k, uint64(1000+i%16))
		c.Add(coord.KindPut, 0x9f3c5d11aa5b2c01, uint64(i+1), 1763850000000+int64(i/10), k, v)
	}
}

// fillRandom adds the same with values that nothing compresses.
func fillRandom(c *coord.Columns, n int) {
	g := newGen(1)
	for i := range n {
		c.Add(coord.KindPut, 0x9f3c5d11aa5b2c01, uint64(i+1), 1763850000000+int64(i/10), g.bytes(8), g.bytes(80))
	}
}

// fillJSON adds small JSON values under path-like keys from 8 sessions.
func fillJSON(c *coord.Columns, n int) {
	g := newGen(1)
	for i := range n {
		k := fmt.Sprintf("/sites/pop7/caches/%04d/status", g.IntN(500))
		v := fmt.Sprintf(`{"up":true,"load":%d.%02d,"hits":%d,"zone":"a"}`, g.IntN(10), g.IntN(100), g.IntN(100000))
		c.Add(coord.KindPut, uint64(g.IntN(8))<<40+77, uint64(i+1), 1763850000000+int64(i), []byte(k), []byte(v))
	}
}

// fillObserve adds accesses to objects: an 8-byte object number, no value.
func fillObserve(c *coord.Columns, n int) {
	g, k := newGen(1), make([]byte, 8)
	for i := range n {
		binary.BigEndian.PutUint64(k, uint64(g.IntN(300000)))
		c.Add(coord.KindObserve, 0x9f3c5d11aa5b2c01, uint64(i+1), 1763850000000+int64(i/50), k, nil)
	}
}

func benchLoads() []struct {
	name string
	fill func(*coord.Columns, int)
} {
	return []struct {
		name string
		fill func(*coord.Columns, int)
	}{{"state", fillState}, {"random", fillRandom}, {"json", fillJSON}, {"observe", fillObserve}}
}

// The kernels are functions of their own: written inside b.Loop they run several times slower.

//go:noinline
func encodeFrame(e *BodyEncoder, c *coord.Columns) int { return len(e.frame(c)) }

//go:noinline
func encodeBody(e *BodyEncoder, dst []byte, c *coord.Columns) []byte { return e.AppendBody(dst[:0], c) }

//go:noinline
func decodeFrame(d *BodyDecoder, raw []byte, c *coord.Columns) error {
	c.Reset()
	return d.columns(raw, c)
}

//go:noinline
func decodeBody(d *BodyDecoder, body []byte, c *coord.Columns) error { return d.DecodeBody(body, c) }

func perMessage(b *testing.B, bytes int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchMessages), "ns/msg")
	b.ReportMetric(float64(bytes)/benchMessages, "B/msg")
	b.ReportAllocs()
}

func BenchmarkEncodeBody(b *testing.B) {
	for _, load := range benchLoads() {
		c := new(coord.Columns)
		load.fill(c, benchMessages)
		e := NewBodyEncoder()
		b.Run(load.name+"/frame only", func(b *testing.B) {
			n := 0
			for b.Loop() {
				n = encodeFrame(e, c)
			}
			perMessage(b, n)
		})
		b.Run(load.name+"/with snappy", func(b *testing.B) {
			dst := make([]byte, 0, coord.BatchBodyBytesMax)
			for b.Loop() {
				dst = encodeBody(e, dst, c)
			}
			perMessage(b, len(dst))
		})
	}
}

func BenchmarkDecodeBody(b *testing.B) {
	for _, load := range benchLoads() {
		c, got := new(coord.Columns), new(coord.Columns)
		load.fill(c, benchMessages)
		e, d := NewBodyEncoder(), NewBodyDecoder()
		raw := append([]byte(nil), e.frame(c)...)
		body := e.AppendBody(nil, c)
		b.Run(load.name+"/frame only", func(b *testing.B) {
			for b.Loop() {
				if err := decodeFrame(d, raw, got); err != nil {
					b.Fatal(err)
				}
			}
			perMessage(b, len(raw))
		})
		b.Run(load.name+"/with snappy", func(b *testing.B) {
			for b.Loop() {
				if err := decodeBody(d, body, got); err != nil {
					b.Fatal(err)
				}
			}
			perMessage(b, len(body))
		})
	}
}

func BenchmarkPeer(b *testing.B) {
	g := newGen(1)
	for _, f := range []string{"Vote", "Proposal", "Batch"} {
		m := g.peer(b, f)
		buf := AppendPeer(nil, m)
		b.Run("append "+f, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendPeer(buf[:0], m)
			}
		})
		b.Run("decode "+f, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodePeer(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
