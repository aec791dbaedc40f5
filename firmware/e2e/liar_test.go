package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// withLiar is a site whose box 3 is a liar's (tools/chaos/liarbox), honest until it is told otherwise.
type withLiar struct {
	*liveSite
	dirs     []string
	boxes    []*exec.Cmd
	liar     string // its id
	password string // of the first operator
}

func newSiteWithLiar(t *testing.T, kinds string) *withLiar {
	t.Helper()
	s := &withLiar{liveSite: newSite(t)}
	liarbox := filepath.Join(t.TempDir(), "liarbox")
	if out, err := exec.Command("go", "build", "-o", liarbox, "../../tools/chaos/liarbox").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	s.start() // founds it
	for _, b := range s.ready().Boxes {
		s.dirs = append(s.dirs, b.Dir)
	}
	s.liar, s.password = s.ready().Boxes[3].ID, s.ready().Password
	s.stop()
	for i, dir := range s.dirs {
		cmd := exec.Command(s.program, "run", "--config", "holdfast.toml")
		if i == 3 {
			cmd = exec.Command(liarbox, "-kind", kinds, "-config", "holdfast.toml")
		}
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, s.log, s.log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.boxes = append(s.boxes, cmd)
	}
	t.Cleanup(func() {
		for _, b := range s.boxes {
			_ = b.Process.Kill()
			_ = b.Wait()
		}
	})
	return s
}

func (s *withLiar) socket(i int) string { return "unix://" + filepath.Join(s.dirs[i], "holdfast.sock") }

// puts orders something through each box.
func (s *withLiar) puts(n int) {
	s.t.Helper()
	for k := range n {
		s.await("a put", func() error {
			_, err := s.run("kv", "put", "k"+strconv.Itoa(k), "v", "--addr", s.socket(k%3))
			return err
		})
	}
}

// trusts is what box i thinks of box 3.
func (s *withLiar) trusts(i int) (v site.TrustView, err error) {
	out, err := s.run("trust", "show", "box-3", "--json", "--addr", s.socket(i))
	if err == nil {
		err = json.Unmarshal(out, &v)
	}
	return v, err
}

func (s *withLiar) evidence(i int) (x coord.Exhibit, err error) {
	out, err := s.run("trust", "evidence", "--json", "--addr", s.socket(i))
	if err == nil {
		err = json.Unmarshal(out, &x)
	}
	return x, err
}

// Two votes that exclude each other convict: a file of them is checked without any box, the removal is proposed, and operators approve it.
func TestABoxThatVotesTwiceIsProvedAndExpelledWhenOperatorsApprove(t *testing.T) {
	s := newSiteWithLiar(t, "double")
	s.puts(3)
	if err := s.boxes[3].Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	holder := -1
	s.await("an honest box has evidence", func() error {
		s.puts(3)
		for i := range 3 {
			if x, err := s.evidence(i); err == nil && len(x.Findings) > 0 {
				holder = i
				return nil
			}
		}
		return errors.New("nobody has any")
	})
	file := filepath.Join(t.TempDir(), "evidence.json")
	if _, err := s.run("trust", "evidence", "--out", file, "--addr", s.socket(holder)); err != nil {
		t.Fatal(err)
	}
	out, err := s.run("trust", "evidence", "verify", file, "--site", filepath.Join(s.dirs[holder], "site.json"))
	if err != nil || !strings.Contains(string(out), "PROVEN") || strings.Contains(string(out), "NOT PROVEN") {
		t.Errorf("%v: %s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var x coord.Exhibit
	if err := json.Unmarshal(text, &x); err != nil {
		t.Fatal(err)
	}
	liar := x.Findings[0].Box
	for i := range x.Findings {
		if x.Findings[i].Box != liar || x.Findings[i].Name != "box-3" {
			t.Errorf("box %v (%s) is convicted", x.Findings[i].Box, x.Findings[i].Name)
		}
	}
	// What is changed proves nothing.
	x.Findings[0].A.Sig[9] ^= 1
	if text, err = json.Marshal(x); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := s.run("trust", "evidence", "verify", file); err == nil {
		t.Errorf("a changed proof is accepted: %s", out)
	}
	s.await("the proof is in the audit log", func() error {
		out, err := s.run("audit", "list", "--json", "--action", "trust.evidence", "--addr", s.socket(holder))
		if err == nil && !strings.Contains(string(out), "box:"+liar.String()) {
			err = fmt.Errorf("it has %q", out)
		}
		return err
	})
	s.await("the removal is proposed", func() error {
		log, err := os.ReadFile(s.log.Name())
		if err == nil && !strings.Contains(string(log), "its expulsion is proposed and waits") {
			err = errors.New("no box says so")
		}
		return err
	})

	// Proof alone expels nobody here: operators do, on as many boxes as a quorum needs beside the one that proposed.
	var id string
	for i := range 3 {
		s.await("the decision is open", func() error {
			d, err := s.decisions(i)
			if err == nil && len(d.Open) != 1 {
				err = fmt.Errorf("%+v", d)
			}
			if err != nil {
				return err
			}
			if o := d.Open[0]; o.Kind != "member.remove" || len(o.Yes) != 1 || o.Needed != 3 {
				t.Fatalf("box %d: %+v", i, o)
			}
			id = d.Open[0].ID.String()
			return nil
		})
	}
	for i := range 3 {
		// That of the box that proposed is no new word.
		if out, err := s.run("decision", "approve", id, "--addr", s.socket(i)); err != nil {
			t.Logf("box %d: %s %v", i, out, err)
		}
	}
	s.expelled(s.liar)
}

// Bad signatures are no proof of a lie, for nobody can show who made them: they are a suspicion.
func TestABoxThatSignsBadlyIsSuspectedAndDoesNotLead(t *testing.T) {
	s := newSiteWithLiar(t, "badsig")
	s.puts(3)
	if err := s.boxes[3].Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	s.await("all others suspect it, and it is set aside", func() error {
		s.puts(3)
		for i := range 3 {
			v, err := s.trusts(i)
			if err != nil {
				return err
			}
			if v.Level != suspicion.Suspect || v.Why[0].Reason != suspicion.BadSignature || !v.Aside || len(v.SuspectedBy) < 2 {
				return fmt.Errorf("box %d thinks %+v", i, v)
			}
		}
		return nil
	})
	var st api.Status
	out, err := s.run("status", "--json", "--addr", s.socket(0))
	if err == nil {
		err = json.Unmarshal(out, &st)
	}
	if err != nil || !strings.Contains(st.Verdict, "The site works") || !strings.Contains(st.Verdict, "Look at box-3: bad signatures.") {
		t.Errorf("%v: %q", err, st.Verdict)
	}
	out, err = s.run("trust", "list", "--addr", s.socket(1))
	if err != nil || !strings.Contains(string(out), "bad signatures") {
		t.Errorf("%v:\n%s", err, out)
	}
	s.await("the suspicion is in the audit log", func() error {
		out, err := s.run("audit", "list", "--json", "--action", "trust.suspect", "--addr", s.socket(0))
		if err == nil && !strings.Contains(string(out), "bad signatures") {
			err = fmt.Errorf("it has %q", out)
		}
		return err
	})
	for i := range 3 {
		if x, err := s.evidence(i); err != nil || len(x.Findings) > 0 {
			t.Errorf("box %d has evidence %v, %v", i, x.Findings, err)
		}
	}
}
