package box

import (
	"errors"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/hal/tpm"
	"github.com/holdfast-edge/holdfast/hal/tpm/tpmtest"
)

func keyed(t *testing.T, device string) *config.Config {
	t.Helper()
	c, err := config.Default()
	if err != nil {
		t.Fatal(err)
	}
	c.DataDir, c.TPM.Device = t.TempDir(), device
	return c
}

// The whole way through a real TPM's commands (swtpm): made, found again, of no use elsewhere, moved.
func TestANewBoxKeepsItsKeyInTheMachinesTPM(t *testing.T) {
	device, stop := tpmtest.Start(t)
	c := keyed(t, device)
	id, err := OpenKey(c)
	if err != nil || id.Place() != trust.KeyInTPM {
		t.Fatalf("%v %v", id, err)
	}
	again, err := OpenKey(c)
	if err != nil || again.ID() != id.ID() {
		t.Fatalf("the second start is box %v: %v", again, err)
	}

	thief, _ := tpmtest.Start(t)
	stolen := *c
	stolen.TPM.Device = thief
	if _, err := OpenKey(&stolen); !errors.Is(err, tpm.ErrOther) {
		t.Errorf("the disk in another machine: %v", err)
	}
	back, err := trust.UnsealKey(c.DataDir, Chip(c))
	if err != nil || back.ID() != id.ID() {
		t.Fatal(err)
	}
	if _, err := trust.SealKey(c.DataDir, Chip(c)); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := OpenKey(c); !errors.Is(err, tpm.ErrAbsent) || !errors.Is(err, trust.ErrKeySealed) {
		t.Errorf("the TPM is gone: %v", err)
	}
}

func TestAMachineWithoutATPMKeepsItsKeyInAFile(t *testing.T) {
	c := keyed(t, "/nonexistent")
	id, err := OpenKey(c)
	if err != nil || id.Place() != trust.KeyInFile {
		t.Fatalf("%v %v", id, err)
	}
}
