package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// A decision is proposed on one box and waits; all boxes are killed, and it still waits; operators on other boxes approve it, and it takes effect
// everywhere, with a record of it on each box. Another one is refused.
func TestASiteDecidesAboutItself(t *testing.T) {
	s := newSite(t)
	s.start()
	socket := func(i int) string { return "unix://" + filepath.Join(s.ready().Boxes[i].Dir, "holdfast.sock") }
	run := func(box int, args ...string) (string, error) {
		var out, errs bytes.Buffer
		cmd := exec.Command(s.program, append(args, "--addr", socket(box))...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			return out.String(), fmt.Errorf("%w: %s", err, errs.String())
		}
		return out.String(), nil
	}
	must := func(box int, args ...string) string {
		t.Helper()
		out, err := run(box, args...)
		if err != nil {
			t.Fatal(args, err)
		}
		return out
	}
	propose := func(box int, value string) string {
		t.Helper()
		out := must(box, "decision", "propose", "--kind", "setting.change", "--on", "motto", "--reason", "a test", "--set", "setting/motto="+value, "--json")
		var said remote.Said
		if err := json.Unmarshal([]byte(out), &said); err != nil || said.ID == "" || !strings.Contains(said.Waits, "1 of 3 words are there") {
			t.Fatalf("%s: %v", out, err)
		}
		return said.ID
	}
	show := func(box int, id string) (d api.Decision) {
		t.Helper()
		s.await("box "+string(rune('0'+box))+" knows the decision", func() error {
			out, err := run(box, "decision", "show", id, "--json")
			if err != nil {
				return err
			}
			return json.Unmarshal([]byte(out), &d)
		})
		return d
	}

	id := propose(0, "first")
	for i := range 4 {
		if d := show(i, id); d.Open == nil || len(d.Open.Yes) != 1 || d.Open.Needed != 3 || string(d.Documents[0].Next) != "first" || d.Documents[0].Now != nil {
			t.Fatalf("box %d shows %+v", i, d)
		}
	}
	s.killAll()
	s.start()
	if d := show(3, id[:8]); d.Open == nil || len(d.Open.Yes) != 1 {
		t.Fatalf("after the kill: %+v", d)
	}
	s.await("box 1 approves", func() error { _, err := run(1, "decision", "approve", id); return err })
	if out, err := run(0, "decision", "refuse", id); err == nil || !strings.Contains(err.Error(), "cannot be taken back") {
		t.Errorf("a yes is taken back: %s %v", out, err)
	}
	if out := must(3, "decision", "approve", id[:8]); !strings.Contains(out, "took effect") {
		t.Errorf("%s", out)
	}
	for i := range 4 {
		s.await("it took effect everywhere", func() error {
			if d := show(i, id); d.Ended == nil || d.Ended.Outcome != state.TookEffect || len(d.Ended.Yes) != 3 {
				return fmt.Errorf("box %d: %+v", i, d)
			}
			out, err := run(i, "audit", "list", "--action", "decision.effect")
			if err == nil && !strings.Contains(out, id) {
				err = errors.New("no record of it")
			}
			return err
		})
	}
	if out := must(1, "audit", "list", "--action", "decision.approve"); !strings.Contains(out, "operator:root") || !strings.Contains(out, id) {
		t.Errorf("what was approved: %s", out)
	}
	if out, err := run(2, "decision", "approve", id); err == nil || !strings.Contains(err.Error(), "it took effect at height") {
		t.Errorf("too late: %s %v", out, err)
	}

	id = propose(2, "second")
	if d := show(2, id); string(d.Documents[0].Now) != "first" || string(d.Documents[0].Next) != "second" {
		t.Errorf("%+v", d)
	}
	must(0, "decision", "refuse", id)
	if out := must(1, "decision", "refuse", id); !strings.Contains(out, "refused") {
		t.Errorf("%s", out)
	}
	for i := range 4 {
		s.await("it is refused everywhere", func() error {
			if d := show(i, id); d.Ended == nil || d.Ended.Outcome != state.Refused {
				return fmt.Errorf("box %d: %+v", i, d)
			}
			return nil
		})
	}
	if out := must(3, "decision", "list"); !strings.Contains(out, "no decision is open") || !strings.Contains(out, "took effect") || !strings.Contains(out, "refused") {
		t.Errorf("%s", out)
	}
}
