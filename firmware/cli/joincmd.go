package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/joining"
)

func random() io.Reader { return rand.Reader }

// place declares the flags that say which box of this machine is meant, and its entry in the member list.
type place struct {
	file, dir                           *string
	name, peer, client, native, console *string
}

func placing(f *flag.FlagSet) *place {
	return &place{
		file:    f.String("config", configDefault, "the box's configuration `file`"),
		dir:     f.String("dir", "", "the box's data `directory`, where there is no configuration"),
		name:    f.String("name", "", "what people call the box, a `name`; without it that of the configuration"),
		peer:    f.String("peer", "", "where other boxes connect to it, `host:port`; without it peer.listen of the configuration"),
		client:  f.String("client", "", "where programs speak the etcd API to it, `host:port`; without it client.listen"),
		native:  f.String("native", "", "where programs speak the native stream to it, `host:port`; without it native.listen"),
		console: f.String("console", "", "where its console is, `host:port`; without it console.listen"),
	}
}

// read gives the configuration and the member's entry, without its key.
func (p *place) read() (*config.Config, *coord.Member, error) {
	c, err := p.config()
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, trust.SiteFile)); err == nil {
		return nil, nil, fmt.Errorf("%s is in a site already: it has %s; a box that is to start anew needs an empty directory", c.DataDir, trust.SiteFile)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	m, err := joining.Entry(c, coord.Member{Name: *p.name, Peer: *p.peer, Client: *p.client, Native: *p.native, Console: *p.console})
	if errors.Is(err, joining.ErrEntry) {
		err = fmt.Errorf("%w: %w; --name and --peer are needed, or name and peer.listen in the configuration", errUsage, err)
	}
	return c, m, err
}

// config is the configuration, or with --dir the default one for that directory, which is made.
func (p *place) config() (*config.Config, error) {
	if *p.dir == "" {
		c, err := config.Load(*p.file)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; make one with `holdfast config show`, or give --dir", err)
		}
		return c, err
	}
	c, err := config.Default()
	if err != nil {
		return nil, err
	}
	if c.DataDir, err = filepath.Abs(*p.dir); err != nil {
		return nil, err
	}
	return c, os.MkdirAll(c.DataDir, 0o700)
}

// founded is what site init and site join print for programs.
type founded struct {
	Site  coord.SiteID `json:"site"`
	Box   coord.BoxID  `json:"box"`
	Name  string       `json:"name"`
	Epoch uint64       `json:"epoch"`
	Boxes int          `json:"boxes"`
	Dir   string       `json:"dir"`
}

func siteInitCommand() command {
	return command{
		name: "init", about: "found a site, with this box as its first",
		more: `
Makes the box's key, if it has none, and site.json. A directory that has a site is left as it is.

Examples:
  holdfast site init --name box-0 --peer 10.0.0.10:7400
  holdfast site init --dir /var/lib/holdfast --name box-0 --peer 10.0.0.10:7400 --json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			p := placing(f)
			asJSON := f.Bool("json", false, "print JSON")
			return func(_ context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				c, m, err := p.read()
				if err != nil {
					return err
				}
				key, err := openKey(c)
				if err != nil {
					return err
				}
				members, err := joining.Found(c, key, *m)
				if err != nil {
					return err
				}
				if err := printFounded(s, *asJSON, members, &members.List[0], c.DataDir, "founded"); err != nil || *asJSON {
					return err
				}
				_, err = fmt.Fprintln(s.out, "Before other boxes join, name the first operator: `holdfast operator add NAME --role admin` on this box while it runs.")
				return err
			}
		},
	}
}

// openKey is the box's key, made if there is none.
func openKey(c *config.Config) (*trust.Identity, error) {
	if _, err := os.Stat(c.DataDir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist; mount its disk, or make it with `mkdir -m 700 %s`", c.DataDir, c.DataDir)
	}
	return box.OpenKey(c)
}

func printFounded(s *streams, asJSON bool, m *coord.Members, b *coord.Member, dir, verb string) error {
	if asJSON {
		return printJSON(s.out, founded{m.Site, b.ID, b.Name, m.Epoch, m.N(), dir})
	}
	_, err := fmt.Fprintf(s.out, "%s site %v: %v\nThis box is %s, %v, in %s.\nStart it with `holdfast run`; a box that waits starts by itself.\n",
		verb, m.Site, roster.SumsOf(m.N()), b.Name, b.ID, dir)
	return err
}

func siteJoinCommand() command {
	return command{
		name: "join", args: "TOKEN", about: "join a site with a token, from the new box",
		more: `
TOKEN is what ` + "`holdfast site join-token`" + ` printed on a box of the site; - reads it from standard input, so that it is in no list of
processes. The server is the joining port of any box of the site. The box makes its key if it has none, solves a puzzle, and waits until the site has
let it in. While it waits it listens at its peer address: the site looks whether it reaches it.

Examples:
  holdfast site join HF1... --server 10.0.0.10:7500 --name box-1 --peer 10.0.0.11:7400
  holdfast site join - --server 10.0.0.10:7500,10.0.0.12:7500 --name box-1 --peer 10.0.0.11:7400 < token
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			p := placing(f)
			server := f.String("server", "", "joining ports of boxes of the site, `host:port,...`")
			asJSON := f.Bool("json", false, "print JSON")
			timeout := f.Duration("timeout", 24*time.Hour, "give up after this `time`")
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 || *server == "" {
					return fmt.Errorf("%w: a token and --server are needed", errUsage)
				}
				t, err := readToken(s.in, args[0])
				if err != nil {
					return err
				}
				c, m, err := p.read()
				if err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(ctx, *timeout)
				defer cancel()
				key, err := openKey(c)
				if err != nil {
					return err
				}
				a, err := joining.Ready(ctx, c, key, m)
				if err != nil {
					return err
				}
				a.Token, a.Servers = t, strings.Split(*server, ",")
				a.Tell = func(p joining.Progress) {
					_, _ = fmt.Fprintln(s.err, p.String()) // it is no part of what was asked for
				}
				members, err := joining.Join(ctx, a)
				if errors.Is(err, context.DeadlineExceeded) {
					return fmt.Errorf("not in the site after %v; the token is good until its own time is over: run this again, and look at `holdfast site show` and `holdfast decision list` on a box of the site: %w", *timeout, err)
				}
				if err != nil {
					return err
				}
				if err := trust.SaveMembers(c.DataDir, members); err != nil {
					return err
				}
				return printFounded(s, *asJSON, members, &members.List[members.Index(key.ID())], c.DataDir, "joined")
			}
		},
	}
}

// readToken reads a token from the command line, or from in where text is "-".
func readToken(in io.Reader, text string) (*join.Token, error) {
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(in, 1<<10))
		if err != nil {
			return nil, fmt.Errorf("read the token: %w", err)
		}
		text = string(b)
	}
	return join.ParseToken(text)
}
