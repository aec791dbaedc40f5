package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

const (
	// eventEvery is how often the page changes: what a person can follow.
	eventEvery = time.Second
	// quietEventsMax is after how many ticks without a change a comment is sent, so that a
	// connection that is gone is noticed: 15 s, as proxies and phones drop idle ones after 30.
	quietEventsMax = 15
	// eventTimeMax is how long a reader may take for one event before it is cut off.
	eventTimeMax = 5 * time.Second
	// reconnectAfter tells the browser when to come back.
	reconnectAfter = 2 * time.Second
)

// events streams the sections of the page that have changed, as server-sent events (HTML
// Standard, 9.2) named "sections": a JSON object of element ids and their HTML. The first event
// has all. A stream ends when its reader or the server goes, or its reader is too slow.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		plainText(w, http.StatusServiceUnavailable, "too many open pages; close one")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	err := c.stream(r.Context(), w, func() bool { return c.cfg.ViewOpen || c.still(r, actionView) })
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.cfg.Logger.Debug("event stream ended", "err", err)
	}
}

// stream ends when its reader may not look any more.
func (c *Console) stream(ctx context.Context, w http.ResponseWriter, allowed func() bool) error {
	control := http.NewResponseController(w)
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	shown, quiet := map[string]string{}, 0
	for first := true; allowed(); first = false {
		text, err := c.change(shown)
		if err != nil {
			return err
		}
		quiet++
		if text == "" && quiet >= quietEventsMax {
			text = ":\n\n"
		}
		if first {
			text = fmt.Sprintf("retry: %d\n%s", reconnectAfter.Milliseconds(), text)
		}
		if text != "" {
			quiet = 0
			if err := control.SetWriteDeadline(time.Now().Add(eventTimeMax)); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
			if _, err := w.Write([]byte(text)); err != nil {
				return err
			}
			if err := control.Flush(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// change is the event that brings a page from shown to now, and updates shown; "" if nothing changed.
func (c *Console) change(shown map[string]string) (string, error) {
	sections, err := c.sections(c.pageData())
	if err != nil {
		return "", err
	}
	changed := map[string]string{}
	for _, s := range sections {
		if html := string(s.HTML); shown[s.ID] != html {
			shown[s.ID], changed[s.ID] = html, html
		}
	}
	if len(changed) == 0 {
		return "", nil
	}
	data, err := json.Marshal(changed) // one line: JSON escapes newlines
	if err != nil {
		return "", err
	}
	return "event: sections\ndata: " + string(data) + "\n\n", nil
}
