package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"github.com/holdfast-edge/holdfast/firmware/unixsock"
)

const (
	// askEvery is how often the coordinator is asked, and askMax how long one answer may take.
	askEvery = 2 * time.Second
	askMax   = 2 * time.Second
	// graceMax is how long one that starts may take until it first answers: it may have to read a log of gigabytes from a slow card.
	graceMax = 3 * time.Minute
	// hangAfter is how long one that has answered may be silent until it is taken to hang.
	hangAfter = 30 * time.Second
)

// vital is what is known of a coordinator's health: a pure function of what it answered when.
type vital struct {
	began, last time.Time // last: zero until it first answered
}

// healthy says whether the watchdog may be fed.
func (v *vital) healthy(now time.Time) bool {
	if v.last.IsZero() {
		return now.Sub(v.began) < graceMax
	}
	return now.Sub(v.last) < hangAfter
}

// asker asks a coordinator over its socket.
type asker struct{ client *http.Client }

func newAsker(dir string) (*asker, error) {
	at, _, err := unixsock.Short(filepath.Join(dir, settings.Socket))
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return &asker{&http.Client{Timeout: askMax, Transport: &http.Transport{
		DisableKeepAlives: true, // a coordinator that was started again has another socket
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", at) },
	}}}, nil
}

// errSilent says that the coordinator answers, and that it is not well.
var errSilent = errors.New("not well")

// ask gets a page that says no more than whether.
func (a *asker) ask(ctx context.Context, page string) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+page, nil)
	if err != nil {
		return err
	}
	r, err := a.client.Do(q)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(r.Body, 64<<10))
	if err = errors.Join(err, r.Body.Close()); err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w: %s", page, errSilent, r.Status)
	}
	return nil
}

// attend watches a coordinator until it has ended, feeds the watchdog as long as it answers, and gives the act that somebody
// asked for; "" when it ended by itself.
func (m *machine) attend(ctx context.Context, c *child, dog *dog, address string) act {
	a, err := newAsker(dataDir)
	if err != nil {
		m.log.Error("the coordinator cannot be asked", "err", err)
		c.stop("it cannot be asked", stopMax)
		return actRestart
	}
	v := vital{began: c.began}
	answers := make(chan error, 1)
	asking := false
	ask := time.NewTicker(askEvery)
	defer ask.Stop()
	feed := time.NewTicker(dog.every())
	defer feed.Stop()
	var dumped time.Time
	stop := func(why string) {
		defer m.feedFor(dog, stopMax)()
		c.stop(why, stopMax)
	}
	for {
		select {
		case <-c.ended:
			return ""
		case <-ctx.Done():
			stop("the machine ends")
			return actReboot
		case how := <-m.acts:
			if how == actRetry || how == actReadOnly {
				continue
			}
			stop(string(how))
			if how == actReset {
				m.reset(dog)
				return actReboot
			}
			return how
		case <-m.address:
			if now := m.currentAddress(); now != "" && now != address && !inSite(dataDir) {
				m.log.Info("the box starts with its new address", "address", now)
				stop("a new address")
				return actRestart
			}
		case <-ask.C:
			if !asking {
				asking = true
				go func() { answers <- a.ask(ctx, "/healthz") }()
			}
		case err := <-answers:
			asking = false
			was := m.status().Coordinator.Answers
			if err == nil {
				v.last = time.Now()
			}
			if was != (err == nil) {
				m.change(func(s *status.Status) {
					if s.Coordinator.Answers = err == nil; err == nil && time.Since(c.began) < graceMax {
						s.Mode, s.Reason = status.Running, ""
					}
				})
			}
			if err == nil && time.Since(c.began) >= steadyAfter && m.status().Mode == status.Trouble {
				m.change(func(s *status.Status) { s.Mode, s.Reason = status.Running, "" })
			}
		case <-feed.C:
			switch now := time.Now(); {
			case v.healthy(now):
				dog.kick(m.log)
			case dumped.IsZero():
				dumped = now
				m.log.Error("the coordinator does not answer: it is aborted, and the watchdog is not fed until it has ended", "silent", now.Sub(later(v.last, v.began)).Round(time.Second))
				c.dump()
			case now.Sub(dumped) > dumpMax && !dog.armed():
				// Nothing resets this machine. Where something does, a process that cannot even be aborted is a reason to.
				_ = c.cmd.Process.Kill()
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
