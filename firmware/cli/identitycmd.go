package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io/fs"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

func identityCommand() command {
	return command{
		name: "identity", about: "show this box's key, seal it with the machine's TPM, or move it back",
		sub: []command{
			keyCommand("show", "print which box this is, where its key lies, and the public half of it", `
Examples:
  holdfast identity show
  holdfast identity show --config box.toml --json
`, func(c *config.Config) (*trust.Identity, error) {
				if there, err := trust.HasKey(c.DataDir); err != nil || !there {
					return nil, errors.Join(err, fmt.Errorf("%s has no key yet: the box makes one when it starts for the first time", c.DataDir))
				}
				return box.OpenKey(c)
			}),
			keyCommand("seal", "move the key of a stopped box from identity.key into the machine's TPM", `
The disk alone is then of no use to who steals it. A card or an SSD can keep what a file had before it was
removed: when that matters, give the box a new key afterwards. If the power fails meanwhile, run it again.

Example:
  holdfast identity seal --config /etc/holdfast/holdfast.toml
`, func(c *config.Config) (*trust.Identity, error) { return moved(c, trust.SealKey) }),
			keyCommand("unseal", "move the key of a stopped box back into identity.key, before its main board or TPM is replaced", `
Example:
  holdfast identity unseal
`, func(c *config.Config) (*trust.Identity, error) { return moved(c, trust.UnsealKey) }),
		},
	}
}

func moved(c *config.Config, move func(string, trust.Sealer) (*trust.Identity, error)) (*trust.Identity, error) {
	id, err := move(c.DataDir, box.Chip(c))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; is %s the box's directory, and has it started once?", err, c.DataDir)
	}
	return id, err
}

// keyPlace is what the commands print for programs.
type keyPlace struct {
	Box   coord.BoxID    `json:"box"`
	Place trust.KeyPlace `json:"key"`
	// Public is the key by which a site can add the box: PKIX DER, in base64.
	Public []byte `json:"public"`
}

func keyCommand(name, about, more string, do func(*config.Config) (*trust.Identity, error)) command {
	return command{
		name: name, about: about, more: more,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			file := f.String("config", configDefault, "the box's configuration `file`")
			asJSON := f.Bool("json", false, "print JSON")
			return func(_ context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				c, err := config.Load(*file)
				if err != nil {
					return err
				}
				id, err := do(c)
				if err != nil {
					return err
				}
				if *asJSON {
					return printJSON(s.out, keyPlace{id.ID(), id.Place(), id.PublicKey()})
				}
				where := trust.KeyFile
				if id.Place() == trust.KeyInTPM {
					where = trust.SealedKeyFile + ", sealed by the TPM"
				}
				_, err = fmt.Fprintf(s.out, "box %v, its key is in %s\npublic key %s\n", id.ID(), where, base64.StdEncoding.EncodeToString(id.PublicKey()))
				return err
			}
		},
	}
}
