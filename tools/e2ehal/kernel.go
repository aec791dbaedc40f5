package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The kernel, pinned. Debian drops old ones from its archive after some months: then apt says that
// it is not there, and these four lines want the values of a newer one (apt-cache show).
const (
	kernelRelease = "6.12.117+deb12-arm64"
	kernelVersion = "6.12.117-1~deb12u1"
	kernelSuite   = "http://deb.debian.org/debian-security bookworm-security"
	kernelSHA256  = "29593b2ac908b9325be67b2bfb7252310d8500680bc05e89d540a9378abd01a1"
)

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// kernel is the tree of an unpacked kernel package.
type kernel struct{ dir string }

func (k kernel) image() string   { return filepath.Join(k.dir, "boot/vmlinuz-"+kernelRelease) }
func (k kernel) modules() string { return filepath.Join(k.dir, "lib/modules", kernelRelease) }

// dtb is a device tree of the package: "broadcom/bcm2837-rpi-3-b".
func (k kernel) dtb(name string) string {
	return filepath.Join(k.dir, "usr/lib/linux-image-"+kernelRelease, name+".dtb")
}

// getKernel downloads the kernel, checks and unpacks it, without root, below the user's cache; it
// does nothing when it is there.
func getKernel(ctx context.Context) (kernel, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return kernel{}, err
	}
	k := kernel{filepath.Join(cache, "holdfast-e2e", kernelSHA256[:16])}
	if _, err := os.Stat(k.dir); err == nil {
		return k, nil
	}
	if err := os.MkdirAll(filepath.Dir(k.dir), 0o755); err != nil {
		return k, err
	}
	work, err := os.MkdirTemp(filepath.Dir(k.dir), "get-")
	if err != nil {
		return k, err
	}
	defer os.RemoveAll(work)
	deb, err := download(ctx, work)
	if err != nil {
		return k, err
	}
	tree := filepath.Join(work, "tree")
	if err := run(ctx, work, "dpkg-deb", "-x", deb, tree); err != nil {
		return k, err
	}
	if err := run(ctx, work, "/sbin/depmod", "-b", tree, kernelRelease); err != nil {
		return k, err
	}
	return k, os.Rename(tree, k.dir) // whole or not at all
}

// download gets the package through an apt of its own, for another architecture and another list of
// sources than the machine's, which stays as it is.
func download(ctx context.Context, work string) (deb string, err error) {
	for _, dir := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d", "lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			return "", err
		}
	}
	source := fmt.Sprintf("deb [arch=arm64 signed-by=%s] %s main\n", keyring, kernelSuite)
	err = errors.Join(
		os.WriteFile(filepath.Join(work, "etc/apt/sources.list"), []byte(source), 0o644),
		os.WriteFile(filepath.Join(work, "status"), nil, 0o644))
	if err != nil {
		return "", err
	}
	apt := []string{"apt-get", "-q", "-o", "Dir=" + work, "-o", "Dir::State::status=" + filepath.Join(work, "status"), "-o", "Dir::State::lists=" + filepath.Join(work, "lists"), "-o", "Dir::Cache=" + work, "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64", "-o", "APT::Sandbox::User="}
	if err := run(ctx, work, append(slices.Clone(apt), "update")...); err != nil {
		return "", err
	}
	if err := run(ctx, work, append(slices.Clone(apt), "download", fmt.Sprintf("linux-image-%s=%s", kernelRelease, kernelVersion))...); err != nil {
		return "", fmt.Errorf("%w\nis %s still in the archive? kernel.go of e2ehal has the pin", err, kernelVersion)
	}
	found, err := filepath.Glob(filepath.Join(work, "linux-image-*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("apt-get download left %d packages", len(found))
	}
	f, err := os.Open(found[0])
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != kernelSHA256 {
		return "", fmt.Errorf("%s: hash %s, want %s", filepath.Base(found[0]), got, kernelSHA256)
	}
	return found[0], nil
}

// loadOrder is the files, below modules(), that have to be loaded for the named modules, each
// behind those that it needs. What is built into the kernel needs none.
func (k kernel) loadOrder(names []string) ([]string, error) {
	dep, err := os.Open(filepath.Join(k.modules(), "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer dep.Close()
	builtin, err := os.ReadFile(filepath.Join(k.modules(), "modules.builtin"))
	if err != nil {
		return nil, err
	}
	return loadOrder(dep, string(builtin), names)
}

// loadOrder reads modules.dep (man 5 modules.dep): "file: file it needs, and what that needs, ...",
// the farthest need last.
func loadOrder(dep io.Reader, builtin string, names []string) ([]string, error) {
	line := map[string][]string{} // by module name: its files, the first to load first
	for s := bufio.NewScanner(dep); s.Scan(); {
		file, needs, ok := strings.Cut(s.Text(), ":")
		if !ok {
			continue
		}
		files := append([]string{file}, strings.Fields(needs)...)
		slices.Reverse(files)
		line[moduleName(file)] = files
	}
	var order []string
	for _, name := range names {
		files, ok := line[moduleName(name)]
		if !ok && !slices.ContainsFunc(strings.Fields(builtin), func(f string) bool { return moduleName(f) == moduleName(name) }) {
			return nil, fmt.Errorf("the kernel has no module %s", name)
		}
		for _, f := range files {
			if !slices.Contains(order, f) {
				order = append(order, f)
			}
		}
	}
	return order, nil
}

// moduleName is the name by which the kernel knows a module's file: it takes - for _.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// run runs a program and says in the error what it printed.
func run(ctx context.Context, dir string, args ...string) error {
	_, err := output(ctx, dir, args...)
	return err
}

func output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}
