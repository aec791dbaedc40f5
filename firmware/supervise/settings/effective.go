package settings

import (
	"fmt"
	"net"

	"github.com/BurntSushi/toml"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

// Ports of an appliance where its file says nothing.
const (
	PeerPort    = "7400"
	ClientPort  = "2379"
	ConsolePort = "8080"
	JoinPort    = "7500"
)

// Facts are what an appliance knows and its file need not say.
type Facts struct {
	DataDir  string
	Hostname string
	// Address is where others reach the machine; empty: it has none yet.
	Address string
	// TokenFile is where a token to join with lies; empty: there is none.
	TokenFile string
	// Servers are where it asks to be let in.
	Servers []string
}

// Effective is the box's configuration on an appliance: what box says, and for what it leaves out what fits an appliance, which
// serves all that can reach it. Errors: those of config.Parse.
func Effective(box []byte, f Facts) ([]byte, error) {
	all := map[string]any{}
	if _, err := toml.Decode(string(box), &all); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	all["data_dir"] = f.DataDir
	if n, _ := all["name"].(string); n == "" {
		all["name"] = f.Hostname
	}
	own := func(table, key string, value any) {
		t, ok := all[table].(map[string]any)
		if !ok {
			t = map[string]any{}
			all[table] = t
		}
		if _, there := t[key]; !there {
			t[key] = value
		}
	}
	own("peer", "listen", net.JoinHostPort("", PeerPort))
	own("client", "listen", net.JoinHostPort("", ClientPort))
	own("console", "listen", net.JoinHostPort("", ConsolePort))
	own("join", "listen", net.JoinHostPort("", JoinPort))
	if f.Address != "" {
		own("join", "address", f.Address)
	}
	if f.TokenFile != "" {
		own("join", "token_file", f.TokenFile)
	}
	if len(f.Servers) > 0 {
		own("join", "servers", f.Servers)
	}
	// The supervisor asks over the socket whether the box answers.
	if t, ok := all["console"].(map[string]any); ok {
		t["socket"] = Socket
	}
	out, err := encode(all)
	if err != nil {
		return nil, err
	}
	if _, err := config.Parse(out); err != nil {
		return nil, err
	}
	return out, nil
}

// Socket is the console's socket in the data directory.
const Socket = "holdfast.sock"
