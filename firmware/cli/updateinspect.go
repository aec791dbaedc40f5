package cli

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
)

// inspected is what a bundle is.
type inspected struct {
	Bundle   coord.Digest      `json:"bundle"`
	Key      string            `json:"key"`     // the id of the key that signed
	Trusted  bool              `json:"trusted"` // it is the one that was asked for
	Manifest *release.Manifest `json:"manifest"`
}

func updateInspectCommand() command {
	return command{
		name: "inspect", args: "FILE", about: "say what a bundle is, and whether it is whole",
		more: `
Reads all of it: a bundle of which a byte is wrong, missing or too much is an error. With --key it must be signed with that key; without,
only the id of the key that signed is printed, as ` + "`holdfast update status`" + ` has it of those that the site trusts.

Examples:
  holdfast update inspect 1.2.hfb
  holdfast update inspect --key MFkwEwYHKoZI... 1.2.hfb
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			public := f.String("key", "", "the `public key` that must have signed it")
			asJSON := f.Bool("json", false, "print JSON")
			return func(_ context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one bundle", errUsage)
				}
				h, err := inspect(args[0], *public)
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				x := inspected{Bundle: h.ID(), Key: fmt.Sprintf("%x", h.Key), Trusted: *public != "", Manifest: &h.Manifest}
				if *asJSON {
					return printJSON(s.out, x)
				}
				return printBundle(s.out, &x)
			}
		},
	}
}

func inspect(file, public string) (*release.Head, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, release.ChunkBytes)
	var h *release.Head
	if public == "" {
		h, err = release.ReadUntrusted(r)
	} else {
		var key release.Key
		if key, err = release.ParseKey(public); err == nil {
			h, err = release.ReadHead(r, []release.Key{key})
		}
	}
	if err != nil {
		return nil, err
	}
	for _, x := range []struct {
		name string
		file *release.File
	}{{"kernel", &h.Kernel}, {"initrd", &h.Initrd}} {
		got, err := release.Describe(io.LimitReader(r, x.file.Bytes))
		switch {
		case err != nil && !errors.Is(err, release.ErrBundle):
			return nil, err
		case got.Bytes < x.file.Bytes:
			return nil, fmt.Errorf("%w: it ends after %d of %d bytes of its %s", release.ErrBundle, got.Bytes, x.file.Bytes, x.name)
		case got.SHA256 != x.file.SHA256:
			return nil, fmt.Errorf("%w: its %s is not what its manifest says", release.ErrBundle, x.name)
		}
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("%w: it has bytes behind its end", release.ErrBundle), err)
	}
	return h, nil
}

func printBundle(w io.Writer, x *inspected) error {
	m, t := x.Manifest, table(w)
	fmt.Fprintf(t, "bundle\t%s, whole\n", x.Bundle)
	if x.Trusted {
		fmt.Fprintf(t, "signed\twith key %s, as asked\n", x.Key)
	} else {
		fmt.Fprintf(t, "signed\twith key %s; the signature was not checked, see --key\n", x.Key)
	}
	fmt.Fprintf(t, "version\t%s\n", plain(m.Version))
	fmt.Fprintf(t, "for\t%s (%s)\n", plain(m.Board), plain(m.Arch))
	fmt.Fprintf(t, "replaces\t%s\n", orElse(plain(m.MinVersion), "any version")+map[bool]string{true: " and later"}[m.MinVersion != ""])
	fmt.Fprintf(t, "kernel\t%s, SHA-256 %s; options %s\n", megabytes(m.Kernel.Bytes), m.Kernel.SHA256, orElse(plain(m.Cmdline), "none"))
	fmt.Fprintf(t, "initrd\t%s, SHA-256 %s\n", megabytes(m.Initrd.Bytes), m.Initrd.SHA256)
	var formats []string
	for _, f := range m.Formats {
		formats = append(formats, fmt.Sprintf("%s %d to %d, writes %d", plain(f.Name), f.Min, f.Max, f.Writes))
	}
	fmt.Fprintf(t, "reads\t%s\n", orElse(strings.Join(formats, "; "), "no formats"))
	return t.Flush()
}
