package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord/release"
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
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there and stays: a key that is lost cannot be made again; --show prints its public key", path)
	}
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
		name: "bundle", about: "make a signed bundle of a kernel and an initrd",
		more: `
For a kernel and an initrd of one's own; the initrd has the program as /init. ` + "`holdfast image build --key KEY --bundle FILE`" + ` makes an image and the bundle of
the same release. The bundle says which formats of data the release reads and writes: those of this program, unless --formats names a file
with others, so make a bundle with the program that is in it.

Example:
  holdfast update bundle --key update.key --board qemu-virt --arch arm64 --kernel vmlinuz --initrd initrd.img --out 1.2.hfb
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			key := f.String("key", "", "the `file` of the private key that signs")
			out := f.String("out", "", "the bundle's `file`")
			kernel := f.String("kernel", "", "the `file` of the kernel")
			initrd := f.String("initrd", "", "the `file` of the initrd")
			formats := f.String("formats", "", "a `file` with the formats of its data, JSON; else those of this program")
			asJSON := f.Bool("json", false, "print JSON")
			var m release.Manifest
			f.StringVar(&m.Version, "version", b.Version, "the `version` that the program in it says it is")
			f.StringVar(&m.Board, "board", "", "the `board` that it is for")
			f.StringVar(&m.Arch, "arch", "", "the processor, a `name` as Go has it: arm64, amd64")
			f.StringVar(&m.MinVersion, "min-version", "", "the oldest `version` that may be replaced by it")
			f.StringVar(&m.Cmdline, "cmdline", "", "the kernel's `options`")
			return func(_ context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *key == "" || *out == "" || *kernel == "" || *initrd == "" || m.Board == "" || m.Arch == "" {
					return fmt.Errorf("%w: --key, --out, --kernel, --initrd, --board and --arch are needed", errUsage)
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
				h, err := writeBundle(*out, *key, *kernel, *initrd, &m)
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

func writeBundle(out, keyFile, kernel, initrd string, m *release.Manifest) (*release.Head, error) {
	key, err := readUpdateKey(keyFile)
	if err != nil {
		return nil, err
	}
	files := make([]*os.File, 0, 2)
	defer func() {
		for _, f := range files {
			_ = f.Close() // was only read
		}
	}()
	for _, x := range []struct {
		path string
		to   *release.File
	}{{kernel, &m.Kernel}, {initrd, &m.Initrd}} {
		f, err := os.Open(x.path)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		if *x.to, err = release.Describe(f); err != nil {
			return nil, fmt.Errorf("%s: %w", x.path, err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
	}
	if err := bootable(m.Arch, files[0], files[1]); err != nil {
		return nil, err
	}
	h, err := release.Sign(m, key)
	if err != nil {
		return nil, err
	}
	to, err := os.Create(out)
	if err != nil {
		return nil, err
	}
	err = update.Write(to, h, files[0], files[1])
	return h, errors.Join(err, to.Sync(), to.Close())
}

// errNoRelease says that a bundle of these would start nowhere.
var errNoRelease = errors.New("no release")

// bootable says whether a kernel and an initrd begin as such files do: a mix-up is found here and not on a box that does not start.
func bootable(arch string, kernel, initrd *os.File) error {
	if arch != "arm64" && arch != "amd64" {
		return fmt.Errorf("%w: --arch %q; it is arm64 or amd64", errNoRelease, arch)
	}
	begins := func(f *os.File, at int64, with ...string) bool {
		var b [8]byte
		n, _ := f.ReadAt(b[:], at) // a short file begins with nothing of this
		return slices.ContainsFunc(with, func(w string) bool { return strings.HasPrefix(string(b[:n]), w) })
	}
	const gz, tarAt = "\x1f\x8b", 257
	// A program of UEFI, compressed, or what a Raspberry Pi's loader wants in one archive.
	if !begins(kernel, 0, "MZ", gz) && !begins(kernel, tarAt, "ustar") {
		return fmt.Errorf("%w: %s is no kernel", errNoRelease, kernel.Name())
	}
	// A kernel with UEFI's stub says which processor it is for (PE format, COFF file header).
	var at [4]byte
	var pe [6]byte
	if n, _ := kernel.ReadAt(at[:], 0x3c); n == len(at) {
		if n, _ := kernel.ReadAt(pe[:], int64(binary.LittleEndian.Uint32(at[:]))); n == len(pe) && string(pe[:4]) == "PE\x00\x00" {
			if is := binary.LittleEndian.Uint16(pe[4:]); is != map[string]uint16{"amd64": 0x8664, "arm64": 0xaa64}[arch] {
				return fmt.Errorf("%w: %s is a kernel for another processor than %s", errNoRelease, kernel.Name(), arch)
			}
		}
	}
	// Documentation/driver-api/early-userspace/buffer-format.rst in Linux; and zstd, xz, bzip2, lz4, lzma.
	if !begins(initrd, 0, "07070", gz, "\x28\xb5\x2f\xfd", "\xfd7zXZ", "BZh", "\x02\x21\x4c\x18", "\x5d\x00\x00") {
		return fmt.Errorf("%w: %s is no initial RAM disk", errNoRelease, initrd.Name())
	}
	return nil
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
