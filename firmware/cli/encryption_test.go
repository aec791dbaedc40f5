package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/hal/tpm/tpmtest"
	"github.com/holdfast-edge/holdfast/store"
)

// said runs a command line and gives its exit code and what it said.
func said(t *testing.T, stdin string, args ...string) (int, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := Run(t.Context(), Build{"v0", "abc"}, args, strings.NewReader(stdin), &out, &errs)
	return code, out.String() + errs.String()
}

func TestAStoppedBoxIsEncryptedGivenAnotherPassphraseAndDecrypted(t *testing.T) {
	id, m, siteFile := member(t)
	dir := filepath.Dir(siteFile)
	device, _ := tpmtest.Start(t)
	box := func(name, encryption string) string {
		path := filepath.Join(t.TempDir(), name)
		text := fmt.Sprintf("data_dir = %q\n[tpm]\ndevice = %q\n[encryption]\n%s\n", dir, device, encryption)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	off, asked, chip := box("off.toml", ""), box("asked.toml", `key = "passphrase"`), box("chip.toml", `key = "tpm"`)
	s, err := store.Open(dir, store.Options{Site: m.Site, Box: id.ID()})
	if err != nil {
		t.Fatal(err)
	}
	if code, text := said(t, "a passphrase\na passphrase\n", "encryption", "enable", "--config", asked); code != exitFailed || !strings.Contains(text, "stop the box first") {
		t.Errorf("%d while the box runs: %s", code, text)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		config, stdin string
		args          []string
		code          int
		says          string
	}{
		{off, "", []string{"status"}, exitDone, "in clear"},
		{off, "", []string{"enable"}, exitFailed, "set encryption.key"},
		{asked, "", []string{"disable"}, exitFailed, "not encrypted"},
		{asked, "one passphrase\nanother one\n", []string{"enable"}, exitFailed, "not the same"},
		{asked, "short\nshort\n", []string{"enable"}, exitFailed, "8 to 1024 bytes"},
		{asked, "one passphrase\none passphrase\n", []string{"enable"}, exitDone, "opened by passphrase"},
		{asked, "", []string{"status", "--json"}, exitDone, `"key":"passphrase"`},
		{asked, "one passphrase\none passphrase\n", []string{"enable"}, exitFailed, "encrypted already"},
		{asked, "wrong\nwrong\nwrong\n", []string{"disable"}, exitFailed, "wrong passphrase"},
		{asked, "one passphrase\ntwo passphrases\ntwo passphrases\n", []string{"rekey"}, exitDone, "opened by passphrase now"},
		{asked, "two passphrases\n", []string{"rekey", "--new-config", chip}, exitDone, "opened by tpm now"},
		{asked, "two passphrases\n", []string{"disable"}, exitFailed, "wrapped in another way"},
		{chip, "", []string{"rekey", "--data"}, exitDone, "opened by tpm now"},
		{chip, "", []string{"rekey", "--new-config", off}, exitUsage, "disable"},
		{chip, "", []string{"disable"}, exitDone, "in clear"},
		{off, "", []string{"status", "--json"}, exitDone, `"encrypted":false`},
	} {
		args := append([]string{"encryption"}, step.args...)
		code, text := said(t, step.stdin, append(args, "--config", step.config)...)
		if code != step.code || !strings.Contains(text, step.says) {
			t.Fatalf("%v ends with %d: %s; want %d and %q", step.args, code, text, step.code, step.says)
		}
		for _, secret := range []string{"one passphrase", "two passphrases"} {
			if strings.Contains(text, secret) {
				t.Errorf("%v shows the passphrase: %s", step.args, text)
			}
		}
	}
	s, err = store.Open(dir, store.Options{Site: m.Site, Box: id.ID()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAKeyIsSealedAndUnsealedOnTheCommandLine(t *testing.T) {
	id, _, siteFile := member(t)
	dir := filepath.Dir(siteFile)
	device, _ := tpmtest.Start(t)
	file := filepath.Join(t.TempDir(), "box.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "data_dir = %q\n[tpm]\ndevice = %q\n", dir, device), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ verb, says string }{
		{"show", "identity.key"}, {"seal", "sealed by the TPM"}, {"show", "identity.tpm"}, {"unseal", "identity.key"},
	} {
		code, text := said(t, "", "identity", step.verb, "--config", file)
		if code != exitDone || !strings.Contains(text, step.says) || !strings.Contains(text, id.ID().String()) {
			t.Errorf("%s ends with %d: %s", step.verb, code, text)
		}
	}
}
