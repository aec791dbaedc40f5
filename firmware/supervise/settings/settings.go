// Package settings reads what an appliance is told about itself in holdfast.toml on its boot medium: its host name, its network,
// its clock, its watchdog, how it comes into a site, and the configuration of the box. It checks and takes apart; it changes
// nothing.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

// Bounds of what a file may say.
const (
	// FileBytesMax bounds the file: the commented example has 4 KiB.
	FileBytesMax  = 256 << 10
	interfacesMax = 64 // network cards and VLANs of one box
	addressesMax  = 16 // of one interface
	serversMax    = 8  // of names and of time
	modulesMax    = 32 // that no device asks for
	vlanMax       = 4094
	mtuMin        = 1280 // IPv6 (RFC 8200, 5)
	mtuMax        = 65535
	// A watchdog below watchdogMin would fire while a slow card syncs; beyond watchdogMax a box is away for too long.
	watchdogMin = 10 * time.Second
	watchdogMax = 10 * time.Minute
)

var (
	// ErrSyntax says that the file cannot be read.
	ErrSyntax = errors.New("cannot be read")
	// ErrValue says that a value cannot be.
	ErrValue = errors.New("bad value")
)

// System is what the appliance does for the box.
type System struct {
	// Hostname is the machine's name, and in mDNS HOSTNAME.local. Empty: holdfast- and the end of the first network card's address.
	Hostname string `toml:"hostname"`
	// Watchdog is after how long the hardware resets the machine when the box does not answer; 0s: never.
	Watchdog config.Duration `toml:"watchdog"`
	// NTP are time servers; those that DHCP names come behind them. ["none"]: no time from the network.
	NTP []string `toml:"ntp"`
	// Modules are kernel modules that no device asks for.
	Modules []string `toml:"modules"`
}

// Network is how the appliance is connected.
type Network struct {
	// Nameservers are asked before those of DHCP.
	Nameservers []string `toml:"nameservers"`
	// MDNS says whether the appliance answers to HOSTNAME.local.
	MDNS bool `toml:"mdns"`
	// Interfaces; empty: each Ethernet card asks DHCP, and takes IPv6 as routers announce it.
	Interfaces []Interface `toml:"interface"`
}

// Interface is one network card or VLAN.
type Interface struct {
	// Name is the kernel's name such as eth0, an Ethernet address, or "*" for every card that no other entry names.
	Name string `toml:"name"`
	// VLAN makes Name a VLAN with this number on the card On.
	VLAN int    `toml:"vlan"`
	On   string `toml:"on"`
	// DHCP asks a server for an IPv4 address; without it the interface has Addresses alone.
	DHCP bool `toml:"dhcp"`
	// Addresses are such as 192.0.2.10/24 and 2001:db8::10/64.
	Addresses []string `toml:"addresses"`
	Gateway   string   `toml:"gateway"`
	Gateway6  string   `toml:"gateway6"`
	// IPv6 is "auto" (addresses and routers as announced), "static" or "off".
	IPv6 string `toml:"ipv6"`
	MTU  int    `toml:"mtu"`
}

// Provision is how the box comes into a site. It is used once.
type Provision struct {
	// Said says that the file has the table.
	Said bool `toml:"-" json:"-"`
	// Token is what `holdfast site join-token` printed: a secret.
	Token string `toml:"token"`
	// Servers are the joining ports of boxes of the site, host:port.
	Servers []string `toml:"servers"`
	// Found makes this box the first one of a new site.
	Found bool `toml:"found"`
}

// Appliance is what stays.
type Appliance struct {
	System  System  `toml:"system"`
	Network Network `toml:"network"`
}

// File is holdfast.toml taken apart.
type File struct {
	Appliance Appliance
	Provision Provision
	// Box is the rest: the configuration of the box as TOML.
	Box []byte
}

// Default is an empty file.
func Default() *File {
	return &File{Appliance: Appliance{
		System:  System{Watchdog: config.Duration(time.Minute)},
		Network: Network{MDNS: true},
	}}
}

// Parse reads and checks a file. Errors: ErrSyntax, ErrValue, or those of config.Parse.
func Parse(data []byte) (*File, error) {
	if len(data) > FileBytesMax {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrSyntax, FileBytesMax)
	}
	f := Default()
	var known struct {
		Appliance
		Provision Provision `toml:"provision"`
	}
	known.Appliance = f.Appliance
	meta, err := toml.Decode(string(data), &known)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, fmt.Errorf("line %d: %w: %s", pe.Position.Line, ErrSyntax, pe.Message)
		}
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	for _, k := range meta.Undecoded() {
		if ours(k[0]) {
			return nil, fmt.Errorf("line %d: %w: there is no key %s", lineOf(data, k), ErrValue, k)
		}
	}
	f.Appliance, f.Provision = known.Appliance, known.Provision
	f.Provision.Said = meta.IsDefined("provision")
	if f.Box, err = rest(data); err != nil {
		return nil, err
	}
	if _, err := config.Parse(f.Box); err != nil {
		return nil, err
	}
	if err := f.Appliance.check(); err != nil {
		return nil, err
	}
	return f, f.Provision.check()
}

// lineOf is where a key, or a table, first stands in a file that could be read.
func lineOf(data []byte, key toml.Key) int {
	in, name := strings.Join(key[:len(key)-1], "."), key[len(key)-1]
	at, n := "", 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			at = strings.Trim(line, "[] ")
			if at == strings.Join(key, ".") {
				break
			}
		} else if word, _, ok := strings.Cut(line, "="); ok && at == in && strings.Trim(word, "\"' \t") == name {
			break
		}
	}
	return n
}

// Is says whether a file is one for a boot medium: it has a table that the configuration of a box has not.
func Is(data []byte) bool {
	all := map[string]any{}
	if _, err := toml.Decode(string(data), &all); err != nil {
		return false
	}
	for k := range all {
		if ours(k) {
			return true
		}
	}
	return false
}

// ours says whether a table is about the appliance and not about the box.
func ours(table string) bool { return table == "system" || table == "network" || table == "provision" }

// rest is the file without our tables.
func rest(data []byte) ([]byte, error) {
	all := map[string]any{}
	if _, err := toml.Decode(string(data), &all); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	for k := range all {
		if ours(k) {
			delete(all, k)
		}
	}
	return encode(all)
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := toml.NewEncoder(&b)
	e.Indent = ""
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return b.Bytes(), nil
}

// Clean is the file without its secrets, as TOML that Parse reads.
func (f *File) Clean() ([]byte, error) {
	all := map[string]any{}
	if _, err := toml.Decode(string(f.Box), &all); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	all["system"], all["network"] = f.Appliance.System, f.Appliance.Network
	return encode(all)
}

// hostname is a label of a host name (RFC 1123, 2.1).
func hostname() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)
}

// moduleName is a name of a kernel module (MODULE_NAME_LEN), and no path.
func moduleName() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9_-]{1,55}$`) }

// linkName is what the kernel takes as a name (IFNAMSIZ, dev_valid_name), without what would be odd in a file.
func linkName() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}$`) }

func (a *Appliance) check() error {
	s := &a.System
	if s.Hostname != "" && !hostname().MatchString(s.Hostname) {
		return fmt.Errorf("%w: system.hostname = %q; it is letters, digits and -, at most 63", ErrValue, s.Hostname)
	}
	if w := time.Duration(s.Watchdog); w != 0 && (w < watchdogMin || w > watchdogMax) {
		return fmt.Errorf("%w: system.watchdog = %v; it is 0s, or from %v to %v", ErrValue, w, watchdogMin, watchdogMax)
	}
	if len(s.Modules) > modulesMax || slices.ContainsFunc(s.Modules, func(n string) bool { return !moduleName().MatchString(n) }) {
		return fmt.Errorf("%w: system.modules = %.200q; it is names of at most %d modules", ErrValue, s.Modules, modulesMax)
	}
	if len(s.NTP) > serversMax || len(a.Network.Nameservers) > serversMax {
		return fmt.Errorf("%w: at most %d servers of time and of names", ErrValue, serversMax)
	}
	for _, n := range a.Network.Nameservers {
		if _, err := netip.ParseAddr(n); err != nil {
			return fmt.Errorf("%w: network.nameservers: %q is no address", ErrValue, n)
		}
	}
	if len(a.Network.Interfaces) > interfacesMax {
		return fmt.Errorf("%w: more than %d network.interface", ErrValue, interfacesMax)
	}
	seen := map[string]bool{}
	for i := range a.Network.Interfaces {
		x := &a.Network.Interfaces[i]
		if err := x.check(); err != nil {
			return err
		}
		if seen[strings.ToLower(x.Name)] {
			return fmt.Errorf("%w: two network.interface have the name %q", ErrValue, x.Name)
		}
		seen[strings.ToLower(x.Name)] = true
	}
	return nil
}

// isMAC says whether name is an Ethernet address.
func isMAC(name string) bool { return len(name) == 17 && strings.Count(name, ":") == 5 }

func (x *Interface) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: network.interface %q: %s", ErrValue, x.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case x.Name != "*" && !isMAC(x.Name) && !linkName().MatchString(x.Name):
		return bad("name is a card such as eth0, an Ethernet address, or *")
	case (x.VLAN != 0) != (x.On != ""):
		return bad("vlan and on belong together")
	case x.VLAN < 0 || x.VLAN > vlanMax:
		return bad("vlan = %d; it is from 1 to %d", x.VLAN, vlanMax)
	case x.VLAN != 0 && !linkName().MatchString(x.Name):
		return bad("a VLAN needs a name of its own, such as eth0.20")
	case x.MTU != 0 && (x.MTU < mtuMin || x.MTU > mtuMax):
		return bad("mtu = %d; it is from %d to %d", x.MTU, mtuMin, mtuMax)
	case x.IPv6 != "" && x.IPv6 != "auto" && x.IPv6 != "static" && x.IPv6 != "off":
		return bad("ipv6 = %q; it is auto, static or off", x.IPv6)
	case len(x.Addresses) > addressesMax:
		return bad("more than %d addresses", addressesMax)
	}
	v6 := false
	var networks []netip.Prefix
	for _, a := range x.Addresses {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return bad("%q is no address with its prefix, such as 192.0.2.10/24", a)
		}
		v6 = v6 || p.Addr().Is6()
		networks = append(networks, p)
	}
	if v6 && x.IPv6 == "off" {
		return bad("it has an IPv6 address, and ipv6 = \"off\"")
	}
	for _, g := range []struct {
		key, value string
		four       bool
	}{{"gateway", x.Gateway, true}, {"gateway6", x.Gateway6, false}} {
		if g.value == "" {
			continue
		}
		a, err := netip.ParseAddr(g.value)
		if err != nil || a.Is4() != g.four {
			return bad("%s = %q is no such address", g.key, g.value)
		}
		// The kernel takes no gateway that it does not know how to reach. What DHCP and routers will say is not known here.
		known := g.four && x.DHCP || !g.four && (a.IsLinkLocalUnicast() || x.IPv6 == "" || x.IPv6 == "auto")
		if !known && !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) && n.Addr() != a }) {
			return bad("%s = %q is in the network of none of its addresses", g.key, g.value)
		}
	}
	return nil
}

func (p *Provision) check() error {
	if p.Token != "" {
		if p.Found {
			return fmt.Errorf("%w: provision.token joins a site and provision.found makes one; use one of them", ErrValue)
		}
		if _, err := join.ParseToken(p.Token); err != nil {
			return fmt.Errorf("provision.token: %w", err)
		}
		if len(p.Servers) == 0 {
			return fmt.Errorf("%w: provision.token needs provision.servers, the joining ports of boxes of the site", ErrValue)
		}
	}
	if len(p.Servers) > serversMax {
		return fmt.Errorf("%w: at most %d provision.servers", ErrValue, serversMax)
	}
	return nil
}
