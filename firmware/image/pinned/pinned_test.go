package pinned

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

func TestWhatIsDamagedInTheCacheIsGotAnewAndKeptWithoutANetwork(t *testing.T) {
	const body = "a kernel"
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	sum := sha256.Sum256([]byte(body))
	s := &Store{Dir: t.TempDir()}
	p := Item{Label: "kernel", File: "kernel", URL: server.URL, Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:])}
	get := func() error {
		f, err := s.Fetch(t.Context(), p)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(f)
		if string(b) != body {
			t.Errorf("it is %q", b)
		}
		return errors.Join(err, f.Close())
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Cached(p), []byte("a kernfl"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Offline = true
	if err := get(); !errors.Is(err, ErrHash) || errors.Is(err, ErrOffline) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := os.Stat(s.Cached(p)); err != nil {
		t.Errorf("it was removed, and nothing is there in its place: %v", err)
	}
	s.Offline = false
	if err := errors.Join(get(), get()); err != nil || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}
