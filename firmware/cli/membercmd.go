package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
	"github.com/holdfast-edge/holdfast/firmware/members"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func siteCommand() command {
	return command{
		name: "site", about: "found a site, let boxes in, replace and remove them",
		more: `
A site of n boxes stands floor((n-1)/3) that lie or are away. A change of boxes is decided by a quorum of them; before it is asked for,
what it does to the quorum is shown.

Examples:
  holdfast site init --name box-0 --peer 10.0.0.10:7400        (on the first box)
  holdfast site join-token --ttl 30m                           (on a box of the site)
  holdfast site join TOKEN --server 10.0.0.10:7500 --name box-1 --peer 10.0.0.11:7400    (on the new box)
  holdfast site show
  holdfast site remove box-3
`,
		sub: []command{
			siteInitCommand(), siteShowCommand(), siteTokenCommand(), siteWithdrawCommand(), siteJoinCommand(), siteAdoptCommand(), siteWordCommand("admit", "let a box in that waits for an operator's word on this box"), siteWordCommand("refuse", "turn away a box that waits for an operator's word on this box"),
			siteAddCommand(), siteRemoveCommand(), siteReplaceCommand(), siteEditCommand(), siteRotateCommand(),
		},
	}
}

func siteShowCommand() command {
	return command{
		name: "show", about: "print the site's boxes, its epoch, how many may lie, and open join tokens",
		more: addrHelp + "\nExamples:\n  holdfast site show\n  holdfast site show --json\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			return showing(f, "/api/v1/site", (*remote.Box).Site, printSite)
		},
	}
}

func printSite(w io.Writer, o *members.Overview) error {
	t := table(w)
	fmt.Fprintf(t, "site %v, epoch %d, %v, %d reached\n", o.Site, o.Epoch, o.Sums, o.Up)
	fmt.Fprintf(t, "hash %v\n%s\n", o.SiteHash, spare(o))
	fmt.Fprintln(t, "\nNAME\tBOX\tREACHED\tPEER\tCLIENT\tCONSOLE")
	for i := range o.Members {
		b := &o.Members[i]
		up := "no"
		if b.Up {
			up = "yes"
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%s\t%s\n", plain(b.Name), b.ID, up, b.Peer, b.Client, b.Console)
	}
	if len(o.Tokens) > 0 {
		fmt.Fprintln(t, "\nTOKEN\tIS\tFOR")
	}
	for i := range o.Tokens {
		d := &o.Tokens[i]
		fmt.Fprintf(t, "%v\t%s\t%s\n", d.ID, tokenState(d, o.Seconds), plain(tokenUse(d)))
	}
	if len(o.Guests) > 0 {
		fmt.Fprintln(t, "\nWAITS FOR A WORD\tBOX\tPEER\tTOKEN\tFROM")
	}
	for i := range o.Guests {
		g := &o.Guests[i]
		fmt.Fprintf(t, "%s\t%v\t%s\t%v\t%s\n", plain(g.Name), g.ID, g.Peer, g.Token, g.From)
	}
	return t.Flush()
}

func tokenState(d *join.Doc, now uint64) string {
	switch {
	case d.Used != nil:
		return fmt.Sprintf("used by %v", d.Used.Box)
	case d.NotAfter < now:
		return "expired"
	}
	return "open for " + (time.Duration(d.NotAfter-now) * time.Second).String()
}

func tokenUse(d *join.Doc) string {
	s := "a new box"
	if d.Replaces != nil {
		s = "the place of " + d.Replaces.String()
	}
	if d.Name != "" {
		s += " named " + d.Name
	}
	return s
}

// changing declares the flags of commands that change the site.
type changing struct {
	addr                *string
	asJSON, yes, force  *bool
	name, key           *string
	peer, client, nativ *string
	console             *string
	// then, if not nil, says what is to be done after a change that was taken.
	then func(context.Context, *streams, *remote.Box, *remote.Changed) error
}

func changes(f *flag.FlagSet) *changing {
	c := new(changing)
	c.addr, c.asJSON = asking(f)
	c.yes = f.Bool("yes", false, "do not ask whether to go on")
	c.force = f.Bool("force", false, "also when it leaves a site that no box may lie in, or that waits for the new box")
	return c
}

// entry declares the flags of a member's entry.
func (c *changing) entry(f *flag.FlagSet) *changing {
	c.name = f.String("name", "", "what people call the box, a `name`")
	c.peer = f.String("peer", "", "where other boxes connect to it, `host:port`")
	c.client = f.String("client", "", "where programs speak the etcd API to it, `host:port`")
	c.nativ = f.String("native", "", "where programs speak the native stream to it, `host:port`")
	c.console = f.String("console", "", "where its console is, `host:port`")
	return c
}

func (c *changing) fields(p map[string]string) map[string]string {
	for k, v := range map[string]*string{"name": c.name, "peer": c.peer, "client": c.client, "native": c.nativ, "console": c.console, "key": c.key} {
		if v != nil && *v != "" {
			p[k] = *v
		}
	}
	if *c.force {
		p["force"] = "true"
	}
	return p
}

// run shows what a change does, asks, and has it done.
func (c *changing) run(ctx context.Context, s *streams, path string, fields map[string]string) error {
	return ask(*c.addr, func(b *remote.Box) error {
		p := c.fields(fields)
		p["check"] = "true"
		r, err := b.ChangeSite(ctx, path, p)
		if err != nil {
			return err
		}
		delete(p, "check")
		if !*c.asJSON {
			if _, err := fmt.Fprintf(s.err, "%s %s\n%s\n", r.Kind, r.Subject, r.Advice.String()); err != nil {
				return err
			}
		}
		sums := ""
		if *c.asJSON { // else it was said
			sums = ": " + r.Advice.String()
		}
		switch v := r.Advice.Verdict; {
		case v == roster.Never:
			return fmt.Errorf("refused, also with --force%s", sums)
		case v == roster.Forced && !*c.force:
			return fmt.Errorf("refused unless --force%s", sums)
		}
		if !*c.yes && !*c.asJSON {
			if err := confirm(s); err != nil {
				return err
			}
		}
		if r, err = b.ChangeSite(ctx, path, p); err != nil {
			return err
		}
		if err := c.told(s, r); err != nil || c.then == nil || *c.asJSON {
			return err
		}
		return c.then(ctx, s, b, r)
	})
}

// told prints what became of a change.
func (c *changing) told(s *streams, r *remote.Changed) error {
	if *c.asJSON {
		return printJSON(s.out, r)
	}
	if r.Waits != "" {
		_, err := fmt.Fprintf(s.out, "%s: %s; see `holdfast decision list`\n", r.Kind, r.Waits)
		return err
	}
	_, err := fmt.Fprintf(s.out, "done: %s %s\n", r.Kind, r.Subject)
	return err
}

// confirm asks whether to go on.
func confirm(s *streams) error {
	if _, err := fmt.Fprint(s.err, "Go on? [y/N] "); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(s.in, 64)).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(line)); a == "y" || a == "yes" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: nobody answered; say --yes in scripts", errUsage)
	}
	return fmt.Errorf("not done")
}

func siteAddCommand() command {
	return command{
		name: "add", about: "add a box whose public key you have, without a token",
		more: `
The box's public key is what ` + "`holdfast identity show`" + ` prints on it. Start the box first, so that it waits, and then add it; with --force where
the site has to stand still until it runs. The box does not know of it: bring it the site's list with ` + "`holdfast site adopt`" + `, as is printed. With a token it
does all that by itself: ` + "`holdfast site join-token`" + `.

Example:
  holdfast site add --name box-4 --peer 10.0.0.14:7400 --key MFkwEwYHKoZI...
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			c := changes(f).entry(f)
			c.key = f.String("key", "", "its public key, `base64` of PKIX DER")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *c.name == "" || *c.peer == "" || *c.key == "" {
					return fmt.Errorf("%w: --name, --peer and --key are needed", errUsage)
				}
				c.then = nowAdopt
				return c.run(ctx, s, "/site/add", map[string]string{})
			}
		},
	}
}

// aboutBox is a command with a box of the site as its argument.
func aboutBox(name, about, more, path string, declare func(c *changing, f *flag.FlagSet) (need func() string)) command {
	return command{
		name: name, args: "BOX", about: about, more: addrHelp + more,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			c := changes(f)
			need := func() string { return "" }
			if declare != nil {
				need = declare(c, f)
			}
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one box: its name, its id, or the beginning of it", errUsage)
				}
				if what := need(); what != "" {
					return fmt.Errorf("%w: %s", errUsage, what)
				}
				return c.run(ctx, s, path, map[string]string{"box": args[0]})
			}
		},
	}
}

func siteRemoveCommand() command {
	return aboutBox("remove", "remove a box; its key never comes back", `
A box that lies or is lost is removed by the others. What would leave the site without a quorum is refused, also with --force: it could
not even be undone.

Examples:
  holdfast site remove box-3
  holdfast site remove 7a20c4f1 --force --yes
`, "/site/remove", nil)
}

func siteReplaceCommand() command {
	return aboutBox("replace", "put a box with a new key in the place of one whose disk is lost", `
Addresses that are not given stay those of the old one. The new box is then given the site's list with `+"`holdfast site adopt`"+`, as is printed. With a token instead: holdfast site join-token --replace BOX.

Example:
  holdfast site replace box-2 --key MFkwEwYHKoZI...
`, "/site/replace", func(c *changing, f *flag.FlagSet) func() string {
		c.then = nowAdopt
		c.entry(f).key = f.String("key", "", "the new box's public key, `base64` of PKIX DER")
		return func() string {
			if *c.key == "" {
				return "--key is needed"
			}
			return ""
		}
	})
}

func siteEditCommand() command {
	return aboutBox("edit", "change a box's name or addresses", `
Example:
  holdfast site edit box-2 --peer 10.0.1.12:7400
`, "/site/edit", func(c *changing, f *flag.FlagSet) func() string {
		c.entry(f)
		return func() string {
			if *c.name+*c.peer+*c.client+*c.nativ+*c.console == "" {
				return "say what is to change"
			}
			return ""
		}
	})
}

func siteRotateCommand() command {
	return command{
		name: "rotate-key", about: "give the box that is asked a new key",
		more: addrHelp + `
The box makes the key itself, the site decides, and the box starts anew with it. The old key never comes back. The audit log is of one key, so the
one until then is set aside as audit.OLDNAME.db, with the heads of other boxes that it keeps: run ` + "`holdfast audit export`" + ` before, to have it in one piece.

Example:
  holdfast site rotate-key --addr unix:///var/lib/holdfast/holdfast.sock
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			c := changes(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if !*c.asJSON {
					if _, err := fmt.Fprintln(s.err, "The audit log of the present key is set aside as audit.OLDNAME.db: `holdfast audit export` before has it in one piece."); err != nil {
						return err
					}
				}
				return c.run(ctx, s, "/site/rotate-key", map[string]string{})
			}
		},
	}
}

func siteWithdrawCommand() command {
	return oneField("withdraw", "TOKEN-ID", "id", "take a join token back", "name one token by its id")
}

// siteWordCommand is for sites whose setting/joins wants an operator to approve.
func siteWordCommand(name, about string) command {
	return oneField(name, "BOX-ID", "box", about, "name one box by its id; `holdfast site show` lists who waits")
}

// oneField is a command whose one argument is a field of the act of its name.
func oneField(name, arg, field, about, usage string) command {
	return command{
		name: name, args: arg, about: about, more: addrHelp + "\nExample:\n  holdfast site " + name + " 64d1f0a2b3c4d5e6\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			c := new(changing)
			c.addr, c.asJSON = asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: %s", errUsage, usage)
				}
				return ask(*c.addr, func(b *remote.Box) error {
					r, err := b.ChangeSite(ctx, "/site/"+name, map[string]string{field: args[0]})
					if err != nil {
						return err
					}
					return c.told(s, r)
				})
			}
		},
	}
}

// offered is a new token, for programs.
type offered struct {
	remote.Changed
	Token   string `json:"token"`
	Command string `json:"command"`
	// Until is not_after, which is in seconds of the site's clock, as this machine's clock will show it then.
	Until time.Time `json:"not_after_time"`
}

func siteTokenCommand() command {
	return command{
		name: "join-token", about: "make a token with which one new box can join",
		more: addrHelp + `
The token is printed once and kept nowhere: the site has its public half only. It is good for one box, until its time is over.

Examples:
  holdfast site join-token
  holdfast site join-token --ttl 30m --name box-4
  holdfast site join-token --replace box-2          (the new box takes the place of a lost one)
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			ttl := f.Duration("ttl", join.TTLSecondsDefault*time.Second, "for how `long` it is good")
			replace := f.String("replace", "", "the `box` whose place the new one takes")
			name := f.String("name", "", "the `name` that the new box must have")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *ttl < join.TTLSecondsMin*time.Second || *ttl > join.TTLSecondsMax*time.Second {
					return fmt.Errorf("%w: --ttl %v; a join token is good for %v to %v", errUsage, *ttl, join.TTLSecondsMin*time.Second, join.TTLSecondsMax*time.Second)
				}
				return ask(*addr, func(b *remote.Box) error {
					o, err := b.Site(ctx)
					if err != nil {
						return err
					}
					// Made here: the box that is asked never has the secret.
					t, err := join.NewToken(o.SiteHash, random())
					if err != nil {
						return err
					}
					key, err := t.Key()
					if err != nil {
						return err
					}
					r, err := b.ChangeSite(ctx, "/site/join-token", map[string]string{
						"id": t.ID.String(), "site_hash": o.SiteHash.String(), "key": base64.StdEncoding.EncodeToString(key.PublicKey()),
						"ttl": fmt.Sprint(int64(*ttl / time.Second)), "replaces": *replace, "name": *name,
					})
					if err != nil {
						return err
					}
					out := offered{
						Changed: *r, Token: t.Text(), Command: joinLine(t, o, *name, *replace),
						Until: time.Now().Add(*ttl).UTC().Truncate(time.Second),
					}
					if *asJSON {
						return printJSON(s.out, out)
					}
					return printToken(s, &out, *ttl)
				})
			}
		},
	}
}

// joinLine is what is to be run on the new box. One that takes another's place has that one's name and address unless told otherwise.
func joinLine(t *join.Token, o *members.Overview, name, replaces string) string {
	m := &coord.Members{}
	for i := range o.Members {
		m.List = append(m.List, o.Members[i].Member)
	}
	peer := "HOST:7400"
	if i, err := roster.Find(m, replaces); replaces != "" && err == nil {
		name, peer = cmp.Or(name, m.List[i].Name), m.List[i].Peer
	}
	return fmt.Sprintf("holdfast site join %s --server %s --name %s --peer %s", t.Text(), cmp.Or(o.Listen, "HOST:PORT"), cmp.Or(name, "NAME"), peer)
}

func printToken(s *streams, o *offered, ttl time.Duration) error {
	if o.Waits != "" {
		if _, err := fmt.Fprintf(s.err, "The token is good when the site has decided on it: %s; see `holdfast decision list`.\n", o.Waits); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(s.out, "%s\n", o.Token); err != nil {
		return err
	}
	note := ""
	if o.Listen == "" {
		note = "This box has no joining port: set listen in [join] of its configuration, here or on another box, and start it again.\n"
	}
	_, err := fmt.Fprintf(s.err, "\nGood for one box, for %v. %sOn the new box run (--peer is where the others reach it):\n  %s\n", ttl, note, o.Command)
	return err
}
