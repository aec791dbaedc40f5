package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// run runs a command of the program about the box, over its socket.
func (b *loneBox) run(args ...string) ([]byte, error) {
	var errs bytes.Buffer
	cmd := exec.Command(b.program, append(args, "--addr", b.socket())...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, &errs)
	}
	return out, err
}

// configure adds to the box's configuration.
func (b *loneBox) configure(text string) {
	b.t.Helper()
	f, err := os.OpenFile(filepath.Join(b.dir, "holdfast.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// has compares everything that was written with what the box itself has.
func (b *loneBox) has(n int) error {
	return b.ask(func(r *remote.Box) error {
		for i := range n {
			kv, err := r.Get(b.t.Context(), fmt.Sprintf("n/%06d", i))
			if err != nil || string(kv.Value) != "value" {
				return fmt.Errorf("write %d of %d is %q: %w", i, n, kv.Value, err)
			}
		}
		return nil
	})
}

// TestABoxWithALostDiskIsReplacedUnderWrites: a box loses its power and its disk; operators approve a token for its place, and an empty box with
// a key of its own joins with it while a client writes. No acknowledged write is lost, none fails; the new box counts, as another may now be away;
// and the lost disk, found again, is nobody.
func TestABoxWithALostDiskIsReplacedUnderWrites(t *testing.T) {
	program, root, base := build(t), t.TempDir(), freePorts(t)
	var boxes []*loneBox
	m := &coord.Members{Site: coord.SiteID{4, 5, 6}, Epoch: 1}
	for i := range 4 {
		boxes = append(boxes, newLoneBox(t, program, root, i, base))
		m.List = append(m.List, boxes[i].member)
	}
	server := fmt.Sprintf("127.0.0.1:%d", base+69)
	boxes[0].configure(fmt.Sprintf("[join]\nlisten = %q\n", server))
	for _, b := range boxes {
		if err := trust.SaveMembers(b.dir, m); err != nil {
			t.Fatal(err)
		}
		b.start()
	}
	for _, b := range boxes {
		b.in(1)
	}
	w := writeConstantly(t, boxes[0], boxes[1])
	w.more(boxes[0], 300)
	w.tell("4 boxes, nothing changes")

	lost, stolen := boxes[3], filepath.Join(root, "stolen")
	lost.stop(syscall.SIGKILL)
	if err := os.Rename(lost.dir, stolen); err != nil {
		t.Fatal(err)
	}
	w.more(boxes[0], 200)
	w.tell("a box and its disk are lost")

	here := boxes[:3]
	out, err := here[0].run("site", "join-token", "--replace", "box-3", "--json")
	var made struct{ Token, Waits string }
	if err = errors.Join(err, json.Unmarshal(out, &made)); err != nil || made.Waits == "" {
		t.Fatalf("%s %v", out, err)
	}
	var words sync.WaitGroup
	for _, b := range here[1:] {
		words.Go(func() {
			b.await("approves the token", func() error {
				out, err := b.run("decision", "list", "--json")
				if err != nil {
					return err
				}
				var d api.Decisions
				if err := json.Unmarshal(out, &d); err != nil || len(d.Open) != 1 || d.Open[0].Kind != "join.token" {
					return fmt.Errorf("%s %w", out, err)
				}
				_, err = b.run("decision", "approve", d.Open[0].ID.String())
				return err
			})
		})
	}
	words.Wait()

	// The machine with a new disk: the same addresses, another key.
	fresh := newLoneBox(t, program, root, 3, base)
	if fresh.member.ID == lost.member.ID {
		t.Fatal("it has the lost key")
	}
	fresh.start()
	join := exec.Command(program, "site", "join", made.Token, "--server", server, "--config", filepath.Join(fresh.dir, "holdfast.toml"), "--native", fresh.member.Native, "--json", "--timeout", "60s")
	if out, err := join.CombinedOutput(); err != nil {
		t.Fatalf("%s %v", out, err)
	}
	all := []*loneBox{boxes[0], boxes[1], boxes[2], fresh}
	for _, b := range all {
		b.in(2)
	}
	w.more(boxes[0], 200)
	w.tell("a new box is in its place")
	set, err := trust.LoadMembers(boxes[1].dir)
	if err != nil || set.N() != 4 || set.Index(lost.member.ID) >= 0 || set.Index(fresh.member.ID) != 3 {
		t.Errorf("the list is %+v, %v", set, err)
	}
	if out, err := exec.Command(program, "site", "join", made.Token, "--server", server, "--dir", t.TempDir(), "--name", "box-9", "--peer", fmt.Sprintf("127.0.0.1:%d", base+29), "--timeout", "30s").CombinedOutput(); err == nil || !strings.Contains(string(out), "used") {
		t.Errorf("the token is good a second time: %s %v", out, err)
	}

	// The new box counts: without it three of four would be too few here.
	boxes[2].stop(syscall.SIGKILL)
	w.more(boxes[0], 200)
	w.tell("another box is away")
	boxes[2].start()
	boxes[2].in(2)
	w.stop()
	for _, b := range all {
		b.await(fmt.Sprintf("has all %d writes", w.n), func() error { return b.has(w.n) })
	}

	// Whoever has the lost disk has a key that the site does not take.
	fresh.stop(syscall.SIGTERM)
	thief := *lost
	thief.dir = stolen
	thief.start()
	thief.await("says that it was removed", func() error {
		var v struct {
			ID               coord.BoxID
			Name             string
			Removed, Serving bool
		}
		err := thief.ask(func(r *remote.Box) error {
			var text writer
			err := r.Raw(t.Context(), "/api/v1/status", &text)
			return errors.Join(err, json.Unmarshal(text, &v))
		})
		if err == nil && (!v.Removed || v.Serving || v.ID != lost.member.ID || v.Name != lost.member.Name) { // it knows who it was
			err = fmt.Errorf("%+v", v)
		}
		return err
	})
	thief.stop(syscall.SIGTERM)
	fresh.start()
	for _, b := range all {
		b.in(2)
	}
	for _, b := range all {
		b.stop(syscall.SIGTERM)
	}
}
