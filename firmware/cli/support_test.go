package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
)

// unpacked is the files of a bundle by their names.
func unpacked(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "holdfast-support/")] = string(b)
	}
}

func (b *ownBox) bundle(addr string) (m *manifest, files map[string]string, said string) {
	b.t.Helper()
	out := filepath.Join(b.t.TempDir(), "bundle.tar.gz")
	said = b.at(addr, "", exitDone, "Look into it before you send it", "support-bundle", "--config", b.file, "--out", out)
	info, err := os.Stat(out)
	if err != nil || info.Mode().Perm() != 0o600 {
		b.t.Errorf("%v %v", info.Mode(), err)
	}
	files = unpacked(b.t, out)
	m = new(manifest)
	if err := json.Unmarshal([]byte(files["manifest.json"]), m); err != nil {
		b.t.Fatal(err)
	}
	return m, files, said
}

// Secrets are wherever they can be: files, configuration, environment, keys and values of programs, the audit log, the log.
func TestASupportBundleHasNoSecrets(t *testing.T) {
	const (
		key, value   = "/customers/mueller-secret-name", "a-value-that-nobody-may-see-1"
		code         = "ABCD-EFGH-IJKL-MN23"
		leftBehind   = "what-a-crash-left-behind-2"
		comment      = "a-password-in-a-comment-3"
		otherToken   = "a-token-of-no-known-form-4"
		passphrase   = "the passphrase of the disk 5"
		deniedBearer = "hf1.bearer-that-is-none-6"
		topic        = "http://127.0.0.1:1/a-topic-that-nobody-guesses-7"
		ntfyToken    = "the-token-of-the-receiver-8"
	)
	b := newOwnBox(t)
	plant := func(name, text string) {
		if err := os.WriteFile(filepath.Join(b.c.DataDir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plant("setup.code", code+"\n")
	plant("note.txt", leftBehind)
	plant("pass.txt", passphrase+"\n")
	plant("join.token", otherToken+"\n")
	plant("ntfy.token", ntfyToken+"\n")
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "\n[join]\ntoken_file = "+quote(filepath.Join(b.c.DataDir, "join.token"))+" # "+comment+"\nservers = [\"127.0.0.1:1\"]\n[alarms.ntfy]\nurls = ["+quote(topic)+"]\ntoken_file = "+
		quote(filepath.Join(b.c.DataDir, "ntfy.token"))+"\n"...)
	if err := os.WriteFile(b.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if b.c, err = config.Load(b.file); err != nil {
		t.Fatal(err)
	}
	b.c.Join.TokenFile = "" // it is in a site
	printed := "a line before it: code " + code + " token " + otherToken + " key:" + key + "\npanic: the reason\n\ngoroutine 1 [running]:\n"
	if err := crash.Save(b.c.DataDir, &crash.Report{At: time.Unix(1e9, 0), How: "exit status 2", Text: []byte(printed)}); err != nil {
		t.Fatal(err)
	}
	b.start()
	token := b.issue("--actions", "kv.get", "--resources", "key:"+key)
	join := b.here(exitDone, "HF1", "site", "join-token")
	join, _, _ = strings.Cut(join, "\n")
	b.here(exitDone, "revision", "kv", "put", key, value)
	b.here(exitDone, "done", "setting", "put", "client", `{"access":"token"}`)
	b.far(exitFailed, "denied", "kv", "put", key, value)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.c.Console.Listen+"/api/v1/audit?password="+annPassword, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+deniedBearer)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	b.here(exitDone, key, "audit", "list") // so it is there to be taken out
	t.Setenv(remote.TokenEnv, token)

	m, files, progress := b.bundle(b.socket())
	for name, text := range files {
		for _, s := range []string{
			key, "mueller", value, code, leftBehind, comment, otherToken, passphrase, token, token[len(token)-30:], join, join[len(join)-32:], annPassword, deniedBearer[4:], "PRIVATE KEY",
			topic, "nobody-guesses", ntfyToken,
		} {
			if i := strings.Index(text, s); i >= 0 {
				t.Errorf("%s has %q: %s", name, s, text[max(0, i-100):min(len(text), i+60)])
			}
		}
		if !strings.Contains(progress, name) && name != "manifest.json" {
			t.Errorf("nobody was told of %s", name)
		}
	}
	for _, name := range []string{
		"config.toml", "versions.json", "hal.json", "site.json", "disk.json", "status.json", "members.json", "epochs.json", "decisions.json", "trust.json", "audit.jsonl", "metrics.txt",
		"goroutines.txt", "log.txt", "history.json",
	} {
		if files[name] == "" {
			t.Errorf("no %s: %v", name, m.Missing)
		}
	}
	for name, want := range map[string]string{
		"goroutines.txt": "firmware/box", "log.txt": "box starts", "audit.jsonl": "token.issue", "status.json": `"verdict"`, "metrics.txt": "coord_height", "disk.json": "audit.db",
		"config.toml": "segment_size", "crash/20010909T014640.000Z.txt": "panic: the reason",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not have %q: %.300s", name, want, files[name])
		}
	}
	if m.Redacted["keys of programs"] == 0 || len(m.Rules) < 8 {
		t.Errorf("the manifest says of what was taken out: %v", m.Redacted)
	}
	t.Setenv(remote.TokenEnv, "")
	if m, files, _ := b.bundle("http://" + b.c.Console.Listen); files["status.json"] == "" || files["config.toml"] != "" || !strings.Contains(m.Missing["goroutines.txt"], "own socket") {
		t.Errorf("over the network: %v", m.Missing)
	}
}

func TestASupportBundleIsMadeOfABoxThatDoesNotRun(t *testing.T) {
	b := newOwnBox(t)
	m, files, _ := b.bundle(b.socket())
	if !strings.Contains(m.Missing["the box"], "no box answers") || files["site.json"] == "" || files["disk.json"] == "" || files["config.toml"] == "" {
		t.Errorf("%v: %v", m.Missing, m.Files)
	}
	if err := os.WriteFile(b.file, []byte("data_dir = \"/x\"\nsecret = \"a-value-of-an-unknown-key\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, files, _ = b.bundle(b.socket())
	all, err := json.Marshal(files)
	if err != nil || strings.Contains(string(all), "a-value-of-an-unknown-key") || !strings.Contains(m.Missing["configuration"], "config check") {
		t.Errorf("%v %s", m.Missing, all)
	}
}

func TestASupportBundleIsBounded(t *testing.T) {
	b := &bundler{s: &streams{err: io.Discard}, red: newRedactor(), fileMax: 1000, max: 5000}
	for range 8 {
		b.add("big", bytes.Repeat([]byte("line of text\n"), 100))
	}
	if b.bytes > b.max || !b.m.Files[0].Cut || b.m.Files[0].Bytes != b.fileMax || b.m.Files[7].Bytes != 0 {
		t.Errorf("%d bytes: %+v", b.bytes, b.m.Files)
	}
}

func TestSecretsAreKnownByTheirForm(t *testing.T) {
	r := newRedactor()
	for text, want := range map[string]string{
		"-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----": redacted,
		`{"token":"hf1.AQE-x_y"}`:                   `{"token":"hf1.[redacted]"}`,
		"proof hfp1.AAAA end":                       "proof hfp1.[redacted] end",
		"HF1" + strings.Repeat("a1", 32) + "::b:cd": "HF1[redacted]",
		"Authorization: Bearer abcdef":              "Authorization: Bearer [redacted]",
		"https://bot:pw@hooks.example/x":            "https://[redacted]@hooks.example/x",
		"code ABCD-EFGH-IJKL-MN23.":                 "code [redacted].",
		`"password":"x y","a":1`:                    `"password":"[redacted]","a":1`,
		`password="x y" a=1`:                        `password="[redacted]" a=1`,
		"passphrase=abc":                            "passphrase=[redacted]",
		"denied kv.put on key:a/b, no token":        "denied kv.put on key:[redacted], no token",
		"box:0123456789abcdef epoch 3":              "box:0123456789abcdef epoch 3",
		`msg="the passphrase is wrong" box=alone`:   `msg="the passphrase is wrong" box=alone`,
	} {
		if got := string(r.text([]byte(text))); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	got := string(r.lines([]byte(`{"key":"a","value":"b","values":[[1,"2"]],"password":"c","token_file":"/x","epoch":3}` + "\n" + `{"keys":["a"]}`)))
	if want := `{"epoch":3,"key":"[redacted]","password":"[redacted]","token_file":"/x","value":"[redacted]","values":[[1,"2"]]}` + "\n" + `{"keys":"[redacted]"}` + "\n"; got != want {
		t.Errorf("%s", got)
	}
}
