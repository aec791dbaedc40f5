package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
)

// provisionFlags are what a machine is told when it first starts.
type provisionFlags struct {
	config, token, servers, hostname, nic, addresses, gateway, nameservers string
	found                                                                  bool
	signs                                                                  string // the public key of the release, which the machine trusts unless its configuration has others
}

func (o *provisionFlags) declare(f *flag.FlagSet) {
	f.StringVar(&o.config, "config", "", "the `file` that configures the machine (docs/boot.md); the other flags change what it says")
	f.StringVar(&o.token, "join-token", "", "a `token` of `holdfast site join-token`: the machine joins that site when it starts; with @FILE it is in a file")
	f.StringVar(&o.servers, "server", "", "where it asks to be let in: `host:port`, several with commas")
	f.BoolVar(&o.found, "found", false, "it is the first box of a new site")
	f.StringVar(&o.hostname, "hostname", "", "the machine's `name`")
	f.StringVar(&o.nic, "interface", "eth0", "the network card that has --address: a `name`")
	f.StringVar(&o.addresses, "address", "", "an `address` with its prefix such as 192.0.2.10/24, several with commas; without it DHCP")
	f.StringVar(&o.gateway, "gateway", "", "the IPv4 `address` of the router")
	f.StringVar(&o.nameservers, "nameserver", "", "the `address` of a name server, several with commas")
}

// file is the provisioning file; nil when there is nothing to say.
func (o *provisionFlags) file() ([]byte, error) {
	all := map[string]any{}
	if o.config != "" {
		if _, err := toml.DecodeFile(o.config, &all); err != nil {
			return nil, fmt.Errorf("%s: %w", o.config, err)
		}
	}
	table := func(name string) map[string]any {
		t, ok := all[name].(map[string]any)
		if !ok {
			t = map[string]any{}
			all[name] = t
		}
		return t
	}
	token := o.token
	if name, ok := strings.CutPrefix(token, "@"); ok {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		token = strings.TrimSpace(string(b))
	}
	if token != "" {
		table("provision")["token"] = token
	}
	if o.servers != "" && token == "" {
		return nil, fmt.Errorf("%w: --server needs --join-token", errUsage)
	}
	if o.signs != "" {
		if t := table("update"); t["keys"] == nil {
			t["keys"] = []string{o.signs}
		}
	}
	if o.servers != "" {
		table("provision")["servers"] = strings.Split(o.servers, ",")
	}
	if o.found {
		table("provision")["found"] = true
	}
	if o.hostname != "" {
		table("system")["hostname"] = o.hostname
	}
	if o.nameservers != "" {
		table("network")["nameservers"] = strings.Split(o.nameservers, ",")
	}
	switch {
	case o.addresses != "":
		nic := map[string]any{"name": o.nic, "addresses": strings.Split(o.addresses, ",")}
		if o.gateway != "" {
			nic["gateway"] = o.gateway
		}
		table("network")["interface"] = []map[string]any{nic}
	case o.gateway != "":
		return nil, fmt.Errorf("%w: --gateway needs --address", errUsage)
	}
	if len(all) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	e := toml.NewEncoder(&b)
	e.Indent = ""
	if err := e.Encode(all); err != nil {
		return nil, err
	}
	// What the machine would not take is better said here.
	if _, err := settings.Parse(b.Bytes()); err != nil {
		return nil, fmt.Errorf("%w: the machine's settings: %w", errUsage, err)
	}
	return b.Bytes(), nil
}
