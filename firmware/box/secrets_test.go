package box

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/setupcode"
	"github.com/holdfast-edge/holdfast/firmware/unixsock"
)

// heardLog is a log that many goroutines write to.
type heardLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heardLog) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heardLog) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// asker posts JSON and gives the answer.
type asker struct {
	t    *testing.T
	http *http.Client
	base string
}

func (a *asker) post(path string, fields map[string]string, header ...string) (int, string) {
	a.t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.base+path, bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return a.answer(r)
}

func (a *asker) get(path string, header ...string) (int, string) {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.base+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return a.answer(r)
}

func (a *asker) answer(r *http.Request) (int, string) {
	a.t.Helper()
	resp, err := a.http.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Whatever is entered, wrongly or rightly, comes up in no log line, however much is logged, and in no audit record.
func TestNoSecretIsEverLogged(t *testing.T) {
	const (
		password, wrongPassword = "a-password-of-ann-19", "a-wrong-password-28"
		bearer, nativeToken     = "hf1.bearer-token-that-is-none", "hf1.native-token-37"
		passphrase, wrongPhrase = "the-passphrase-of-the-disk-46", "another-passphrase-55"
		setupGuess, newPassword = "ABCD-EFGH-IJKL-MNOP", "a-newer-password-64"
		value                   = "a-value-that-a-client-wrote-73"
	)
	secrets := []string{password, wrongPassword, bearer, nativeToken, passphrase, wrongPhrase, setupGuess, newPassword, value}
	c := newBox(t)
	c.Console.Listen = freeAddress(t)
	log := new(heardLog)
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))

	// The wrong passphrase first: it must not start, and not say what it was told.
	passphraseIn(t, c, passphrase)
	stop := runHeard(t, c, logger)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	wrong := *c
	passphraseIn(t, &wrong, wrongPhrase)
	if err := Run(t.Context(), Options{Config: &wrong, Version: "test", Logger: logger}); err == nil || strings.Contains(err.Error(), wrongPhrase) {
		t.Fatalf("the wrong passphrase: %v", err)
	} else {
		logger.Error("as the command line says it", "err", err)
	}
	stop = runHeard(t, c, logger)
	setup, err := setupcode.Of(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, setup)

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	page := &asker{t, &http.Client{Jar: jar, Timeout: 20 * time.Second}, "http://" + c.Console.Listen}
	if code, text := page.post("/api/v1/setup", map[string]string{"code": setupGuess, "name": "bob", "password": newPassword}); code != http.StatusForbidden {
		t.Errorf("a guessed setup code: %d %s", code, text)
	}
	// People type the code where the name belongs, too.
	if code, text := page.post("/api/v1/setup", map[string]string{"code": "ann", "name": setup, "password": password}); code == http.StatusOK {
		t.Errorf("a setup code as a name: %d %s", code, text)
	}
	if code, text := page.post("/api/v1/setup", map[string]string{"code": setup, "name": "ann", "password": password}); code != http.StatusOK {
		t.Fatalf("the right setup code: %d %s", code, text)
	}
	if code, text := page.post("/api/v1/login", map[string]string{"name": "ann", "password": wrongPassword}); code != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d %s", code, text)
	}
	// People type their password where the name belongs.
	page.post("/api/v1/login", map[string]string{"name": wrongPassword, "password": "ann"})
	code, answer := page.post("/api/v1/login", map[string]string{"name": "ann", "password": password})
	if code != http.StatusOK {
		t.Fatalf("the right password: %d %s", code, answer)
	}
	var entry struct {
		CSRF string `json:"csrf"`
	}
	if err := json.Unmarshal([]byte(answer), &entry); err != nil || entry.CSRF == "" {
		t.Fatalf("%s: %v", answer, err)
	}
	secrets = append(secrets, entry.CSRF)
	r, err := http.NewRequest(http.MethodGet, page.base, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range jar.Cookies(r.URL) {
		secrets = append(secrets, k.Value)
	}
	page.get("/api/v1/status")
	page.get("/api/v1/status", "Authorization", "Bearer "+bearer)
	page.get("/api/v1/kv/key?token="+bearer, "Cookie", "holdfast-session="+bearer)
	page.post("/api/v1/operators/add", map[string]string{"name": "bob", "password": newPassword}, "X-CSRF-Token", entry.CSRF)
	page.post("/api/v1/password", map[string]string{"old": password, "password": newPassword}, "X-CSRF-Token", entry.CSRF)

	// At the box itself: a join token, whose secret is in the answer and nowhere else.
	own := &asker{t, &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return unixsock.Dial(ctx, c.Console.Socket) },
	}}, "http://localhost"}
	code, answer = own.post("/api/v1/site/join-token", map[string]string{"name": "new-box"})
	var made struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(answer), &made); code != http.StatusOK || err != nil || made.Token == "" {
		t.Fatalf("a join token: %d %s", code, answer)
	}
	secrets = append(secrets, made.Token[strings.LastIndexByte(made.Token, ':')+1:])
	// And a token of ann's, issued with her password: what follows the point is the token.
	code, answer = own.post("/api/v1/access/token", map[string]string{"operator": "ann", "password": newPassword, "actions": "kv.get", "resources": "*"})
	if err := json.Unmarshal([]byte(answer), &made); code != http.StatusOK || err != nil || !strings.HasPrefix(made.Token, "hf1.") {
		t.Fatalf("a token: %d %s", code, answer)
	}
	secrets = append(secrets, made.Token[len("hf1."):], made.Token[len(made.Token)-24:])

	// A program with a token that is none, and a value.
	cl := dial(t, c, "unix://"+c.Native.Socket, coord.BoxID{})
	if _, err := cl.Put(t.Context(), []byte("key"), []byte(value)); err != nil {
		t.Fatal(err)
	}
	closeClient(t, cl)
	e, err := client.ParseEndpoint("unix://"+c.Native.Socket, coord.BoxID{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if cl, err := client.Dial(ctx, client.Config{Endpoints: []client.Endpoint{e}, Token: []byte(nativeToken)}); err == nil {
		_ = cl.Close(ctx)
	}

	_, records := own.get("/api/v1/audit")
	if !strings.Contains(records, "auth.login") {
		t.Errorf("the audit log has no login: %s", records)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	slices.Sort(secrets)
	for _, s := range slices.Compact(secrets) {
		if len(s) < 8 {
			t.Errorf("%q is too short to be looked for", s)
		}
		if i := strings.Index(log.String(), s); i >= 0 {
			t.Errorf("the log has %q: %s", s, around(log.String(), i))
		}
		if i := strings.Index(records, s); i >= 0 {
			t.Errorf("the audit log has %q: %s", s, around(records, i))
		}
	}
	if n := strings.Count(log.String(), "level=DEBUG"); testing.Verbose() {
		t.Logf("%d lines, %d of them for debugging; %d secrets", strings.Count(log.String(), "\n"), n, len(secrets))
	}
	// The files that others than root may read, too.
	for _, name := range []string{"site.json", "holdfast.toml"} {
		if data, err := os.ReadFile(filepath.Join(c.DataDir, name)); err == nil && bytes.Contains(data, []byte(passphrase)) {
			t.Errorf("%s has the passphrase", name)
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}

func around(text string, i int) string { return text[max(i-120, 0):min(i+80, len(text))] }

// runHeard is runBox with a log.
func runHeard(t *testing.T, c *config.Config, log *slog.Logger) (stop func() error) {
	t.Helper()
	o := silent(c)
	o.Logger = log
	return serving(t, o)
}
