package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
)

// fill commits entries that depend on seed only, in one block.
func fill(t testing.TB, b *store.Base, seed, height uint64, entries int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 3))
	c := &coord.Commit{Header: header(height), Checkpoint: true}
	for i := range entries {
		c.Changes = append(c.Changes, put(coord.Space(1+r.IntN(coord.SpaceMax)), fmt.Sprintf("k%d-%d", r.IntN(1000), i), string(make([]byte, r.IntN(2000)))))
	}
	must(t, b.Commit(c))
}

func snapshot(t testing.TB, b *store.Base) *store.Snapshot {
	t.Helper()
	sn, err := b.Snapshot(context.Background())
	must(t, err)
	must(t, sn.Build(context.Background()))
	t.Cleanup(func() { sn.Close() })
	return sn
}

func checkpoint(sn *store.Snapshot) *coord.Checkpoint {
	h := sn.Header()
	return &coord.Checkpoint{Header: h, State: sn.State(), Cert: &coord.Cert{
		Kind: coord.VoteCheckpoint, Epoch: 1, Round: h.Height, Digest: coord.CheckpointDigest(h.Digest(), sn.State()),
		Sigs: []coord.VoteSig{{Voter: 1}},
	}}
}

func chunks(t testing.TB, sn *store.Snapshot) (cs [][]byte) {
	t.Helper()
	for i := range len(sn.Manifest()) / 32 {
		c, err := sn.Chunk(i)
		must(t, err)
		cs = append(cs, c)
	}
	_, err := sn.Chunk(len(cs))
	want(t, err, store.ErrNotFound)
	return cs
}

func install(t testing.TB, b *store.Base, sn *store.Snapshot) {
	t.Helper()
	in, err := b.Install(checkpoint(sn), sn.Manifest())
	must(t, err)
	for i, c := range chunks(t, sn) {
		must(t, in.Put(i, c))
	}
	must(t, in.Finish())
	must(t, in.Abort())
}

func TestASnapshotIsTheStateOfItsCommitWhileOthersAreMade(t *testing.T) {
	b := openBase(t, t.TempDir())
	fill(t, b, 1, 10, 600)
	still := snapshot(t, b)
	want, wantChunks := still.State(), chunks(t, still)
	sn, err := b.Snapshot(context.Background())
	must(t, err)
	defer sn.Close()
	built := make(chan error)
	go func() { built <- sn.Build(context.Background()) }()
	for h := range uint64(10) {
		fill(t, b, 100+h, 11+h, 300)
	}
	must(t, <-built)
	if sn.State() != want || sn.Header().Height != 10 {
		t.Fatal("another state")
	}
	if got := chunks(t, sn); !slices.EqualFunc(got, wantChunks, bytes.Equal) {
		t.Fatal("other chunks")
	}
	if now := snapshot(t, b); now.State() == want {
		t.Fatal("the commits changed nothing")
	}
}

func TestTheDigestDependsOnTheStateAndNotOnItsHistory(t *testing.T) {
	one, two := openBase(t, t.TempDir()), openBase(t, t.TempDir())
	var changes []coord.Change
	r := rand.New(rand.NewPCG(5, 5))
	for i := range 500 {
		changes = append(changes, put(coord.Space(1+i%coord.SpaceMax), fmt.Sprint("key ", i), string(make([]byte, r.IntN(3000)))))
	}
	must(t, one.Commit(&coord.Commit{Header: header(9), Changes: changes}))
	// The other box saw other values first, in many commits, and keys that were removed again.
	for i, p := range r.Perm(len(changes)) {
		ch := changes[p]
		must(t, two.Commit(&coord.Commit{Header: header(uint64(i + 1)), Changes: []coord.Change{
			put(ch.Space, string(ch.Key), "old"), put(ch.Space, "x"+string(ch.Key), "gone soon"), ch,
		}}))
		if i == 60 {
			break
		}
	}
	c := &coord.Commit{Header: header(500), Changes: slices.Clone(changes)}
	for _, ch := range changes {
		c.Changes = append(c.Changes, del(ch.Space, "x"+string(ch.Key)))
	}
	must(t, two.Commit(c))
	a, b := snapshot(t, one), snapshot(t, two)
	if a.State() != b.State() || !bytes.Equal(a.Manifest(), b.Manifest()) {
		t.Fatal("digests differ")
	}
	if a.State() != sha256.Sum256(a.Manifest()) || len(a.Manifest()) < 64 {
		t.Fatalf("manifest of %d bytes", len(a.Manifest()))
	}
	must(t, two.Commit(&coord.Commit{Header: header(501), Changes: []coord.Change{put(5, "key 4", "x")}}))
	if snapshot(t, two).State() == a.State() {
		t.Fatal("a changed value does not show")
	}
}

func TestAnInstalledStateIsTheOneThatWasFetched(t *testing.T) {
	from, dir := openBase(t, t.TempDir()), t.TempDir()
	fill(t, from, 1, 100, 900)
	sn := snapshot(t, from)
	to := openBase(t, dir)
	fill(t, to, 2, 7, 100)
	old := snapshot(t, to)
	install(t, to, sn)
	check := func(b *store.Base) {
		t.Helper()
		if f := b.Committed(); f.Header.Digest() != sn.Header().Digest() || f.Cert != nil {
			t.Fatalf("committed %v", f)
		}
		if !maps.Equal(contents(t, b), contents(t, from)) || snapshot(t, b).State() != sn.State() {
			t.Fatal("another state")
		}
	}
	check(to)
	_, err := old.Chunk(0)
	want(t, err, store.ErrClosed)
	must(t, to.Close())
	to = openBase(t, dir)
	check(to)
	// And it goes on from there as the original does.
	fill(t, from, 5, 101, 50)
	fill(t, to, 5, 101, 50)
	if snapshot(t, from).State() != snapshot(t, to).State() {
		t.Fatal("states part")
	}
}

func TestAnEmptyStateCanBeInstalled(t *testing.T) {
	from, to := openBase(t, t.TempDir()), openBase(t, t.TempDir())
	_, err := from.Snapshot(context.Background())
	want(t, err, store.ErrNotFound)
	must(t, from.Commit(&coord.Commit{Header: header(1)}))
	fill(t, to, 1, 1, 10)
	install(t, to, snapshot(t, from))
	if got := contents(t, to); len(got) != 0 {
		t.Fatalf("the state is %v", got)
	}
}

func TestReadsGoOnWhileAStateIsReplaced(t *testing.T) {
	from, to := openBase(t, t.TempDir()), openBase(t, t.TempDir())
	fill(t, from, 1, 100, 50)
	fill(t, to, 2, 7, 50)
	sn := snapshot(t, from)
	before := contents(t, to)
	done := make(chan struct{})
	got := map[string]string{}
	for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
		must(t, to.Scan(sp, nil, func(k, v []byte) bool {
			if len(got) == 0 {
				go func() {
					defer close(done)
					install(t, to, sn)
				}()
				for to.Committed().Header.Height != 100 {
					if _, _, err := to.Get(coord.SpaceKeys, k); err != nil {
						t.Error(err)
					}
				}
			}
			got[fmt.Sprintf("%d/%s", sp, k)] = string(v)
			return true
		}))
		if len(got) > 0 {
			break // the next scan begins in the new state
		}
	}
	<-done
	for k, v := range got {
		if before[k] != v {
			t.Fatalf("%s is not of the old state", k)
		}
	}
}

func TestHostileChunksAreRefusedAndTheRightOneMayFollow(t *testing.T) {
	from, to := openBase(t, t.TempDir()), openBase(t, t.TempDir())
	fill(t, from, 1, 100, 1500)
	fill(t, to, 2, 7, 20)
	before := contents(t, to)
	sn := snapshot(t, from)
	cs := chunks(t, sn)
	if len(cs) < 3 {
		t.Fatalf("%d chunks", len(cs))
	}
	cp := checkpoint(sn)
	_, err := to.Install(cp, sn.Manifest()[:32])
	want(t, err, store.ErrSnapshot)
	_, err = to.Install(cp, sn.Manifest()[:33])
	want(t, err, store.ErrSnapshot)
	_, err = to.Install(&coord.Checkpoint{State: cp.State}, sn.Manifest())
	want(t, err, store.ErrSnapshot)
	in, err := to.Install(cp, sn.Manifest())
	must(t, err)
	want(t, in.Finish(), store.ErrSnapshot)
	flipped := bytes.Clone(cs[0])
	flipped[len(flipped)/2] ^= 1
	for name, put := range map[string]func() error{
		"another chunk":    func() error { return in.Put(0, cs[1]) },
		"a flipped bit":    func() error { return in.Put(0, flipped) },
		"cut short":        func() error { return in.Put(0, cs[0][:len(cs[0])-1]) },
		"nothing":          func() error { return in.Put(0, nil) },
		"out of order":     func() error { return in.Put(1, cs[1]) },
		"before the first": func() error { return in.Put(-1, cs[0]) },
		"beyond the last":  func() error { return in.Put(len(cs), cs[0]) },
	} {
		t.Log(name)
		want(t, put(), store.ErrSnapshot)
	}
	must(t, in.Put(0, cs[0]))
	want(t, in.Put(0, cs[0]), store.ErrSnapshot)
	want(t, in.Finish(), store.ErrSnapshot)
	if !maps.Equal(contents(t, to), before) {
		t.Fatal("the old state is touched")
	}
	for i, c := range cs[1:] {
		must(t, in.Put(i+1, c))
	}
	must(t, in.Finish())
	want(t, in.Put(0, cs[0]), store.ErrClosed)
	want(t, in.Finish(), store.ErrClosed)
}

// A quorum would have to sign such a state; the store does not rely on it.
func TestChunksWithTheRightDigestsThatGoBackAreRefused(t *testing.T) {
	cut := func(keys ...string) (c []byte) {
		w := coord.NewSnapshotWriter(func(data []byte, _ coord.Digest) error {
			c = bytes.Clone(data)
			return nil
		})
		for _, k := range keys {
			must(t, w.Add(coord.SpaceKeys, []byte(k), []byte("v")))
		}
		_, _, err := w.Finish()
		must(t, err)
		return c
	}
	for name, second := range map[string][]byte{
		"the same key again": cut("b", "c"), "a lower one": cut("a"), "no chunk at all": {9, 9, 9},
	} {
		cs := [][]byte{cut("a", "b"), second}
		var m []byte
		for _, c := range cs {
			d := sha256.Sum256(c)
			m = append(m, d[:]...)
		}
		b := openBase(t, t.TempDir())
		in, err := b.Install(&coord.Checkpoint{Header: header(5), State: sha256.Sum256(m)}, m)
		must(t, err)
		must(t, in.Put(0, cs[0]))
		t.Log(name)
		want(t, in.Put(1, cs[1]), store.ErrSnapshot)
		want(t, in.Finish(), store.ErrSnapshot)
		must(t, in.Abort())
		must(t, b.Commit(&coord.Commit{Header: header(1)}))
	}
}

func TestAnInstallThatWasCutLeavesTheOldState(t *testing.T) {
	from, dir := openBase(t, t.TempDir()), t.TempDir()
	fill(t, from, 1, 100, 200)
	sn := snapshot(t, from)
	to := openBase(t, dir)
	fill(t, to, 2, 7, 20)
	before := contents(t, to)
	in, err := to.Install(checkpoint(sn), sn.Manifest())
	must(t, err)
	must(t, in.Put(0, chunks(t, sn)[0]))
	// What a machine finds that lost its power here.
	crash := t.TempDir()
	must(t, os.CopyFS(crash, os.DirFS(dir)))
	b := openBase(t, crash)
	if !maps.Equal(contents(t, b), before) {
		t.Fatal("another state")
	}
	if _, err := os.Stat(filepath.Join(crash, "holdfast.db.new")); err == nil {
		t.Fatal("the left-over is still there")
	}
	// Another install takes the place of one that was left.
	install(t, to, sn)
	want(t, in.Put(1, nil), store.ErrClosed)
}

func TestBuildStopsWhenToldSo(t *testing.T) {
	b := openBase(t, t.TempDir())
	fill(t, b, 1, 1, 3000)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := b.Snapshot(ctx)
	want(t, err, context.Canceled)
	sn, err := b.Snapshot(context.Background())
	must(t, err)
	want(t, sn.Build(ctx), context.Canceled)
	must(t, sn.Build(context.Background()))
	must(t, sn.Close())
	want(t, sn.Build(context.Background()), store.ErrClosed)
	_, err = sn.Chunk(0)
	want(t, err, store.ErrClosed)
}
