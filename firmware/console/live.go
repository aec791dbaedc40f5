package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/crowd"
)

const (
	// eventEvery is how often a page changes: what a person can follow.
	eventEvery = time.Second
	// quietEventsMax is after how many ticks without a change a comment is sent, so that a
	// connection that is gone is noticed: 15 s, as proxies and phones drop idle ones after 30.
	quietEventsMax = 15
	// eventTimeMax is how long a reader may take for one event before it is cut off.
	eventTimeMax = 5 * time.Second
	// reconnectAfter tells the browser when to come back.
	reconnectAfter = 2 * time.Second
	// streamsMax is how many event streams there are at one time, and streamsOfSourceMax how many one address may have: an office
	// behind one address is served, and still leaves room for who comes from elsewhere.
	streamsMax, streamsOfSourceMax = 256, 208
	// pageTextMax bounds the address of the page that a stream is of.
	pageTextMax = 2 << 10
)

// boards are the pages that are looked at by streams: each is rendered once a tick, however many look at it with the same rights.
type boards struct {
	mu      sync.Mutex
	byKey   map[string]*board
	sources map[string]int // open streams by address
	streams int
}

// board is a page as its viewers have it.
type board struct {
	key     string
	viewers int // guarded by boards.mu

	mu       sync.Mutex
	at       time.Time
	err      error
	sections []sent
	change   uint64 // counts changes of sections
}

// sent is a section as it is sent: "id":"html" in JSON.
type sent struct {
	html, text string
	change     uint64 // the board's, when it changed last
}

func newBoards() *boards { return &boards{byKey: map[string]*board{}, sources: map[string]int{}} }

// enter counts a stream from a source; false: there are too many.
func (b *boards) enter(source string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streams >= streamsMax || b.sources[source] >= streamsOfSourceMax {
		return false
	}
	b.streams++
	b.sources[source]++
	return true
}

func (b *boards) leave(source string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams--
	if b.sources[source]--; b.sources[source] == 0 {
		delete(b.sources, source)
	}
}

// hold gives the board of a key to one more viewer.
func (b *boards) hold(key string) *board {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.byKey[key]
	if x == nil {
		x = &board{key: key}
		b.byKey[key] = x
	}
	x.viewers++
	return x
}

func (b *boards) drop(x *board) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x.viewers--; x.viewers == 0 {
		delete(b.byKey, x.key)
	}
}

// since gives what changed after a change, as the body of a JSON object, and the last change. It renders when what it has is old.
func (x *board) since(change uint64, render func() ([]section, error)) (string, uint64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if now := time.Now(); x.at.IsZero() || now.Sub(x.at) >= eventEvery*9/10 { // tickers of viewers are not quite even
		x.at = now
		list, err := render()
		if x.err = err; err == nil {
			x.err = x.update(list)
		}
	}
	if x.err != nil {
		return "", change, x.err
	}
	var parts []string
	for i := range x.sections {
		if x.sections[i].change > change {
			parts = append(parts, x.sections[i].text)
		}
	}
	return strings.Join(parts, ","), x.change, nil
}

func (x *board) update(list []section) error {
	if x.sections == nil {
		x.sections = make([]sent, len(list))
	}
	changed := false
	for i, s := range list {
		html := string(s.HTML)
		old := &x.sections[i]
		if old.change > 0 && old.html == html {
			continue
		}
		id, err := json.Marshal(s.ID)
		if err != nil {
			return err
		}
		text, err := json.Marshal(html) // one line: JSON escapes newlines
		if err != nil {
			return err
		}
		*old = sent{html, string(id) + ":" + string(text), x.change + 1}
		changed = true
	}
	if changed {
		x.change++
	}
	return nil
}

// events streams the changes of the page that the query names, as server-sent events (HTML Standard, 9.2): "hello" with the
// script's name, so that a page from before an update loads itself again; then "sections", JSON objects of element ids and their HTML.
// The first has all. A stream ends when its reader or the server goes, its reader is too slow, or may not look any more.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	text := first(r.URL.Query().Get("page"), "/")
	u, err := url.ParseRequestURI(text)
	if err != nil || len(text) > pageTextMax || localPath(text) != text {
		plainText(w, http.StatusBadRequest, "page must be the path of a page and its query")
		return
	}
	of := r.Clone(r.Context())
	of.URL, of.RequestURI = u, text
	c.looks.ServeHTTP(w, of)
}

func (c *Console) serveEvents(w http.ResponseWriter, r *http.Request, p *page) {
	if !p.live {
		plainText(w, http.StatusNotFound, "this page does not change by itself")
		return
	}
	source := crowd.Source(r.RemoteAddr)
	if !c.boards.enter(source) {
		w.Header().Set("Retry-After", "10")
		plainText(w, http.StatusServiceUnavailable, "too many open pages; close one")
		return
	}
	defer c.boards.leave(source)
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	err := c.stream(w, r, p)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.cfg.Logger.Debug("event stream ended", "page", p.name, "err", err)
	}
}

func (c *Console) stream(w http.ResponseWriter, r *http.Request, p *page) error {
	x, _ := c.caller(r, first(p.action, actionView), "") // let has let it in
	l := c.lookOf(p, r, x)
	key := c.boardKey(p, l)
	b := c.boards.hold(key)
	defer func() { c.boards.drop(b) }()
	csrf := ""
	if l.caller.Session != nil {
		csrf = l.caller.Session.CSRF()
	}
	control := http.NewResponseController(w)
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	head := fmt.Sprintf("retry: %d\nevent: hello\ndata: %q\n\n", reconnectAfter.Milliseconds(), c.assets.Script)
	var seen uint64
	for quiet := 0; c.open(p.action) || c.still(r, first(p.action, actionView)); {
		if again := c.lookOf(p, r, l.caller); c.boardKey(p, again) != key { // rights have changed
			key, l, seen = c.boardKey(p, again), again, 0
			c.boards.drop(b)
			b = c.boards.hold(key)
		}
		body, change, err := b.since(seen, func() ([]section, error) { return c.render(p, l) })
		if err != nil {
			return err
		}
		text := head
		if head, seen = "", change; body != "" {
			text += "event: sections\ndata: {" + strings.ReplaceAll(body, c.mark, csrf) + "}\n\n"
		}
		if quiet++; text == "" && quiet >= quietEventsMax {
			text = ":\n\n"
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
		case <-r.Context().Done():
			return r.Context().Err()
		case <-tick.C:
		}
	}
	return nil
}

// boardKey is the same for looks that see the same.
func (c *Console) boardKey(p *page, l *look) string {
	var key strings.Builder
	key.WriteString(l.request.URL.RequestURI())
	for _, a := range p.acts {
		if l.can[a] {
			key.WriteString("\x00" + a)
		}
	}
	for _, s := range p.sections {
		if l.hidden[s.id] {
			key.WriteString("\x00-" + s.id)
		}
	}
	if p.share >= byPrincipal {
		key.WriteString("\x00" + l.caller.Principal)
	}
	if p.share == bySession && l.caller.Session != nil {
		key.WriteString("\x00" + l.caller.Session.ID)
	}
	return key.String()
}
