package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/unixsock"
)

const (
	// connectPatience is how long a box that does not answer yet is waited for.
	connectPatience = 5 * time.Second
	connectPoll     = 200 * time.Millisecond
	// closeTimeMax is how long a client may take to say goodbye.
	closeTimeMax = time.Second
)

// clientOf prepares a client of the site, whose boxes it learns from one of them, waiting a little for it to answer.
func clientOf(ctx context.Context, b *remote.Box, name string) (client.Config, error) {
	deadline := time.Now().Add(connectPatience)
	for {
		m, err := b.Members(ctx)
		if err == nil {
			return clientAmong(&m, name)
		}
		if !errors.Is(err, remote.ErrUnreachable) || time.Now().After(deadline) {
			return client.Config{}, err
		}
		select {
		case <-ctx.Done():
			return client.Config{}, context.Cause(ctx)
		case <-time.After(connectPoll):
		}
	}
}

// clientAmong is a client of the boxes of m. A box that was asked over its own socket takes messages over one, too: whoever may open it needs no
// token there. The others are for whoever has one.
func clientAmong(m *api.Members, name string) (client.Config, error) {
	c := client.Config{Name: name}
	self := -1
	for i := range m.Members {
		if m.Members[i].Self && m.NativeSocket != "" {
			self = i
			short, _, err := unixsock.Short(m.NativeSocket) // good as long as this process
			if err != nil {
				return c, err
			}
			c.Endpoints = append(c.Endpoints, client.Endpoint{Network: "unix", Address: short, Box: m.Members[i].ID})
		}
	}
	t, err := remote.FromEnv()
	if self >= 0 && (err != nil || t.None()) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	c.TokenFor = t.Native
	for i := range m.Members {
		if b := &m.Members[i]; b.Native != "" && i != self {
			c.Endpoints = append(c.Endpoints, client.Endpoint{Network: "tcp", Address: b.Native, Box: b.ID})
		}
	}
	if len(c.Endpoints) == 0 {
		return c, errors.New("no box of the site serves the native stream; set native.listen in their configuration")
	}
	return c, nil
}

func kvCommand() command {
	return command{
		name: "kv", about: "read and write keys",
		sub: []command{
			{
				name: "get", args: "KEY", about: "print a key's value as the site has it now",
				more: addrHelp + `
With --proof the whole site is asked, and what is printed is signed by a quorum of its boxes together with a nonce that is made
for this call: it is checked here before it is printed, and by anybody with ` + "`holdfast kv verify`" + `. Give the site.json that
you trust with --site: without it the box that is asked is believed about who the others are.

Examples:
  holdfast kv get /config/ttl
  holdfast kv get --proof --site site.json /config/ttl > ttl.proof
  holdfast kv verify --site site.json ttl.proof
`,
				flags: kvGetFlags,
			},
			{
				name: "verify", args: "FILE", about: "check what get --proof printed by itself, without a box",
				more: `
A quorum of the boxes in the site.json that you trust signed it, or the exit code is 1. The value is printed.

Example:
  holdfast kv verify --site site.json ttl.proof
`,
				flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
					trusted := f.String("site", "", "the site.json that you trust, a `file`")
					asJSON := f.Bool("json", false, "print JSON")
					return func(_ context.Context, s *streams, args []string) error {
						if len(args) != 1 || *trusted == "" {
							return fmt.Errorf("%w: a file and --site are needed", errUsage)
						}
						return verifyProof(s.in, s.out, args[0], *trusted, *asJSON)
					}
				},
			},
			{
				name: "put", args: "KEY VALUE", about: "set a key; VALUE - reads standard input",
				more:  addrHelp + "\nExamples:\n  holdfast kv put /config/ttl 60\n  holdfast kv put /config/rules - < rules.json\n",
				flags: kvVerb(2, kvPut),
			},
			{
				name: "del", args: "KEY", about: "remove a key",
				more:  addrHelp + "\nExample:\n  holdfast kv del /config/ttl\n",
				flags: kvVerb(1, kvDelete),
			},
		},
	}
}

// kvRun does one thing with a key.
type kvRun func(ctx context.Context, c *client.Client, s *streams, asJSON bool, args []string) error

func kvVerb(n int, run kvRun) func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	return func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
		addr, asJSON := asking(f)
		timeout := f.Duration("timeout", 10*time.Second, "give up after this `time`")
		return func(ctx context.Context, s *streams, args []string) error {
			if len(args) != n {
				return fmt.Errorf("%w: %d arguments where %d are needed", errUsage, len(args), n)
			}
			return ask(*addr, func(b *remote.Box) error {
				ctx, cancel := context.WithTimeout(ctx, *timeout)
				defer cancel()
				cfg, err := clientOf(ctx, b, "holdfast kv")
				if err != nil {
					return err
				}
				c, err := client.Dial(ctx, cfg)
				if err != nil {
					return waited(denied(err), *timeout)
				}
				return errors.Join(waited(denied(run(ctx, c, s, *asJSON, args)), *timeout), closeClient(ctx, c))
			})
		}
	}
}

// denied says more than a refusal does.
func denied(err error) error {
	if errors.Is(err, client.ErrDenied) {
		return fmt.Errorf("%w; put a token that allows it into %s, or run this on a box with --addr unix:///PATH/holdfast.sock; `holdfast audit list --outcome denied` there says why",
			err, remote.TokenEnv)
	}
	return err
}

// waited says more than a deadline does.
func waited(err error, timeout time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the site did not answer within %v; look at `holdfast status`: %w", timeout, err)
	}
	return err
}

func closeClient(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeMax)
	defer cancel()
	return c.Close(ctx)
}

func kvGet(ctx context.Context, c *client.Client, s *streams, asJSON bool, args []string) error {
	value, found, err := c.Get(ctx, []byte(args[0]))
	if err != nil {
		return err
	}
	if asJSON {
		out := struct {
			Key   api.Bytes  `json:"key"`
			Found bool       `json:"found"`
			Value *api.Bytes `json:"value,omitempty"`
		}{Key: api.Bytes(args[0]), Found: found}
		if found {
			out.Value = (*api.Bytes)(&value)
		}
		if err := printJSON(s.out, out); err != nil {
			return err
		}
	}
	switch {
	case !found:
		return fmt.Errorf("there is no key %q", args[0])
	case asJSON:
		return nil
	}
	_, err = s.out.Write(append(value, '\n'))
	return err
}

func kvPut(ctx context.Context, c *client.Client, s *streams, asJSON bool, args []string) error {
	value := []byte(args[1])
	if args[1] == "-" {
		var err error
		if value, err = io.ReadAll(io.LimitReader(s.in, coord.ValueBytesMax+1)); err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
	}
	revision, err := c.Put(ctx, []byte(args[0]), value)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(s.out, struct {
			Revision uint64 `json:"revision"`
		}{revision})
	}
	_, err = fmt.Fprintf(s.out, "revision %d\n", revision)
	return err
}

func kvDelete(ctx context.Context, c *client.Client, s *streams, asJSON bool, args []string) error {
	found, err := c.Delete(ctx, []byte(args[0]))
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(s.out, struct {
			Found bool `json:"found"`
		}{found})
	}
	text := "removed"
	if !found {
		text = "was not there"
	}
	_, err = fmt.Fprintln(s.out, text)
	return err
}

// newLogger logs to w at a level, as text or JSON.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var o slog.HandlerOptions
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("%w: --log-level %q; it is debug, info, warn or error", errUsage, level)
	}
	o.Level = l
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &o)), nil
	}
	return nil, fmt.Errorf("%w: --log-format %q; it is text or json", errUsage, format)
}
