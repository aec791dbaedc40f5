package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/firmware/image"
	"github.com/holdfast-edge/holdfast/firmware/image/debian"
	"github.com/holdfast-edge/holdfast/firmware/image/pinned"
	"github.com/holdfast-edge/holdfast/firmware/update"
)

func imageCommand(b Build) command {
	return command{
		name: "image", about: "make disk images that machines boot, and see what they are made of",
		sub: []command{
			{
				name: "build", about: "make an image for a kind of machine",
				more: `
The image has the kernel and the boot loader of Debian, pinned by their hashes, and the program of --program as
all that runs. It needs no root. Packages are kept in --cache: with --offline nothing is downloaded. The same
inputs give the same bytes; SOURCE_DATE_EPOCH says when it was built, else it is when its kernel was.

Examples:
  holdfast image build --profile generic-arm64 --program bin/holdfast-linux-arm64 -o holdfast.img
  holdfast image build --profile generic-amd64 --join-token @token --server 192.0.2.10:7500 -o box.img
  holdfast image build --profile qemu-virt --config box.toml --offline -o test.img
  holdfast image build --profile raspberry-pi -o pi.img         Go modules come from GOPROXY
`,
				flags: imageBuildFlags(b),
			},
			{
				name: "pin", about: "take the newest versions of the packages that images are made from",
				more: `
It reads the signed index of Debian's archive and checks its signature with gpgv. The pins that it prints are for
image build --pins, or for firmware/image/debian/pins.toml.

Examples:
  holdfast image pin -o pins.toml
  holdfast image build --pins pins.toml --profile generic-arm64
`,
				flags: imagePinFlags,
			},
			{
				name: "profiles", about: "list the kinds of machine that images are for",
				more: "\nExample:\n  holdfast image profiles\n",
				flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
					asJSON := f.Bool("json", false, "print JSON")
					return func(_ context.Context, s *streams, args []string) error {
						if err := noArgs(args); err != nil {
							return err
						}
						all := image.Profiles()
						if *asJSON {
							return printJSON(s.out, all)
						}
						t := table(s.out)
						fmt.Fprintln(t, "NAME\tARCH\tABOUT")
						for _, p := range all {
							fmt.Fprintf(t, "%s\t%s\t%s\n", p.Name, p.Arch, p.About)
						}
						return t.Flush()
					}
				},
			},
		},
	}
}

// packageFlags are about where packages come from.
type packageFlags struct {
	cache, mirror, pins string
	offline             bool
}

func (o *packageFlags) declare(f *flag.FlagSet) {
	f.StringVar(&o.cache, "cache", "", "the `folder` that keeps packages; without it holdfast/packages in the user's cache")
	f.StringVar(&o.mirror, "mirror", os.Getenv("HOLDFAST_MIRROR"), "the `URL` of a mirror of Debian, in front of /debian and /debian-security; without it HOLDFAST_MIRROR, or "+debian.MirrorDefault)
	f.StringVar(&o.pins, "pins", "", "a `file` of `holdfast image pin`, in place of the versions that this program knows")
	f.BoolVar(&o.offline, "offline", false, "download nothing")
}

func (o *packageFlags) open(s *streams) (debian.Pins, debian.Store, error) {
	st := debian.Store{Mirror: o.mirror, Store: pinned.Store{Dir: o.cache, Offline: o.offline, Said: func(line string) {
		_, _ = fmt.Fprintln(s.err, line) // the command goes on without it
	}}}
	if st.Dir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return debian.Pins{}, st, fmt.Errorf("%w; name a folder with --cache", err)
		}
		st.Dir = filepath.Join(dir, "holdfast", "packages")
	}
	if o.pins == "" {
		p, err := debian.Builtin()
		return p, st, err
	}
	text, err := os.ReadFile(o.pins)
	if err != nil {
		return debian.Pins{}, st, err
	}
	p, err := debian.DecodePins(text)
	return p, st, err
}

func imageBuildFlags(b Build) func(*flag.FlagSet) func(context.Context, *streams, []string) error {
	return func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
		var o image.Options
		var from packageFlags
		from.declare(f)
		var told provisionFlags
		told.declare(f)
		f.StringVar(&o.Profile, "profile", "generic-arm64", "the kind of machine: a `name` of `holdfast image profiles`")
		f.StringVar(&o.Program, "program", "", "the static Linux program for the machine: a `file`; without it this program, or bin/holdfast-linux-ARCH")
		f.StringVar(&o.Version, "version", b.Version, "the `version` of that program")
		f.StringVar(&o.Cmdline, "cmdline", "", "`words` for the kernel's command line")
		key := f.String("key", "", "the private key that signs the release, a `file` of `holdfast update key`; the machine takes bundles signed with it unless --config has update.keys")
		bundle := f.String("bundle", "", "a `file` for the same release as a bundle, for `holdfast update`; with --key")
		out := f.String("o", "holdfast.img", "the `file` to write; FILE.zst is written beside it")
		raw := f.Bool("raw", false, "write no FILE.zst")
		asJSON := f.Bool("json", false, "print JSON")
		return func(ctx context.Context, s *streams, args []string) error {
			if err := noArgs(args); err != nil {
				return err
			}
			var err error
			if o.Pins, o.Packages, err = from.open(s); err != nil {
				return err
			}
			o.Proxy = os.Getenv("GOPROXY")
			if o.Built, err = sourceDate(); err != nil {
				return err
			}
			if o.Sign, told.signs, err = signer(*key, *bundle); err != nil {
				return err
			}
			if o.Provisioning, err = told.file(); err != nil {
				return err
			}
			if o.Program == "" {
				if o.Program, err = ownProgram(o.Profile); err != nil {
					return err
				}
			}
			if _, err := fmt.Fprintf(s.err, "making %s for %s; it takes half a minute when its packages are here\n", *out, o.Profile); err != nil {
				return err
			}
			r, err := image.Create(ctx, *out, !*raw, o)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(s.out, r)
			}
			_, err = fmt.Fprintf(s.out, "%s: Holdfast %s for %s, Linux %s with %d modules\n  kernel %s, initial RAM disk %s, image %s, made in %v\n  SHA-256 %s\n",
				*out, r.Version, r.Profile, r.KernelRelease, r.Modules, megabytes(int64(r.KernelBytes)), megabytes(int64(r.InitrdBytes)), megabytes(r.Bytes), r.Took.Round(100*time.Millisecond), r.SHA256)
			if err == nil && !*raw {
				_, err = fmt.Fprintf(s.out, "%s.zst: %s\n", *out, megabytes(r.ZstdBytes))
			}
			return err
		}
	}
}

// signer signs the manifest of a release, and writes the release as a bundle. public is the key that holds for it.
func signer(key, bundle string) (sign func(*image.Release) ([]byte, error), public string, err error) {
	if key == "" {
		if bundle != "" {
			return nil, "", fmt.Errorf("%w: --bundle needs --key", errUsage)
		}
		return nil, "", nil
	}
	private, err := readUpdateKey(key)
	if err != nil {
		return nil, "", err
	}
	k, err := release.MarshalKey(&private.PublicKey)
	if err != nil {
		return nil, "", err
	}
	return func(r *image.Release) ([]byte, error) {
		m, err := r.Manifest(update.Formats())
		if err != nil {
			return nil, err
		}
		h, err := release.Sign(m, private)
		if err != nil {
			return nil, err
		}
		if bundle == "" {
			return h.Bytes(), nil
		}
		f, err := os.Create(bundle)
		if err != nil {
			return nil, err
		}
		err = update.Write(f, h, bytes.NewReader(r.Kernel), bytes.NewReader(r.Initrd))
		return h.Bytes(), errors.Join(err, f.Sync(), f.Close())
	}, k.String(), nil
}

func imagePinFlags(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	var from packageFlags
	from.declare(f)
	keyring := f.String("keyring", debian.KeyringDefault, "the keys of Debian's archive: a `file`")
	out := f.String("o", "", "the `file` to write; without it they are printed")
	return func(ctx context.Context, s *streams, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		_, st, err := from.open(s)
		if err != nil {
			return err
		}
		p, err := debian.Pin(ctx, &st, *keyring, []string{"arm64", "amd64"})
		if err != nil {
			return err
		}
		text, err := p.Encode()
		if err != nil {
			return err
		}
		if *out != "" {
			return os.WriteFile(*out, text, 0o644)
		}
		_, err = s.out.Write(text)
		return err
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// sourceDate is what reproducible-builds.org has for the time of a build.
func sourceDate() (time.Time, error) {
	v := os.Getenv("SOURCE_DATE_EPOCH")
	if v == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > 1<<32-1 {
		return time.Time{}, fmt.Errorf("%w: SOURCE_DATE_EPOCH = %q is no number of seconds since 1970", errUsage, v)
	}
	return time.Unix(n, 0), nil
}

// ownProgram is the program for a profile when none is named.
func ownProgram(profile string) (string, error) {
	p, err := image.Find(profile)
	if err != nil {
		return "", err
	}
	beside := filepath.Join("bin", "holdfast-linux-"+p.Arch)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	if runtime.GOOS == "linux" && runtime.GOARCH == p.Arch {
		return os.Executable()
	}
	return "", errors.Join(fmt.Errorf("%w: name the program for %s with --program", errUsage, strings.TrimSpace(p.Name+" "+p.Arch)))
}
