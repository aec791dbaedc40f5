package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
	"github.com/holdfast-edge/holdfast/hal/work"
)

func configCommand() command {
	return command{
		name: "config", about: "explain and check a box's configuration",
		sub: []command{
			{
				name: "show", about: "print every key with its default and what it means",
				more:  "\nExample:\n  holdfast config show > /etc/holdfast/holdfast.toml\n",
				flags: configShow,
			},
			{
				name: "check", args: "FILE", about: "check a configuration and say what it means",
				more: `
The file may be a holdfast.toml for the boot medium of an appliance, too: one with [system], [network] or [provision] (docs/boot.md).

Examples:
  holdfast config check /etc/holdfast/holdfast.toml
  holdfast config check /media/HOLDFASTESP/holdfast.toml
`,
				flags: configCheck,
			},
		},
	}
}

func configShow(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	asJSON := f.Bool("json", false, "print the defaults as JSON")
	return func(_ context.Context, s *streams, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		if !*asJSON {
			_, err := s.out.Write(config.DefaultText())
			return err
		}
		c, err := config.Default()
		if err != nil {
			return err
		}
		return printJSON(s.out, c)
	}
}

func configCheck(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	asJSON := f.Bool("json", false, "print the completed configuration as JSON")
	return func(_ context.Context, s *streams, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%w: name one file", errUsage)
		}
		if a, err := appliance(args[0]); a != nil || err != nil {
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return showAppliance(s, args[0], a, *asJSON)
		}
		c, err := config.Load(args[0])
		if err != nil {
			return err
		}
		if err := box.CheckAlarms(c); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(s.out, c)
		}
		native, err := c.NativeListen()
		if err != nil {
			return err
		}
		t := table(s.out)
		fmt.Fprintf(t, "%s is good.\n\n", args[0])
		fmt.Fprintf(t, "data\t%s; the log keeps %v in segments of %v\n", c.DataDir, c.Log.RetainSize, c.Log.SegmentSize)
		fmt.Fprintf(t, "peers\t%s; silent for about %v they count as away, for %v as dead\n", orElse(c.Peer.Listen, "where site.json says"), time.Duration(min(c.Timeouts.PeerStall+c.Timeouts.Heartbeat/2, c.Timeouts.PeerDead)), time.Duration(c.Timeouts.PeerDead))
		fmt.Fprintf(t, "native\t%s and %s\n", orElse(native, "not on the network"), orElse(c.Native.Socket, "no socket"))
		fmt.Fprintf(t, "console\t%s and %s\n", orElse(c.Console.Listen, "not on the network"), orElse(c.Console.Socket, "no socket"))
		fmt.Fprintf(t, "looking\t%s; metrics %s\n", map[string]string{"open": "takes no login", "login": "takes a login or a token"}[c.Console.View], map[string]string{"open": "are open", "login": "too"}[c.Console.Metrics])
		fmt.Fprintf(t, "leader\tgiven up after %v without a block while there is work\n", time.Duration(c.Timeouts.Round))
		fmt.Fprintf(t, "memory\tabout %v\n", c.Limits.MemorySoft)
		fmt.Fprintf(t, "alarms\t%s\n", explainAlarms(&c.Alarms))
		fmt.Fprintf(t, "hardware\t%s\n", explainHAL(&c.HAL))
		if !c.Console.Secure() && !config.Loopback(c.Console.Listen) {
			fmt.Fprintf(t, "warning\tthe console is plain text on the network\n")
		}
		return t.Flush()
	}
}

// appliance is a file that is for the boot medium of an appliance; nil when it is another or cannot be read.
func appliance(name string) (*settings.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil // who reads it next says so
	}
	b, err := io.ReadAll(io.LimitReader(f, settings.FileBytesMax+1))
	if err := errors.Join(err, f.Close()); err != nil || !settings.Is(b) {
		return nil, err
	}
	return settings.Parse(b)
}

// showAppliance says what a machine would do with a file. The token in it is not shown.
func showAppliance(s *streams, name string, f *settings.File, asJSON bool) error {
	if asJSON {
		return printJSON(s.out, f.Appliance)
	}
	a, p := &f.Appliance, &f.Provision
	t := table(s.out)
	fmt.Fprintf(t, "%s is good, for the boot medium of an appliance.\n\n", name)
	fmt.Fprintf(t, "name\t%s\n", orElse(a.System.Hostname, "holdfast- and the end of its first card's address"))
	for _, x := range a.Network.Interfaces {
		how := strings.Join(x.Addresses, ", ")
		if x.DHCP {
			how = strings.TrimPrefix(how+", DHCP", ", ")
		}
		if g := strings.Join(strings.Fields(x.Gateway+" "+x.Gateway6), ", "); g != "" {
			how += ", by way of " + g
		}
		fmt.Fprintf(t, "%s\t%s\n", x.Name, orElse(how, "no IPv4 address"))
	}
	if len(a.Network.Interfaces) == 0 {
		fmt.Fprintf(t, "network\tDHCP on each Ethernet card\n")
	}
	fmt.Fprintf(t, "time\t%s\n", orElse(strings.Join(a.System.NTP, ", "), "from the servers that DHCP names, else pool.ntp.org"))
	fmt.Fprintf(t, "watchdog\t%s\n", map[bool]string{true: "never", false: "after " + time.Duration(a.System.Watchdog).String()}[a.System.Watchdog == 0])
	switch {
	case p.Token != "":
		fmt.Fprintf(t, "site\tit joins with the token, at %s\n", strings.Join(p.Servers, ", "))
	case p.Found:
		fmt.Fprintf(t, "site\tit makes a new one\n")
	default:
		fmt.Fprintf(t, "site\tas it was; a new box waits and shows a page on its console\n")
	}
	return t.Flush()
}

// explainAlarms says who is told, without addresses.
func explainAlarms(a *config.Alarms) string {
	var kinds []string
	for kind, r := range a.Receivers() {
		if n := len(r.URLs); n > 0 {
			kinds = append(kinds, fmt.Sprintf("%s (%d, from %s)", kind, n, r.Severity))
		}
	}
	slices.Sort(kinds)
	return fmt.Sprintf("asked every %v; told to: %s", time.Duration(a.Every), orElse(strings.Join(kinds, ", "), "nobody"))
}

// explainHAL says what the box will do to the machine.
func explainHAL(h *config.HAL) string {
	var does, measured []string
	values := h.Settings()
	for _, s := range work.Settings() {
		switch v := *values[s.Key]; v {
		case "off":
		case work.Measured:
			measured = append(measured, s.Key)
		default:
			does = append(does, fmt.Sprintf("%s = %s: %s", s.Key, v, s.Does))
		}
	}
	if len(measured) > 0 {
		does = append(does, strings.Join(measured, ", ")+" as `holdfast hal calibrate` found, off where it was not run")
	}
	if len(does) == 0 {
		does = append(does, "the machine's settings are left alone")
	}
	if h.Panel {
		does = append(does, "the status light shows the site, the setup button prints the setup code to "+h.Console)
	}
	if h.Board != "" {
		does = append(does, "profile "+h.Board)
	}
	return strings.Join(does, "; ")
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func versionCommand(b Build) command {
	return command{
		name: "version", about: "say which version this is",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			asJSON := f.Bool("json", false, "print JSON")
			return func(_ context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(s.out, struct {
						Version  string `json:"version"`
						Commit   string `json:"commit"`
						Go       string `json:"go"`
						Platform string `json:"platform"`
					}{b.Version, b.Commit, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
				}
				_, err := fmt.Fprintf(s.out, "holdfast %s (%s) %s %s/%s\n", b.Version, b.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			}
		},
	}
}
