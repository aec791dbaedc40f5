package supervise

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/supervise/netconf"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"golang.org/x/sys/unix"
)

func joinHost(host, port string) string { return net.JoinHostPort(host, port) }

// defaultHostname is made of the first card's address, which stays with the machine.
func defaultHostname(cards []net.Interface) string {
	var macs []string
	for _, c := range cards {
		if len(c.HardwareAddr) == 6 && c.Flags&net.FlagLoopback == 0 {
			macs = append(macs, c.Name+"="+fmt.Sprintf("%x", []byte(c.HardwareAddr[3:])))
		}
	}
	if len(macs) == 0 {
		return "holdfast"
	}
	slices.Sort(macs)
	_, mac, _ := strings.Cut(macs[0], "=")
	return "holdfast-" + mac
}

// setHostname gives the machine its name.
func (m *machine) setHostname() string {
	name := m.file.Appliance.System.Hostname
	if name == "" {
		cards, err := net.Interfaces()
		if err != nil {
			m.log.Error("no network cards", "err", err)
		}
		name = defaultHostname(cards)
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		m.log.Error("no host name", "err", err)
	}
	m.change(func(s *status.Status) { s.Hostname = name })
	return name
}

// writeNames writes resolv.conf and hosts (man 5) into dir.
func writeNames(dir, host string, s *netconf.State) error {
	var b strings.Builder
	if s.Domain != "" {
		fmt.Fprintf(&b, "search %s\n", s.Domain)
	}
	for _, n := range s.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", n)
	}
	hosts := "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 " + host + "\n"
	return errors.Join(replace(filepath.Join(dir, "resolv.conf"), b.String()), replace(filepath.Join(dir, "hosts"), hosts))
}

func replace(file, text string) error {
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
