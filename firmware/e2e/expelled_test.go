package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// decisions are those that box i knows.
func (s *withLiar) decisions(i int) (d api.Decisions, err error) {
	out, err := s.run("decision", "list", "--json", "--addr", s.socket(i))
	if err == nil {
		err = json.Unmarshal(out, &d)
	}
	return d, err
}

// expelled waits until the others are a site of three, with a removal that words of theirs made, and the liar says that it is out. What
// was written before is there, and writes go on.
func (s *withLiar) expelled(liar string) {
	s.t.Helper()
	for i := range 3 {
		s.await(fmt.Sprintf("box %d goes on without it", i), func() error {
			out, err := s.run("status", "--json", "--addr", s.socket(i))
			if err != nil {
				return err
			}
			var st api.Status
			if err := json.Unmarshal(out, &st); err != nil || len(st.Members) != 3 || !st.Serving {
				return fmt.Errorf("%d members, serving %v, %w", len(st.Members), st.Serving, err)
			}
			d, err := s.decisions(i)
			if err != nil {
				return err
			}
			for k := range d.Ended {
				e := &d.Ended[k]
				if e.Kind != "member.remove" || e.Outcome != state.TookEffect {
					continue
				}
				if !strings.Contains(e.Subject, liar) || len(e.Yes) != 3 {
					s.t.Errorf("box %d: %s was removed by %v", i, e.Subject, e.Yes)
				}
				return nil
			}
			return errors.New("no removal took effect")
		})
		s.await("it is in the audit log", func() error {
			out, err := s.run("audit", "list", "--action", "site.epoch", "--addr", s.socket(i))
			if err == nil && !strings.Contains(string(out), "allowed") {
				err = fmt.Errorf("box %d: %s", i, out)
			}
			return err
		})
	}
	s.await("the liar says that it is out", func() error {
		out, err := s.run("status", "--json", "--addr", s.socket(3))
		if err != nil {
			return err
		}
		var st struct{ Removed bool }
		if err := json.Unmarshal(out, &st); err != nil || !st.Removed {
			return fmt.Errorf("%s %w", out, err)
		}
		return nil
	})
	s.puts(6)
	for i := range 3 {
		s.await("all is there", func() error {
			box, err := remote.New(s.socket(i))
			if err != nil {
				return err
			}
			defer box.Close()
			for k := range 6 {
				if kv, err := box.Get(s.t.Context(), fmt.Sprintf("k%d", k)); err != nil || string(kv.Value) != "v" {
					return fmt.Errorf("box %d, k%d: %q %w", i, k, kv.Value, err)
				}
			}
			return nil
		})
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/v3/kv/put", s.base+70), strings.NewReader(`{"key":"aw==","value":"dg=="}`))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // it may not even listen
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	s.t.Logf("the liar's answer to a client: %d %s", resp.StatusCode, text)
	if resp.StatusCode == http.StatusOK {
		s.t.Errorf("the liar takes writes: %s", text)
	}
}

// Where the site's setting says so, proof is enough: nobody approves anything.
func TestWhereProofIsEnoughTheBoxThatVotesTwiceIsExpelledByItself(t *testing.T) {
	s := newSiteWithLiar(t, "double")
	s.puts(3)
	admin := s.person(0)
	s.await("the first operator can log in", func() error { return admin.logIn("admin", s.password) })
	if code, text := admin.post("/settings/expulsion", map[string]string{"value": `{"mode":"automatic"}`}); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	site, err := os.ReadFile(filepath.Join(s.dirs[0], "site.json")) // with the liar
	if err != nil {
		t.Fatal(err)
	}
	was := filepath.Join(t.TempDir(), "site.json")
	if err := os.WriteFile(was, site, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.boxes[3].Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	s.await("the site is one of three", func() error {
		s.puts(3)
		out, err := s.run("members", "--json", "--addr", s.socket(1))
		if err != nil {
			return err
		}
		var m struct{ Members []struct{ Name string } }
		if err := json.Unmarshal(out, &m); err != nil || len(m.Members) != 3 {
			return fmt.Errorf("%d members %w", len(m.Members), err)
		}
		return nil
	})
	s.expelled(s.liar)
	for i := range 3 {
		out, err := s.run("audit", "list", "--json", "--action", "decision.approve", "--addr", s.socket(i))
		if err != nil || strings.Contains(string(out), `"principal":"operator:`) {
			t.Errorf("box %d: an operator approved something: %s %v", i, out, err)
		}
		// The proof outlives the liar's membership, and needs no box.
		file := filepath.Join(t.TempDir(), "evidence.json")
		if _, err := s.run("trust", "evidence", "--out", file, "--addr", s.socket(i)); err != nil {
			t.Fatal(err)
		}
		if x, err := s.evidence(i); err != nil || len(x.Findings) == 0 {
			continue // it took the others' word for the proof that the decision carries
		}
		if out, err := s.run("trust", "evidence", "verify", file, "--site", was); err != nil || !strings.Contains(string(out), "PROVEN") || strings.Contains(string(out), "NOT PROVEN") {
			t.Errorf("box %d: %v: %s", i, err, out)
		}
	}
}
