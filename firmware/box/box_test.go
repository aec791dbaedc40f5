package box

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/store"
)

// newBox makes the directory of the only box of a site, which listens on free ports.
func newBox(t *testing.T) *config.Config {
	t.Helper()
	c, err := config.Default()
	if err != nil {
		t.Fatal(err)
	}
	c.DataDir = filepath.Join(t.TempDir(), "box")
	if err := os.Mkdir(c.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	id, err := trust.LoadOrCreate(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	c.Peer.Listen, c.Native.Listen, c.Console.Listen, c.Client.Listen = freeAddress(t), freeAddress(t), "", ""
	c.Native.Socket, c.Console.Socket = filepath.Join(c.DataDir, "native.sock"), filepath.Join(c.DataDir, "holdfast.sock")
	c.Log.SegmentSize, c.Log.RetainSize = 1<<20, 4<<20
	err = trust.SaveMembers(c.DataDir, &coord.Members{Site: coord.SiteID{1}, Epoch: 1, List: []coord.Member{
		{ID: id.ID(), Name: "alone", Key: id.PublicKey(), Peer: c.Peer.Listen, Native: c.Native.Listen},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func freeAddress(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// launch runs a box until stop is called, which gives what Run did as often as it is asked. A
// test that ends waits for its box: what writes to the directory must be gone before that is.
func launch(t *testing.T, o Options) (ended <-chan struct{}, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = Run(ctx, o)
	}()
	stop = func() error { cancel(); <-done; return err }
	t.Cleanup(func() { _ = stop() })
	return done, stop
}

// silent is how most tests run a box.
func silent(c *config.Config) Options {
	return Options{Config: c, Version: "test", Logger: slog.New(slog.DiscardHandler)}
}

// serving is launch, and waits until the box serves.
func serving(t *testing.T, o Options) (stop func() error) {
	t.Helper()
	ended, stop := launch(t, o)
	b, err := remote.New("unix://" + o.Config.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for b.Ready(t.Context()) != nil {
		select {
		case <-ended:
			t.Fatalf("the box ended: %v", stop())
		case <-tick.C:
		}
	}
	return stop
}

func runBox(t *testing.T, c *config.Config) (stop func() error) {
	t.Helper()
	return serving(t, silent(c))
}

func dial(t *testing.T, c *config.Config, url string, id coord.BoxID) *client.Client {
	t.Helper()
	e, err := client.ParseEndpoint(url, id)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := client.Dial(t.Context(), client.Config{Endpoints: []client.Endpoint{e}})
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func TestABoxServesStopsAndRemembers(t *testing.T) {
	c := newBox(t)
	stop := runBox(t, c)
	cl := dial(t, c, "unix://"+c.Native.Socket, coord.BoxID{})
	if _, err := cl.Put(t.Context(), []byte("key"), []byte("value")); err != nil {
		t.Fatal(err)
	}
	if err := cl.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	for _, path := range []string{c.Native.Socket, c.Console.Socket} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}

	stop = runBox(t, c)
	id, err := trust.LoadOrCreate(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	cl = dial(t, c, "tls://"+c.Native.Listen, id.ID())
	value, found, err := cl.Get(t.Context(), []byte("key"))
	if err != nil || !found || string(value) != "value" {
		t.Errorf("after a restart: %q %v %v", value, found, err)
	}
	if err := cl.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestAStopAnswersWhatWasAccepted(t *testing.T) {
	c := newBox(t)
	stop := runBox(t, c)
	cl := dial(t, c, "unix://"+c.Native.Socket, coord.BoxID{})
	acknowledged, ended := make(chan uint64), make(chan uint64)
	go func() {
		var last uint64
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			revision, err := cl.Put(ctx, []byte("n"), []byte("x"))
			cancel()
			if err != nil {
				ended <- last
				return
			}
			last = revision
			select {
			case acknowledged <- last:
			default:
			}
		}
	}()
	<-acknowledged // it is busy writing
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	last := <-ended
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = cl.Close(ctx) // its last call has no answer yet, and will have none

	stop = runBox(t, c)
	b, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if kv, err := b.Get(t.Context(), "n"); err != nil || kv.Revision < last {
		t.Errorf("revision %d was acknowledged, the box has %d (%v)", last, kv.Revision, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestWhatKeepsABoxFromStartingIsSaidInALine(t *testing.T) {
	other, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, tc := range []struct {
		name   string
		change func(*config.Config) error
		is     error
		want   string
	}{
		{"port in use", func(c *config.Config) error { c.Console.Listen = other.Addr().String(); return nil }, ErrListen, "console.listen = " + other.Addr().String() + " is in use"},
		{"foreign address", func(c *config.Config) error { c.Peer.Listen = "192.0.2.1:7400"; return nil }, ErrListen, "not an address of this machine"},
		{"key gone", func(c *config.Config) error { return os.Remove(filepath.Join(c.DataDir, trust.KeyFile)) }, ErrDirectory, "restore the key"},
		{"another box's key", func(c *config.Config) error {
			if err := os.Remove(filepath.Join(c.DataDir, trust.KeyFile)); err != nil {
				return err
			}
			_, err := trust.LoadOrCreate(c.DataDir)
			return err
		}, ErrMember, "does not list this box"},
		{"others may write", func(c *config.Config) error { return os.Chmod(c.DataDir, 0o777) }, ErrDirectory, "chmod 700"},
		{"socket in the way", func(c *config.Config) error { return os.WriteFile(c.Console.Socket, nil, 0o600) }, ErrListen, "not a socket"},
		{"another site's storage", func(c *config.Config) error {
			s, err := store.Open(c.DataDir, store.Options{Site: coord.SiteID{9}, Box: coord.BoxID{9}})
			if err != nil {
				return err
			}
			return s.Close()
		}, store.ErrIdentity, "another site"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newBox(t)
			if err := tc.change(c); err != nil {
				t.Fatal(err)
			}
			err := Run(t.Context(), silent(c))
			if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %v that says %q", err, tc.is, tc.want)
			}
		})
	}
}

func TestADirectoryIsForOneProcess(t *testing.T) {
	c := newBox(t)
	stop := runBox(t, c)
	second := *c
	second.Peer.Listen, second.Native.Listen = freeAddress(t), freeAddress(t)
	var log bytes.Buffer
	err := Run(t.Context(), Options{Config: &second, Version: "test", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
