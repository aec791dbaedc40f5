package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestABundleIsShownWhenItIsWholeAndRefusedWhenItIsNot(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) string {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	do := func(want int, says string, args ...string) string {
		t.Helper()
		var out, errs strings.Builder
		if code := Run(t.Context(), Build{Version: "1.2.3"}, append([]string{"update"}, args...), strings.NewReader(""), &out, &errs); code != want || !strings.Contains(out.String()+errs.String(), says) {
			t.Errorf("%q: %d\n%s%s", args, code, &out, &errs)
		}
		return strings.TrimSpace(out.String())
	}
	public, other := do(exitDone, "", "key", "--out", at("key")), do(exitDone, "", "key", "--out", at("other"))
	kernel, initrd := write("kernel", "MZ"+strings.Repeat("kernel", 300_000)), write("initrd", "070701"+strings.Repeat("initrd", 1000))
	bundle := func(want int, says string, more ...string) {
		t.Helper()
		do(want, says, append([]string{"bundle", "--key", at("key"), "--board", "qemu-virt", "--kernel", kernel, "--initrd", initrd, "--out", at("b.hfb")}, more...)...)
	}
	bundle(exitFailed, "it is arm64 or amd64", "--arch", "sparc")
	bundle(exitFailed, "is no kernel", "--arch", "arm64", "--kernel", initrd)
	bundle(exitFailed, "is no initial RAM disk", "--arch", "arm64", "--initrd", kernel)
	elsewhere := write("elsewhere", "MZ"+strings.Repeat("\x00", 0x3a)+"\x40\x00\x00\x00PE\x00\x00\x64\x86kernel")
	bundle(exitFailed, "another processor than arm64", "--arch", "arm64", "--kernel", elsewhere)
	if _, err := os.Stat(at("b.hfb")); err == nil {
		t.Error("a bundle was made of them")
	}
	bundle(exitDone, "1.2.3 for qemu-virt", "--arch", "arm64", "--min-version", "1.0.0")

	do(exitDone, "the signature was not checked", "inspect", at("b.hfb"))
	if text := do(exitDone, "as asked", "inspect", "--key", public, at("b.hfb")); !strings.Contains(text, "1.0.0 and later") || !strings.Contains(text, "qemu-virt (arm64)") {
		t.Error(text)
	}
	do(exitFailed, "not signed with a key that is trusted", "inspect", "--key", other, at("b.hfb"))
	do(exitUsage, "name one bundle", "inspect")
	whole, err := os.ReadFile(at("b.hfb"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(n int) string {
		b := []byte(string(whole))
		b[n] ^= 1
		return string(b)
	}
	for says, text := range map[string]string{
		"bytes of its initrd":  string(whole[:len(whole)-1]),
		"bytes of its kernel":  string(whole[:len(whole)/2]),
		"behind its end":       string(whole) + "x",
		"its initrd is not":    flipped(len(whole) - 1),
		"its kernel is not":    flipped(len(whole) / 2),
		"does not hold":        flipped(100), // in the manifest
		"it begins otherwise":  "x" + string(whole),
		"not a bundle of Hold": "",
	} {
		do(exitFailed, says, "inspect", "--key", public, write("bad.hfb", text))
	}
}
