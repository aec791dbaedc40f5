package box

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/waiting"
	"github.com/holdfast-edge/holdfast/store"
)

// runAny runs a box that need not serve.
func runAny(t *testing.T, c *config.Config) (stop func() error) {
	t.Helper()
	_, stop = launch(t, silent(c))
	return stop
}

// get asks a box's console over its socket until it answers.
func get(t *testing.T, c *config.Config, path string) (code int, body string) {
	t.Helper()
	h := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.Console.Socket)
		}, DisableKeepAlives: true,
	}}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); ; {
		if r, err := h.Get("http://localhost" + path); err == nil {
			b, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			return r.StatusCode, string(b)
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the console never answers")
		}
	}
}

// ready waits until a box serves.
func ready(t *testing.T, c *config.Config) *remote.Box {
	t.Helper()
	b, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); b.Ready(t.Context()) != nil; {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the box never serves")
		}
	}
	return b
}

func TestABoxWithoutASiteWaitsAndSaysWhatToDoUntilItHasOne(t *testing.T) {
	c := newBox(t)
	m, err := trust.LoadMembers(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(c.DataDir, trust.SiteFile)); err != nil {
		t.Fatal(err)
	}
	stop := runAny(t, c)
	code, body := get(t, c, "/api/v1/waiting")
	var w waiting.State
	if err := json.Unmarshal([]byte(body), &w); err != nil || code != http.StatusOK {
		t.Fatalf("%d %q: %v", code, body, err)
	}
	if !w.Waiting || w.ID != m.List[0].ID || coord.BoxIDOf(w.Key) != w.ID || !strings.Contains(w.Todo, "holdfast site join") {
		t.Errorf("it says %+v", w)
	}
	for path, want := range map[string]int{"/": 200, "/healthz": 200, "/readyz": 503, "/api/v1/status": 503} {
		if code, body := get(t, c, path); code != want || code != 200 && !strings.Contains(body, "site init") {
			t.Errorf("%s: %d %q, want %d", path, code, body, want)
		}
	}
	// The port for other boxes is free for whoever brings it into a site.
	l, err := net.Listen("tcp", c.Peer.Listen)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := trust.SaveMembers(c.DataDir, m); err != nil {
		t.Fatal(err)
	}
	ready(t, c)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestAWaitingBoxStopsWhenItIsTold(t *testing.T) {
	c := newBox(t)
	if err := os.Remove(filepath.Join(c.DataDir, trust.SiteFile)); err != nil {
		t.Fatal(err)
	}
	stop := runAny(t, c)
	get(t, c, "/healthz")
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestABoxWhoseMemberSetIsLostSaysSo(t *testing.T) {
	c := newBox(t)
	if err := runBox(t, c)(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(c.DataDir, trust.SiteFile)); err != nil {
		t.Fatal(err)
	}
	stop := runAny(t, c)
	if _, body := get(t, c, "/"); !strings.Contains(body, "site adopt FILE") {
		t.Errorf("it says %q", body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// changeKey decides on the box's next key, as far as its own directory goes.
func changeKey(t *testing.T, c *config.Config) (was, is coord.BoxID) {
	t.Helper()
	m, err := trust.LoadMembers(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	old, err := OpenKey(c)
	if err != nil {
		t.Fatal(err)
	}
	next, err := trust.OpenNext(c.DataDir, old, trust.KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	was = m.List[0].ID
	m.Epoch++
	m.List[0].ID, m.List[0].Key = next.ID(), next.PublicKey()
	if err := trust.SaveMembers(c.DataDir, m); err != nil {
		t.Fatal(err)
	}
	return was, next.ID()
}

func TestABoxTakesTheKeyThatItsSiteKnowsItByWhereverItWasCutOff(t *testing.T) {
	for name, cut := range map[string]func(c *config.Config, was coord.BoxID) error{
		"the member set is written": func(*config.Config, coord.BoxID) error { return nil },
		"the old key is removed": func(c *config.Config, _ coord.BoxID) error {
			return os.Remove(filepath.Join(c.DataDir, trust.KeyFile))
		},
		"the next key is taken": func(c *config.Config, was coord.BoxID) error { return trust.TakeNext(c.DataDir, was) },
		"the audit log is set aside": func(c *config.Config, was coord.BoxID) error {
			if err := trust.TakeNext(c.DataDir, was); err != nil {
				return err
			}
			return setAsideAudit(c.DataDir, []coord.BoxID{was})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newBox(t)
			if err := runBox(t, c)(); err != nil { // its directory is of the old name
				t.Fatal(err)
			}
			was, is := changeKey(t, c)
			if err := cut(c, was); err != nil {
				t.Fatal(err)
			}
			if name == "the old key is removed" {
				// The name of before is written first.
				if err := os.WriteFile(filepath.Join(c.DataDir, "identity.was"), []byte(`["`+was.String()+`"]`), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				who, err := identify(c)
				if err != nil || who.key.ID() != is || who.next.Load() != nil || len(who.was) != 1 || who.was[0] != was {
					t.Fatalf("the box is %+v: %v", who, err)
				}
				disk, err := openStorage(c, nil, who, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatalf("what the box wrote under its old name is not its own: %v", err)
				}
				l, err := openLedger(c, who, nil, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatalf("no audit log for the new name: %v", err)
				}
				if err := errors.Join(l.disk.Close(), disk.close()); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := os.Stat(filepath.Join(c.DataDir, "audit."+was.String()+".db")); err != nil {
				t.Errorf("the audit log of the old name is gone: %v", err)
			}
		})
	}
}

func TestANextKeyThatTheSiteHasNotDecidedOnIsNotUsed(t *testing.T) {
	c := newBox(t)
	who, err := identify(c)
	if err != nil {
		t.Fatal(err)
	}
	public, err := who.nextKey(c)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again, err := who.nextKey(c)
		next := coord.BoxIDOf(again)
		if err != nil || next != coord.BoxIDOf(public) || who.key.ID() == next || who.next.Load().ID() != next || who.self != 0 {
			t.Fatalf("the box is %v, next %v: %v", who.key.ID(), next, err)
		}
		if who, err = identify(c); err != nil { // a start
			t.Fatal(err)
		}
	}
}

func TestAnotherBoxsDirectoryIsStillRefusedAfterAChangeOfKeys(t *testing.T) {
	c := newBox(t)
	if err := runBox(t, c)(); err != nil {
		t.Fatal(err)
	}
	was, _ := changeKey(t, c)
	who, err := identify(c)
	if err != nil {
		t.Fatal(err)
	}
	who.was = []coord.BoxID{{1}}
	if _, err := openStorage(c, nil, who, slog.New(slog.DiscardHandler)); !errors.Is(err, store.ErrIdentity) {
		t.Errorf("a directory of %v is opened by a box that was another: %v", was, err)
	}
}

func TestTheNewestMemberSetIsWrittenDown(t *testing.T) {
	c := newBox(t)
	who, err := identify(c)
	if err != nil {
		t.Fatal(err)
	}
	m := newMembership(c.DataDir, who, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	noted := make(chan string, 4)
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx, func(epoch, what string) { noted <- epoch + ": " + what }) }()
	other, err := trust.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	two := &coord.Members{Site: who.members.Site, Epoch: 2, List: append(m.list(), coord.Member{
		ID: other.ID(), Name: "second", Key: other.PublicKey(), Peer: "192.0.2.1:7400",
	})}
	m.set(&site.Epoch{Members: two, Self: 0})
	if got := <-noted; !strings.HasPrefix(got, "2: second is new") {
		t.Errorf("noted %q", got)
	}
	if saved, err := trust.LoadMembers(c.DataDir); err != nil || saved.Epoch != 2 || saved.N() != 2 {
		t.Fatalf("site.json has %+v: %v", saved, err)
	}
	if len(m.list()) != 2 {
		t.Errorf("programs are told of %d boxes", len(m.list()))
	}
	one := &coord.Members{Site: who.members.Site, Epoch: 3, List: two.List[:1]}
	if set := m.set(&site.Epoch{Members: one, Self: 0}); len(set.Former) != 1 || set.Former[0].ID != other.ID() {
		t.Errorf("who was removed is not a former member: %+v", set.Former)
	}
	if got := <-noted; !strings.HasPrefix(got, "3: second is gone") {
		t.Errorf("noted %q", got)
	}
	// It comes back, and then this box gets another key.
	if _, err := who.nextKey(c); err != nil {
		t.Fatal(err)
	}
	next := who.next.Load()
	four := &coord.Members{Site: who.members.Site, Epoch: 4, List: append([]coord.Member(nil), two.List...)}
	four.List[0].ID, four.List[0].Key = next.ID(), next.PublicKey()
	set := m.set(&site.Epoch{Members: four, Self: 0})
	if len(set.Former) != 1 || set.Former[0].ID != who.key.ID() || coord.BoxIDOf(next.PublicKey()) != next.ID() {
		t.Errorf("the links serve %+v", set)
	}
	if err := <-ended; !errors.Is(err, errNewKey) {
		t.Errorf("with a new key it goes on: %v", err)
	}
	if saved, err := trust.LoadMembers(c.DataDir); err != nil || saved.Epoch != 4 {
		t.Errorf("site.json has %+v: %v", saved, err)
	}
}
