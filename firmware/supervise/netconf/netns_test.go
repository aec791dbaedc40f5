package netconf

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/nettest"
	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
	"github.com/vishvananda/netlink"
)

// far is the other end of the cable, in a namespace of its own.
type far struct {
	t   *testing.T
	pid string
}

// pair makes a cable from hf0 here to hf1 there, which is up and has an address.
func pair(t *testing.T, address string) far {
	t.Helper()
	holder := exec.Command("sleep", "600")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill() // nothing else ends it
		_ = holder.Wait()
	})
	a := netlink.NewLinkAttrs()
	a.Name = "hf0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "hf1", PeerNamespace: netlink.NsPid(holder.Process.Pid)}); err != nil {
		t.Skipf("no veth: %v", err)
	}
	f := far{t, strconv.Itoa(holder.Process.Pid)}
	f.ip("addr", "add", address, "dev", "hf1")
	f.ip("link", "set", "hf1", "up")
	return f
}

func (f far) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", f.pid, "-n", "--"}, args...)...)
}

func (f far) ip(args ...string) {
	f.t.Helper()
	if out, err := f.command(append([]string{"ip"}, args...)...).CombinedOutput(); err != nil {
		f.t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// connect runs a manager and gives what it says.
func connect(t *testing.T, n settings.Network) <-chan State {
	t.Helper()
	states := make(chan State, 100)
	m := &Manager{Network: n, Hostname: "box-a", Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Changed: func(s State) { states <- s }}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return states
}

// until waits for a state that is good.
func until(t *testing.T, states <-chan State, what string, good func(l Link, s State) bool) State {
	t.Helper()
	end := time.After(40 * time.Second)
	var last State
	for {
		select {
		case last = <-states:
			for _, l := range last.Links {
				if good(l, last) {
					return last
				}
			}
		case <-end:
			t.Fatalf("%s: not in time; the last was %+v", what, last)
		}
	}
}

func (f far) dnsmasq(more ...string) *exec.Cmd {
	t := f.t
	t.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Skip("needs dnsmasq")
	}
	cmd := f.command(append([]string{
		path,
		"--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=hf1", "--bind-interfaces", "--user=root", "--dhcp-authoritative",
		"--pid-file=", "--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases"), "--log-facility=-", "--log-dhcp",
	}, more...)...)
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return cmd
}

func routes(t *testing.T, name string) (list []string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	all, err := netlink.RouteList(l, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		list = append(list, all[i].Dst.String()+" via "+all[i].Gw.String())
	}
	return list
}

func TestACardWithoutSettingsHasWhatDHCPGivesAndKeepsIt(t *testing.T) {
	if !nettest.Inside(t) {
		return
	}
	pair(t, "10.9.0.1/24").dnsmasq("--dhcp-range=10.9.0.50,10.9.0.59,255.255.255.0,2m", "--dhcp-option=option:T1,3", "--dhcp-option=option:T2,60",
		"--dhcp-option=option:router,10.9.0.1", "--dhcp-option=option:dns-server,10.9.0.2,10.9.0.3", "--dhcp-option=option:ntp-server,10.9.0.4", "--domain=example.org")
	states := connect(t, settings.Network{Nameservers: []string{"10.9.0.9"}})
	s := until(t, states, "a lease", func(l Link, _ State) bool { return strings.HasPrefix(l.From, "dhcp 10.9.0.1") && len(l.Addresses) > 0 })
	first := s.Links[0]
	if !slices.Equal(s.Nameservers, []string{"10.9.0.9", "10.9.0.2", "10.9.0.3"}) || !slices.Equal(s.NTP, []string{"10.9.0.4"}) || s.Domain != "example.org" || !strings.HasPrefix(s.Address(), "10.9.0.5") {
		t.Errorf("%+v", s)
	}
	if r := routes(t, "hf0"); !slices.Contains(r, "0.0.0.0/0 via 10.9.0.1") {
		t.Errorf("%v", r)
	}
	until(t, states, "a renewal", func(l Link, _ State) bool {
		return l.Until.After(first.Until) && slices.Equal(l.Addresses, first.Addresses)
	})
}

func TestTheServerMayComeLaterThanTheBox(t *testing.T) {
	if !nettest.Inside(t) {
		return
	}
	far := pair(t, "10.9.0.1/24")
	states := connect(t, settings.Network{Interfaces: []settings.Interface{{Name: "hf0", DHCP: true}}})
	until(t, states, "a question", func(l Link, _ State) bool { return l.Asking })
	until(t, states, "nobody answers", func(l Link, _ State) bool { return strings.Contains(l.Error, "dhcp") && !l.Asking })
	far.dnsmasq("--dhcp-range=10.9.0.50,10.9.0.59,255.255.255.0,2m")
	until(t, states, "a lease", func(l Link, _ State) bool { return len(l.Addresses) > 0 && l.Error == "" })
}

// A card on USB that was reset comes back under its name before anybody has looked.
func TestACardThatIsThereAgainIsConnectedAgain(t *testing.T) {
	if !nettest.Inside(t) {
		return
	}
	pair(t, "10.9.0.1/24")
	states := make(chan State, 100)
	m := &Manager{
		Network: settings.Network{Interfaces: []settings.Interface{{Name: "hf0", Addresses: []string{"10.9.0.7/24"}}}},
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)), Changed: func(s State) { states <- s }, Sys: "/proc/sys", keepers: map[string]*keeper{}, said: map[string]bool{},
	}
	var all sync.WaitGroup
	defer all.Wait()
	look := func() int {
		t.Helper()
		if err := m.look(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		l, err := netlink.LinkByName("hf0")
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs().Index
	}
	was := look()
	until(t, states, "an address", func(l Link, _ State) bool { return len(l.Addresses) > 0 })
	a := netlink.NewLinkAttrs()
	a.Name = "hf0"
	if err := netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: was}}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "hf1"}); err != nil {
		t.Fatal(err)
	}
	if now := look(); now == was {
		t.Fatal("it is the same one")
	}
	all.Wait() // a card without DHCP is set up once
	l, err := netlink.LinkByName("hf0")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := netlink.AddrList(l, netlink.FAMILY_V4); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestACableThatIsPulledAndPluggedInAsksAgain(t *testing.T) {
	if !nettest.Inside(t) {
		return
	}
	far := pair(t, "10.9.0.1/24")
	server := far.dnsmasq("--dhcp-range=10.9.0.50,10.9.0.59,255.255.255.0,2m")
	states := connect(t, settings.Network{Interfaces: []settings.Interface{{Name: "hf0", DHCP: true}}})
	until(t, states, "a lease", func(l Link, _ State) bool { return len(l.Addresses) > 0 })
	far.ip("link", "set", "hf1", "down")
	until(t, states, "no carrier", func(l Link, _ State) bool { return !l.Up })
	// Meanwhile the network became another one.
	_ = server.Process.Kill()
	_ = server.Wait()
	far.ip("addr", "del", "10.9.0.1/24", "dev", "hf1")
	far.ip("addr", "add", "10.8.0.1/24", "dev", "hf1")
	far.ip("link", "set", "hf1", "up")
	far.dnsmasq("--dhcp-range=10.8.0.50,10.8.0.59,255.255.255.0,2m")
	until(t, states, "an address of the other network alone", func(l Link, _ State) bool {
		return l.Up && len(l.Addresses) == 1 && strings.HasPrefix(l.Addresses[0], "10.8.0.5")
	})
}

func TestFixedAddressesAndRoutesAreThereWithoutAServer(t *testing.T) {
	if !nettest.Inside(t) {
		return
	}
	pair(t, "10.9.0.1/24")
	states := connect(t, settings.Network{Interfaces: []settings.Interface{
		{Name: "hf0", Addresses: []string{"10.9.0.10/24", "2001:db8::10/64"}, Gateway: "10.9.0.1", MTU: 1400, IPv6: "static"},
	}})
	s := until(t, states, "both addresses", func(l Link, _ State) bool { return l.Up && l.Error == "" && len(l.Addresses) == 2 })
	if s.Address() != "10.9.0.10" || s.Links[0].From != "static" {
		t.Errorf("%+v", s)
	}
	if r := routes(t, "hf0"); !slices.Contains(r, "0.0.0.0/0 via 10.9.0.1") {
		t.Errorf("%v", r)
	}
	if ra, err := os.ReadFile("/proc/sys/net/ipv6/conf/hf0/accept_ra"); err == nil && strings.TrimSpace(string(ra)) != "0" {
		t.Errorf("accept_ra is %s", ra)
	}
	if base, err := netlink.LinkByName("hf0"); err != nil || base.Attrs().MTU != 1400 {
		t.Errorf("MTU: %+v, %v", base, err)
	}
}

func TestAVLANIsMadeOnItsCard(t *testing.T) {
	if !nettest.Inside(t) {
		return
	}
	pair(t, "10.9.0.1/24")
	base, err := netlink.LinkByName("hf0")
	if err != nil {
		t.Fatal(err)
	}
	probe := netlink.NewLinkAttrs()
	probe.Name, probe.ParentIndex = "probe", base.Attrs().Index
	v := &netlink.Vlan{LinkAttrs: probe, VlanId: 3}
	if err := netlink.LinkAdd(v); err != nil {
		t.Skipf("this kernel has no VLANs: %v", err)
	}
	if err := netlink.LinkDel(v); err != nil {
		t.Fatal(err)
	}
	states := connect(t, settings.Network{Interfaces: []settings.Interface{
		{Name: "hf0.20", VLAN: 20, On: "hf0", Addresses: []string{"10.20.0.10/24"}},
	}})
	until(t, states, "the VLAN", func(l Link, _ State) bool { return l.Name == "hf0.20" && l.Up && len(l.Addresses) > 0 })
	l, err := netlink.LinkByName("hf0.20")
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := l.(*netlink.Vlan); !ok || v.VlanId != 20 {
		t.Errorf("%+v", l)
	}
}
