package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func explained(t *testing.T, c *Config) map[string]Key {
	t.Helper()
	list, err := Explain(c)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Key{}
	for _, s := range list {
		for _, g := range s.Groups {
			if len(g.About) < 8 {
				t.Errorf("[%s] %v: the comment is %q", s.Name, g.Keys, g.About)
			}
			for _, k := range g.Keys {
				all[strings.TrimPrefix(s.Name+"."+k.Name, ".")] = k
			}
		}
	}
	return all
}

func load(t *testing.T, text string) *Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdfast.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryKeyIsExplainedWithItsCommentAndAnEmptyFileDiffersInNothing(t *testing.T) {
	all := explained(t, load(t, ""))
	for _, name := range keys(reflect.TypeFor[Config](), "") {
		k, ok := all[name]
		if !ok {
			t.Errorf("%s is not explained", name)
		}
		if k.Changed || k.Value != k.Default {
			t.Errorf("%s is %s where the default is %s", name, k.Value, k.Default)
		}
	}
	for name, want := range map[string]string{"timeouts.round": `"500ms"`, "alarms.repeat": `"4h"`, "history.keep_time": `"5m"`, "tpm.pcrs": "[]", "limits.memory_soft": `"64MiB"`} {
		if got := all[name].Value; got != want {
			t.Errorf("%s is shown as %s, not %s", name, got, want)
		}
	}
}

func TestWhatDiffersFromTheDefaultIsMarkedAlsoWherePathsFollowTheDirectory(t *testing.T) {
	c := load(t, "data_dir = \"data\"\n[limits]\ngc_percent = 200\n[console]\nhosts = [\"box.example\"]\nsocket = \"other.sock\"\n")
	for name, k := range explained(t, c) {
		want := name == "data_dir" || name == "limits.gc_percent" || name == "console.hosts" || name == "console.socket"
		if k.Changed != want {
			t.Errorf("%s: changed %v; %s, default %s", name, k.Changed, k.Value, k.Default)
		}
	}
}

func TestWhatMayBeSecretInAnAddressIsNotShown(t *testing.T) {
	c := load(t, `[alarms]
console_url = "https://ann:hunter2@box.example/hunter2"
[alarms.webhook]
urls = ["https://hooks.example/services/hunter2", "https://hooks.example?key=hunter2"]
[alarms.ntfy]
urls = ["https://ntfy.example/hunter2#hunter2"]
[alarms.alertmanager]
urls = ["http://10.0.0.9:9093"]
[alarms.syslog]
urls = ["unix:///dev/log"]
[traces]
otlp = "https://collector.example/hunter2"
`)
	all := explained(t, c)
	for name, k := range all {
		if strings.Contains(k.Value+k.Default, "hunter2") {
			t.Errorf("%s shows a secret: %s", name, k.Value)
		}
	}
	for name, want := range map[string]string{
		"alarms.ntfy.urls": `["https://ntfy.example/…"]`, "alarms.alertmanager.urls": `["http://10.0.0.9:9093"]`, "alarms.syslog.urls": `["unix:///dev/log"]`,
		"traces.otlp": `"https://collector.example/…"`, "alarms.console_url": `"https://box.example/…"`,
	} {
		if k := all[name]; k.Value != want || !k.Changed {
			t.Errorf("%s is shown as %s (changed: %v), want %s", name, k.Value, k.Changed, want)
		}
	}
}
