package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/feed"
)

// stopFor is how long the stopped follower stays so: longer than its links' dead time of 2 s.
const stopFor = 5 * time.Second

// TestEveryAccessIsCountedOnceWhateverHappensToTheBoxes feeds a real trace to a site while
// the leader is killed, then a follower is stopped for a while, then all boxes are killed. Every
// box has exactly the file's counts in the end, after an orderly restart, and after a kill of
// everything.
func TestEveryAccessIsCountedOnceWhateverHappensToTheBoxes(t *testing.T) {
	s, want := newSite(t), counts(t)
	s.start()
	id := s.ready().Boxes[0].ID

	fed := make(chan error, 1)
	var summary feed.Summary
	go func() {
		// 4,000 a second: 19 s, room for what happens meanwhile.
		out, err := s.run("feed", "--trace", trace, "--rate", "4000", "--addr", s.console(0), "--json")
		fed <- errors.Join(err, json.Unmarshal(out, &summary))
	}()
	s.awaitApplied(accesses / 10)
	leader := s.leader()
	t.Logf("the leader, box %d, is killed", leader)
	s.signal(leader, syscall.SIGKILL)

	s.awaitApplied(accesses * 3 / 10)
	follower := (s.leader() + 1) % 4
	t.Logf("a follower, box %d, is stopped for %v", follower, stopFor)
	s.signal(follower, syscall.SIGSTOP)
	<-time.After(stopFor)
	s.signal(follower, syscall.SIGCONT)

	s.awaitApplied(accesses * 7 / 10)
	t.Log("all boxes are killed")
	for i := range 4 {
		s.signal(i, syscall.SIGKILL)
	}
	if err := <-fed; err != nil {
		t.Fatalf("feed: %v", err)
	}
	t.Logf("feed: %+v", summary)
	if summary.Sent != accesses || summary.Acknowledged != accesses {
		t.Errorf("feed says %+v, want %d sent and acknowledged", summary, accesses)
	}
	all := func() {
		t.Helper()
		for i := range 4 {
			s.wantCounts(i, want)
		}
	}
	all()

	s.stop()
	s.start()
	if again := s.ready().Boxes[0].ID; again != id {
		t.Errorf("box 0 was %s and is %s", id, again)
	}
	all()

	s.killAll()
	s.start()
	all()
	s.stop()
}

// awaitApplied waits until some box has applied n messages: as each box counts since its own
// start, their counters are asked for.
func (s *liveSite) awaitApplied(n uint64) {
	s.t.Helper()
	s.await(fmt.Sprintf("%d accesses are counted", n), func() error {
		best := uint64(0)
		for i := range 4 {
			out, err := s.run("top", "-n", "0", "--json", "--addr", s.console(i))
			if err != nil {
				continue
			}
			var top struct{ Total uint64 }
			if err := json.Unmarshal(out, &top); err != nil {
				return err
			}
			if best = max(best, top.Total); best >= n {
				return nil
			}
		}
		return fmt.Errorf("%d", best)
	})
}

// TestASiteServesWithoutABoxWhoseDirectoryWasDeleted also stops and starts the site without it.
func TestASiteServesWithoutABoxWhoseDirectoryWasDeleted(t *testing.T) {
	s := newSite(t)
	s.start()
	lost := s.ready().Boxes[2]
	if err := os.RemoveAll(lost.Dir); err != nil {
		t.Fatal(err)
	}
	s.signal(2, syscall.SIGKILL)
	write := func(key string) {
		t.Helper()
		if _, err := s.run("kv", "put", key, "value of "+key, "--addr", s.console(0), "--timeout", "60s"); err != nil {
			t.Fatal(err)
		}
	}
	read := func(key string) {
		t.Helper()
		for _, i := range []int{0, 1, 3} {
			out, err := s.run("kv", "get", key, "--addr", s.console(i), "--timeout", "60s")
			if err != nil || string(out) != "value of "+key+"\n" {
				t.Errorf("box %d: %q %v", i, out, err)
			}
		}
	}
	write("first")
	read("first")
	st, err := s.status(0)
	if err != nil || !st.Serving || st.Members[2].Up {
		t.Errorf("status %+v %v", st, err)
	}
	s.stop()
	s.start()
	if again := s.ready().Boxes[2]; again.ID != lost.ID || again.PID != 0 {
		t.Errorf("the lost box is %+v, was %+v", again, lost)
	}
	write("second")
	read("first")
	read("second")
	s.stop()
}

// TestTheLogShowsWhatWasOrderedWithItsProof reads back what a client wrote, from every box.
func TestTheLogShowsWhatWasOrderedWithItsProof(t *testing.T) {
	s := newSite(t)
	s.start()
	if _, err := s.run("kv", "put", "/config/ttl", "60", "--addr", s.console(1)); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		s.await(fmt.Sprintf("box %d has it in its log", i), func() error {
			out, err := s.run("log", "dump", "--json", "--addr", s.console(i))
			if err != nil {
				return err
			}
			return findPut(out)
		})
	}
	s.stop()
}

// findPut looks for the message in a log, and for a certificate that proves its block: its own, or
// a later one's.
func findPut(ndjson []byte) error {
	found := false
	for line := range bytes.Lines(ndjson) {
		var block struct {
			Height      uint64
			Certificate *struct{ Signatures []any }
			Messages    []struct{ Kind, Key, Value string }
		}
		if err := json.Unmarshal(line, &block); err != nil {
			return err
		}
		for _, m := range block.Messages {
			found = found || m.Kind == "put" && m.Key == "/config/ttl" && m.Value == "60"
		}
		if found && block.Certificate != nil && len(block.Certificate.Signatures) >= 3 {
			return nil
		}
	}
	return errors.New("no such message with a certificate")
}
