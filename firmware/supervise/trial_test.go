package supervise

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"

	"github.com/holdfast-edge/holdfast/firmware/slots"
)

func TestAReleaseOnTrialThatKeepsEndingIsGivenUpAndABlessedOneIsNot(t *testing.T) {
	esp := t.TempDir()
	put(t, filepath.Join(esp, "loader", "loader.conf"), "")
	put(t, filepath.Join(esp, "loader", "entries", ".keep"), "")
	e, err := slots.Open(esp)
	if err != nil {
		t.Fatal(err)
	}
	install := func(s slots.Slot, blessed bool) {
		t.Helper()
		files := map[string]io.Reader{}
		for _, n := range []string{slots.Kernel, slots.Initrd, slots.Manifest} {
			files[n] = bytes.NewReader([]byte(n))
		}
		if err := e.Install(t.Context(), s, slots.Release{Version: "v-" + string(s), Blessed: blessed}, files); err != nil {
			t.Fatal(err)
		}
	}
	install(slots.A, true)
	if gave, err := giveUpTrial(esp, t.TempDir(), slots.A, "why"); gave || err != nil {
		t.Fatalf("the only release: %v, %v", gave, err)
	}
	install(slots.B, false)
	if gave, err := giveUpTrial(esp, t.TempDir(), slots.A, "why"); gave || err != nil {
		t.Fatalf("a blessed release: %v, %v", gave, err)
	}
	if gave, err := giveUpTrial(esp, t.TempDir(), slots.B, "it ended 3 times"); !gave || err != nil {
		t.Fatalf("%v, %v", gave, err)
	}
	if x, _, err := e.Entry(slots.B); err != nil || x.Bootable() || e.Reason(slots.B) != "it ended 3 times" {
		t.Errorf("%+v, %q, %v", x, e.Reason(slots.B), err)
	}
}
