package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"

	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

func encryptionCommand() command {
	return command{
		name: "encryption", about: "encrypt this box's data, decrypt it, or change what opens it, while the box is stopped",
		sub: []command{
			{
				name: "status", about: "print whether the data is encrypted and what opens it",
				more: `
Examples:
  holdfast encryption status
  holdfast encryption status --config box.toml --json
`,
				flags: encryptionStatus,
			},
			dataCommand("enable", "encrypt the data of a stopped box, as its configuration says", `
Set encryption.key in the configuration first. All files are written anew beside the old ones, so it takes
as much room again; a power cut leaves the old or the new. A card or an SSD can keep what a removed file had:
to be sure, replace the box with encryption on from the start.

Example:
  holdfast encryption enable --config /etc/holdfast/holdfast.toml
`, enableEncryption),
			dataCommand("disable", "decrypt the data of a stopped box", `
The configuration must still say what opens it; set encryption.key = "off" afterwards.

Example:
  holdfast encryption disable
`, func(c *config.Config, s *streams) (string, error) {
				if err := isEncrypted(c, true); err != nil {
					return "", err
				}
				o, err := conversion(c, s)
				if err != nil {
					return "", err
				}
				return "the data is in clear; set encryption.key = \"off\"", store.Convert(c.DataDir, o)
			}),
			rekeyCommand(),
		},
	}
}

func enableEncryption(c *config.Config, s *streams) (string, error) {
	if c.Encryption.Key == "off" {
		return "", fmt.Errorf("%w: set encryption.key to \"tpm\" or \"passphrase\" first", config.ErrValue)
	}
	if err := isEncrypted(c, false); err != nil {
		return "", err
	}
	o, err := conversion(c, s)
	if err != nil {
		return "", err
	}
	cipher, rates := crypt.Fastest()
	o.Keys, o.Key = nil, crypt.NewKey(cipher)
	if o.Ring, err = box.WrapKey(c, askIn(s), o.Key); err != nil {
		return "", err
	}
	return fmt.Sprintf("the data is encrypted with %s (%.0f MB/s on this machine), opened by %s", cipher, rates[cipher]/1e6, o.Ring.Kind), store.Convert(c.DataDir, o)
}

func rekeyCommand() command {
	return command{
		name: "rekey", about: "change the passphrase, or what opens the data of a stopped box",
		more: `
Without --data only the wrapping changes and no data is written: who has an old copy of encryption.json
and the old passphrase can still open it. With --data everything is written anew with another key.

Examples:
  holdfast encryption rekey --new-config new.toml
  holdfast encryption rekey --new-config new.toml --data
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			file := f.String("config", configDefault, "the box's configuration `file`, as it is")
			next := f.String("new-config", "", "the configuration `file` as it will be: encryption and tpm are read")
			data := f.Bool("data", false, "write the data anew with another key")
			return func(_ context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				c, err := config.Load(*file)
				if err != nil {
					return err
				}
				n := c
				if *next != "" {
					if n, err = config.Load(*next); err != nil {
						return err
					}
				}
				if n.Encryption.Key == "off" {
					return fmt.Errorf("%w: encryption.key is \"off\"; `holdfast encryption disable` decrypts", errUsage)
				}
				if err := isEncrypted(c, true); err != nil {
					return err
				}
				wrap := func(k *crypt.Key) (*crypt.Ring, error) { return box.WrapKey(n, askIn(s), k) }
				if !*data {
					err = store.Rewrap(c.DataDir, box.DataKeys(c, askIn(s)), wrap)
				} else {
					var o store.ConvertOptions
					if o, err = conversion(c, s); err == nil {
						cipher, _ := crypt.Fastest()
						o.Key = crypt.NewKey(cipher)
						o.Ring, err = wrap(o.Key)
					}
					if err == nil {
						err = store.Convert(c.DataDir, o)
					}
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(s.out, "the data is opened by %s now\n", n.Encryption.Key)
				return err
			}
		},
	}
}

// conversion says whose directory it is and what opens it.
func conversion(c *config.Config, s *streams) (o store.ConvertOptions, err error) {
	m, err := trust.LoadMembers(c.DataDir)
	if err != nil {
		return o, err
	}
	there, err := trust.HasKey(c.DataDir)
	if err == nil && !there {
		err = fmt.Errorf("%s has no key of a box: %w", c.DataDir, fs.ErrNotExist)
	}
	if err != nil {
		return o, err
	}
	id, err := box.OpenKey(c)
	if err != nil {
		return o, err
	}
	log, err := newLogger(s.err, "text", "warn")
	return store.ConvertOptions{Site: m.Site, Box: id.ID(), Keys: box.DataKeys(c, askIn(s)), Logger: log}, err
}

// isEncrypted refuses a directory that is not as it should be.
func isEncrypted(c *config.Config, wanted bool) error {
	ring, err := store.ReadRing(c.DataDir)
	switch {
	case err != nil:
		return err
	case wanted && ring == nil:
		return fmt.Errorf("%s: %w", c.DataDir, store.ErrPlain)
	case !wanted && ring != nil:
		return fmt.Errorf("%s is encrypted already, opened by %s", c.DataDir, ring.Kind)
	}
	return nil
}

func askIn(s *streams) func(string) ([]byte, error) {
	return func(prompt string) ([]byte, error) { return box.AskPassphrase(s.in, s.err, prompt) }
}

func dataCommand(name, about, more string, do func(*config.Config, *streams) (string, error)) command {
	return command{
		name: name, about: about, more: more,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			file := f.String("config", configDefault, "the box's configuration `file`")
			return func(_ context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				c, err := config.Load(*file)
				if err != nil {
					return err
				}
				done, err := do(c, s)
				if errors.Is(err, store.ErrLocked) {
					err = fmt.Errorf("%w; stop the box first", err)
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(s.out, done)
				return err
			}
		},
	}
}

// encryptionState is what status prints for programs.
type encryptionState struct {
	Encrypted bool         `json:"encrypted"`
	Cipher    crypt.Cipher `json:"cipher,omitempty"`
	Key       crypt.Kind   `json:"key,omitempty"`
	Config    string       `json:"config"`
}

func encryptionStatus(f *flag.FlagSet) func(context.Context, *streams, []string) error {
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
		ring, err := store.ReadRing(c.DataDir)
		if err != nil {
			return err
		}
		state := encryptionState{Config: c.Encryption.Key}
		text := "in clear"
		if ring != nil {
			state.Encrypted, state.Cipher, state.Key = true, ring.Cipher, ring.Kind
			text = fmt.Sprintf("encrypted with %s, opened by %s", ring.Cipher, ring.Kind)
		}
		if *asJSON {
			return printJSON(s.out, state)
		}
		_, err = fmt.Fprintf(s.out, "%s is %s; the configuration says %q\n", c.DataDir, text, c.Encryption.Key)
		return err
	}
}
