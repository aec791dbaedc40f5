package site

import (
	"slices"
	"sync"
	"testing"
)

func TestAMailboxKeepsOrderAndSignals(t *testing.T) {
	m := newMailbox[int]()
	for i := range 5 {
		m.put(i)
	}
	if n := m.len(); n != 5 {
		t.Errorf("%d values wait", n)
	}
	<-m.signal
	if got := m.take(); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
		t.Errorf("%v", got)
	}
	if got := m.take(); len(got) != 0 {
		t.Errorf("taken twice: %v", got)
	}
}

func TestWhatIsTakenStaysValidUntilTheNextTake(t *testing.T) {
	m := newMailbox[int]()
	for round := range 10 {
		m.put(round)
		got := m.take()
		for i := range 100 {
			m.put(-i)
		}
		if !slices.Equal(got, []int{round}) {
			t.Fatalf("round %d: %v", round, got)
		}
		m.take()
	}
}

// Whoever waits for the signal and then takes gets everything, each sender's values in its order.
func TestAMailboxLosesNothingAmongManySenders(t *testing.T) {
	const senders, each = 8, 2000
	m := newMailbox[[2]int]()
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				m.put([2]int{s, i})
			}
		})
	}
	var next [senders]int
	for got := 0; got < senders*each; {
		<-m.signal
		for _, v := range m.take() {
			if v[1] != next[v[0]] {
				t.Fatalf("sender %d: %d after %d", v[0], v[1], next[v[0]]-1)
			}
			next[v[0]]++
			got++
		}
	}
	wg.Wait()
}
