package netconf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// keeper keeps one interface connected.
type keeper struct {
	m       *Manager
	x       settings.Interface
	link    netlink.Link
	carrier chan bool // the newest word
	stop    context.CancelFunc

	mu    sync.Mutex
	up    bool
	lease *lease // nil: none
	err   error
}

// linkNow is an interface, and what its DHCP server says beside the address.
type linkNow struct {
	Link
	nameservers, ntp []string
	domain           string
}

func (k *keeper) name() string { return k.link.Attrs().Name }

// tell says whether there is a carrier.
func (k *keeper) tell(up bool) {
	k.mu.Lock()
	was := k.up
	k.up = up
	k.mu.Unlock()
	if was == up {
		return
	}
	select {
	case <-k.carrier:
	default:
	}
	k.carrier <- up
}

func (k *keeper) set(l *lease, err error) {
	k.mu.Lock()
	k.lease, k.err = l, err
	k.mu.Unlock()
	k.m.publish()
}

// now is how the interface is.
func (k *keeper) now() linkNow {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.link.Attrs()
	n := linkNow{Link: Link{Name: a.Name, MAC: a.HardwareAddr.String(), Up: k.up, Asking: k.x.DHCP && k.up && k.lease == nil && k.err == nil}}
	if k.err != nil {
		n.Error = k.err.Error()
	}
	all, err := netlink.AddrList(k.link, netlink.FAMILY_ALL)
	if err != nil {
		return n // it has just gone
	}
	for i := range all {
		if all[i].IP.IsLinkLocalUnicast() || all[i].Flags&unix.IFA_F_TENTATIVE != 0 {
			continue
		}
		n.Addresses = append(n.Addresses, all[i].IPNet.String())
	}
	switch {
	case k.lease != nil:
		n.From, n.Until = "dhcp "+k.lease.server, k.lease.until
		n.nameservers, n.ntp, n.domain = k.lease.nameservers, k.lease.ntp, k.lease.domain
	case len(k.x.Addresses) > 0:
		n.From = "static"
	}
	return n
}

// run sets the interface up, again until it can, and then serves DHCP's clock.
func (k *keeper) run(ctx context.Context) {
	wait := againMin
	for {
		err := k.prepare()
		if err == nil {
			break
		}
		k.set(nil, err)
		k.m.Log.Error("an interface cannot be set up", "interface", k.name(), "err", err, "again", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, againMax)
	}
	k.set(nil, nil)
	if k.x.DHCP {
		k.dhcp(ctx)
	}
}

// prepare brings the interface up, with its fixed addresses and routes.
func (k *keeper) prepare() error {
	if err := k.ipv6(); err != nil {
		return err
	}
	if k.x.MTU != 0 {
		if err := netlink.LinkSetMTU(k.link, k.x.MTU); err != nil {
			return fmt.Errorf("mtu: %w", err)
		}
	}
	if err := netlink.LinkSetUp(k.link); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	for _, a := range k.x.Addresses {
		at, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if err := netlink.AddrReplace(k.link, at); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	for _, g := range []string{k.x.Gateway, k.x.Gateway6} {
		if g == "" {
			continue
		}
		if err := k.route(nil, net.ParseIP(g), 0); err != nil {
			return fmt.Errorf("gateway %s: %w", g, err)
		}
	}
	return nil
}

// ipv6 says to the kernel what it does by itself. A machine without IPv6 has no such files.
func (k *keeper) ipv6() error {
	off, ra := "0", "1"
	switch k.x.IPv6 {
	case "off":
		off = "1"
	case "static":
		ra = "0"
	}
	for _, s := range [][2]string{{"accept_ra", ra}, {"autoconf", ra}, {"disable_ipv6", off}} {
		if err := k.m.sysctl("ipv6", k.name(), s[0], s[1]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("ipv6: %w", err)
		}
	}
	return nil
}

// route puts a route in, nil: the default one. Cards that come later in the machine's order are the worse choice.
func (k *keeper) route(to *net.IPNet, via net.IP, metric int) error {
	r := &netlink.Route{LinkIndex: k.link.Attrs().Index, Dst: to, Gw: via, Priority: metric}
	if to == nil {
		r.Dst = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if via.To4() == nil {
			r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
	}
	if via == nil || via.IsUnspecified() {
		r.Gw, r.Scope = nil, netlink.SCOPE_LINK
	} else if via.To4() != nil {
		// A gateway outside of the address's prefix, as some servers give it with a /32.
		r.Flags = int(netlink.FLAG_ONLINK)
	}
	return netlink.RouteReplace(r)
}
