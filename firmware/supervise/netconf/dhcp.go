package netconf

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

const (
	// answerMax is how long one request waits for its answer, and tries is how often it is sent before the pause, which grows from
	// pauseMin to pauseMax: a box that is powered on with its switch asks often at first, and does not flood a site without a server.
	answerMax = 3 * time.Second
	tries     = 3
	pauseMin  = time.Second
	pauseMax  = 30 * time.Second
	// A lease that ends sooner than leaseMin would be renewed without end.
	leaseMin = 20 * time.Second
	leaseMax = 365 * 24 * time.Hour
	// dhcpMetric is behind fixed routes, which have 0; each card's index comes on top.
	dhcpMetric = 1000
	// Of what a server may list no more is taken.
	listMax = 8
)

// errLease says that a server gave something that cannot be used.
var errLease = errors.New("the lease cannot be used")

// lease is an address on loan.
type lease struct {
	of                     *nclient4.Lease
	address                *net.IPNet
	server                 string
	renew, rebind, until   time.Time
	nameservers, ntp       []string
	domain                 string
	gateway                net.IP
	classless              dhcpv4.Routes
	addressLife, preferred int // seconds
}

// read takes what is needed of an answer.
func read(l *nclient4.Lease) (*lease, error) {
	ack := l.ACK
	ip := ack.YourIPAddr.To4()
	if ip == nil || !ip.IsGlobalUnicast() {
		return nil, fmt.Errorf("%w: the address is %v", errLease, ack.YourIPAddr)
	}
	mask := ack.SubnetMask()
	if ones, bits := mask.Size(); bits != 32 || ones == 0 {
		mask = ip.DefaultMask()
	}
	life := min(max(ack.IPAddressLeaseTime(0), leaseMin), leaseMax)
	t1 := ack.IPAddressRenewalTime(life / 2)
	t2 := ack.IPAddressRebindingTime(life * 7 / 8)
	if t1 <= 0 || t1 >= t2 || t2 >= life { // RFC 2131, 4.4.5
		t1, t2 = life/2, life*7/8
	}
	now := l.CreationTime
	x := &lease{
		of: l, address: &net.IPNet{IP: ip, Mask: mask}, server: ack.ServerIdentifier().String(),
		renew: now.Add(t1), rebind: now.Add(t2), until: now.Add(life),
		domain: printable(ack.DomainName()), classless: ack.ClasslessStaticRoute(),
		addressLife: int(life / time.Second), preferred: int(life / time.Second),
	}
	x.nameservers, x.ntp = texts(ack.DNS()), texts(ack.NTPServers())
	if r := ack.Router(); len(r) > 0 {
		x.gateway = r[0]
	}
	return x, nil
}

func texts(ips []net.IP) (s []string) {
	for _, ip := range ips[:min(len(ips), listMax)] {
		if !ip.IsUnspecified() {
			s = append(s, ip.String())
		}
	}
	return s
}

// printable keeps a name that goes to a file to what names are made of.
func printable(s string) string {
	for _, c := range s {
		if !(c == '.' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return ""
		}
	}
	return s[:min(len(s), 253)]
}

// dhcp asks for an address whenever there is a carrier, and keeps it.
func (k *keeper) dhcp(ctx context.Context) {
	pause := pauseMin
	var had *lease
	defer func() {
		if had != nil {
			k.drop(had)
		}
	}()
	for {
		if !k.awaitCarrier(ctx) {
			return
		}
		l, err := k.hold(ctx, &had)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil || l:
			pause = pauseMin
		}
		if err != nil {
			k.set(had, err)
			k.m.Log.Warn("no address from DHCP", "interface", k.name(), "err", err, "again", pause)
		}
		// So that boxes which are powered on together do not ask together (RFC 2131, 4.1).
		wait := pause/2 + rand.N(pause)
		pause = min(2*pause, pauseMax)
		select {
		case <-ctx.Done():
			return
		case <-k.carrier: // plugged in again: ask at once
			pause = pauseMin
			k.again()
		case <-time.After(wait):
		}
	}
}

// again puts back the word that was taken.
func (k *keeper) again() {
	k.mu.Lock()
	up := k.up
	k.mu.Unlock()
	select {
	case k.carrier <- up:
	default:
	}
}

// awaitCarrier returns when there is one.
func (k *keeper) awaitCarrier(ctx context.Context) bool {
	for {
		k.mu.Lock()
		up := k.up
		k.mu.Unlock()
		if up {
			select {
			case <-k.carrier:
			default:
			}
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-k.carrier:
		}
	}
}

// hold gets a lease and keeps it until it is lost, the carrier comes back from being away, or ctx ends; held says that it had one.
func (k *keeper) hold(ctx context.Context, had **lease) (held bool, err error) {
	c, err := nclient4.New(k.name(), nclient4.WithTimeout(answerMax), nclient4.WithRetry(tries), nclient4.WithHWAddr(k.link.Attrs().HardwareAddr))
	if err != nil {
		return false, fmt.Errorf("dhcp: %w", err)
	}
	defer c.Close()
	mods := k.modifiers()
	if old := *had; old != nil {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(old.address.IP)))
	}
	got, err := c.Request(ctx, mods...)
	if err != nil {
		var nak *nclient4.ErrNak
		refused := errors.As(err, &nak) // another network: the next request names no address
		if old := *had; old != nil && (refused || time.Now().After(old.until)) {
			k.drop(old)
			*had = nil
		}
		return refused, fmt.Errorf("dhcp: %w", err)
	}
	l, err := k.take(got, *had)
	if err != nil {
		return false, err
	}
	*had = l
	k.m.Log.Info("an address from DHCP", "interface", k.name(), "address", l.address, "server", l.server, "until", l.until.UTC().Format(time.RFC3339))
	for {
		next := l.renew
		if !time.Now().Before(next) {
			// After a renewal that was not answered: half of what is left, at least a minute (RFC 2131, 4.4.5).
			left := time.Until(l.rebind)
			if left < 0 {
				left = time.Until(l.until)
			}
			next = time.Now().Add(min(max(left/2, time.Minute), max(time.Until(l.until), 0)))
		}
		select {
		case <-ctx.Done():
			if e := c.Release(l.of); e != nil {
				k.m.Log.Debug("a lease was not given back", "interface", k.name(), "err", e)
			}
			return true, nil
		case up := <-k.carrier:
			if up { // perhaps another network: ask, and keep what is there until the answer
				return true, nil
			}
			continue
		case <-time.After(time.Until(next)):
		}
		got, err := c.Renew(ctx, l.of, k.modifiers()...)
		var nak *nclient4.ErrNak
		switch {
		case ctx.Err() != nil:
			continue
		case err == nil:
			renewed, err := k.take(got, l)
			if err != nil {
				return true, err
			}
			l, *had = renewed, renewed
		case errors.As(err, &nak), time.Now().After(l.until):
			k.drop(l)
			*had = nil
			return true, fmt.Errorf("dhcp: the lease of %v is over: %w", l.address, err)
		default:
			k.set(l, fmt.Errorf("dhcp: renew: %w", err))
		}
	}
}

func (k *keeper) modifiers() []dhcpv4.Modifier {
	mods := []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName,
		dhcpv4.OptionNTPServers, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue)}
	if k.m.Hostname != "" {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptHostName(k.m.Hostname)))
	}
	return mods
}

// take puts a lease on the interface in place of what it had.
func (k *keeper) take(got *nclient4.Lease, had *lease) (*lease, error) {
	l, err := read(got)
	if err != nil {
		return nil, err
	}
	if had != nil && had.address.String() != l.address.String() {
		k.drop(had)
	}
	a := &netlink.Addr{IPNet: l.address, ValidLft: l.addressLife, PreferedLft: l.preferred}
	if err := netlink.AddrReplace(k.link, a); err != nil {
		return nil, fmt.Errorf("dhcp: address %v: %w", l.address, err)
	}
	metric := dhcpMetric + k.link.Attrs().Index
	if len(l.classless) > 0 { // then the router option does not count (RFC 3442)
		for _, r := range l.classless[:min(len(l.classless), listMax)] {
			if err := k.route(r.Dest, r.Router, metric); err != nil {
				return nil, fmt.Errorf("dhcp: route %v: %w", r, err)
			}
		}
	} else if l.gateway != nil {
		if err := k.route(nil, l.gateway, metric); err != nil {
			return nil, fmt.Errorf("dhcp: gateway %v: %w", l.gateway, err)
		}
	}
	k.set(l, nil)
	return l, nil
}

// drop takes the address of a lease away; its routes go with it.
func (k *keeper) drop(l *lease) {
	if err := netlink.AddrDel(k.link, &netlink.Addr{IPNet: l.address}); err != nil {
		k.m.Log.Debug("an address was not there any more", "interface", k.name(), "address", l.address, "err", err)
	}
	k.set(nil, nil)
}
