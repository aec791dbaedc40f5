// Package netconf connects the machine: it brings network cards and VLANs up, gives them fixed addresses or those of a DHCP server
// (RFC 2131), which it renews, leaves IPv6 to the kernel where routers announce it (RFC 4862), and says when something has
// changed. It speaks rtnetlink.
package netconf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// updatesMax is how many link events may wait. When more come the kernel says so and everything is looked at again.
	updatesMax = 256
	// againMin and againMax are how long a failed set-up of an interface waits.
	againMin = time.Second
	againMax = time.Minute
	// lookEvery is how often addresses are looked at: those that the kernel takes by itself come with no link event.
	lookEvery = 2 * time.Second
)

// Link is one interface as it is now.
type Link struct {
	Name      string   `json:"name"`
	MAC       string   `json:"mac,omitempty"`
	Up        bool     `json:"up"` // it has a carrier
	Addresses []string `json:"addresses,omitempty"`
	// From is where the IPv4 address is from: "dhcp 192.0.2.1", "static", "".
	From string `json:"from,omitempty"`
	// Until is when the DHCP lease ends.
	Until time.Time `json:"until,omitzero"`
	// Asking says that DHCP servers are asked, and have not been silent for a whole round yet.
	Asking bool   `json:"asking,omitempty"`
	Error  string `json:"error,omitempty"`
}

// State is the network as it is now. Who gets one shares it with nobody.
type State struct {
	Links       []Link   `json:"links"`
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	NTP         []string `json:"ntp,omitempty"`
}

// Address is the first address that others may reach the machine at: fixed ones before those of DHCP, IPv4 before IPv6; "" if
// there is none.
func (s *State) Address() string {
	for _, v6 := range []bool{false, true} {
		for _, static := range []bool{true, false} {
			for i := range s.Links {
				l := &s.Links[i]
				if !l.Up || (l.From == "static") != static {
					continue
				}
				for _, a := range l.Addresses {
					ip, _, err := net.ParseCIDR(a)
					if err == nil && ip.IsGlobalUnicast() && (ip.To4() == nil) == v6 {
						return ip.String()
					}
				}
			}
		}
	}
	return ""
}

// Settled says whether Address is the one to be known by: an IPv6 one comes before DHCP has answered, and is not if DHCP may still do so.
func (s *State) Settled() bool {
	a := s.Address()
	return a != "" && (!strings.Contains(a, ":") || !slices.ContainsFunc(s.Links, func(l Link) bool { return l.Asking }))
}

// Manager keeps the machine connected.
type Manager struct {
	Network  settings.Network
	Hostname string
	Log      *slog.Logger
	// Changed is called with each new state, one call at a time.
	Changed func(State)
	// Sys is where sysctl files are, /proc/sys; empty: there.
	Sys string

	mu      sync.Mutex
	keepers map[string]*keeper // by interface name
	last    string
	said    map[string]bool // VLANs that cannot be made; only Run's goroutine uses it
}

// Run connects the machine until ctx ends; leases are then given back.
func (m *Manager) Run(ctx context.Context) error {
	if m.Sys == "" {
		m.Sys = "/proc/sys"
	}
	m.keepers, m.said = map[string]*keeper{}, map[string]bool{}
	updates := make(chan netlink.LinkUpdate, updatesMax)
	done := make(chan struct{})
	lost := make(chan error, 1)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ListExisting: false,
		ErrorCallback: func(err error) {
			select {
			case lost <- err:
			default:
			}
		},
	})
	if err != nil {
		return fmt.Errorf("netconf: subscribe: %w", err)
	}
	defer close(done)
	if lo, err := netlink.LinkByName("lo"); err == nil {
		if err := netlink.LinkSetUp(lo); err != nil {
			m.Log.Error("no loopback", "err", err)
		}
	}
	m.vlans()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	if err := m.look(ctx, &all); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-lost:
			m.Log.Warn("network events were lost; looking again", "err", err)
		case _, ok := <-updates:
			if !ok {
				updates = nil // the ticker goes on looking
			}
		case <-look.C:
		}
		if err := m.look(ctx, &all); err != nil {
			m.Log.Error("the network cannot be looked at", "err", err)
		}
	}
}

// look starts a keeper for each new interface that is ours, tells the others whether there is a carrier, and says what has changed.
func (m *Manager) look(ctx context.Context, all *sync.WaitGroup) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("netconf: %w", err)
	}
	m.mu.Lock()
	there := map[string]bool{}
	for _, l := range links {
		a := l.Attrs()
		there[a.Name] = true
		x, ok := m.entry(l)
		if !ok {
			continue
		}
		k := m.keepers[a.Name]
		if k != nil && k.link.Attrs().Index != a.Index { // it was unplugged, and is there again: another interface to the kernel
			k.stop()
			k = nil
		}
		if k == nil {
			k = &keeper{m: m, x: x, link: l, carrier: make(chan bool, 1)}
			m.keepers[a.Name] = k
			kctx, stop := context.WithCancel(ctx)
			k.stop = stop
			all.Go(func() { k.run(kctx) })
		}
		k.tell(a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown && a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0)
	}
	for name, k := range m.keepers {
		if !there[name] { // unplugged
			k.stop()
			delete(m.keepers, name)
		}
	}
	m.mu.Unlock()
	m.vlans()
	m.publish()
	return nil
}

// entry is what the settings say of an interface.
func (m *Manager) entry(l netlink.Link) (settings.Interface, bool) {
	a := l.Attrs()
	var rest *settings.Interface
	for i := range m.Network.Interfaces {
		x := &m.Network.Interfaces[i]
		if x.Name == a.Name || x.VLAN == 0 && strings.EqualFold(x.Name, a.HardwareAddr.String()) {
			return *x, true
		}
		if x.Name == "*" {
			rest = x
		}
	}
	if !card(l) {
		return settings.Interface{}, false
	}
	if rest != nil {
		return *rest, true
	}
	if len(m.Network.Interfaces) == 0 {
		return settings.Interface{Name: "*", DHCP: true}, true
	}
	return settings.Interface{}, false
}

// card says whether an interface is a network card, or the one end of a pair in a namespace, and not something made in software.
func card(l netlink.Link) bool {
	a := l.Attrs()
	return a.EncapType == "ether" && a.Flags&net.FlagLoopback == 0 && a.MasterIndex == 0 && (l.Type() == "device" || l.Type() == "veth")
}

// vlans makes the VLANs whose cards are there.
func (m *Manager) vlans() {
	for i := range m.Network.Interfaces {
		x := &m.Network.Interfaces[i]
		if x.VLAN == 0 {
			continue
		}
		if _, err := netlink.LinkByName(x.Name); err == nil {
			continue
		}
		on, err := netlink.LinkByName(x.On)
		if err != nil {
			continue // it may come yet
		}
		a := netlink.NewLinkAttrs()
		a.Name, a.ParentIndex = x.Name, on.Attrs().Index
		err = netlink.LinkSetUp(on)
		if err == nil {
			err = netlink.LinkAdd(&netlink.Vlan{LinkAttrs: a, VlanId: x.VLAN})
		}
		if err != nil && !errors.Is(err, unix.EEXIST) && !m.said[x.Name] {
			m.said[x.Name] = true
			m.Log.Error("no VLAN", "name", x.Name, "vlan", x.VLAN, "on", x.On, "err", err)
		}
	}
}

// publish says what has changed.
func (m *Manager) publish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := State{Nameservers: slices.Clone(m.Network.Nameservers)}
	names := make([]string, 0, len(m.keepers))
	for n := range m.keepers {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		k := m.keepers[n]
		l := k.now()
		s.Links = append(s.Links, l.Link)
		for _, a := range l.nameservers {
			if !slices.Contains(s.Nameservers, a) {
				s.Nameservers = append(s.Nameservers, a)
			}
		}
		for _, a := range l.ntp {
			if !slices.Contains(s.NTP, a) {
				s.NTP = append(s.NTP, a)
			}
		}
		if s.Domain == "" {
			s.Domain = l.domain
		}
	}
	if text := fmt.Sprint(s); text != m.last {
		m.last = text
		m.Changed(s)
	}
}

// sysctl writes a setting of an interface.
func (m *Manager) sysctl(family, link, name, value string) error {
	return os.WriteFile(filepath.Join(m.Sys, "net", family, "conf", link, name), []byte(value), 0o644)
}
