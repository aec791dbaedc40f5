package box

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// What openapi.json describes is served by a whole box; that nothing else is, console.New sees to.
func TestABoxServesEveryRouteThatIsDescribed(t *testing.T) {
	c := newBox(t)
	stop := runBox(t, c)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.Console.Socket)
	}}}
	defer client.CloseIdleConnections()
	ask := func(method, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(`{"no_such_field":""}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if path == "/events" {
			return resp.StatusCode, "" // it does not end by itself
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	_, text := ask("GET", "/api/v1/openapi.json")
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil || len(doc.Paths) < 50 {
		t.Fatalf("%d paths, %v", len(doc.Paths), err)
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			code, text := ask(strings.ToUpper(method), strings.NewReplacer("{", "", "}", "").Replace(path))
			switch {
			case code == http.StatusMethodNotAllowed, strings.Contains(text, "openapi.json lists all"):
				t.Errorf("%s %s is described and not there: %d %s", method, path, code, text)
			case path == "/api/v1/update/upload": // its body is a bundle, not fields
				if code != http.StatusBadRequest {
					t.Errorf("%s took what is no bundle: %d %s", path, code, text)
				}
			case method == "post" && (code != http.StatusBadRequest || !strings.Contains(text, "no_such_field")):
				t.Errorf("%s took a body with a field that is not described: %d %s", path, code, text)
			}
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
