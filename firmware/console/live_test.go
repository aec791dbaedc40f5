package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// eyes look at a page as a stream does, a tick at a time.
type eyes struct {
	c    *Console
	p    *page
	l    *look
	seen uint64
}

func newEyes(t *testing.T, c *Console, path string) *eyes {
	t.Helper()
	for _, p := range c.pages {
		if strings.TrimSuffix(p.path, "{$}") == path {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			return &eyes{c: c, p: p, l: c.lookOf(p, r, nil)}
		}
	}
	t.Fatalf("no page at %s", path)
	return nil
}

// next is what a tick brings.
func (e *eyes) next(t *testing.T) string {
	t.Helper()
	b := e.c.boards.hold(e.c.boardKey(e.p, e.l))
	b.at = b.at.Add(-eventEvery)
	text, seen, err := b.since(e.seen, func() ([]section, error) { return e.c.render(e.p, e.l) })
	if err != nil {
		t.Fatal(err)
	}
	e.seen = seen
	return text
}

func TestOnlyWhatChangedIsSentAgain(t *testing.T) {
	s := servingSite()
	e := newEyes(t, newConsole(t, s), "/")
	if text := e.next(t); !strings.Contains(text, `"verdict":`) || !strings.Contains(text, `"members":`) {
		t.Fatalf("first: %q", text)
	}
	if text := e.next(t); text != "" {
		t.Errorf("nothing changed, yet %q is sent", text)
	}
	s.view.Verdict = "All is well."
	if text := e.next(t); !strings.Contains(text, `"verdict":`) || strings.Contains(text, `"members":`) {
		t.Errorf("the verdict changed, sent is %q", text)
	}
}

func TestViewersOfAPageShareItsRendering(t *testing.T) {
	c := newConsole(t, servingSite())
	p, renderings := c.pages[0], 0
	data := p.data
	p.data = func(l *look) (any, error) { renderings++; return data(l) }
	for range 200 {
		e := newEyes(t, c, "/")
		b := c.boards.hold(c.boardKey(e.p, e.l))
		if text, _, err := b.since(0, func() ([]section, error) { return c.render(e.p, e.l) }); err != nil || text == "" {
			t.Fatalf("%q %v", text, err)
		}
	}
	if renderings > 3 { // a slow machine takes more than a tick
		t.Errorf("200 viewers made the console render %d times", renderings)
	}
	if n := len(c.boards.byKey); n != 1 {
		t.Errorf("%d boards for one page", n)
	}
}

func TestWhoMayDifferentThingsDoesNotShare(t *testing.T) {
	c := newConsole(t, servingSite())
	e := newEyes(t, c, "/decisions")
	plain := c.boardKey(e.p, e.l)
	e.l.can["decision.approve"] = true
	if c.boardKey(e.p, e.l) == plain {
		t.Error("who may approve gets the page of who may not")
	}
}

func TestABoardGoesWithItsLastViewer(t *testing.T) {
	b := newBoards()
	one, two := b.hold("x"), b.hold("x")
	b.drop(one)
	if len(b.byKey) != 1 {
		t.Error("it went with a viewer left")
	}
	b.drop(two)
	if len(b.byKey) != 0 {
		t.Error("it stays with nobody looking")
	}
}

func TestStreamsAreBounded(t *testing.T) {
	b := newBoards()
	for range streamsOfSourceMax {
		if !b.enter("192.0.2.1") {
			t.Fatal("a stream was refused")
		}
	}
	if b.enter("192.0.2.1") {
		t.Error("one address has more than its share")
	}
	for i := range streamsMax - streamsOfSourceMax {
		if !b.enter("198.51.100." + string(rune('0'+i%10))) {
			t.Fatal("others are refused while there is room")
		}
	}
	if b.enter("203.0.113.1") {
		t.Error("there are more streams than the console has room for")
	}
	b.leave("192.0.2.1")
	if !b.enter("203.0.113.1") {
		t.Error("a stream that ended is still counted")
	}
}

func TestAStreamTooManyIsToldSo(t *testing.T) {
	c := newConsole(t, servingSite())
	c.boards.streams = streamsMax
	w := get(t, c, "/events?page=/")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestStreamsAreOfPagesOnly(t *testing.T) {
	c := newConsole(t, servingSite())
	for page, code := range map[string]int{
		"/nothing": 404, "//evil.example/": 400, "https://evil.example/": 400, "/metrics": 404, "/healthz": 404, "relative": 400,
		"/" + strings.Repeat("a", pageTextMax): 400,
	} {
		if w := get(t, c, "/events?page="+page); w.Code != code {
			t.Errorf("%.40s: %d, want %d", page, w.Code, code)
		}
	}
}
