package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
)

func TestWhatAnImageIsToldIsWhatTheMachineReads(t *testing.T) {
	config := filepath.Join(t.TempDir(), "box.toml")
	if err := os.WriteFile(config, []byte("[system]\nhostname = \"other\"\nwatchdog = \"45s\"\n[console]\nlisten = \":8081\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := provisionFlags{config: config, hostname: "box-1", nic: "eth0", addresses: "192.0.2.10/24,2001:db8::10/64", gateway: "192.0.2.1", nameservers: "192.0.2.53", found: true}
	b, err := o.file()
	if err != nil {
		t.Fatal(err)
	}
	f, err := settings.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	n := f.Appliance.Network
	if f.Appliance.System.Hostname != "box-1" || time.Duration(f.Appliance.System.Watchdog) != 45*time.Second || !f.Provision.Found || len(n.Interfaces) != 1 || n.Interfaces[0].Gateway != "192.0.2.1" ||
		len(n.Interfaces[0].Addresses) != 2 || n.Nameservers[0] != "192.0.2.53" {
		t.Errorf("%+v", f)
	}
	if b, err := new(provisionFlags).file(); b != nil || err != nil {
		t.Errorf("nothing to say: %q, %v", b, err)
	}
	for _, bad := range []provisionFlags{{gateway: "192.0.2.1"}, {nic: "eth0", addresses: "192.0.2.10"}, {hostname: "a b"}, {token: "none"}} {
		if _, err := bad.file(); !errors.Is(err, errUsage) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
