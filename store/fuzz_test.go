package store_test

import (
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/crypt"
	"github.com/holdfast-edge/holdfast/store/faultfs"
)

// segment is a file with n heights, synced, and one more that is not.
func segment(tb testing.TB, n int) []byte {
	fs, c := faultfs.New(), newChain()
	l, err := store.OpenLog(logDir, small(fs))
	must(tb, err)
	for range n {
		must(tb, l.Append(c.height(8, false)))
		must(tb, l.Sync())
	}
	must(tb, l.Append([]coord.Record{c.vote(), c.batch(8)}))
	return fs.Data(store.SegmentName(logDir, 1))[:l.LogBytes()+8] // short, or the fuzzer spends its time on zeros
}

// Whatever a segment holds, reading it ends, takes nothing that is no record, and stays inside the file.
func FuzzSegment(f *testing.F) {
	whole := segment(f, 2)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(segment(f, 0))
	flipped := append([]byte{}, whole...)
	flipped[200] ^= 4
	f.Add(flipped)
	long := append([]byte{}, whole...)
	copy(long[store.HeaderBytes+4:], []byte{0x7f, 0xff, 0xff, 0xff})
	f.Add(long)
	f.Fuzz(func(t *testing.T, data []byte) {
		records, end, _, err := store.ReadSegment(data)
		if end > int64(len(data)) || err == nil && (end < store.HeaderBytes || int64(records) > end/store.FrameBytes) {
			t.Fatalf("%d records up to %d of %d", records, end, len(data))
		}
		if err != nil {
			return
		}
		// The same bytes as the log's only segment: opened, cut or called damaged, never a panic.
		fs := faultfs.New()
		fs.SetData(store.SegmentName(logDir, 1), data)
		l, err := store.OpenLog(logDir, small(fs))
		if err != nil {
			return
		}
		defer l.Close()
		n := 0
		if err := l.Replay(func(*coord.Record) error { n++; return nil }); err == nil && n != records {
			t.Fatalf("%d records are replayed, %d were read", n, records)
		}
	})
}

// Whatever an encrypted segment holds, opening the log ends, and gives no record that was not written with its key.
func FuzzEncryptedSegment(f *testing.F) {
	k := crypt.NewKey(crypt.ChaCha)
	open := func(fs *faultfs.FS) (*store.Log, error) {
		return store.OpenLog(logDir, store.WithKey(store.Inline(store.Options{Site: testSite, Box: testBox, SegmentBytes: 4 << 10, FS: fs}), k))
	}
	fs, c := faultfs.New(), newChain()
	l, err := open(fs)
	must(f, err)
	written := map[string]bool{}
	for range 3 {
		rs := c.height(8, false)
		for _, t := range texts(rs) {
			written[t] = true
		}
		must(f, l.Append(rs))
		must(f, l.Sync())
	}
	whole := fs.Data(store.SegmentName(logDir, 1))[:l.LogBytes()+8]
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	flipped := append([]byte{}, whole...)
	flipped[store.HeaderBytes+store.FrameBytes+3] ^= 4
	f.Add(flipped)
	store.Reseal(flipped, flipped[store.HeaderBytes:len(whole)/4], store.HeaderBytes)
	f.Add(flipped)
	f.Fuzz(func(t *testing.T, data []byte) {
		fs := faultfs.New()
		fs.SetData(store.SegmentName(logDir, 1), data)
		l, err := open(fs)
		if err != nil {
			return
		}
		defer l.Close()
		_ = l.Replay(func(r *coord.Record) error {
			if !written[text(r)] {
				t.Fatalf("a record that nobody wrote: %+v", r)
			}
			return nil
		})
	})
}
