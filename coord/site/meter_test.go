package site

import (
	"testing"
	"time"
)

func TestTheRateIsThatOfItsWindow(t *testing.T) {
	sec := int64(time.Second)
	var m meter
	if r := m.rate(100 * sec); r != 0 {
		t.Errorf("%v before anything", r)
	}
	for i := range int64(40) { // 10 s of 1,000 a second
		m.block(BlockView{Messages: 250}, 100*sec+i*sec/4)
	}
	end := 110*sec - 1
	for _, tt := range []struct {
		name  string
		after int64
		want  float64
	}{
		{"at once", 0, 1000},
		{"half a window later", int64(rateWindow) / 2, 500},
		{"a window later", int64(rateWindow), 0},
		{"a day later", 24 * 3600 * sec, 0},
	} {
		if r := m.rate(end + tt.after); r != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, r, tt.want)
		}
	}
	m.block(BlockView{Messages: 50}, end+25*3600*sec)
	if r := m.rate(end + 25*3600*sec); r != 10 {
		t.Errorf("after a long pause: %v", r)
	}
}

func TestTheLastBlocksComeNewestFirst(t *testing.T) {
	var m meter
	wall := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	if b := m.blocks(1, wall); len(b) != 0 {
		t.Errorf("%d blocks at first", len(b))
	}
	for n := 1; n <= 2*blocksShown+3; n++ {
		now := int64(n) * int64(time.Second)
		m.block(BlockView{Height: uint64(n)}, now)
		bs := m.blocks(now+int64(time.Second), wall)
		if len(bs) != min(n, blocksShown) {
			t.Fatalf("%d blocks after %d", len(bs), n)
		}
		for i, b := range bs {
			if b.Height != uint64(n-i) || !b.Time.Equal(wall.Add(-time.Duration(i+1)*time.Second)) {
				t.Fatalf("after %d: block %d is %d at %v", n, i, b.Height, b.Time)
			}
		}
	}
}

func TestALatencyCountsInTheFirstBucketThatHoldsIt(t *testing.T) {
	for i, bound := range LatencyBounds {
		var c Counters
		c.latency(bound)
		c.latency(bound + 1)
		if c.LatencyBuckets[i] != 1 || c.LatencyBuckets[i+1] != 1 || c.LatencyCount != 2 || c.LatencySum != 2*bound+1 {
			t.Errorf("%v: %v", bound, c.LatencyBuckets)
		}
	}
}
