package remote

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/unixsock"
)

func TestAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"http://127.0.0.1:8080": true, "http://127.0.0.1:8080/": true, "127.0.0.1:8080": true, "box.example": true, "[::1]:8080": true,
		"unix:///run/holdfast.sock": true, "unix://run/x": false, "https://a:1": true, "http://": false, "": false,
		"http://a:0": false, "http://a:99999": false, "http://u:p@a:1": false, "http://a:1/api": false, "ftp://a": false, "http://a b": false,
		"https://0123456789abcdef@a:1": true, "https://0123456789abcde@a:1": false, "https://0123456789abcdeg@a:1": false,
		"http://0123456789abcdef@a:1": false, "https://0123456789abcdef:x@a:1": false,
	} {
		_, err := New(address)
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestATokenDoesNotGoOverPlainHTTPToAnotherMachine(t *testing.T) {
	t.Setenv(TokenEnv, "HFT1x")
	for address, good := range map[string]bool{
		"http://192.0.2.1:8080": false, "192.0.2.1:8080": false, "http://box-1.local:8080": false, "http://127.0.0.1:8080": true, "localhost:8080": true, "[::1]:8080": true,
		"https://192.0.2.1:8080": true, "unix:///run/holdfast.sock": true,
	} {
		if b, err := New(address); good != (err == nil) || !good && !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", address, err)
		} else if err == nil {
			b.Close()
		}
	}
}

func TestAConsoleIsKnownByItsKeyOrItsCertificate(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	t.Cleanup(srv.Close)
	sum := sha256.Sum256(srv.Certificate().RawSubjectPublicKeyInfo)
	key, host := hex.EncodeToString(sum[:]), strings.TrimPrefix(srv.URL, "https://")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		address, ca string
		is          error
		says        string
	}{
		{"https://" + key[:16] + "@" + host, "", nil, ""},
		{"https://" + strings.ToUpper(key) + "@" + host, "", nil, ""},
		{"https://" + strings.Repeat("0", 16) + "@" + host, "", ErrStranger, "the key there is that of " + key[:16]},
		{"https://" + key[:63] + "x@" + host, "", ErrAddress, "16 to 64"},
		{"https://" + host, "", ErrUnreachable, "https://ID@host:port"},
		{"https://" + host, ca, nil, ""},
	} {
		t.Setenv(CAEnv, tc.ca)
		b, err := New(tc.address)
		if err == nil {
			_, err = b.Status(t.Context())
			b.Close()
		}
		if !errors.Is(err, tc.is) || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s with %q: %v, want %v that says %q", tc.address, tc.ca, err, tc.is, tc.says)
		}
	}
}

func box(t *testing.T, h http.HandlerFunc) *Box {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	b, err := New(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestErrorsSayWhatHappened(t *testing.T) {
	for _, tc := range []struct {
		name   string
		handle http.HandlerFunc
		is     error
		want   string
	}{
		{"error of the console", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"error":"n must be a number"}`)
		}, ErrRefused, "n must be a number"},
		{"error of something else", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "go\naway", http.StatusBadGateway) }, ErrRefused, "go away"},
		{"not found", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, ErrNotFound, "404"},
		{"not JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, ErrAnswer, "is it a Holdfast console?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := box(t, tc.handle).Status(t.Context())
			if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %v that says %q", err, tc.is, tc.want)
			}
		})
	}
	b, err := New("unix://" + filepath.Join(t.TempDir(), "none.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ready(t.Context()); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "holdfast run") {
		t.Errorf("error %v", err)
	}
}

// A box that takes the connection and says nothing is there: to start one is no advice.
func TestABoxThatDoesNotAnswerInTimeIsNotTakenToBeOff(t *testing.T) {
	b := box(t, func(http.ResponseWriter, *http.Request) {})
	err := b.unreachable(t.Context(), &url.Error{Op: "Get", Err: os.ErrDeadlineExceeded})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "hangs or has too much to do") || strings.Contains(err.Error(), "holdfast run") {
		t.Error(err)
	}
}

func TestKeysTravelWhole(t *testing.T) {
	b := box(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"key":"k","value":"`+strings.TrimPrefix(r.URL.EscapedPath(), "/api/v1/kv/")+`","revision":1}`)
	})
	kv, err := b.Get(t.Context(), "a//b/../c?d e")
	if err != nil || string(kv.Value) != "a%2F%2Fb%2F..%2Fc%3Fd%20e" {
		t.Errorf("%s %v", kv.Value, err)
	}
}

func TestLogIsReadLineByLineOverTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "holdfast.sock")
	l, err := unixsock.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("from") != "2" || r.URL.Query().Has("to") {
			w.WriteHeader(400)
		}
		_, _ = io.WriteString(w, "{\"height\":2,\"messages\":[{\"kind\":\"put\",\"key\":\"0x00\"}]}\n{\"height\":3}\n{\"hei")
	})}}
	srv.Start()
	defer srv.Close()
	b, err := New("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var heights []uint64
	err = b.Log(t.Context(), 2, 0, func(l *api.LogLine) error { heights = append(heights, l.Height); return nil })
	if len(heights) != 2 || !errors.Is(err, ErrAnswer) {
		t.Errorf("heights %v, error %v; want 2 and 3 and that it broke off", heights, err)
	}
}
