// Package gomod gets files out of Go modules that are pinned, as they come from a proxy of Go modules (go.dev/ref/mod#goproxy-protocol). Some
// modules carry no program: gokrazy's have a kernel and boot firmware. They are no dependencies of ours: an image is made of them, and no
// program of ours has them in it. The archive is kept in the cache (package pinned), and its bytes are checked each time it is used.
package gomod

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/image/pinned"
)

// ProxyDefault is the go command's.
const ProxyDefault = "https://proxy.golang.org"

const (
	// fileBytesMax bounds one file: a kernel has 46 MB.
	fileBytesMax = 128 << 20
	// takenBytesMax bounds all files that are taken out of one module.
	takenBytesMax = 256 << 20
	filesMax      = 4096
)

// ErrModule says that a module is not as it has to be.
var ErrModule = errors.New("gomod: bad module")

// Module is one pinned module.
type Module struct {
	Path, Version string
	Size          int64  // of the archive, in bytes
	SHA256        string // of the archive
	// Sum is what go.sum has for it, for people: a proxy that packs modules anew makes another archive of the same sum.
	Sum     string
	Licence string // of what is taken out of it
}

// Pinned are the modules that images for Raspberry Pi are made from: the kernel with its modules and device trees, and the
// firmware that starts it on a Pi 4. The newest of each on the day when this was tested.
func Pinned() (kernel, firmware Module) {
	kernel = Module{
		Path: "github.com/gokrazy/kernel.rpi", Version: "v0.0.0-20251127164438-9778ec0261de", Size: 19_730_920,
		SHA256:  "a396d849a3b9361cefca7ecb11ed6a450f32f512393c57aed0507d1c3319c678",
		Sum:     "h1:RSLWj1Ska9s4cl+n/bC5LY4s8vLr+tZoO2vMm/wGP64=",
		Licence: "GPL-2.0-only (Linux)",
	}
	firmware = Module{
		Path: "github.com/gokrazy/firmware", Version: "v0.0.0-20260522070551-527ce0ed43cf", Size: 13_494_817,
		SHA256:  "4ff8a6e6c016528f3ae099945275920eedbbb63b903d37228452f1bb357cf60f",
		Sum:     "h1:WRmvIwhtcWJfHnrfpfXWPh3Xq6Lztn0y5l3li+NjaYw=",
		Licence: "LICENSE.broadcom: redistribution in binary form, for use on a Raspberry Pi only",
	}
	return kernel, firmware
}

// String is for people.
func (m Module) String() string { return m.Path + " " + m.Version }

// Time is when the version was committed, as its name says (go.dev/ref/mod#pseudo-versions). Errors: ErrModule.
func (m Module) Time() (time.Time, error) {
	parts := strings.Split(m.Version, "-")
	t, err := time.Parse("20060102150405", parts[max(0, len(parts)-2)])
	if err != nil {
		return t, fmt.Errorf("%w: %v has no time: %w", ErrModule, m, err)
	}
	return t, nil
}

// proxy is the first address in a list as GOPROXY has it. Errors: pinned.ErrOffline when there is none.
func proxy(list string) (string, error) {
	if list == "" {
		return ProxyDefault, nil
	}
	for _, p := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' }) {
		if p = strings.TrimSpace(p); strings.HasPrefix(p, "http://") || strings.HasPrefix(p, "https://") {
			return strings.TrimSuffix(p, "/"), nil
		}
	}
	return "", fmt.Errorf("%w: GOPROXY=%s has no address of a proxy", pinned.ErrOffline, list)
}

// Files takes out of a module the files that want asks for, by their path in it. Errors: ErrModule, and those of pinned.Store.Fetch.
//
// list is GOPROXY as the go command has it; empty: its default.
func Files(ctx context.Context, s *pinned.Store, list string, m Module, want func(name string) bool) (map[string][]byte, error) {
	at, err := proxy(list)
	from := *s
	from.Offline = s.Offline || err != nil // what is in the cache needs no proxy
	f, err := from.Fetch(ctx, pinned.Item{
		Label: m.String(), File: path.Base(m.Path) + "-" + m.Version + ".zip", URL: at + "/" + m.Path + "/@v/" + m.Version + ".zip", Size: m.Size, SHA256: m.SHA256,
	})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zip.NewReader(f, m.Size)
	if err != nil || len(z.File) > filesMax {
		return nil, errors.Join(fmt.Errorf("%w: %v: %d files", ErrModule, m, filesMax), err)
	}
	taken, left := map[string][]byte{}, int64(takenBytesMax)
	for _, x := range z.File {
		// Every name has the module and the version in front (go.dev/ref/mod#zip-files).
		name, ok := strings.CutPrefix(x.Name, m.Path+"@"+m.Version+"/")
		if !ok {
			return nil, fmt.Errorf("%w: %v has a file %.100q", ErrModule, m, x.Name)
		}
		if !want(name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, err := read(x, min(left, fileBytesMax))
		if err != nil {
			return nil, fmt.Errorf("%w: %v: %s: %w", ErrModule, m, name, err)
		}
		left -= int64(len(b))
		taken[name] = b
	}
	return taken, nil
}

func read(x *zip.File, most int64) ([]byte, error) {
	r, err := x.Open()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = errors.New("too large")
	}
	return b, errors.Join(err, r.Close())
}
