package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// person is somebody with a browser.
type person struct {
	t    *testing.T
	s    *liveSite
	box  int
	http http.Client
	csrf string
}

func (s *liveSite) person(box int) *person {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &person{t: s.t, s: s, box: box, http: http.Client{Jar: jar}}
}

// post does something at the console, as JSON.
func (p *person) post(path string, fields map[string]string) (int, string) {
	p.t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.s.console(p.box)+"/api/v1"+path, strings.NewReader(string(body)))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-CSRF-Token", p.csrf)
	resp, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (p *person) logIn(name, password string) error {
	code, text := p.post("/login", map[string]string{"name": name, "password": password})
	if code != http.StatusOK {
		return fmt.Errorf("%d %s", code, text)
	}
	var said struct{ CSRF string }
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		return err
	}
	p.csrf = said.CSRF
	return nil
}

// The first password of a site to try opens every console; what an operator decides at one box all boxes agree to, because the operator signed it; a
// password that was changed at one box is changed at all.
func TestAnOperatorsWordCountsOnAllBoxes(t *testing.T) {
	s := newSite(t)
	s.start()
	first := s.ready().Password
	admin := s.person(1)
	if err := admin.logIn("admin", first); err != nil {
		t.Fatal(err)
	}
	if err := s.person(2).logIn("admin", first+"x"); err == nil {
		t.Error("a wrong password is good")
	}
	if code, text := admin.post("/operators/add", map[string]string{"name": "ann", "role": "viewer", "password": "the first of ann's"}); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, text)
	}
	ann := s.person(3)
	s.await("ann can log in elsewhere", func() error { return ann.logIn("ann", "the first of ann's") })
	if code, text := ann.post("/operators/add", map[string]string{"name": "eve", "password": "the first of eve's"}); code != http.StatusForbidden || !strings.Contains(text, "password") {
		t.Errorf("acts before she chose a password: %d %s", code, text)
	}
	if code, text := ann.post("/password", map[string]string{"old": "the first of ann's", "password": "quite another staple"}); code != http.StatusOK {
		t.Fatalf("password: %d %s", code, text)
	}
	if code, text := ann.post("/operators/add", map[string]string{"name": "eve", "password": "the first of eve's"}); code != http.StatusForbidden || !strings.Contains(text, "operator.add") {
		t.Errorf("a viewer adds an operator: %d %s", code, text)
	}
	s.await("the old password is good no more, anywhere", func() error {
		if err := s.person(0).logIn("ann", "the first of ann's"); err == nil {
			return errors.New("it is good")
		}
		return s.person(0).logIn("ann", "quite another staple")
	})
	if err := admin.logIn("admin", first); err != nil {
		t.Errorf("the founding operator after the first decision: %v", err)
	}
	if code, text := admin.post("/operators/ann/disable", nil); code != http.StatusOK {
		t.Fatalf("disable: %d %s", code, text)
	}
	s.await("ann is out", func() error {
		if err := s.person(2).logIn("ann", "quite another staple"); err == nil {
			return errors.New("she is in")
		}
		return nil
	})
	// Root of one box speaks for that box alone.
	out, err := exec.Command(s.program, "operator", "reset", "admin", "--addr", "unix://"+filepath.Join(s.ready().Boxes[0].Dir, "holdfast.sock")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "waits for the word of other boxes") {
		t.Errorf("%s %v", out, err)
	}
	if err := s.person(0).logIn("admin", first); err != nil {
		t.Errorf("while that waits: %v", err)
	}
}
