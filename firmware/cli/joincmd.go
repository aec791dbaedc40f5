package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
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
	native, err := c.NativeListen()
	if err != nil {
		return nil, nil, err
	}
	first := func(a, b string) string {
		if a != "" {
			return a
		}
		return reachable(b)
	}
	m := &coord.Member{
		Name: *p.name, Peer: first(*p.peer, c.Peer.Listen), Client: first(*p.client, c.Client.Listen), Native: first(*p.native, native),
		Console: first(*p.console, c.Console.Listen),
	}
	if m.Name == "" {
		m.Name = c.Name
	}
	switch {
	case m.Name == "":
		return nil, nil, fmt.Errorf("%w: --name is needed", errUsage)
	case m.Peer == "":
		return nil, nil, fmt.Errorf("%w: --peer is needed: where the other boxes reach this one", errUsage)
	}
	return c, m, nil
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

// reachable is a listen address as others may use it: one without a host, or with all of the machine's, says nothing to them.
func reachable(listen string) string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "" {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return ""
	}
	return listen
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
				key, err := box.OpenKey(c)
				if err != nil {
					return err
				}
				m.ID, m.Key = key.ID(), key.PublicKey()
				members := &coord.Members{Epoch: 1, List: []coord.Member{*m}}
				if _, err := io.ReadFull(random(), members.Site[:]); err != nil {
					return err
				}
				if err := trust.SaveMembers(c.DataDir, members); err != nil {
					return err
				}
				return printFounded(s, *asJSON, members, m, c.DataDir, "founded")
			}
		},
	}
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
				key, err := box.OpenKey(c)
				if err != nil {
					return err
				}
				l, err := whereReached(ctx, c, m)
				if err != nil {
					return err
				}
				members, err := joining.Join(ctx, joining.Ask{
					Token: t, Servers: strings.Split(*server, ","), Key: key, Box: *m, Listener: l, Random: random(), Workers: runtime.GOMAXPROCS(0),
					Wall: func() uint64 { return uint64(max(time.Now().UnixMilli(), 0)) },
					Tell: func(p joining.Progress) {
						if text := progressLine(&p); text != "" {
							_, _ = fmt.Fprintln(s.err, text) // it is no part of what was asked for
						}
					},
				})
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

// whereReached listens where the site will look for the box. Where the box itself waits already, it answers there, and nil is given.
func whereReached(ctx context.Context, c *config.Config, m *coord.Member) (net.Listener, error) {
	at := c.Peer.Listen
	if at == "" {
		at = m.Peer
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", at)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listen where other boxes are to reach this one: %w; set peer.listen in its configuration if --peer is not an address of this machine", err)
	}
	return l, nil
}

// progressLine says to people how a join stands.
func progressLine(p *joining.Progress) string {
	switch {
	case p.Again != nil:
		return fmt.Sprintf("%v; again in %v", p.Again, p.In)
	case p.Puzzle > 0:
		return fmt.Sprintf("solving a puzzle of %d bits", p.Puzzle)
	case p.Solved > 0:
		return fmt.Sprintf("solved after %v", p.Solved.Round(time.Millisecond))
	case p.Site != nil:
		return fmt.Sprintf("the token's site is %v, epoch %d, %v", p.Site.Site, p.Site.Epoch, roster.SumsOf(p.Site.N()))
	case p.Waits != nil:
		w := p.Waits
		line := fmt.Sprintf("waiting for approval: %d of %d words", len(w.Yes), w.Need)
		if len(w.Missing) > 0 {
			line += ", missing " + quoted(w.Missing)
		}
		if len(w.No) > 0 {
			line += ", against it " + quoted(w.No)
		}
		return line
	}
	return ""
}

// quoted makes names from outside safe for a terminal.
func quoted(names []string) string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, plain(n))
	}
	return strings.Join(out, ", ")
}
