package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serve runs the console on a loopback port until the test ends, or stop is called.
func serve(t *testing.T, c *Console, connections int) (url string, stop func() error) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx, time.Second, connections, l) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String(), stop
}

func open(t *testing.T, url string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestEventsSendAllSectionsFirstAndEndWithTheServer(t *testing.T) {
	c := newConsole(t, servingSite())
	url, stop := serve(t, c, 8)
	resp := open(t, url+"/events")
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("content type %q", got)
	}
	lines := bufio.NewScanner(resp.Body)
	sections := map[string]string{}
	for len(sections) == 0 && lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: {"); ok {
			data = "{" + data
			if err := json.Unmarshal([]byte(data), &sections); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, p := range c.pages[0].sections {
		if _, there := sections[p.id]; !there {
			t.Errorf("first event has no %s", p.id)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("stop with an open stream: %v", err)
	}
	for lines.Scan() {
	}
}

func TestEventsEndForWhoMayNotLookAnyMore(t *testing.T) {
	for name, header := range map[string]string{"a session": "", "a token": "Bearer hf1good"} {
		t.Run(name, func(t *testing.T) {
			who := map[bool]string{true: "program:cache", false: "operator:ann"}[header != ""]
			may := map[string]bool{who + " console.view": true}
			c := newGuarded(t, rights{may})
			b := c.browser()
			if header == "" {
				b.setUp(t, "ann")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			r := httptest.NewRequestWithContext(ctx, "GET", "http://127.0.0.1:8080/events", nil)
			if header != "" {
				r.Header.Set("Authorization", header)
			}
			for k, v := range b.cookies {
				r.AddCookie(&http.Cookie{Name: k, Value: v})
			}
			w := &firstWrite{ResponseRecorder: httptest.NewRecorder(), then: func() { may[who+" console.view"] = false }}
			c.Handler().ServeHTTP(w, r)
			if ctx.Err() != nil {
				t.Error("the stream goes on")
			}
			if !strings.Contains(w.Body.String(), "event: sections") {
				t.Errorf("it was never told anything: %d %s", w.Code, w.Body)
			}
		})
	}
}

// firstWrite calls then when something is written.
type firstWrite struct {
	*httptest.ResponseRecorder
	then func()
}

func (w *firstWrite) Write(b []byte) (int, error) {
	w.then()
	return w.ResponseRecorder.Write(b)
}

func TestAHugeHeaderIsRefused(t *testing.T) {
	url, _ := serve(t, newConsole(t, servingSite()), 4)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		r.Header.Set(fmt.Sprintf("X-%d", i), strings.Repeat("a", 1<<10))
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return // closed while we were still writing
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", resp.StatusCode)
	}
}
