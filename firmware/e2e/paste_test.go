package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/waiting"
)

// A site of four boxes comes into being without a command line on any of them but to make tokens: the first is founded on its own console, the
// others join with what is pasted there. Their consoles speak TLS from the first moment on.
func TestASiteIsMadeOnTheConsolesOfItsBoxes(t *testing.T) {
	g := newGrown(t, 4)
	for i := range g.boxes {
		text, err := os.ReadFile(g.config(i))
		if err == nil {
			text = []byte(strings.Replace(string(text), "[console]\n", "[console]\ntls = \"on\"\n", 1))
			err = os.WriteFile(g.config(i), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		g.startBox(i)
	}
	browser := &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, // as a person who looks at the warning
	}
	ask := func(method string, i int, path string, form url.Values) (int, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+g.at(i)+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := browser.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	waits := func(i int) (s waiting.State, err error) {
		_, text, err := ask("GET", i, "/api/v1/waiting", nil)
		if err == nil {
			err = json.Unmarshal([]byte(text), &s)
		}
		return s, err
	}
	post := func(i int, path string, form url.Values, want int) string {
		t.Helper()
		code, text, err := ask("POST", i, path, form)
		if err != nil || code != want {
			t.Fatalf("%s on box %d: %d, %v; want %d: %s", path, i, code, err, want, text)
		}
		return text
	}
	form := func(i int, fields ...string) url.Values {
		code, err := os.ReadFile(filepath.Join(g.dirs[i], "setup.code"))
		if errors.Is(err, os.ErrNotExist) { // it is made when somebody first tries
			post(i, "/stop", url.Values{"code": {"nonsense"}}, http.StatusForbidden)
			code, err = os.ReadFile(filepath.Join(g.dirs[i], "setup.code"))
		}
		if err != nil {
			t.Fatal(err)
		}
		v := url.Values{"code": {string(code)}, "name": {fmt.Sprintf("box-%d", i)}, "peer": {g.at(20 + i)}}
		for j := 0; j+1 < len(fields); j += 2 {
			v.Set(fields[j], fields[j+1])
		}
		return v
	}
	for i := range g.boxes {
		g.await(fmt.Sprintf("box %d waits", i), func() error {
			s, err := waits(i)
			if err == nil && !s.Waiting {
				err = errors.New("it does not wait")
			}
			return err
		})
	}
	post(0, "/found", form(0), http.StatusSeeOther)
	if code, text, err := ask("GET", 0, "/", nil); err == nil && code == http.StatusOK && !strings.Contains(text, "refresh") {
		t.Errorf("the page does not go on by itself: %s", text)
	}
	g.awaitBoxes(0, 1)
	tokens := []string{g.token(), g.token(), g.token()} // with more boxes, others would have to approve them

	// What is refused is refused with its reason, and the box waits on.
	post(1, "/join", form(1, "token", tokens[0][:70], "servers", g.at(69)), http.StatusBadRequest)
	post(1, "/join", form(1, "token", tokens[0], "servers", g.at(22)), http.StatusSeeOther)
	g.await("the page says that this is no joining port", func() error {
		s, err := waits(1)
		if err == nil && !strings.Contains(s.Progress+s.Failed, "joining") {
			err = fmt.Errorf("%+v", s)
		}
		return err
	})
	// The newest wish counts, also while another one is under way.
	for i := 1; i < 4; i++ {
		post(i, "/join", form(i, "token", "holdfast site join "+tokens[i-1]+" --server "+g.at(69)), http.StatusSeeOther)
		g.await("the page says that the box is in", func() error {
			code, text, err := ask("GET", i, "/", nil)
			if err == nil && code == http.StatusOK && strings.Contains(text, "is in no site yet") {
				err = errors.New("it does not say so yet")
			}
			return err
		})
		g.awaitBoxes(0, i+1)
		g.await("its console is the site's", func() error {
			code, text, err := ask("GET", i, "/setup", nil)
			if err == nil && code != http.StatusOK {
				err = errors.New(text)
			}
			return err
		})
	}
	// The first operator is named on a console as well.
	code, err := os.ReadFile(filepath.Join(g.dirs[2], "setup.code"))
	if err != nil {
		t.Fatal(err)
	}
	if status, text, err := ask("POST", 2, "/setup", url.Values{"code": {string(code)}, "name": {"ann"}, "password": {"correct horse battery staple"}, "again": {"correct horse battery staple"}}); err != nil || status != http.StatusSeeOther && status != http.StatusAccepted {
		t.Errorf("%d %v %s", status, err, text)
	}
	if _, err := g.run("kv", "put", "/a", "1", "--addr", g.socket(3)); err != nil {
		t.Error(err)
	}
	var none coord.BoxID
	if s, err := waits(3); err == nil && s.ID != none {
		t.Errorf("it still says that it waits: %+v", s)
	}
}
