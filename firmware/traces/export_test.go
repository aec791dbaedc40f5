package traces

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/trace"
)

func exporter(t *testing.T, url, headers string) (*Exporter, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(file, []byte(headers), 0o600); err != nil {
		t.Fatal(err)
	}
	return NewExporter(ExportConfig{URL: url, HeadersFile: file, Logger: slog.New(slog.DiscardHandler)})
}

func TestWhatACollectorRefusesIsDroppedAndWhatItTakesIsCounted(t *testing.T) {
	var code atomic.Int32
	var path atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path.Store(r.URL.Path + " " + r.Header.Get("X-Key"))
		w.WriteHeader(int(code.Load()))
	}))
	defer s.Close()
	e, err := exporter(t, s.URL, "\n# a comment\nx-key: secret\n")
	if err != nil {
		t.Fatal(err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel() // so that what waits is tried once
	for _, c := range []struct {
		code int
		want ExportStats
	}{{200, ExportStats{Sent: 2}}, {400, ExportStats{Sent: 2, Dropped: 2, Failed: 1}}, {503, ExportStats{Sent: 2, Dropped: 4, Failed: 2}}} {
		code.Store(int32(c.code))
		e.Export([]trace.Record{{Trace: trace.ID{1}}})
		e.Export([]trace.Record{{Trace: trace.ID{2}}})
		if err := e.Run(stopped); err != nil || e.Stats() != c.want {
			t.Errorf("%d: %+v, %v", c.code, e.Stats(), err)
		}
	}
	if got := path.Load(); got != "/v1/traces secret" {
		t.Error(got)
	}
	for range exportQueue + 5 {
		e.Export(nil)
	}
	if d := e.Stats().Dropped; d != 4+5 {
		t.Errorf("%d dropped where the queue is too short by 5", d)
	}
}

func TestHeadersThatAreNoneAreRefused(t *testing.T) {
	for _, bad := range []string{"no colon", ": value", "two words: value"} {
		if _, err := exporter(t, "http://localhost", bad); !errors.Is(err, ErrExport) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
