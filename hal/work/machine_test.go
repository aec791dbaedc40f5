package work_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/haltest"
	"github.com/holdfast-edge/holdfast/hal/work"
)

// open plays a recorded machine.
func open(t *testing.T, archive []byte, board string) *work.Machine {
	t.Helper()
	dir := t.TempDir()
	if err := haltest.Play(archive, dir); err != nil {
		t.Fatal(err)
	}
	m, err := work.Open(dir, board)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// archives are all boards' trees and all recorded machines.
func archives(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	profiles, err := boards.All()
	if err != nil {
		t.Fatal(err)
	}
	for i := range profiles {
		all[profiles[i].ID] = haltest.Tree(&profiles[i], 4)
	}
	files, err := filepath.Glob("../linux/testdata/machines/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if all[filepath.Base(f)], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestADraftOfEveryMachineIsAProfileThatFindsIt(t *testing.T) {
	for name, archive := range archives(t) {
		t.Run(name, func(t *testing.T) {
			m := open(t, archive, "")
			b := work.Draft(m.Facts)
			text, err := boards.Encode(b)
			if err != nil {
				t.Fatal(err)
			}
			back, err := boards.Decode(text)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if !reflect.DeepEqual(back, b) {
				t.Errorf("read back it is %+v, was %+v", back, b)
			}
			found, why, err := boards.Find([]boards.Board{back}, m.Facts.Machine)
			if err != nil || found.ID != b.ID {
				t.Errorf("%v, %s", err, why)
			}
			for _, f := range b.Facts() {
				if s, _ := b.Source(f); s != boards.Captured && s != boards.Unverified {
					t.Errorf("%s is %q", f, s)
				}
			}
		})
	}
}

// The draft of a board's tree says what the board's own profile says, where a machine can say it.
func TestADraftSaysWhatTheMachineSays(t *testing.T) {
	want, err := work.Board("nanopi-r6s")
	if err != nil {
		t.Fatal(err)
	}
	got := work.Draft(open(t, haltest.Tree(&want, 1), "").Facts)
	if got.ID != "nanopi-r6s" || len(got.NIC) != len(want.NIC) || got.CPU["big"].Part != want.CPU["big"].Part ||
		got.CPU["little"].Count != want.CPU["little"].Count || got.Watchdog == nil || got.Watchdog.Driver != want.Watchdog.Driver ||
		got.Thermal == nil || got.Thermal.Zone != want.Thermal.Zone {
		t.Errorf("%+v", got)
	}
	buses := map[string]bool{}
	for _, n := range want.NIC {
		buses[n.Bus] = true
	}
	for name, n := range got.NIC {
		if !buses[n.Bus] {
			t.Errorf("%s is at %s", name, n.Bus)
		}
	}
	if s, _ := got.Source("nic.wan.role"); s != boards.Unverified {
		t.Errorf("which port is the WAN is %s", s)
	}
	if s, _ := got.Source("nic.wan.bus"); s != boards.Captured {
		t.Errorf("where the port is, is %s", s)
	}
}

func TestARoleThatIsNotToBeHadSaysWhy(t *testing.T) {
	r6s, err := work.Board("nanopi-r6s")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, board, role, why string
		archive                []byte
		state                  hal.State
	}{
		{"the light is there", "", "led status", "", haltest.Tree(&r6s, 1), hal.Loaded},
		{"no light of that name", "rock-5b", "led status", "blue:status", haltest.Tree(&r6s, 1), hal.Skipped},
		{"no profile", "generic-arm64", "led status", "names none", haltest.Tree(&r6s, 1), hal.Skipped},
		{"no kernel to ask for lines", "", "pin setup", "not a running kernel", haltest.Tree(&r6s, 1), hal.Skipped},
		{"a pin that no profile names", "rock-5b", "pin setup", "names none", haltest.Tree(&r6s, 1), hal.Skipped},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := open(t, tc.archive, tc.board)
			for _, r := range m.Roles() {
				if r.Role != tc.role {
					continue
				}
				if r.State != tc.state || !strings.Contains(r.Why, tc.why) {
					t.Errorf("%+v", r)
				}
				return
			}
			t.Errorf("nothing is said of it: %+v", m.Roles())
		})
	}
}

func TestAPinIsFoundByItsLine(t *testing.T) {
	m := &work.Machine{Facts: &hal.Facts{Pins: hal.Load([]hal.Line{
		{Chip: "gpiochip0", Label: "gpio1", Offset: 16, User: "User"}, {Chip: "gpiochip1", Label: "pl061", Offset: 3, Name: "BUTTON", User: "led-driver"},
	})}}
	state := func(p boards.Pin) work.Role {
		m.Board.Pin = map[string]boards.Pin{work.SetupPin: p}
		for _, r := range m.Roles() {
			if r.Role == "pin setup" {
				return r
			}
		}
		t.Fatal("nothing is said of it")
		return work.Role{}
	}
	if r := state(boards.Pin{Chip: "gpio1", Offset: 16, Input: true}); r.State != hal.Loaded || !strings.Contains(r.At, "key events") {
		t.Errorf("held by the driver whose events are read: %+v", r)
	}
	if r := state(boards.Pin{Line: "BUTTON"}); r.State != hal.Failed || !strings.Contains(r.Why, `held by "led-driver"`) {
		t.Errorf("held by somebody else: %+v", r)
	}
	if r := state(boards.Pin{Line: "RESET"}); r.State != hal.Skipped || !strings.Contains(r.Why, `"RESET"`) {
		t.Errorf("not there: %+v", r)
	}
}

func TestABoardThatThereIsNotIsNamedWithThoseThatThereAre(t *testing.T) {
	_, err := work.Open(t.TempDir(), "rock-6")
	if !errors.Is(err, work.ErrBoard) || !strings.Contains(err.Error(), "rock-5b") {
		t.Errorf("%v", err)
	}
	if _, err := work.Board(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// An empty tree is a machine that says nothing: that is told, part by part.
func TestAMachineThatSaysNothingCanBeProbed(t *testing.T) {
	m, err := work.Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Facts.Topology.State != hal.Failed || m.Why == "" {
		t.Errorf("%+v, %s", m.Facts.Topology, m.Why)
	}
	if p := m.Plan(hal.Options{}); len(p.Changes) != 0 || len(p.Notes) == 0 {
		t.Errorf("%+v", p)
	}
}
