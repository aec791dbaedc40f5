package batch

// returning learns whether clients who were answered send again at once, as those do who wait for each answer. Such
// clients are worth waiting for: all of them are in one batch then, where they would take turns in two.
type returning struct {
	want, got int   // messages answered in this window, messages that came since
	until     int64 // the window's end; 0: there is none
	milli     int   // how many of a thousand come back within a window, smoothed
}

// returnsMilli is from when on clients are waited for.
const returnsMilli = 700

// left says that n messages are answered now.
func (r *returning) left(n int, now, window int64) {
	if n > 0 {
		r.want += n
		r.until = now + window
	}
}

// came says that n messages came.
func (r *returning) came(n int) {
	if r.until == 0 {
		return
	}
	if r.got += n; r.got >= r.want {
		r.end()
	}
}

// passes ends the window when its time is over.
func (r *returning) passes(now int64) {
	if r.until > 0 && now >= r.until {
		r.end()
	}
}

func (r *returning) end() {
	r.milli += (1000*min(r.got, r.want)/r.want - r.milli) / 4
	r.want, r.got, r.until = 0, 0, 0
}

// likely says that clients come back at once.
func (r *returning) likely() bool { return r.milli >= returnsMilli }

// awaits says that more of those who were answered are about to come: as many as lately did.
func (r *returning) awaits() bool {
	return r.until > 0 && r.likely() && 1000*r.got < r.want*r.milli
}
