package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/faultfs"
)

func options() store.Options {
	return encrypted(store.Options{Site: testSite, Box: testBox, SegmentBytes: 64 << 10, BaseBytesMax: 64 << 20})
}

func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, options())
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func openBase(t testing.TB, dir string) *store.Base {
	t.Helper()
	b, err := store.OpenBase(dir, options())
	must(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

func header(h uint64) *coord.Block { return &coord.Block{Epoch: 1, Round: h, Height: h} }

func put(sp coord.Space, k, v string) coord.Change {
	return coord.Change{Space: sp, Key: []byte(k), Value: []byte(v)}
}

func del(sp coord.Space, k string) coord.Change { return coord.Change{Space: sp, Key: []byte(k)} }

// contents is the whole state as text.
func contents(t testing.TB, b *store.Base) map[string]string {
	t.Helper()
	m := map[string]string{}
	for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
		must(t, b.Scan(sp, nil, func(k, v []byte) bool {
			m[fmt.Sprintf("%d/%s", sp, k)] = string(v)
			return true
		}))
	}
	return m
}

func TestACommitIsThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	b := openBase(t, dir)
	if b.Committed() != nil {
		t.Fatal("an empty base has a block")
	}
	c := &coord.Commit{Header: header(3), Cert: certOf(coord.VoteFinalize, header(3)), Changes: []coord.Change{
		put(coord.SpaceKeys, "a", "1"), put(coord.SpaceKeys, "b", "2"), del(coord.SpaceKeys, "a"),
		put(coord.SpaceKeys, "", "a key may be empty"), put(coord.SpaceMeta, "a", ""), del(coord.SpaceBoxes, "never was"),
	}}
	must(t, b.Commit(c))
	check := func(b *store.Base) {
		t.Helper()
		f := b.Committed()
		if f == nil || f.Header.Digest() != c.Header.Digest() || f.Cert == nil || f.Cert.Digest != c.Cert.Digest {
			t.Fatalf("committed: %v", f)
		}
		want := map[string]string{"1/a": "", "2/": "a key may be empty", "2/b": "2"}
		if got := contents(t, b); !maps.Equal(got, want) {
			t.Fatalf("the state is %v", got)
		}
		for key, found := range map[string]bool{"": true, "a": false, "b": true} {
			if _, ok, err := b.Get(coord.SpaceKeys, []byte(key)); ok != found || err != nil {
				t.Errorf("key %q: %v, %v", key, ok, err)
			}
		}
		if v, ok, err := b.Get(coord.SpaceMeta, []byte("a")); !ok || v == nil || err != nil {
			t.Errorf("an empty value is %v, %v, %v", v, ok, err)
		}
	}
	check(b)
	must(t, b.Close())
	check(openBase(t, dir))
}

func TestScanGoesUpFromAKeyAndStops(t *testing.T) {
	b := openBase(t, t.TempDir())
	c := &coord.Commit{Header: header(1)}
	for _, k := range []string{"b", "a", "ab", "c", ""} {
		c.Changes = append(c.Changes, put(coord.SpaceCounters, k, k))
	}
	must(t, b.Commit(c))
	for from, want := range map[string][]string{"": {"", "a", "ab"}, "a": {"a", "ab", "b"}, "aa": {"ab", "b", "c"}, "d": nil} {
		var got []string
		must(t, b.Scan(coord.SpaceCounters, []byte(from), func(k, _ []byte) bool {
			got = append(got, string(k))
			return len(got) < 3
		}))
		if !slices.Equal(got, want) {
			t.Errorf("from %q: %q", from, got)
		}
	}
}

func TestAScanSeesOneCommitWhileOthersAreMade(t *testing.T) {
	b := openBase(t, t.TempDir())
	commit := func(h uint64) {
		c := &coord.Commit{Header: header(h)}
		for i := range 50 {
			c.Changes = append(c.Changes, put(coord.SpaceKeys, fmt.Sprintf("%03d", i), fmt.Sprint(h)))
		}
		must(t, b.Commit(c))
	}
	commit(1)
	done := make(chan struct{})
	seen := 0
	must(t, b.Scan(coord.SpaceKeys, nil, func(_, v []byte) bool {
		if seen == 0 {
			go func() {
				defer close(done)
				commit(2)
			}()
			<-done
		}
		seen++
		if string(v) != "1" {
			t.Errorf("entry %d is of commit %s", seen, v)
		}
		return true
	}))
	if seen != 50 {
		t.Fatalf("%d entries", seen)
	}
}

func TestABadCommitIsRefusedAndHarmsNothing(t *testing.T) {
	b := openBase(t, t.TempDir())
	want(t, b.Commit(&coord.Commit{}), store.ErrFormat)
	want(t, b.Commit(&coord.Commit{Header: header(1), Changes: []coord.Change{put(0, "a", "")}}), store.ErrFormat)
	want(t, b.Commit(&coord.Commit{Header: header(1), Changes: []coord.Change{put(coord.SpaceMax+1, "a", "")}}), store.ErrFormat)
	big := string(make([]byte, coord.SnapshotKeyBytesMax+1))
	want(t, b.Commit(&coord.Commit{Header: header(1), Changes: []coord.Change{put(coord.SpaceKeys, big, "")}}), store.ErrTooLarge)
	must(t, b.Commit(&coord.Commit{Header: header(1)}))
}

func TestAFullBaseSaysSoAndGoesOnWhenThereIsRoom(t *testing.T) {
	o := options()
	o.BaseBytesMax = 1 << 20
	b, err := store.OpenBase(t.TempDir(), o)
	must(t, err)
	defer b.Close()
	must(t, b.Commit(&coord.Commit{Header: header(1), Changes: []coord.Change{put(coord.SpaceKeys, "a", "1")}}))
	big := make([]byte, 2<<20)
	err = b.Commit(&coord.Commit{Header: header(2), Changes: []coord.Change{{Space: coord.SpaceKeys, Key: []byte("b"), Value: big}}})
	want(t, err, store.ErrFull)
	if errors.Is(err, store.ErrFailed) {
		t.Fatalf("full is not broken: %v", err)
	}
	if h := b.Committed().Header.Height; h != 1 {
		t.Fatalf("height %d", h)
	}
	if n := b.Bytes(); n == 0 || n > o.BaseBytesMax {
		t.Fatalf("the file has %d bytes", n)
	}
	must(t, b.Commit(&coord.Commit{Header: header(2), Changes: []coord.Change{put(coord.SpaceKeys, "b", "2")}}))
	if got := contents(t, b); !maps.Equal(got, map[string]string{"2/a": "1", "2/b": "2"}) {
		t.Fatalf("the state is %v", got)
	}
}

func TestADirectoryOfAnotherSiteOrBoxIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, openStore(t, dir).Close())
	for name, change := range map[string]func(o *store.Options){
		"site": func(o *store.Options) { o.Site[3]++ },
		"box":  func(o *store.Options) { o.Box[3]++ },
	} {
		o := options()
		change(&o)
		_, err := store.Open(dir, o)
		want(t, err, store.ErrIdentity)
		_, err = store.OpenBase(dir, o)
		want(t, err, store.ErrIdentity)
		t.Log(name, err)
	}
	must(t, openStore(t, dir).Close())
}

func TestADirectoryIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := store.Open(dir, options())
	want(t, err, store.ErrLocked)
	must(t, s.Close())
	must(t, openStore(t, dir).Close())
}

func TestAFirstStartThatWasCutIsBegunAgain(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "holdfast.db.new"), make([]byte, 5000), 0o600))
	b := openBase(t, dir)
	if b.Committed() != nil {
		t.Fatal("not empty")
	}
	if _, err := os.Stat(filepath.Join(dir, "holdfast.db.new")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the left-over is still there: %v", err)
	}
}

func TestADamagedBaseIsAnErrorAndNotAPanic(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's pointer checks end the process where bbolt follows a bad offset")
	}
	dir := t.TempDir()
	b := openBase(t, dir)
	c := &coord.Commit{Header: header(1)}
	for i := range 3000 {
		c.Changes = append(c.Changes, put(coord.SpaceKeys, fmt.Sprintf("key %05d", i), "some value that takes a few bytes"))
	}
	must(t, b.Commit(c))
	must(t, b.Close())
	name := filepath.Join(dir, "holdfast.db")
	whole, err := os.ReadFile(name)
	must(t, err)
	used := len(bytes.TrimRight(whole, "\x00"))
	r := rand.New(rand.NewPCG(1, 1))
	refused, read := 0, 0
	try := func(data []byte) {
		must(t, os.WriteFile(name, data, 0o600))
		b, err := store.OpenBase(dir, options())
		if err != nil {
			refused++
			return
		}
		defer b.Close()
		for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
			if b.Scan(sp, nil, func(k, v []byte) bool { return true }) != nil {
				read++
			}
		}
	}
	for range 40 {
		data := bytes.Clone(whole[:used])
		for range 200 {
			data[r.IntN(used)] ^= 1 << r.IntN(8)
		}
		try(data)
	}
	for _, n := range []int{0, 100, 4096, 8192, used / 2, used - 5000} {
		try(whole[:n])
	}
	t.Logf("%d refused on opening, %d scans failed", refused, read)
	if refused == 0 || read == 0 {
		t.Error("no damage was found")
	}
}

func TestTheBaseIsNeverAheadOfTheLog(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	dir := t.TempDir()
	o := small(fs)
	s, err := store.Open(dir, o)
	must(t, err)
	must(t, s.Append(c.height(100, true)))
	must(t, s.Base.Commit(&coord.Commit{Header: c.head}))
	must(t, s.Append(c.height(100, true)))
	// The log cannot be made durable, so the second commit must not be.
	fs.Hook(func(op faultfs.Op, _ string) error {
		if op == faultfs.Datasync {
			return syscall.EIO
		}
		return nil
	})
	want(t, s.Base.Commit(&coord.Commit{Header: c.head}), store.ErrFailed)
	want(t, s.Base.Commit(&coord.Commit{Header: c.head}), store.ErrFailed)
	want(t, s.Failed(), store.ErrFailed)
	s.Close()
	o.FS = fs.Crash(faultfs.Lost, 0)
	s, err = store.Open(dir, o)
	must(t, err)
	defer s.Close()
	if h := s.Base.Committed().Header.Height; h != 1 || s.LastFinal() != 1 {
		t.Fatalf("the base has height %d, the log %d", h, s.LastFinal())
	}
	if s.Damaged() != nil {
		t.Fatal(s.Damaged())
	}
}

func TestALogOlderThanTheBaseIsDamage(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	dir := t.TempDir()
	o := small(fs)
	s, err := store.Open(dir, o)
	must(t, err)
	must(t, s.Append(c.height(100, true)))
	must(t, s.Sync())
	old := fs.Crash(faultfs.Lost, 0)
	must(t, s.Append(c.height(100, true)))
	must(t, s.Base.Commit(&coord.Commit{Header: c.head}))
	must(t, s.Close())
	o.FS = old
	s, err = store.Open(dir, o)
	must(t, err)
	defer s.Close()
	_, err = replayed(s.Log)
	want(t, err, store.ErrDamaged)
}

func TestAnInstalledStateMayBeAheadOfTheLog(t *testing.T) {
	dir := t.TempDir()
	from := openBase(t, t.TempDir())
	fill(t, from, 1, 100, 50)
	sn := snapshot(t, from)
	s := openStore(t, dir)
	install(t, s.Base, sn)
	must(t, s.Close())
	s = openStore(t, dir)
	if s.Damaged() != nil || s.Base.Committed().Header.Height != 100 || s.Base.Installed().State != sn.State() {
		t.Fatalf("damage %v, committed %v", s.Damaged(), s.Base.Committed().Header)
	}
}

func TestCommitOfAForeignBboltFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	db, err := bolt.Open(filepath.Join(dir, "holdfast.db"), 0o600, nil)
	must(t, err)
	must(t, db.Close())
	_, err = store.OpenBase(dir, options())
	want(t, err, store.ErrDamaged)
}

func TestEverythingEndsWhenTheStoreIsClosed(t *testing.T) {
	s := openStore(t, t.TempDir())
	fill(t, s.Base, 1, 1, 10)
	sn, err := s.Base.Snapshot(context.Background())
	must(t, err)
	must(t, s.Close())
	must(t, s.Close())
	want(t, sn.Build(context.Background()), store.ErrClosed)
	want(t, s.Base.Commit(&coord.Commit{Header: header(2)}), store.ErrClosed)
	_, _, err = s.Base.Get(coord.SpaceKeys, []byte("a"))
	want(t, err, store.ErrClosed)
	want(t, s.Append([]coord.Record{newChain().vote()}), store.ErrClosed)
}

// A base of a release that had fewer spaces keeps what it has, and gets the new ones.
func TestABaseOfAnEarlierReleaseIsUsed(t *testing.T) {
	dir := t.TempDir()
	b := openBase(t, dir)
	must(t, b.Commit(&coord.Commit{Header: header(1), Changes: []coord.Change{put(coord.SpaceKeys, "k", "v")}}))
	must(t, b.Close())
	without := func(sp coord.Space) {
		t.Helper()
		db, err := bolt.Open(filepath.Join(dir, "holdfast.db"), 0o600, nil)
		must(t, err)
		must(t, db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte{byte(sp)}) }))
		must(t, db.Close())
	}
	without(coord.SpaceAudit)
	b = openBase(t, dir)
	if got := contents(t, b)["2/k"]; got != "v" {
		t.Errorf("it has %q", got)
	}
	must(t, b.Commit(&coord.Commit{Header: header(2), Changes: []coord.Change{put(coord.SpaceAudit, "a", "b")}}))
	must(t, b.Close())
	b = openBase(t, dir)
	if got := contents(t, b)["10/a"]; got != "b" {
		t.Errorf("the new space has %q", got)
	}
	must(t, b.Close())
	without(coord.SpaceLeaseKeys) // every release had it
	if b, err := store.OpenBase(dir, options()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v, %v", b, err)
	}
}
