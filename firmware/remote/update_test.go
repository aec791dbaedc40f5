package remote

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestABoxThatActsSlowlyIsWaitedFor: the box has a bundle, or an act to decide with its site, and answers only after a question that was put to it
// later was given up.
func TestABoxThatActsSlowlyIsWaitedFor(t *testing.T) {
	for name, ask := range map[string]func(b *Box) error{
		"a bundle": func(b *Box) error {
			got, err := b.Upload(t.Context(), strings.NewReader("bundle"), 6, false)
			if err == nil && got.Version != "1.2.3" {
				err = errors.New(got.Version)
			}
			return err
		},
		"an act": func(b *Box) error { return b.Post(t.Context(), "/api/v1/update/site", nil, nil) },
	} {
		t.Run(name, func(t *testing.T) { waitedFor(t, ask) })
	}
}

func waitedFor(t *testing.T, ask func(b *Box) error) {
	t.Helper()
	taken, gaveUp := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			<-r.Context().Done() // never an answer
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		close(taken)
		<-gaveUp
		_, _ = io.WriteString(w, `{"version":"1.2.3"}`)
	}))
	defer srv.Close()
	b, err := New(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	transport, ok := b.http.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("a transport of type %T", b.http.Transport)
	}
	transport.ResponseHeaderTimeout = 50 * time.Millisecond
	done := make(chan error, 1)
	go func() { done <- ask(b) }()
	<-taken
	if _, err := b.Update(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("what never answers: %v", err)
	}
	close(gaveUp)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
