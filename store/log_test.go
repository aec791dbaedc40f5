package store_test

import (
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/faultfs"
)

func TestRecordsComeBackInOrderAfterReopening(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	var all []coord.Record
	for i := range 5 {
		rs := c.height(100, i%2 == 0)
		must(t, l.Append(rs))
		all = append(all, rs...)
	}
	must(t, l.Sync())
	wantReplay(t, l, texts(all))
	must(t, l.Close())
	wantReplay(t, openLog(t, small(fs)), texts(all))
}

func TestSyncWithNothingNewDoesNotTouchTheDisk(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	must(t, l.Append([]coord.Record{c.vote()}))
	must(t, l.Sync())
	before := fs.Ops()
	must(t, l.Sync())
	must(t, l.Append(nil))
	must(t, l.Sync())
	if fs.Ops() != before {
		t.Fatalf("%d operations", fs.Ops()-before)
	}
}

func TestOneAppendIsOneWrite(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	before := fs.Ops()
	must(t, l.Append(c.height(500, true)))
	if n := fs.Ops() - before; n != 1 {
		t.Fatalf("%d operations", n)
	}
}

func TestARecordLargerThanASegmentIsTaken(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	big := c.batch(1 << 20)
	must(t, l.Append([]coord.Record{big, c.vote()}))
	must(t, l.Sync())
	if l.LogBytes() < 1<<20 {
		t.Fatalf("LogBytes is %d", l.LogBytes())
	}
	crashed := openLog(t, small(fs.Crash(faultfs.Lost, 0)))
	b, err := crashed.Batch(big.Batch.Digest(testSite))
	must(t, err)
	if b.Digest(testSite) != big.Batch.Digest(testSite) {
		t.Fatal("another batch")
	}
}

func TestATornTailIsCutAndTheLogGoesOn(t *testing.T) {
	for seed := range uint64(20) {
		fs, c := faultfs.New(), newChain()
		l := openLog(t, small(fs))
		kept := c.height(100, true)
		must(t, l.Append(kept))
		must(t, l.Sync())
		must(t, l.Append([]coord.Record{c.batch(1500), c.vote(), c.batch(900)}))
		torn := fs.Crash(faultfs.Torn, seed)
		l = openLog(t, small(torn))
		got, err := replayed(l)
		must(t, err)
		if len(got) < len(kept) || !slices.Equal(got[:len(kept)], texts(kept)) {
			t.Fatalf("seed %d: synced records are gone", seed)
		}
		more := []coord.Record{c.vote()}
		must(t, l.Append(more))
		must(t, l.Sync())
		wantReplay(t, openLog(t, small(torn.Crash(faultfs.Lost, 0))), append(got, texts(more)...))
	}
}

func TestWhatWasCutDoesNotComeBackWhenTheSameBytesAreWrittenAgain(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	a, b := c.batch(300), c.vote()
	must(t, l.Append([]coord.Record{a}))
	end := l.LogBytes()
	must(t, l.Append([]coord.Record{b}))
	// The first record is torn and the second is whole.
	name := store.SegmentName(logDir, 1)
	fs.Flip(name, end-1, 0)
	l = openLog(t, small(fs))
	wantReplay(t, l, nil)
	must(t, l.Append([]coord.Record{a}))
	must(t, l.Sync())
	wantReplay(t, openLog(t, small(fs.Crash(faultfs.Lost, 0))), texts([]coord.Record{a}))
}

// Any bit of anything that was synced, flipped, is found, but for the last sync's own records: nothing on
// the disk says yet that these were durable.
func TestAFlippedBitInSyncedRecordsIsDamage(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	must(t, l.Append(c.height(40, true)))
	must(t, l.Sync())
	end := l.LogBytes()
	must(t, l.Append([]coord.Record{c.vote()}))
	must(t, l.Sync())
	must(t, l.Close())
	name := store.SegmentName(logDir, 1)
	for at := range end {
		broken := fs.Crash(faultfs.Kept, 0)
		broken.Flip(name, at, uint(at))
		l, err := store.OpenLog(logDir, small(broken))
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		_, err = replayed(l)
		var d *store.DamageError
		if !errors.As(err, &d) || !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("byte %d: %v", at, err)
		}
		if d.File != name || d.Offset > at {
			t.Fatalf("byte %d: found at %d of %s", at, d.Offset, d.File)
		}
		want(t, l.Append([]coord.Record{c.vote()}), store.ErrDamaged)
		want(t, l.Sync(), store.ErrDamaged)
		want(t, l.Roll(nil), store.ErrDamaged)
	}
}

func TestDamageInAnOlderSegmentIsFoundToItsLastByte(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	must(t, l.Append(c.height(40, true)))
	end := l.LogBytes()
	must(t, l.Roll(c.live()))
	must(t, l.Close())
	for at := int64(store.HeaderBytes); at < end; at += 7 {
		broken := fs.Crash(faultfs.Kept, 0)
		broken.Flip(store.SegmentName(logDir, 1), at, 3)
		_, err := replayed(openLog(t, small(broken)))
		want(t, err, store.ErrDamaged)
	}
	t.Run("missing", func(t *testing.T) {
		must(t, l.Close())
		l := openLog(t, small(fs))
		must(t, l.Roll(c.live()))
		must(t, l.Close())
		must(t, fs.Remove(store.SegmentName(logDir, 2)))
		_, err := replayed(openLog(t, small(fs)))
		want(t, err, store.ErrDamaged)
	})
	t.Run("cut short", func(t *testing.T) {
		broken := fs.Crash(faultfs.Kept, 0)
		name := store.SegmentName(logDir, 1)
		broken.SetData(name, broken.Data(name)[:end-1])
		_, err := replayed(openLog(t, small(broken)))
		want(t, err, store.ErrDamaged)
	})
}

func TestADamagedLogCanBeSetAsideAndANewOneBegun(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	must(t, l.Append(c.height(40, true)))
	must(t, l.Roll(c.live()))
	must(t, l.Close())
	fs.Flip(store.SegmentName(logDir, 1), store.HeaderBytes+30, 1)
	l = openLog(t, small(fs))
	if l.Damaged() == nil {
		t.Fatal("not found")
	}
	must(t, l.SetAside())
	if l.Damaged() != nil {
		t.Fatal("still damaged")
	}
	rs := c.height(50, true)
	must(t, l.Append(rs))
	must(t, l.Sync())
	must(t, l.Close())
	crashed := fs.Crash(faultfs.Lost, 0)
	wantReplay(t, openLog(t, small(crashed)), append(texts(forgotten()), texts(rs)...))
	if crashed.Data(store.SegmentName(logDir, 1)+".bad") == nil {
		t.Fatal("the damaged segment is gone")
	}
}

// forgotten is what a log says first that began behind a damaged one.
func forgotten() []coord.Record {
	return []coord.Record{{Silent: &coord.Silence{From: coord.SilentUnknown}}}
}

// Wherever the power goes while a log is set aside, what is left says that the box forgot, or is still damaged.
func TestSettingAsideSurvivesAPowerCutAnywhere(t *testing.T) {
	for at := 1; at < 40; at++ {
		fs, c := faultfs.New(), newChain()
		l := openLog(t, small(fs))
		must(t, l.Append(c.height(40, true)))
		must(t, l.Roll(c.live()))
		must(t, l.Close())
		fs.Flip(store.SegmentName(logDir, 1), store.HeaderBytes+30, 1)
		l = openLog(t, small(fs))
		fs.CutAfter(at)
		done := l.SetAside() == nil
		l.Close()
		l = openLog(t, small(fs.Crash(faultfs.Lost, uint64(at))))
		if l.Damaged() == nil {
			wantReplay(t, l, texts(forgotten()))
		}
		must(t, l.Close())
		if done {
			return
		}
	}
	t.Error("setting aside takes more than 40 operations")
}

// A recycled file is full of records that were good once.
func TestStaleRecordsOfARecycledFileAreNotTaken(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	o := small(fs)
	o.RetainBytes = 1
	l := openLog(t, o)
	for range 6 {
		for l.LogBytes() < 3<<10 {
			must(t, l.Append(c.height(200, true)))
		}
		must(t, l.Roll(c.live()))
		must(t, l.Prune(c.head.Height))
	}
	if fs.Data(logDir+"/spare.next") == nil {
		t.Fatal("nothing was recycled")
	}
	before, err := replayed(l)
	must(t, err)
	for seed := range uint64(5) {
		wantReplay(t, openLog(t, small(fs.Crash(faultfs.Torn, seed))), before)
	}
}

func TestAFailedWriteOrSyncEndsAllAcknowledgement(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.Write, faultfs.Datasync} {
		t.Run(string(op), func(t *testing.T) {
			fs, c := faultfs.New(), newChain()
			l := openLog(t, small(fs))
			must(t, l.Append([]coord.Record{c.vote()}))
			must(t, l.Sync())
			once := false
			fs.Hook(func(o faultfs.Op, _ string) error {
				if o == op && !once {
					once = true
					return syscall.EIO
				}
				return nil
			})
			err := l.Append([]coord.Record{c.vote()})
			if err == nil {
				err = l.Sync()
			}
			want(t, err, store.ErrFailed)
			want(t, err, syscall.EIO)
			// The disk is well again; the promise is not.
			want(t, l.Sync(), store.ErrFailed)
			want(t, l.Append([]coord.Record{c.vote()}), store.ErrFailed)
			want(t, l.Roll(nil), store.ErrFailed)
			want(t, l.Prune(0), store.ErrFailed)
			if len(mustReplay(t, l)) == 0 {
				t.Fatal("reads end too")
			}
		})
	}
}

func mustReplay(t testing.TB, l *store.Log) []string {
	t.Helper()
	ts, err := replayed(l)
	must(t, err)
	return ts
}

func TestAFullDiskStopsRollingAndNothingElse(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	rs := []coord.Record{c.vote()}
	must(t, l.Append(rs))
	full := true
	fs.Hook(func(o faultfs.Op, _ string) error {
		if full && (o == faultfs.Zero || o == faultfs.Create) {
			return syscall.ENOSPC
		}
		return nil
	})
	want(t, l.Roll(nil), store.ErrFull)
	more := c.vote()
	must(t, l.Append([]coord.Record{more}))
	must(t, l.Sync())
	full = false
	must(t, l.Roll(nil))
	wantReplay(t, l, texts(append(rs, more)))
}

func TestALogOfAnotherSiteOrBoxIsRefused(t *testing.T) {
	fs := faultfs.New()
	must(t, openLog(t, small(fs)).Close())
	o := small(fs)
	o.Site[0]++
	_, err := store.OpenLog(logDir, o)
	want(t, err, store.ErrIdentity)
	o = small(fs)
	o.Box[0]++
	_, err = store.OpenLog(logDir, o)
	want(t, err, store.ErrIdentity)
}

func TestReplayFromLeavesOutWhatTheBaseHas(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	var heads []int
	var all []coord.Record
	for range 3 {
		rs := append(c.height(50, true), c.height(50, true)...)
		must(t, l.Append(rs))
		all = append(all, rs...)
		heads = append(heads, len(all))
		head := c.live()
		must(t, l.Roll(head))
		all = append(all, head...)
	}
	for height, from := range map[uint64]int{0: 0, 1: 0, 2: heads[0], 3: heads[0], 4: heads[1], 5: heads[1], 6: heads[2], 99: heads[2]} {
		var got []string
		must(t, l.ReplayFrom(height, func(r *coord.Record) error {
			got = append(got, text(r))
			return nil
		}))
		if !slices.Equal(got, texts(all[from:])) {
			t.Errorf("from height %d: %d records, want %d", height, len(got), len(all)-from)
		}
	}
}

func TestBesideTheWriterReadersSeeOnlyWholeRecords(t *testing.T) {
	o := encrypted(store.Options{Site: testSite, Box: testBox, SegmentBytes: 32 << 10, RetainBytes: 64 << 10})
	l, err := store.OpenLog(filepath.Join(t.TempDir(), "log"), o)
	must(t, err)
	c := newChain()
	var (
		mu   sync.Mutex
		seen []coord.Digest
		wg   sync.WaitGroup
		stop = make(chan struct{})
	)
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				n := len(seen)
				var d coord.Digest
				if n > 0 {
					d = seen[(i*7919)%n]
				}
				mu.Unlock()
				if n == 0 {
					continue
				}
				if b, err := l.Batch(d); err == nil && b.Digest(testSite) != d || err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Errorf("batch: %v", err)
					return
				}
				from := l.LogFrom()
				bs, _, err := l.Blocks(from-1, 8)
				if err != nil {
					t.Errorf("blocks: %v", err)
					return
				}
				for k, b := range bs {
					if b.Height != from+uint64(k) {
						t.Errorf("block %d where %d should be", b.Height, from+uint64(k))
						return
					}
				}
			}
		})
	}
	for range 300 {
		rs := c.height(700, true)
		must(t, l.Append(rs))
		mu.Lock()
		seen = append(seen, rs[0].Batch.Digest(testSite))
		mu.Unlock()
		if l.LogBytes() > 30<<10 {
			must(t, l.Roll(c.live()))
			must(t, l.Prune(c.head.Height))
		}
	}
	close(stop)
	wg.Wait()
	must(t, l.Close())
}
