package state

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// Batches of 200 messages of one session over 100,000 keys or objects, a commit every
// 50 blocks. One op is one message.
func benchmarkApply(b *testing.B, kind coord.Kind, value []byte) {
	const perBatch, keys = 200, 100_000
	r := newRig(b)
	r.open(1)
	rng := rand.New(rand.NewPCG(1, 1))
	c := new(coord.Columns)
	seq := uint64(0)
	fill := func() {
		c.Reset()
		for range perBatch {
			seq++
			c.Add(kind, 1, seq, 0, binary.BigEndian.AppendUint64(nil, rng.Uint64N(keys)), value)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += perBatch {
		b.StopTimer()
		fill()
		if i/perBatch%50 == 49 {
			r.commit()
		}
		b.StartTimer()
		r.block(c)
	}
}

func BenchmarkApplyObserve(b *testing.B) { benchmarkApply(b, coord.KindObserve, nil) }

func BenchmarkApplyPut(b *testing.B) { benchmarkApply(b, coord.KindPut, make([]byte, 100)) }

// The part of a commit that the applying goroutine does: 10,000 changed keys.
func BenchmarkTake(b *testing.B) {
	r := newRig(b)
	r.open(1)
	seq := uint64(0)
	for range b.N {
		b.StopTimer()
		for range 10 {
			c := new(coord.Columns)
			for range 1000 {
				seq++
				c.Add(coord.KindPut, 1, seq, 0, binary.LittleEndian.AppendUint64(nil, seq%10_000*7919), make([]byte, 100))
			}
			r.block(c)
		}
		b.StartTimer()
		r.m.Take()
		r.m.Committed()
	}
}
