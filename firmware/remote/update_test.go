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

// TestABoxThatIsSlowWithABundleIsWaitedFor: the box has all of it, and answers only after a question that was put to it later was given up.
func TestABoxThatIsSlowWithABundleIsWaitedFor(t *testing.T) {
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
	go func() {
		got, err := b.Upload(t.Context(), strings.NewReader("bundle"), 6, false)
		if err == nil && got.Version != "1.2.3" {
			err = errors.New(got.Version)
		}
		done <- err
	}()
	<-taken
	if _, err := b.Update(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("what never answers: %v", err)
	}
	close(gaveUp)
	if err := <-done; err != nil {
		t.Errorf("the bundle: %v", err)
	}
}
