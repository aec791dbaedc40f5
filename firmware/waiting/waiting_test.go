package waiting

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	code  = "ABCD-EFGH-IJKL-MN23"
	token = "HF1" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + "::" + "0123456789abcdef" + ":" + "00112233445566778899aabbccddeeff"
)

// rig is a desk whose errands the test ends.
type rig struct {
	*Desk
	t  *testing.T
	mu sync.Mutex
	// wishes are those that were begun; end ends the one that runs.
	wishes []Wish
	end    chan error
}

func newRig(t *testing.T, change ...func(*Config)) *rig {
	r := &rig{t: t, end: make(chan error)}
	cfg := Config{
		ID: coord.BoxID{1}, Box: coord.Member{Name: "box-1", Peer: "192.0.2.1:7400"}, Todo: "do something", Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		Code: func() (string, error) { return code, nil },
		Do: func(w Wish) Errand {
			return func(ctx context.Context, tell func(string)) error {
				r.mu.Lock()
				r.wishes = append(r.wishes, w)
				r.mu.Unlock()
				tell("solving a <puzzle>")
				select {
				case err := <-r.end:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	r.Desk = New(cfg)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx, nil)
	}()
	t.Cleanup(func() { stop(); <-ended })
	return r
}

func (r *rig) do(method, path string, fields url.Values, header ...string) (int, string) {
	q := httptest.NewRequest(method, path, strings.NewReader(fields.Encode()))
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, q)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return w.Code, string(b)
}

func form(more ...string) url.Values {
	v := url.Values{"code": {"abcd efgh ijkl mn23"}, "token": {token}, "servers": {"192.0.2.9"}, "name": {"box-1"}, "peer": {"192.0.2.1:7400"}}
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v
}

func (r *rig) state() (s State) {
	_, text := r.do("GET", "/api/v1/waiting", nil)
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func TestWithTheSetupCodeABoxJoinsAndThePageSaysHowFarItIsAndWhatWentWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if c, text := r.do("GET", "/", nil); c != 200 || !strings.Contains(text, `value="192.0.2.1:7400"`) || strings.Contains(text, "refresh") {
			t.Errorf("%d %s", c, text)
		}
		if c, text := r.do("POST", "/join", form("servers", "", "token", "  holdfast site join "+token+" --server 192.0.2.9:7501,192.0.2.10 --server=192.0.2.11:1\n")); c != http.StatusSeeOther {
			t.Fatalf("%d %s", c, text)
		}
		synctest.Wait()
		if len(r.wishes) != 1 || !strings.HasPrefix(r.wishes[0].Token.String(), token[:11]) || !slices.Equal(r.wishes[0].Servers, []string{"192.0.2.9:7501", "192.0.2.10:7500", "192.0.2.11:1"}) {
			t.Fatalf("%+v", r.wishes)
		}
		if s := r.state(); s.Doing != "joining a site" || s.Progress != "solving a <puzzle>" {
			t.Errorf("%+v", s)
		}
		if _, text := r.do("GET", "/", nil); !strings.Contains(text, `content="2;url=/"`) || !strings.Contains(text, "solving a &lt;puzzle&gt;") || strings.Contains(text, token) {
			t.Error(text)
		}
		r.end <- errors.New("the token is <used>")
		synctest.Wait()
		if _, text := r.do("GET", "/", nil); !strings.Contains(text, "the token is &lt;used&gt;") || strings.Contains(text, "refresh") {
			t.Error(text)
		}
		// A second try in place of a first one that hangs; then it works.
		for range 2 {
			r.do("POST", "/found", form())
			synctest.Wait()
		}
		if len(r.wishes) != 3 || r.wishes[2].Token != nil || r.wishes[2].Box.Name != "box-1" || r.state().Failed != "" {
			t.Fatalf("%+v, %+v", r.wishes, r.state())
		}
		r.end <- nil
		synctest.Wait()
		left := make(chan struct{})
		go func() { r.Leave(t.Context()); close(left) }()
		synctest.Wait()
		select {
		case <-left:
			t.Error("it left while somebody looked")
		default:
		}
		if _, text := r.do("GET", "/", nil); !strings.Contains(text, "This box is in a site now") || !strings.Contains(text, "refresh") {
			t.Error(text)
		}
		<-left
	})
}

func TestNobodyIsWaitedForWhoDoesNotLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		began := time.Now()
		r.Leave(t.Context())
		r.do("GET", "/", nil)
		time.Sleep(lookedFor)
		r.Leave(t.Context())
		if d := time.Since(began); d != lookedFor {
			t.Errorf("%v", d)
		}
	})
}

func TestStopEndsWhatIsUnderWayAndAnErrandOfTheConfigurationIsShownToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put(&errand{"joining as the configuration says", r.cfg.Do(Wish{})})
		synctest.Wait()
		if s := r.state(); s.Doing != "joining as the configuration says" {
			t.Errorf("%+v", s)
		}
		if c, _ := r.do("POST", "/stop", form("code", "wrong")); c != http.StatusForbidden || r.state().Doing == "" {
			t.Errorf("%d", c)
		}
		if c, _ := r.do("POST", "/stop", form()); c != http.StatusSeeOther {
			t.Errorf("%d", c)
		}
		synctest.Wait()
		if s := r.state(); s.Doing != "" || s.Failed != "" {
			t.Errorf("%+v", s)
		}
	})
}

func TestWithoutTheCodeNothingHappensAndGuessingIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range guessBurst {
			if c, text := r.do("POST", "/join", form("code", "ABCD-EFGH-IJKL-MN24")); c != http.StatusForbidden || !strings.Contains(text, "serial console") || strings.Contains(text, token) {
				t.Fatalf("try %d: %d %s", i, c, text)
			}
		}
		if c, text := r.do("POST", "/join", form()); c != http.StatusTooManyRequests || !strings.Contains(text, "wait 10s") {
			t.Errorf("%d %s", c, text)
		}
		time.Sleep(guessEvery)
		if c, _ := r.do("POST", "/join", form()); c != http.StatusSeeOther {
			t.Errorf("after a wait: %d", c)
		}
		synctest.Wait()
		if len(r.wishes) != 1 {
			t.Errorf("%+v", r.wishes)
		}
	})
}

func TestWhatIsMissingIsSaidAndWhatWasTypedStays(t *testing.T) {
	for name, c := range map[string]struct {
		fields url.Values
		says   string
	}{
		"no token":      {form("token", ""), "paste the token"},
		"half a token":  {form("token", token[:60]), "token"},
		"no server":     {form("servers", " , "), "name the address of a box"},
		"no port":       {form("peer", "192.0.2.1"), "HOST:PORT"},
		"many servers":  {form("servers", strings.Repeat("a ", 100)), "at most 32"},
		"a large form":  {form("token", strings.Repeat("x", 2*formBytesMax)), ""},
		"odd addresses": {form("servers", "\"><script>", "token", "x"), "paste the token"},
	} {
		r := newRig(t)
		code, text := r.do("POST", "/join", c.fields)
		if code != http.StatusBadRequest && code != http.StatusForbidden || !strings.Contains(text, c.says) || strings.Contains(text, "<script>") {
			t.Errorf("%s: %d %s", name, code, text)
		}
		if len(r.wishes) != 0 {
			t.Errorf("%s: it was begun", name)
		}
	}
}

func TestABoxThatHasBeenInASiteJoinsNoOther(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Closed = true })
	if _, text := r.do("GET", "/", nil); strings.Contains(text, `action="/join"`) || !strings.Contains(text, "do something") {
		t.Error(text)
	}
	for _, path := range []string{"/join", "/found"} {
		if code, _ := r.do("POST", path, form()); code != http.StatusConflict {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestPagesOfOtherSitesCannotAct(t *testing.T) {
	r := newRig(t)
	if code, _ := r.do("POST", "/found", form(), "Sec-Fetch-Site", "cross-site"); code != http.StatusForbidden {
		t.Errorf("%d", code)
	}
}

func FuzzAFormIsReadOrRefused(f *testing.F) {
	f.Add(token, "192.0.2.1", "", "")
	f.Add("--server --server= HF1", "[::1] [::1]:1 a:b:c", "x", "host:1")
	f.Fuzz(func(t *testing.T, pasted, servers, name, peer string) {
		w, err := readWish(false, func(n string) string {
			return map[string]string{"token": pasted, "servers": servers, "name": name, "peer": peer}[n]
		})
		if err == nil && (w.Token == nil || len(w.Servers) == 0 || slices.Contains(w.Servers, "")) {
			t.Errorf("%+v", w)
		}
	})
}
