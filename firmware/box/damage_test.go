package box

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

// written makes the only box of a site and has it write something.
func written(t *testing.T) *config.Config {
	t.Helper()
	c := newBox(t)
	stop := runBox(t, c)
	cl := dial(t, c, "unix://"+c.Native.Socket, coord.BoxID{})
	for range 20 {
		if _, err := cl.Put(t.Context(), []byte("key"), []byte(strings.Repeat("value ", 100))); err != nil {
			t.Fatal(err)
		}
	}
	closeClient(t, cl)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return c
}

func closeClient(t *testing.T, cl *client.Client) {
	t.Helper()
	if err := cl.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// flip spoils a byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// onlyOne is the one file that a pattern in the data directory matches.
func onlyOne(t *testing.T, c *config.Config, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(c.DataDir, pattern))
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %v %v", pattern, names, err)
	}
	return names[0]
}

// A damaged log of a box that has others is set aside, kept, and the new one says that the box does not know what it
// signed, also at the next start.
func TestADamagedLogIsSetAside(t *testing.T) {
	c := written(t)
	who := among(t, c, 4)
	flip(t, onlyOne(t, c, "log/*.seg"), 600)
	for start := range 2 {
		s, err := openStorage(c, nil, who, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		silent := false
		err = s.log.Replay(func(r *coord.Record) error {
			silent = silent || r.Silent != nil && r.Silent.From == coord.SilentUnknown
			return nil
		})
		if err != nil || !silent {
			t.Errorf("start %d: replay %v, says that it forgot: %v", start, err, silent)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
	onlyOne(t, c, "log/*.bad")
}

// The only box of a site has nobody to ask: it says so and touches nothing.
func TestADamagedLogOfTheOnlyBoxIsLeftAlone(t *testing.T) {
	c := written(t)
	seg := onlyOne(t, c, "log/*.seg")
	flip(t, seg, 600)
	err := Run(t.Context(), silent(c))
	if err == nil || !strings.Contains(err.Error(), "backup") || !strings.Contains(err.Error(), filepath.Base(seg)) {
		t.Errorf("%v", err)
	}
	if got := onlyOne(t, c, "log/*.seg"); got != seg {
		t.Errorf("%s became %s", seg, got)
	}
}

// A damaged state of a box that has others gets another name, and the log still has what the box signed.
func TestADamagedStateIsSetAside(t *testing.T) {
	c := written(t)
	who := among(t, c, 4)
	for page := range int64(2) {
		flip(t, filepath.Join(c.DataDir, "holdfast.db"), page*4096+30)
	}
	s, err := openStorage(c, nil, who, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if f := s.base.Committed(); f != nil {
		t.Errorf("the new state is at %d", f.Header.Height)
	}
	votes := 0
	if err := s.log.Replay(func(r *coord.Record) error {
		if r.Vote != nil {
			votes++
		}
		return nil
	}); err != nil || votes == 0 {
		t.Errorf("replay %v, %d votes", err, votes)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	onlyOne(t, c, "holdfast.db.bad")
}

// That of the only box is left alone.
func TestADamagedStateOfTheOnlyBoxIsLeftAlone(t *testing.T) {
	c := written(t)
	for page := range int64(2) {
		flip(t, filepath.Join(c.DataDir, "holdfast.db"), page*4096+30)
	}
	err := Run(t.Context(), silent(c))
	if err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("%v", err)
	}
	if names, _ := filepath.Glob(filepath.Join(c.DataDir, "*.bad")); len(names) > 0 {
		t.Errorf("%v", names)
	}
}

// among is who a box is if its site had n boxes.
func among(t *testing.T, c *config.Config, n int) *identity {
	t.Helper()
	who, err := identify(c)
	if err != nil {
		t.Fatal(err)
	}
	members := *who.members
	members.List = append(members.List[:1:1], make([]coord.Member, n-1)...)
	who.members = &members
	return who
}
