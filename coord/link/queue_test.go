package link

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// named is a frame of n bytes that a test can tell.
func named(name byte, n int) *frame {
	f := &frame{bytes: make([]byte, n), pool: new(sync.Pool)}
	f.bytes[0] = name
	f.holders.Store(1)
	return f
}

func names(frames []*frame) string {
	s := make([]byte, len(frames))
	for i, f := range frames {
		s[i] = f.bytes[0]
	}
	return string(s)
}

func TestAFullQueueDropsTheLeastNeededOldestFirst(t *testing.T) {
	// Repair messages are a lower-case r, s, t; bulk is B, C, D; vital is 1, 2, 3. A queue holds 4.
	class := func(name byte) Class {
		switch {
		case name >= 'a':
			return ClassRepair
		case name >= 'A':
			return ClassBulk
		}
		return ClassVital
	}
	for _, tt := range []struct{ pushed, left string }{
		{"rB1s", "rB1s"},
		{"rB1s2", "B1s2"},    // the oldest of the lowest class
		{"rB1s23", "B123"},   // then the next of it
		{"rB1s234", "1234"},  // then of the class above
		{"rB1s2345", "2345"}, // at last of its own
		{"BCD1r", "BCD1"},    // nothing less needed than r: r itself
		{"1234B", "1234"},    // nor than B
		{"BCDEF", "CDEF"},    // of its own class the oldest
		{"rBCDE", "BCDE"},    // before that, any of a lower one
		{"rstuv", "stuv"},    // the newest status says all that the oldest did
	} {
		q := newQueue(4, 1000)
		var dropped uint64
		for i := range len(tt.pushed) {
			for _, n := range q.push(named(tt.pushed[i], 1), class(tt.pushed[i])) {
				dropped += n
			}
		}
		if got := names(q.take(nil, 1000)); got != tt.left || int(dropped) != len(tt.pushed)-len(tt.left) {
			t.Errorf("%s: left %s and %d dropped, want %s", tt.pushed, got, dropped, tt.left)
		}
	}
}

func TestAQueueIsBoundedInBytes(t *testing.T) {
	q := newQueue(100, 1000)
	q.push(named('a', 600), ClassRepair)
	q.push(named('b', 400), ClassRepair)
	if d := q.push(named('C', 401), ClassBulk); d != [classes]uint64{1, 0, 0} {
		t.Errorf("dropped %v, want the one that makes room enough", d)
	}
	if d := q.push(named('D', 1001), ClassVital); d != [classes]uint64{0, 0, 1} {
		t.Errorf("dropped %v, want only what is larger than the queue", d)
	}
	if frames, bytes := q.waiting(); frames != 2 || bytes != 801 {
		t.Errorf("%d frames of %d bytes wait", frames, bytes)
	}
}

func TestAClosedQueueGivesWhatItHasAndTakesNothing(t *testing.T) {
	q := newQueue(4, 1000)
	q.push(named('1', 1), ClassVital)
	q.close()
	if d := q.push(named('2', 1), ClassVital); d[ClassVital] != 1 {
		t.Errorf("dropped %v, want the push refused", d)
	}
	if got := names(q.take(nil, 1000)); got != "1" {
		t.Errorf("took %q, want 1", got)
	}
}

func TestTakeStopsAtItsLimitButGivesOne(t *testing.T) {
	q := newQueue(10, 10000)
	for _, n := range []int{500, 10, 10, 490, 1} {
		q.push(named('x', n), ClassBulk)
	}
	for _, want := range []int{1, 3, 1, 0} {
		if got := q.take(nil, 500); len(got) != want {
			t.Fatalf("took %d frames, want %d", len(got), want)
		}
	}
}

// Whatever is pushed and taken: order is kept, nothing is invented, bounds hold, each frame is released once.
func TestAQueueKeepsOrderAndBoundsUnderAnyUse(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	q := newQueue(50, 5000)
	var pushed, dropped, taken uint64
	var frames []*frame
	last := -1
	for step := range 200000 {
		if random.IntN(3) > 0 {
			f := named(0, 4+random.IntN(300))
			f.bytes[1], f.bytes[2], f.bytes[3] = byte(step), byte(step>>8), byte(step>>16)
			frames = append(frames, f)
			for _, n := range q.push(f, Class(random.IntN(classes))) {
				dropped += n
			}
			f.release()
			pushed++
		} else {
			for _, f := range q.take(nil, random.IntN(1500)) {
				n := int(f.bytes[1]) | int(f.bytes[2])<<8 | int(f.bytes[3])<<16
				if n <= last {
					t.Fatalf("step %d: %d after %d", step, n, last)
				}
				last = n
				f.release()
				taken++
			}
		}
		if n, bytes := q.waiting(); n > 50 || bytes > 5000 || n < 0 || bytes < 0 {
			t.Fatalf("step %d: %d frames of %d bytes wait", step, n, bytes)
		}
	}
	for _, f := range q.take(nil, 1<<20) {
		f.release()
		taken++
	}
	if pushed != dropped+taken {
		t.Errorf("%d pushed, %d dropped, %d taken", pushed, dropped, taken)
	}
	for _, f := range frames {
		if n := f.holders.Load(); n != 0 {
			t.Fatalf("a frame is held %d times at the end", n)
		}
	}
}

func TestMessagesAreClassedByWhatLosingThemCosts(t *testing.T) {
	height, digest := uint64(1), coord.Digest{}
	for _, tt := range []struct {
		msg  coord.PeerMsg
		want Class
	}{
		{coord.PeerMsg{Vote: &coord.Vote{}}, ClassVital},
		{coord.PeerMsg{Proposal: &coord.Proposal{}}, ClassVital},
		{coord.PeerMsg{Batch: &coord.Batch{}}, ClassBulk},
		{coord.PeerMsg{Block: &coord.Block{}}, ClassBulk},
		{coord.PeerMsg{CatchUp: &coord.CatchUp{}}, ClassBulk},
		{coord.PeerMsg{SnapshotPart: &coord.SnapshotPart{}}, ClassBulk},
		{coord.PeerMsg{Certs: []*coord.Cert{{}}}, ClassRepair},
		{coord.PeerMsg{Status: &coord.Status{}}, ClassRepair},
		{coord.PeerMsg{Announce: []coord.BatchRef{{}}}, ClassRepair},
		{coord.PeerMsg{Fetch: []coord.Digest{{}}}, ClassRepair},
		{coord.PeerMsg{FetchFrom: &height}, ClassRepair},
		{coord.PeerMsg{FetchBlock: &digest}, ClassRepair},
		{coord.PeerMsg{Checkpoint: &coord.Checkpoint{}}, ClassRepair},
		{coord.PeerMsg{SnapshotAsk: &coord.SnapshotAsk{}}, ClassRepair},
	} {
		if got := ClassOf(&tt.msg); got != tt.want {
			t.Errorf("%+v: class %d, want %d", tt.msg, got, tt.want)
		}
	}
}
