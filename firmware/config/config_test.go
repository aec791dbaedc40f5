package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestEveryKeyHasADefaultAndAComment(t *testing.T) {
	var c Config
	meta, err := toml.Decode(string(DefaultText()), &c)
	if err != nil {
		t.Fatal(err)
	}
	if un := meta.Undecoded(); len(un) > 0 {
		t.Errorf("default.toml has keys that nothing reads: %v", un)
	}
	for _, k := range keys(reflect.TypeFor[Config](), "") {
		if !meta.IsDefined(strings.Split(k, ".")...) {
			t.Errorf("%s is not in default.toml", k)
		}
	}
	// A comment stands above each key, or above the key before it in the same paragraph.
	commented := false
	for line := range strings.Lines(string(DefaultText())) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "#"):
			commented = true
		case line == "" || strings.HasPrefix(line, "["):
			commented = false
		case !commented:
			t.Errorf("no comment above %q", line)
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	c, err := Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := c.NativeListen(); got != "127.0.0.1:2380" {
		t.Errorf("native stream at %q, want the client port plus one", got)
	}
}

func TestErrorsNameTheKeyTheLineAndTheWayOut(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		is         error
		want       []string
	}{
		{"misspelt key", "name = \"a\"\n[console]\nlitsen = \"127.0.0.1:1\"\n", ErrUnknownKey, []string{"line 3", `"console.litsen"`, `did you mean "console.listen"`}},
		{"unknown table", "\n[consul]\nx = 1\n", ErrUnknownKey, []string{"line 2", "consul"}},
		{"unknown dotted key", "peer.colour = 1\n", ErrUnknownKey, []string{"line 1", `"peer.colour"`, "config show"}},
		{"unknown key in an inline table", "name=\"x\"\npeer = { colour = 1 }\n", ErrUnknownKey, []string{"line 2"}},
		{"not TOML", "name = \"a\"\nnonsense\n", ErrSyntax, []string{"line 2"}},
		{"wrong type", "[limits]\ngc_percent = \"many\"\n", ErrSyntax, []string{"gc_percent"}},
		{"bad size", "[log]\nsegment_size = \"16 elephants\"\n", ErrSyntax, []string{"16MiB"}},
		{"bad duration", "[timeouts]\nround = \"soon\"\n", ErrSyntax, []string{"250ms"}},
		{"out of range", "[limits]\nmemory_soft = \"1MiB\"\n", ErrValue, []string{"limits.memory_soft", "1MiB", "16MiB"}},
		{"dead before the heartbeat", "[timeouts]\npeer_dead = \"300ms\"\n", ErrValue, []string{"timeouts.peer_dead", "400ms"}},
		{"no port", "[peer]\nlisten = \"10.0.0.1\"\n", ErrValue, []string{"peer.listen", "host:port"}},
		{"port zero", "[client]\nlisten = \"127.0.0.1:0\"\n", ErrValue, []string{"client.listen", "1 to 65535"}},
		{"no port after the last", "[client]\nlisten = \"127.0.0.1:65535\"\n", ErrValue, []string{"native.listen"}},
		{"plain text on the network", "[console]\nlisten = \"0.0.0.0:8080\"\ntls = \"off\"\n", ErrValue, []string{"console.insecure_network"}},
		{"passkeys at an address", "[console]\npasskeys = \"10.0.0.1\"\n", ErrValue, []string{"console.passkeys", "host name"}},
		{"passkeys below .local", "[console]\npasskeys = \"box.local\"\n", ErrValue, []string{"console.passkeys", ".local"}},
		{"passkeys at a bare name", "[console]\npasskeys = \"box\"\n", ErrValue, []string{"console.passkeys"}},
		{"passkeys in capitals", "[console]\npasskeys = \"Box.example.org\"\n", ErrValue, []string{"console.passkeys", "small letters"}},
		{"passkeys in plain text", "[console]\npasskeys = \"box.example.org\"\n", ErrValue, []string{"console.passkeys", "console.tls"}},
		{"no console at all", "[console]\nlisten = \"\"\nsocket = \"\"\n", ErrValue, []string{"console.socket"}},
		{"no data directory", "data_dir = \"\"\n", ErrValue, []string{"data_dir"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.text))
			if !errors.Is(err, tc.is) {
				t.Fatalf("error %v, want %v", err, tc.is)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
		})
	}
}

func TestInsecureNetworkIsAllowedWhenSaid(t *testing.T) {
	if _, err := Parse([]byte("[console]\nlisten = \"0.0.0.0:8080\"\ninsecure_network = true\n")); err != nil {
		t.Error(err)
	}
}

func TestPasskeysAreForTheConsolesOwnName(t *testing.T) {
	for _, text := range []string{"passkeys = \"localhost\"\n", "tls = \"on\"\npasskeys = \"edge-1.example.org\"\n"} {
		if _, err := Parse([]byte("[console]\n" + text)); err != nil {
			t.Error(err)
		}
	}
}

func TestLoadMakesPathsAbsoluteFromTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "holdfast.toml")
	if err := os.WriteFile(path, []byte("data_dir = \"data\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "data", "holdfast.sock"); c.Console.Socket != want {
		t.Errorf("console socket %q, want %q", c.Console.Socket, want)
	}
}

func TestEncodeThenParseIsTheSame(t *testing.T) {
	c, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	c.Name, c.Console.Hosts, c.Log.SegmentSize = "box-0", []string{"a.example"}, 3<<20
	var b bytes.Buffer
	if err := c.Encode(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, got) {
		t.Errorf("got %+v, want %+v", got, c)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(DefaultText())
	f.Add([]byte("[log]\nsegment_size = \"1KiB\""))
	f.Add([]byte("a.b.c = {d=1}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		c, err := Parse(data)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v and error %v", c, err)
		}
	})
}
