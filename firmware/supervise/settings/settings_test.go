package settings

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

func token(t *testing.T) string {
	t.Helper()
	k, err := join.NewToken(coord.Digest{1}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k.Text()
}

const whole = `name = "box-1"
[system]
hostname = "box-1"
watchdog = "30s"
ntp = ["192.0.2.1"]
modules = ["softdog"]
[network]
nameservers = ["192.0.2.1", "2001:db8::1"]
mdns = false
[[network.interface]]
name = "eth0"
addresses = ["192.0.2.10/24", "2001:db8::10/64"]
gateway = "192.0.2.1"
gateway6 = "2001:db8::1"
ipv6 = "auto"
[[network.interface]]
name = "eth0.20"
vlan = 20
on = "eth0"
dhcp = true
[[network.interface]]
name = "*"
dhcp = true
`

func TestAGatewayMayBeWhereDHCPAndRoutersWillSay(t *testing.T) {
	for _, lines := range []string{
		"dhcp = true\ngateway = \"192.0.2.1\"\n", "gateway6 = \"2001:db8::1\"\n", "ipv6 = \"static\"\naddresses = [\"2001:db8::10/64\"]\ngateway6 = \"fe80::1\"\n",
	} {
		if _, err := Parse([]byte("[[network.interface]]\nname = \"eth0\"\n" + lines)); err != nil {
			t.Errorf("%s: %v", lines, err)
		}
	}
}

func TestAFileIsTakenApart(t *testing.T) {
	f, err := Parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	s, n := f.Appliance.System, f.Appliance.Network
	if s.Hostname != "box-1" || len(s.Modules) != 1 || time.Duration(s.Watchdog) != 30*time.Second || n.MDNS || len(n.Interfaces) != 3 || n.Interfaces[1].VLAN != 20 || f.Provision.Said {
		t.Errorf("%+v", f)
	}
	if c, err := config.Parse(f.Box); err != nil || c.Name != "box-1" || strings.Contains(string(f.Box), "eth0") {
		t.Errorf("the box's own part is %q, %v", f.Box, err)
	}
	if d, err := Parse(nil); err != nil || !d.Appliance.Network.MDNS || time.Duration(d.Appliance.System.Watchdog) != time.Minute {
		t.Errorf("an empty file: %+v, %v", d, err)
	}
}

func TestWhatIsKeptIsTheFileWithoutItsSecrets(t *testing.T) {
	secret := token(t)
	f, err := Parse([]byte(whole + "[provision]\ntoken = \"" + secret + "\"\nservers = [\"192.0.2.11:7500\"]\n"))
	if err != nil || !f.Provision.Said {
		t.Fatal(err)
	}
	clean, err := f.Clean()
	if err != nil || strings.Contains(string(clean), secret[8:]) || strings.Contains(string(clean), "provision") {
		t.Fatalf("%v\n%s", err, clean)
	}
	again, err := Parse(clean)
	if err != nil || again.Provision.Said || again.Appliance.Network.Interfaces[0].Addresses[1] != "2001:db8::10/64" || string(again.Box) != string(f.Box) {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestAMistakeIsSaidAndNoSecretWithIt(t *testing.T) {
	secret := token(t)
	half := secret[:len(secret)-1]
	card := func(lines string) string { return "[[network.interface]]\nname = \"eth0\"\n" + lines }
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"no TOML":                      {"[system", ErrSyntax},
		"no TOML behind a token":       {"[provision]\ntoken = \"" + secret + "\n", ErrSyntax},
		"a key of ours that is not":    {"[system]\nhostnam = \"a\"\n", ErrValue},
		"a key of the box that is not": {"nme = \"a\"\n", nil},
		"a host name":                  {"[system]\nhostname = \"a_b\"\n", ErrValue},
		"a host name with a line end":  {"[system]\nhostname = \"a\\nb\"\n", ErrValue},
		"a long host name":             {"[system]\nhostname = \"" + strings.Repeat("a", 64) + "\"\n", ErrValue},
		"a watchdog that fires":        {"[system]\nwatchdog = \"1s\"\n", ErrValue},
		"a watchdog that sleeps":       {"[system]\nwatchdog = \"1h\"\n", ErrValue},
		"a module that is a path":      {"[system]\nmodules = [\"../x\"]\n", ErrValue},
		"a name server by its name":    {"[network]\nnameservers = [\"ns\"]\n", ErrValue},
		"many time servers":            {"[system]\nntp = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]\n", ErrValue},
		"a card that is a path":        {"[[network.interface]]\nname = \"../eth0\"\n", ErrValue},
		"a card twice":                 {card("") + card(""), ErrValue},
		"an address without prefix":    {card("addresses = [\"192.0.2.1\"]\n"), ErrValue},
		"an address and no IPv6":       {card("addresses = [\"2001:db8::1/64\"]\nipv6 = \"off\"\n"), ErrValue},
		"a gateway of the other kind":  {card("gateway = \"2001:db8::1\"\n"), ErrValue},
		"a gateway elsewhere":          {card("addresses = [\"192.0.2.10/24\"]\ngateway = \"192.0.3.1\"\n"), ErrValue},
		"a gateway that is the box":    {card("addresses = [\"192.0.2.10/24\"]\ngateway = \"192.0.2.10\"\n"), ErrValue},
		"a gateway and no address":     {card("gateway = \"192.0.2.1\"\n"), ErrValue},
		"a VLAN on nothing":            {card("vlan = 3\n"), ErrValue},
		"a VLAN out of range":          {card("vlan = 4095\non = \"eth1\"\n"), ErrValue},
		"a small packet":               {card("mtu = 1000\n"), ErrValue},
		"half a token":                 {"[provision]\ntoken = \"" + half + "\"\nservers = [\"192.0.2.1:7500\"]\n", nil},
		"a token of other letters":     {"[provision]\ntoken = \"" + half + "z\"\nservers = [\"192.0.2.1:7500\"]\n", nil},
		"a token and no servers":       {"[provision]\ntoken = \"" + secret + "\"\n", ErrValue},
		"a token and a new site":       {"[provision]\ntoken = \"" + secret + "\"\nfound = true\nservers = [\"192.0.2.1:7500\"]\n", ErrValue},
		"a file that is too large":     {"#" + strings.Repeat("x", FileBytesMax), ErrSyntax},
	} {
		_, err := Parse([]byte(c.text))
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), half[len(half)-16:]) || len(err.Error()) > 1000 {
			t.Errorf("%s: what is shown on the console has the secret: %v", name, err)
		}
	}
}

func TestWhatAFileLeavesOutFitsAnAppliance(t *testing.T) {
	text, err := Effective([]byte("[console]\nlisten = \"192.0.2.10:80\"\n"), Facts{DataDir: "/var/lib/holdfast", Hostname: "box-7", Address: "192.0.2.10", TokenFile: "/x/token", Servers: []string{"192.0.2.11:7500"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(text)
	if err != nil || c.Name != "box-7" || c.DataDir != "/var/lib/holdfast" || c.Console.Listen != "192.0.2.10:80" || c.Peer.Listen != ":7400" || c.Client.Listen != ":2379" || c.Join.Address != "192.0.2.10" || c.Join.TokenFile != "/x/token" {
		t.Errorf("%+v, %v", c, err)
	}
	text, err = Effective([]byte("name = \"mine\"\ndata_dir = \"/elsewhere\"\n"), Facts{DataDir: "/var/lib/holdfast", Hostname: "box-7"})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := config.Parse(text); err != nil || c.Name != "mine" || c.DataDir != "/var/lib/holdfast" || c.Join.TokenFile != "" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := Effective([]byte("="), Facts{}); !errors.Is(err, ErrSyntax) {
		t.Errorf("%v", err)
	}
}
