package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/image/debian"
	"github.com/holdfast-edge/holdfast/firmware/image/pinned"
)

// cache is where this user's images keep what they are made from.
func cache() (debian.Store, error) {
	dir, err := os.UserCacheDir()
	return debian.Store{Mirror: os.Getenv("HOLDFAST_MIRROR"), Store: pinned.Store{Dir: filepath.Join(dir, "holdfast", "packages"), Said: func(s string) { fmt.Println(s) }}}, err
}

// packages gives what an image takes from Debian, in the user's cache from then on. It comes from where apt on this machine takes its packages
// (HOLDFAST_MIRROR is another place), and is what the pins say; when that is gone from there, it is the newest of the same series, and
// that is said.
func packages(ctx context.Context, arch string) (debian.Pins, debian.Store, error) {
	s, err := cache()
	if err != nil {
		return debian.Pins{}, s, err
	}
	pins, err := debian.Builtin()
	if err != nil {
		return pins, s, err
	}
	offline := s
	offline.Offline = true
	if err = have(ctx, &offline, pins, arch); err == nil {
		return pins, offline, nil
	}
	if s.Mirror == "" {
		if s.Archives, err = aptArchives(ctx); err != nil {
			return pins, s, err
		}
		if err := aptProxy(ctx); err != nil {
			return pins, s, err
		}
	}
	if err = have(ctx, &s, pins, arch); errors.Is(err, pinned.ErrGone) {
		fmt.Println(err)
		if pins, err = debian.Pin(ctx, &s, debian.KeyringDefault, []string{arch}); err == nil {
			err = have(ctx, &s, pins, arch)
		}
	}
	return pins, s, err
}

// have sees to it that all packages of an architecture are in the cache.
func have(ctx context.Context, s *debian.Store, pins debian.Pins, arch string) error {
	for _, p := range pins.Package {
		if p.Arch != arch {
			continue
		}
		f, err := s.Get(ctx, p)
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// aptArchives asks apt where it would look for Debian's archives. One that it does not know is missing.
func aptArchives(ctx context.Context) (map[string]string, error) {
	out, err := run(ctx, "apt-get", "update", "--print-uris")
	if err != nil {
		return nil, err
	}
	return archivesOf(out), nil
}

// archivesOf reads what apt-get update --print-uris writes: an address in quotes at the beginning of each line. The first of an archive counts.
func archivesOf(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		quoted, _, _ := strings.Cut(strings.TrimPrefix(line, "'"), "'")
		base, _, ok := strings.Cut(quoted, "/dists/")
		u, err := url.Parse(base)
		if !ok || err != nil || u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		archive := base[strings.LastIndexByte(base, '/')+1:]
		if _, ok := all[archive]; !ok {
			all[archive] = base
		}
	}
	return all
}

// aptProxy has this program use the proxy that apt is told to use, unless the environment names one.
func aptProxy(ctx context.Context) error {
	if os.Getenv("http_proxy") != "" || os.Getenv("HTTP_PROXY") != "" {
		return nil
	}
	out, err := run(ctx, "apt-config", "--format", "%v%n", "dump", "Acquire::http::Proxy")
	if err != nil || out == "" || out == "DIRECT" {
		return err
	}
	return os.Setenv("http_proxy", out)
}
