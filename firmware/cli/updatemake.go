package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/firmware/image"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/update"
)

func updateKeyCommand() command {
	return command{
		name: "key", about: "make a key that signs bundles",
		more: `
The private key goes into a file, PEM, that no box ever needs; the public one is printed. Boxes take bundles signed with it when the site has
decided so (holdfast update trust), or, before it has decided on any, when update.keys of their configuration has it.

Examples:
  holdfast update key --out update.key
  holdfast update key --show update.key     (prints the public key of one that is there)
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			out := f.String("out", "", "where the private key goes, a `file` that is not there yet")
			show := f.String("show", "", "print the public key of this `file`")
			return func(_ context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if (*out == "") == (*show == "") {
					return fmt.Errorf("%w: say --out or --show", errUsage)
				}
				key, err := readUpdateKey(*show)
				if *out != "" {
					key, err = writeUpdateKey(*out)
				}
				if err != nil {
					return err
				}
				public, err := release.MarshalKey(&key.PublicKey)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(s.out, public)
				return err
			}
		},
	}
}

func writeUpdateKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return key, errors.Join(err, f.Sync(), f.Close())
}

// keyFileBytesMax bounds the file of a private key.
const keyFileBytesMax = 16 << 10

func readUpdateKey(path string) (*ecdsa.PrivateKey, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, keyFileBytesMax))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, fmt.Errorf("%s: %w: it has no PEM", path, release.ErrKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, release.ErrKey, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, release.ErrKey)
	}
	return key, nil
}

func updateBundleCommand(b Build) command {
	return command{
		name: "bundle", about: "make a signed bundle, of a program or of a kernel and an initrd",
		more: `
With --profile, the kernel and the initrd are made of --program as for an image (holdfast image build). The bundle says which formats of data
the release reads and writes: those of this program, unless --formats names a file with others, so make a bundle with the program of its
release.

Examples:
  holdfast update bundle --key update.key --profile generic-arm64 --program bin/holdfast-linux-arm64 --out 1.2.hfb
  holdfast update bundle --key update.key --board my-board --arch arm64 --kernel vmlinuz --initrd initrd.img --out 1.2.hfb
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			key := f.String("key", "", "the `file` of the private key that signs")
			out := f.String("out", "", "the bundle's `file`")
			kernel := f.String("kernel", "", "the `file` of the kernel")
			initrd := f.String("initrd", "", "the `file` of the initrd")
			formats := f.String("formats", "", "a `file` with the formats of its data, JSON; else those of this program")
			asJSON := f.Bool("json", false, "print JSON")
			profile := f.String("profile", "", "make it for a kind of machine: a `name` of holdfast image profiles")
			program := f.String("program", "", "the static Linux program for that machine, a `file`; without it this program, or bin/holdfast-linux-ARCH")
			var from packageFlags
			from.declare(f)
			var m release.Manifest
			f.StringVar(&m.Version, "version", b.Version, "the `version` that the program in it says it is")
			f.StringVar(&m.Board, "board", "", "the `board` that it is for")
			f.StringVar(&m.Arch, "arch", "", "the processor, a `name` as Go has it: arm64, amd64")
			f.StringVar(&m.MinVersion, "min-version", "", "the oldest `version` that may be replaced by it")
			f.StringVar(&m.Cmdline, "cmdline", "", "the kernel's `options`")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				byHand := *kernel != "" && *initrd != "" && m.Board != "" && m.Arch != ""
				if *key == "" || *out == "" || byHand == (*profile != "") {
					return fmt.Errorf("%w: --key, --out and either --profile or --kernel, --initrd, --board and --arch are needed", errUsage)
				}
				m.Formats = update.Formats()
				if *formats != "" {
					text, err := os.ReadFile(*formats)
					if err != nil {
						return err
					}
					m.Formats = nil
					if err := json.Unmarshal(text, &m.Formats); err != nil {
						return fmt.Errorf("%s: %w", *formats, err)
					}
				}
				parts, err := bundleFiles(*kernel, *initrd)
				if *profile != "" {
					parts, err = bundleOf(ctx, s, *profile, *program, &from, &m)
				}
				if err != nil {
					return err
				}
				h, err := writeBundle(*out, *key, parts, &m)
				if err != nil {
					return err
				}
				if *asJSON {
					return printJSON(s.out, remote.Taken{Bundle: h.ID(), Version: h.Version, Bytes: h.BundleBytes()})
				}
				_, err = fmt.Fprintf(s.out, "bundle %s: %s for %s (%s), %d bytes\n", h.ID(), h.Version, h.Board, h.Arch, h.BundleBytes())
				return err
			}
		},
	}
}

// bundleParts are the kernel and the initrd.
type bundleParts [2][]byte

func bundleFiles(kernel, initrd string) (p bundleParts, err error) {
	for i, path := range []string{kernel, initrd} {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return p, err
		}
		p[i], err = io.ReadAll(io.LimitReader(f, release.FileBytesMax+1))
		if err := errors.Join(err, f.Close()); err != nil {
			return p, err
		}
	}
	return p, nil
}

// bundleOf makes the parts as those of an image.
func bundleOf(ctx context.Context, s *streams, profile, program string, from *packageFlags, m *release.Manifest) (p bundleParts, err error) {
	o := image.Options{Profile: profile, Program: program, Version: m.Version, Cmdline: m.Cmdline}
	if o.Pins, o.Packages, err = from.open(s); err != nil {
		return p, err
	}
	if o.Built, err = sourceDate(); err != nil {
		return p, err
	}
	if o.Program == "" {
		if o.Program, err = ownProgram(profile); err != nil {
			return p, err
		}
	}
	r, err := image.Make(ctx, o)
	if err != nil {
		return p, err
	}
	m.Board, m.Arch, m.Version, m.Cmdline = r.Profile, r.Arch, r.Version, r.Cmdline
	return bundleParts{r.Kernel, r.Initrd}, nil
}

func writeBundle(out, keyFile string, p bundleParts, m *release.Manifest) (*release.Head, error) {
	key, err := readUpdateKey(keyFile)
	if err != nil {
		return nil, err
	}
	if m.Kernel, err = release.Describe(bytes.NewReader(p[0])); err != nil {
		return nil, fmt.Errorf("the kernel: %w", err)
	}
	if m.Initrd, err = release.Describe(bytes.NewReader(p[1])); err != nil {
		return nil, fmt.Errorf("the initrd: %w", err)
	}
	h, err := release.Sign(m, key)
	if err != nil {
		return nil, err
	}
	to, err := os.Create(out)
	if err != nil {
		return nil, err
	}
	err = update.Write(to, h, bytes.NewReader(p[0]), bytes.NewReader(p[1]))
	return h, errors.Join(err, to.Sync(), to.Close())
}

func updateTrustCommand() command {
	return command{
		name: "trust", args: "NAME KEY", about: "have the site trust a key that signs bundles",
		more: addrHelp + `
From the first on that the site has decided on, update.keys of boxes' configurations count no more. To change a key, trust the new one, and
distrust the old one when nothing is signed with it any more.

Example:
  holdfast update trust 2027 MFkwEwYHKoZI...
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 2 {
					return fmt.Errorf("%w: say a name for the key and the key", errUsage)
				}
				return ask(*addr, func(b *remote.Box) error {
					return steer(ctx, s, b, "/api/v1/update/key", map[string]string{"name": args[0], "key": args[1]}, *asJSON)
				})
			}
		},
	}
}

func updateDistrustCommand() command {
	return command{
		name: "distrust", args: "NAME", about: "have the site trust a key no more",
		more: addrHelp + "\nExample:\n  holdfast update distrust 2026\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one key; `holdfast update status` lists them", errUsage)
				}
				return ask(*addr, func(b *remote.Box) error {
					return steer(ctx, s, b, "/api/v1/update/key", map[string]string{"name": args[0]}, *asJSON)
				})
			}
		},
	}
}
