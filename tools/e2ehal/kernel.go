package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The kernel that the figures in the documentation are of. Debian drops old ones from its archive after some months: then
// the newest of the series is taken, and said.
const (
	kernelRelease = "6.12.117+deb12-arm64"
	kernelSeries  = `^linux-image-(6\.12\.\d+\+deb12-arm64)$`
	keyring       = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// kernel is the tree of an unpacked kernel package.
type kernel struct{ dir, release string }

func (k kernel) image() string   { return filepath.Join(k.dir, "boot/vmlinuz-"+k.release) }
func (k kernel) modules() string { return filepath.Join(k.dir, "lib/modules", k.release) }

// dtb is a device tree of the package: "broadcom/bcm2837-rpi-3-b".
func (k kernel) dtb(name string) string {
	return filepath.Join(k.dir, "usr/lib/linux-image-"+k.release, name+".dtb")
}

// getKernel downloads the kernel and unpacks it, without root, below the user's cache; it does
// nothing when it is there.
func getKernel(ctx context.Context) (kernel, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return kernel{}, err
	}
	cache = filepath.Join(cache, "holdfast-e2e")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return kernel{}, err
	}
	if k := (kernel{filepath.Join(cache, kernelRelease), kernelRelease}); k.there() {
		return k, nil
	}
	work, err := os.MkdirTemp(cache, "get-")
	if err != nil {
		return kernel{}, err
	}
	defer os.RemoveAll(work)
	deb, release, err := download(ctx, cache, work)
	if err != nil {
		return kernel{}, err
	}
	k := kernel{filepath.Join(cache, release), release}
	if deb == "" {
		return k, nil
	}
	tree := filepath.Join(work, "tree")
	if err := run(ctx, work, "dpkg-deb", "-x", deb, tree); err != nil {
		return k, err
	}
	if err := run(ctx, work, "/sbin/depmod", "-b", tree, release); err != nil {
		return k, err
	}
	return k, os.Rename(tree, k.dir) // whole or not at all
}

func (k kernel) there() bool {
	_, err := os.Stat(k.dir)
	return err == nil
}

// download gets the package through an apt of its own, for another architecture than the machine's,
// which stays as it is. apt checks the archive's signature and the package's hash. An empty deb means that this release is
// in the cache.
func download(ctx context.Context, cache, work string) (deb, release string, err error) {
	for _, dir := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d", "lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			return "", "", err
		}
	}
	sources, err := debianSources(ctx, work)
	if err != nil {
		return "", "", err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(work, "etc/apt/sources.list"), []byte(sources), 0o644),
		os.WriteFile(filepath.Join(work, "status"), nil, 0o644))
	if err != nil {
		return "", "", err
	}
	own := []string{"-o", "Dir=" + work, "-o", "Dir::State::status=" + filepath.Join(work, "status"), "-o", "Dir::State::lists=" + filepath.Join(work, "lists"), "-o", "Dir::Cache=" + work, "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64", "-o", "APT::Sandbox::User="}
	if err := run(ctx, work, slices.Concat([]string{"apt-get", "-q"}, own, []string{"update"})...); err != nil {
		return "", "", err
	}
	names, err := output(ctx, work, slices.Concat([]string{"apt-cache"}, own, []string{"pkgnames", "linux-image-6.12."})...)
	if err != nil {
		return "", "", err
	}
	if release, err = choose(strings.Fields(names)); err != nil {
		return "", "", err
	}
	if release != kernelRelease {
		fmt.Printf("Debian's archive has no Linux %s any more: this is %s\n", kernelRelease, release)
		if (kernel{filepath.Join(cache, release), release}).there() {
			return "", release, nil
		}
	}
	if err := run(ctx, work, slices.Concat([]string{"apt-get", "-q"}, own, []string{"download", "linux-image-" + release})...); err != nil {
		return "", "", err
	}
	found, err := filepath.Glob(filepath.Join(work, "linux-image-*.deb"))
	if err != nil || len(found) != 1 {
		return "", "", fmt.Errorf("apt-get download left %d packages", len(found))
	}
	return found[0], release, nil
}

// choose takes the release that the documentation is about if it is among the packages, else the newest of its series.
func choose(packages []string) (release string, err error) {
	series := regexp.MustCompile(kernelSeries)
	for _, p := range packages {
		m := series.FindStringSubmatch(p)
		switch {
		case m == nil:
		case m[1] == kernelRelease:
			return m[1], nil
		case len(m[1]) > len(release) || len(m[1]) == len(release) && m[1] > release: // 6.12.99 is older than 6.12.117
			release = m[1]
		}
	}
	if release == "" {
		return "", fmt.Errorf("no package %s in the archive; kernel.go of e2ehal names the series", kernelSeries)
	}
	return release, nil
}

// debianSources is Debian's part of this machine's package sources, for arm64.
func debianSources(ctx context.Context, work string) (string, error) {
	all, err := output(ctx, work, "apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages", "Component: main")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	lines := strings.Split(all, "\n")
	slices.Sort(lines)
	for _, l := range slices.Compact(lines) {
		if site, _, _ := strings.Cut(l, " "); strings.HasSuffix(strings.TrimSuffix(site, "/"), "/debian") || strings.HasSuffix(strings.TrimSuffix(site, "/"), "/debian-security") {
			fmt.Fprintf(&b, "deb [arch=arm64 signed-by=%s] %s main\n", keyring, l)
		}
	}
	if b.Len() == 0 {
		return "", errors.New("apt knows no source of Debian's packages (a URI that ends in /debian); the kernel comes from there")
	}
	return b.String(), nil
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
