package store_test

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
)

// BenchmarkAppendSync is one vote's way to the disk, with a batch of the size beside it.
func BenchmarkAppendSync(b *testing.B) {
	for _, size := range []int{1 << 10, 20 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			l := benchLog(b)
			rs := []coord.Record{newChain().batch(size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				benchAppend(b, l, rs)
				must(b, l.Sync())
			}
		})
	}
}

// BenchmarkAppend is the part of it that is ours: encoding, checksum, index and one write to the page cache.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 20 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			l := benchLog(b)
			rs := []coord.Record{newChain().batch(size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				benchAppend(b, l, rs)
			}
		})
	}
}

func benchLog(b *testing.B) *store.Log {
	l, err := store.OpenLog(filepath.Join(b.TempDir(), "log"), encrypted(store.Options{Site: testSite, Box: testBox}))
	must(b, err)
	b.Cleanup(func() { l.Close() })
	return l
}

//go:noinline
func benchAppend(b *testing.B, l *store.Log, rs []coord.Record) {
	must(b, l.Append(rs))
	if l.LogBytes() > store.SegmentBytes-(64<<10) {
		must(b, l.Roll(nil))
		must(b, l.Prune(1))
	}
}

func BenchmarkCommit1000(b *testing.B) {
	base := openBase(b, b.TempDir())
	c := &coord.Commit{Header: header(1)}
	for i := range 1000 {
		var k [8]byte
		binary.BigEndian.PutUint64(k[:], uint64(i)*0x9e3779b97f4a7c15)
		c.Changes = append(c.Changes, coord.Change{Space: coord.SpaceKeys, Key: k[:], Value: make([]byte, 100)})
	}
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		for i := range c.Changes { // a thousand of 64,000 keys
			binary.BigEndian.PutUint64(c.Changes[i].Key, (n*1000+uint64(i))%64000*0x9e3779b97f4a7c15)
		}
		must(b, base.Commit(c))
	}
}

func BenchmarkGet(b *testing.B) {
	base := openBase(b, b.TempDir())
	fill(b, base, 1, 1, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := base.Get(coord.SpaceKeys, []byte("k500-500")); err != nil {
			b.Fatal(err)
		}
	}
}
