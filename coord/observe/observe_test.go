package observe

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// columns are samples of every shape: a steady counter, a duration sum, noise, a constant, one that comes and goes, odd values.
func columns(n int) *Segment {
	s, rnd := NewSegment(TimesMax), rand.New(rand.NewPCG(1, 2))
	nanos := 0
	for i := range n {
		nanos += rnd.IntN(3_000_000)
		x := []Sample{{0, float64(i * 17)}, {1, float64(nanos) / nano}, {2, rnd.Float64()}, {GroupSeries + 3, 4}, {5, math.Inf(1 - 2*(i%2))}, {6, math.Copysign(0, -1)}}
		if i%7 > 2 {
			x = append(x, Sample{9, float64(i)})
		}
		if i == n-1 {
			x = append(x, Sample{2000, math.NaN()})
		}
		s.Append(int64(1_795_867_300_000+5000*i+rnd.IntN(20)), x)
	}
	return s
}

func all(s *Segment, id uint32) (out []uint64) {
	s.Points(id, math.MinInt64, math.MaxInt64, func(t int64, v float64) { out = append(out, uint64(t), math.Float64bits(v)) })
	return out
}

func TestASegmentIsReadAsItWasWritten(t *testing.T) {
	for _, n := range []int{1, 2, 120, TimesMax} {
		s := columns(n)
		times, err := DecodeTimes(EncodeTimes(s.Times()))
		if err != nil {
			t.Fatal(err)
		}
		got := SegmentAt(times)
		for _, g := range s.Groups() {
			b, err := s.EncodeGroup(g)
			if err == nil {
				err = got.AddGroup(b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(got.IDs()) != len(s.IDs()) {
			t.Errorf("%d series of %d", len(got.IDs()), len(s.IDs()))
		}
		for _, id := range s.IDs() {
			a, b := all(s, id), all(got, id)
			if len(a) != len(b) {
				t.Fatalf("series %d: %d points, not %d", id, len(b)/2, len(a)/2)
			}
			for i := range a {
				if a[i] != b[i] {
					t.Fatalf("series %d: %x, not %x", id, b[i], a[i])
				}
			}
		}
	}
}

func TestDamagedBlocksAreRefused(t *testing.T) {
	s := columns(100)
	b, err := s.EncodeGroup(0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x55
		if err := SegmentAt(s.Times()).AddGroup(bad); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
		if err := SegmentAt(s.Times()).AddGroup(b[:i]); !errors.Is(err, ErrFormat) {
			t.Fatalf("%d bytes of %d were taken", i, len(b))
		}
	}
	for _, bad := range [][]byte{nil, {2}, {1, 0xff, 0xff, 0xff, 0x7f}, {1, 2, 0, 0}, {1, 1, 2, 3}} {
		if _, err := DecodeTimes(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%v was taken", bad)
		}
	}
}

func FuzzBlocks(f *testing.F) {
	s := columns(20)
	b, err := s.EncodeGroup(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(EncodeTimes(s.Times()), b)
	f.Fuzz(func(t *testing.T, times, group []byte) {
		ts, err := DecodeTimes(times)
		if err != nil {
			return
		}
		g := SegmentAt(ts)
		if g.AddGroup(group) != nil {
			return
		}
		for _, n := range g.Groups() {
			if _, err := g.EncodeGroup(n); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestThinnedCountersLoseNothingAndTheRestIsAMean(t *testing.T) {
	var times []int64
	got := map[uint32][]float64{}
	th := NewThinner(60_000, func(id uint32) bool { return id == 0 })
	emit := func(at int64, samples []Sample) {
		times = append(times, at)
		for _, s := range samples {
			got[s.ID] = append(got[s.ID], s.Value)
		}
	}
	count := 0.0
	for i := range 36 { // three minutes, with a restart in the second
		if i == 17 {
			count = 0
		}
		count += 2
		th.Add(int64(5000*i), []Sample{{0, count}, {1, float64(i % 12)}}, emit)
	}
	th.Flush(emit)
	// What the counter grew by: 34 until the restart, 38 after it.
	grew, last := 0.0, 0.0
	for _, v := range got[0] {
		if v < last {
			last = 0
		}
		grew, last = grew+v-last, v
	}
	if grew != 34+38 || len(times) != 4 || times[0] != 55_000 || got[1][0] != 5.5 {
		t.Errorf("grew by %v at %v; means %v", grew, times, got[1])
	}
}

func TestTimesAscendWhateverTheClockDoes(t *testing.T) {
	const day = 86_400_000
	now := int64(1_795_867_300_000)
	for name, c := range map[string]struct {
		walls  []int64 // at 0 s, 5 s, 10 s...
		newest int64
		want   []int64 // of each sample in the end, after all shifts
	}{
		"right":                  {[]int64{now, now + 5000}, now - day, []int64{now, now + 5000}},
		"1970, set later":        {[]int64{5, 5005, now + 10_000}, now - day, []int64{now, now + 5000, now + 10_000}},
		"1970 for good":          {[]int64{5, 5005}, now, []int64{now + 1000, now + 6000}},
		"1970, nothing known":    {[]int64{5, 5005}, 0, []int64{KnownFrom + 1000, KnownFrom + 6000}},
		"a day ahead, set back":  {[]int64{now + day, now + 5000}, 0, []int64{now, now + 5000}},
		"slewed":                 {[]int64{now, now + 5500, now + 10_900}, 0, []int64{now, now + 5500, now + 10_900}},
		"behind what was before": {[]int64{now - day, now - day + 5000}, now, []int64{now - day, now - day + 5000}},
		"back to 1970":           {[]int64{now, 77}, 0, []int64{now, now + 5000}},
	} {
		var line Timeline
		var got []int64
		for i, wall := range c.walls {
			at, shift := line.At(int64(5000*i), wall, c.newest)
			for k := range got {
				got[k] += shift
			}
			if got = append(got, at); i > 0 && got[i] <= got[i-1] {
				t.Errorf("%s: %v do not ascend", name, got)
			}
		}
		for i := range c.want {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, not %v", name, got, c.want)
				break
			}
		}
	}
}
