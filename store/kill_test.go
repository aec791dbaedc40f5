package store_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
)

// killDir tells a test binary that it is the child: it commits to this directory until it is killed.
const killDir = "STORE_TEST_KILL_DIR"

// Every commit writes its height to all of these keys, in all spaces.
const killKeys = 40

// A box that is killed at any moment has every commit that it acknowledged, and each whole.
func TestAcknowledgedCommitsSurviveSIGKILL(t *testing.T) {
	if dir := os.Getenv(killDir); dir != "" {
		commitUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	last := uint64(0)
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		acked := killChild(t, dir, 3+7*round)
		s := openStore(t, dir)
		if d := s.Damaged(); d != nil {
			t.Fatal(d)
		}
		f := s.Base.Committed()
		if f == nil || f.Header.Height < acked || f.Header.Height < last {
			t.Fatalf("round %d: height %d was acknowledged, the base has %v", round, acked, f)
		}
		last = f.Header.Height
		if s.LastFinal() < last {
			t.Fatalf("round %d: the log ends at %d, the base at %d", round, s.LastFinal(), last)
		}
		entries := 0
		for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
			must(t, s.Base.Scan(sp, nil, func(k, v []byte) bool {
				entries++
				if string(v) != strconv.FormatUint(last, 10) {
					t.Errorf("round %d: %s of space %d is %s at height %d", round, k, sp, v, last)
				}
				return true
			}))
		}
		if entries != killKeys*coord.SpaceMax {
			t.Fatalf("round %d: %d entries", round, entries)
		}
		must(t, s.Close())
	}
	t.Logf("%d commits", last)
}

// killChild lets a child acknowledge n commits, kills it in the middle of the next ones and gives the
// last height that it acknowledged.
func killChild(t *testing.T, dir string, n int) (acked uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestAcknowledgedCommitsSurviveSIGKILL$")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		h, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
		acked = h
		if i == n {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	return acked
}

func commitUntilKilled(t *testing.T, dir string) {
	s, err := store.Open(dir, options())
	must(t, err)
	c := newChain()
	if f := s.Base.Committed(); f != nil {
		c.head = f.Header
	}
	for {
		must(t, s.Append(c.height(300, true)))
		if s.LogBytes() > 60<<10 {
			must(t, s.Roll(c.live()))
			must(t, s.Prune(c.head.Height))
		}
		commit := &coord.Commit{Header: c.head}
		for i := range killKeys {
			for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
				commit.Changes = append(commit.Changes, put(sp, fmt.Sprint("key ", i), strconv.FormatUint(c.head.Height, 10)))
			}
		}
		must(t, s.Base.Commit(commit))
		fmt.Println(c.head.Height)
	}
}
