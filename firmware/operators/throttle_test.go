package operators

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestGuessingFromOneSourceIsSlowedMoreAndMore(t *testing.T) {
	r := newRig(t)
	setUp(t, r)
	guesses := 0
	const every = 20 * time.Second
	for range 24 * time.Hour / every {
		_, err := r.Login(t.Context(), "ann", other, from("198.51.100.9"))
		if errors.Is(err, ErrWrong) {
			guesses++
		} else if !errors.Is(err, ErrWait) {
			t.Fatal(err)
		}
		r.pass(every)
	}
	if most := sourceRule.free + 10 + int(24*time.Hour/sourceRule.most); guesses > most {
		t.Errorf("%d guesses in a day, at most %d were meant", guesses, most)
	}
	if _, err := r.Login(t.Context(), "ann", good, from("192.0.2.8")); err != nil && !errors.Is(err, ErrWait) {
		t.Errorf("another address: %v", err)
	}
}

func TestAFloodOfWrongNamesLocksNobodyOut(t *testing.T) {
	r := newRig(t)
	setUp(t, r)
	for i := range 3 * bucketsMax {
		_, _ = r.Login(t.Context(), "n"+strconv.Itoa(i), other, source(i))
	}
	if _, err := r.Login(t.Context(), "ann", good, from("192.0.2.8")); err != nil {
		t.Errorf("the right name from an address that did nothing wrong: %v", err)
	}
	if n := len(r.throttle.sources) + len(r.throttle.names) + len(r.throttle.device); n > bucketsMax+10 {
		t.Errorf("%d buckets are remembered", n)
	}
}

func TestWhoMustWaitDoesNotLearnWhetherThereIsSuchAName(t *testing.T) {
	r := newRig(t)
	setUp(t, r)
	said := map[string]string{}
	for _, name := range []string{"ann", "bob", string(make([]byte, 60<<10))} {
		for i := range nameRule.free + 8 {
			_, err := r.Login(t.Context(), name, other, source(i))
			said[name] += err.Error() + "; "
		}
		for k := range r.throttle.strange {
			if len(k) > 32 {
				t.Errorf("a name of %d bytes is remembered", len(k))
			}
		}
		r.pass(2 * forgetAfter)
	}
	for name, text := range said {
		if text != said["ann"] {
			t.Errorf("%.10q: %s, and of a name that there is: %s", name, text, said["ann"])
		}
	}
}

func TestAFloodAtTheRightNameLeavesItsOwnBrowserAndTheBoxIn(t *testing.T) {
	r := newRig(t)
	mine := setUp(t, r)
	for i := range 2000 {
		_, _ = r.Login(t.Context(), "ann", other, source(i))
	}
	var w *Wait
	_, err := r.Login(t.Context(), "ann", good, from("192.0.2.8"))
	if !errors.As(err, &w) || !w.Name || w.For > nameRule.most {
		t.Fatalf("a stranger's browser: %v", err)
	}
	if _, err := r.Login(t.Context(), "ann", good, Try{Source: "192.0.2.9:1", Device: mine.Device}); err != nil {
		t.Errorf("a browser that has logged in before: %v", err)
	}
	if _, err := r.Login(t.Context(), "ann", good, Try{Source: "@", Local: true}); err != nil {
		t.Errorf("at the box: %v", err)
	}
}

func TestADeviceCookieIsForItsNameAndGuessesOfItAreSlowedToo(t *testing.T) {
	r := newRig(t)
	mine := setUp(t, r)
	if r.deviceOf(mine.Device, "bob") != "" || r.deviceOf(mine.Device+"x", "ann") != "" || r.deviceOf("a.b", "ann") != "" {
		t.Error("a cookie counts that this box did not give to this name")
	}
	last := error(nil)
	for range deviceRule.free + 3 {
		_, last = r.Login(t.Context(), "ann", other, Try{Source: "192.0.2.9:1", Device: mine.Device})
	}
	if !errors.Is(last, ErrWait) {
		t.Errorf("a stolen cookie guesses freely: %v", last)
	}
}

func TestAnAccountOfOnesOwnDoesNotWipeOutGuesses(t *testing.T) {
	r := newRig(t)
	setUp(t, r)
	if err := r.Add(t.Context(), "eve", other, "viewer", Try{Local: true}, By{}); err != nil {
		t.Fatal(err)
	}
	last := error(nil)
	for range 10 * sourceRule.free {
		if _, last = r.Login(t.Context(), "ann", other, from("198.51.100.9")); errors.Is(last, ErrWait) {
			return
		}
		if _, last = r.Login(t.Context(), "eve", other, from("198.51.100.9")); errors.Is(last, ErrWait) {
			return
		}
	}
	t.Errorf("guesses between logins are free: %v", last)
}

// One hash at a time, however many want one; those beyond the queue are told at once.
func TestHashesAreBoundedAndKnownOnesGoFirst(t *testing.T) {
	h := newHasher()
	running, release := make(chan string, 64), make(chan struct{})
	h.hash = func(p string, _ []byte, _ Params) []byte {
		running <- p
		<-release
		return nil
	}
	var all sync.WaitGroup
	ask := func(who string, known bool) {
		all.Go(func() { _, _ = h.do(context.Background(), who, known, who, nil, Params{}) })
	}
	ask("first", false)
	<-running
	for i := range waitingMax {
		ask("s"+strconv.Itoa(i), false)
	}
	waits := func(n int) {
		for {
			h.mu.Lock()
			have := len(h.strange) + len(h.known)
			h.mu.Unlock()
			if have == n {
				return
			}
			runtime.Gosched()
		}
	}
	waits(waitingMax)
	if _, err := h.do(t.Context(), "late", false, "late", nil, Params{}); !errors.Is(err, ErrBusy) {
		t.Errorf("beyond the queue: %v", err)
	}
	if _, err := h.do(t.Context(), "first", true, "first", nil, Params{}); !errors.Is(err, ErrBusy) {
		t.Errorf("the same source twice: %v", err)
	}
	ask("known", true)
	waits(waitingMax + 1)
	release <- struct{}{}
	if got := <-running; got != "known" {
		t.Errorf("%s goes before the one that is known", got)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	close(release)
	all.Wait()
	if _, err := h.do(gone, "x", false, "x", nil, Params{}); err != nil {
		t.Errorf("nobody waits any more and one is refused: %v", err)
	}
	if h.busy || len(h.sources) > 0 {
		t.Errorf("the queue is not empty at the end: %v", h.sources)
	}
}
