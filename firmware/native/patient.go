package native

import (
	"errors"
	"net"
	"os"
	"time"
)

// patient reads from a connection for a wire.FrameReader, which cannot go on after an
// error: it takes care of the deadlines itself. It sends a ping when the client is
// silent, and gives up when that does not help, when a frame takes too long, or when the
// server stops.
type patient struct {
	nc       net.Conn
	limits   *Limits
	stopping <-chan struct{}
	ping     func() error
	// until is when the frame that is being read must be complete; zero before its first byte.
	until time.Time
}

// between says that a frame was read to its end.
func (p *patient) between() { p.until = time.Time{} }

func (p *patient) Read(b []byte) (int, error) {
	quiet := time.Now()
	for {
		now := time.Now()
		wait := now.Add(p.limits.PingAfter)
		if !p.until.IsZero() && p.until.Before(wait) {
			wait = p.until
		}
		// In this order: whoever closes stopping sets a deadline after that.
		_ = p.nc.SetReadDeadline(wait)
		select {
		case <-p.stopping:
			return 0, errStopping
		default:
		}
		n, err := p.nc.Read(b)
		if n > 0 {
			if p.until.IsZero() {
				p.until = time.Now().Add(p.limits.FrameTime)
			}
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		now = time.Now()
		switch {
		case !p.until.IsZero() && !now.Before(p.until):
			return 0, errFrame
		case now.Sub(quiet) >= p.limits.IdleTime:
			return 0, errIdle
		case p.until.IsZero():
			if err := p.ping(); err != nil {
				return 0, err
			}
		}
	}
}
