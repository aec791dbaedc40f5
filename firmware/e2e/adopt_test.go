package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// must runs a command at box i and fails the test if it does not say this.
func (g *grown) must(i int, says string, args ...string) string {
	g.t.Helper()
	out, err := g.run(append(args, "--addr", g.socket(i))...)
	if err != nil || !strings.Contains(string(out), says) {
		g.t.Fatalf("%q: %s, %v; want %q", args, out, err, says)
	}
	return string(out)
}

// A box that waits is added by its key and given the list; then a name is changed, and a third box waits for an operator: what is
// printed is enough to do it, and what is wrong is refused.
func TestABoxIsAddedByItsKeyAndAnotherWaitsForAnOperator(t *testing.T) {
	g := newGrown(t, 3)
	if _, err := g.run("site", "init", "--config", g.config(0)); err != nil {
		t.Fatal(err)
	}
	g.startBox(0)
	g.startBox(1)
	g.awaitBoxes(0, 1)
	var key struct{ Public string }
	g.await("the box that waits has a key", func() error {
		out, err := g.run("identity", "show", "--json", "--config", g.config(1))
		return errors.Join(err, json.Unmarshal(append(out, ' '), &key))
	})
	add := []string{"site", "add", "--name", "box-1", "--peer", g.at(21), "--console", g.at(1), "--key", key.Public, "--yes"}
	if out, err := g.run(append(add, "--addr", g.socket(0))...); err == nil || !strings.Contains(err.Error(), "stands still until the new box runs") {
		t.Fatalf("%s, %v", out, err)
	}
	said := g.must(0, "done: member.add", append(add, "--force")...)
	hash := g.site(0).SiteHash.String()
	for _, want := range []string{"holdfast members --epoch 2 > site.json", "holdfast site adopt site.json --hash " + hash, "1 of 2 boxes are reached, and 2 are needed"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in what is to be done: %s", want, said)
		}
	}
	list := func(epoch int) string {
		path := filepath.Join(t.TempDir(), "site.json")
		if err := os.WriteFile(path, []byte(g.must(0, "members", "members", "--epoch", fmt.Sprint(epoch))), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for want, args := range map[string][]string{
		"is not in the list of epoch 1": {list(1), "--yes"},
		"not the one that is wanted":    {list(2), "--hash", strings.Repeat("00", 32)},
	} {
		if out, err := g.run(append([]string{"site", "adopt", "--config", g.config(1)}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v; want %q", args, out, err, want)
		}
	}
	if out, err := g.run("site", "adopt", "--config", g.config(1), list(2), "--hash", hash); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	g.awaitBoxes(1, 2)
	g.awaitBoxes(0, 2)

	g.must(0, "waits", "site", "edit", "box-1", "--name", "till", "--yes")
	g.await("box 1 shows what differs", func() error {
		out, err := g.run("decision", "list", "--json", "--addr", g.socket(1))
		var d struct{ Open []struct{ ID string } }
		if err = errors.Join(err, json.Unmarshal(append(out, ' '), &d)); err != nil || len(d.Open) != 1 {
			return fmt.Errorf("%d are open: %w", len(d.Open), err)
		}
		if out, err = g.run("decision", "show", d.Open[0].ID, "--addr", g.socket(1)); err == nil && !strings.Contains(string(out), ": name box-1 would be till\n") {
			t.Fatalf("%s", out)
		}
		return err
	})
	g.approve("member.edit", 1)
	g.await("the box has its new name", func() error {
		if name := g.site(1).Members[1].Name; name != "till" {
			return errors.New(name)
		}
		return nil
	})

	g.must(0, "", "setting", "put", "joins", `{"approve":"operator"}`)
	g.approve("setting.put", 1)
	out, err := g.run("site", "join-token", "--json", "--addr", g.socket(0))
	var token struct{ Token string }
	if err = errors.Join(err, json.Unmarshal(append(out, ' '), &token)); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	g.approve("join.token", 1)
	g.startBox(2)
	joined := make(chan error, 1)
	go func() {
		_, err := g.join(2, token.Token)
		joined <- err
	}()
	var guest string
	g.await("the box waits for an operator", func() error {
		guests := g.site(0).Guests
		if len(guests) != 1 {
			return fmt.Errorf("%d wait", len(guests))
		}
		guest = guests[0].ID.String()
		return nil
	})
	g.must(0, "", "site", "admit", guest)
	g.approve("member.add", 1)
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		g.awaitBoxes(i, 3)
	}
}
