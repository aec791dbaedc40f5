package netconf

import "testing"

func TestAnAddressOfIPv6DoesNotCountWhileDHCPMayAnswer(t *testing.T) {
	six := Link{Name: "eth0", Up: true, Addresses: []string{"2001:db8::1/64"}}
	asking, four := six, six
	asking.Asking = true
	four.Addresses = append([]string{"192.0.2.1/24"}, six.Addresses...)
	for _, c := range []struct {
		links []Link
		want  bool
	}{
		{nil, false},
		{[]Link{six}, true},
		{[]Link{asking}, false},
		{[]Link{four}, true},
		{[]Link{four, asking}, true},
		{[]Link{six, {Name: "eth1", Up: true, Asking: true}}, false},
	} {
		if got := (&State{Links: c.links}).Settled(); got != c.want {
			t.Errorf("%+v: %v", c.links, got)
		}
	}
}
