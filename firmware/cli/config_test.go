package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFileForABootMediumIsCheckedAsOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "holdfast.toml")
	for _, c := range []struct {
		text string
		code int
		says []string
	}{
		{"name = \"a\"\n", exitDone, []string{"is good.", "peers"}},
		{
			"[system]\nhostname = \"box-1\"\nwatchdog = \"0s\"\n[[network.interface]]\nname = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\ngateway = \"192.0.2.1\"\n[provision]\nfound = true\n", exitDone,
			[]string{"boot medium", "box-1", "192.0.2.10/24, by way of 192.0.2.1", "never", "makes a new one"},
		},
		{"[provision]\nservers = [\"192.0.2.1:7500\"]\n", exitDone, []string{"DHCP on each", "waits and shows a page"}},
		{"[system]\nhostnam = \"box-1\"\n", exitFailed, []string{"line 2: ", "there is no key system.hostnam"}},
		{"[system]\n[update]\nkeys = [\"abc\"]\n", exitFailed, []string{"update.keys has \"abc\"", "holdfast update key"}},
		{"[update]\nkeys = [\"abc\"]\n", exitFailed, []string{"update.keys has \"abc\""}},
		{"[system\n", exitFailed, []string{"cannot be read"}},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		if code := Run(t.Context(), Build{}, []string{"config", "check", file}, strings.NewReader(""), &out, &errs); code != c.code {
			t.Errorf("%q: %d\n%s%s", c.text, code, &out, &errs)
		}
		for _, s := range c.says {
			if !strings.Contains(out.String()+errs.String(), s) {
				t.Errorf("%q: no %q in\n%s%s", c.text, s, &out, &errs)
			}
		}
	}
}
