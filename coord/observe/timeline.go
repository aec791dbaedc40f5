package observe

// Timeline gives times that ascend, whatever the wall clock does. Boxes start in 1970: until the wall clock is known, time goes on from the
// newest sample of earlier starts, and when the clock is set, what was sampled since the start is moved to when it really was. A clock that
// is set later, forward or back, moves it too: what was before was wrong.
type Timeline struct {
	offset int64 // wall minus monotonic, milliseconds
	begun  bool
	last   int64
}

const (
	// KnownFrom is the time before which a wall clock is not set: 2026-01-01, when there was no release of this program. Unix milliseconds.
	KnownFrom = 1_767_225_600_000
	// stepMin is by how much a clock must jump to have been set; less is the slewing of NTP.
	stepMin = 2000
)

// At gives the time of now: mono is a monotonic clock and wall the wall clock, both in milliseconds, newest the time of the newest sample
// of earlier starts, 0 for none. What was given before must be moved by shift.
func (t *Timeline) At(mono, wall, newest int64) (at, shift int64) {
	offset := wall - mono
	known := wall >= KnownFrom
	switch {
	case !t.begun && known:
		t.offset = offset
	case !t.begun:
		t.offset = max(newest, KnownFrom) + 1000 - mono
	case known && abs(offset-t.offset) >= stepMin:
		shift, t.offset = offset-t.offset, offset
	case known:
		t.offset = offset
	}
	t.begun = true
	t.last = max(mono+t.offset, t.last+shift+1)
	return t.last, shift
}

// Now is the time of now for who asks, without making it one of a sample.
func (t *Timeline) Now(mono int64) int64 { return max(mono+t.offset, t.last) }

func abs(v int64) int64 {
	if v < 0 {
		return -v
	}
	return v
}
