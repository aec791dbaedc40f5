package link

import (
	"bufio"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const ms = time.Millisecond

// usual is a detector with the product's times that has heard a perfect rhythm for a minute; now is the last sound.
func usual() (d detector, now time.Duration) {
	d = newDetector(HeartbeatDefault, StallDefault, DeadDefault)
	for range 600 {
		now += HeartbeatDefault / 2
		d.hear(now)
	}
	return d, now
}

func TestTheDetector(t *testing.T) {
	type step struct {
		after time.Duration // since the last step
		heard bool          // else checked
		want  bool          // a stall that was taken back, or a verdict
	}
	for name, steps := range map[string][]step{
		"a stall of 700 ms before the next sound": {{after: 800 * ms}, {heard: true}, {}},
		"silence":                            {{after: 870 * ms}, {after: 60 * ms, want: true}, {after: 10 * ms}},
		"a verdict is told once":             {{after: time.Second, want: true}, {}, {after: time.Hour}},
		"heard again before dead":            {{after: time.Second, want: true}, {after: 200 * ms, heard: true, want: true}, {}},
		"heard again after dead":             {{after: time.Second, want: true}, {after: 2 * time.Second, heard: true}, {after: 870 * ms}, {after: 60 * ms, want: true}},
		"the second stall of one length":     {{after: 1200 * ms, want: true}, {heard: true, want: true}, {after: 1200 * ms}, {heard: true}},
		"never more patient than dead":       {{after: 1900 * ms, want: true}, {heard: true, want: true}, {after: 1990 * ms}, {after: 10 * ms, want: true}},
		"a sound of before is not a new one": {{after: 500 * ms}, {after: -500 * ms, heard: true}, {after: 880 * ms}, {after: 60 * ms, want: true}},
	} {
		t.Run(name, func(t *testing.T) {
			d, now := usual()
			for i, s := range steps {
				now += s.after
				var got bool
				if s.heard {
					got = d.hear(now)
				} else {
					got, _ = d.check(now)
				}
				if got != s.want {
					t.Errorf("step %d: %v, want %v (timeout %v)", i, got, s.want, d.timeout())
				}
			}
		})
	}
}

func TestWhatIsLearnedOfStallsIsForgotten(t *testing.T) {
	d, now := usual()
	before := d.timeout()
	now += 1500 * ms
	d.check(now)
	d.hear(now)
	if got := d.timeout(); got < 1800*ms {
		t.Errorf("timeout %v after a stall of 1.5 s", got)
	}
	for range 10_000 {
		now += HeartbeatDefault / 2
		d.hear(now)
	}
	if got := d.timeout(); got > before+ms {
		t.Errorf("timeout %v after a quiet quarter of an hour, %v before", got, before)
	}
}

func TestEarlySoundsDoNotMakeItPatient(t *testing.T) {
	d, now := usual()
	before := d.timeout()
	for range 1000 {
		now += time.Duration(rand.Int64N(int64(HeartbeatDefault / 2)))
		d.hear(now)
	}
	if got := d.timeout(); got > before {
		t.Errorf("timeout %v with traffic, %v without", got, before)
	}
}

func TestABoxThatIsStarvedAccusesNobody(t *testing.T) {
	for name, stall := range map[string]time.Duration{"stalled": 700 * ms, "suspended": time.Hour, "late": 60 * ms} {
		t.Run(name, func(t *testing.T) {
			const tick = HeartbeatDefault / 4
			d := newDetector(HeartbeatDefault, StallDefault, DeadDefault)
			own := ownTime{slack: HeartbeatDefault / 8, planned: tick}
			var now, heard, seen time.Duration
			for i := range 10_000 {
				now += tick
				if i%20 == 19 {
					now += stall // nobody runs: the peer is not heard either
				} else if i%2 == 0 {
					heard = now - ms
				}
				before := own.last
				own.wake(now)
				own.planned = now + tick
				if heard != seen {
					d.hear(own.of(heard, before))
				}
				seen = heard
				if verdict, _ := d.check(own.last); verdict {
					t.Fatalf("accused at tick %d", i)
				}
			}
			if want := 500 * stall; own.stolen != want {
				t.Errorf("lost %v, want %v", own.stolen, want)
			}
			// And it still sees who is gone.
			for i := range 20 {
				own.wake(now + time.Duration(i)*tick)
				own.planned = now + time.Duration(i+1)*tick
				if verdict, _ := d.check(own.last); verdict {
					return
				}
			}
			t.Error("does not see a silent peer in a second")
		})
	}
}

func TestTwoBoxesFindTheirPhase(t *testing.T) {
	const h = HeartbeatDefault
	for off := time.Duration(0); off < h; off += ms {
		theirs, ours := 10*h, 10*h+off // ours just after one of theirs
		for range 5 {
			next := phase(ours, theirs, h)
			if wait := next - ours; wait <= h/4 || wait > 5*h/4 {
				t.Fatalf("offset %v: waits %v", off, wait)
			}
			ours = next
			theirs += (ours - theirs) / h * h
		}
		if got := (ours - theirs) % h; got != h/2 {
			t.Errorf("offset %v: ends %v after theirs", off, got)
		}
	}
	if got := phase(10*h, 7*h, h); got != 11*h {
		t.Errorf("one that is not heard is followed: %v", got)
	}
}

// recorded are gaps between sounds of one peer as a box on a real site of four processes saw them, in order
// (testdata/gaps.md).
func recorded(t *testing.T, name string) (gaps []time.Duration) {
	f, err := os.Open(filepath.Join("testdata", "gaps-"+name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		us, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		gaps = append(gaps, time.Duration(us)*time.Microsecond)
	}
	if err := lines.Err(); err != nil || len(gaps) < 100 {
		t.Fatalf("%d gaps: %v", len(gaps), err)
	}
	return gaps
}

// The rhythm is drawn from what was recorded; every fiftieth gap or so has a stall of 700 ms in it. In 100,000 gaps,
// hours of a site, no verdict may be wrong, and at any time a silence must be known within a second, or little more when the rhythm
// itself has gaps of 256 ms: a stall of 700 ms in those is 956 ms of silence.
func TestRecordedRhythmsWithStalls(t *testing.T) {
	for name, known := range map[string]time.Duration{"idle": time.Second, "load": time.Second, "hogs": 1200 * ms} {
		t.Run(name, func(t *testing.T) {
			gaps := recorded(t, name)
			r := rand.New(rand.NewPCG(6, uint64(len(gaps))))
			d := newDetector(HeartbeatDefault, StallDefault, DeadDefault)
			var now, most time.Duration
			wrong, stalls := 0, 0
			for range 100_000 {
				now += gaps[r.IntN(len(gaps))]
				if r.IntN(50) == 0 {
					now += 700 * ms
					stalls++
				}
				if verdict, _ := d.check(now); verdict {
					wrong++
				}
				d.hear(now)
				most = max(most, d.timeout())
			}
			t.Logf("%d stalls, %d wrong verdicts, time-out at most %v", stalls, wrong, most)
			if wrong > 0 {
				t.Errorf("%d wrong verdicts of %d stalls", wrong, stalls)
			}
			if most > known {
				t.Errorf("a silence is known after %v only", most)
			}
		})
	}
}
