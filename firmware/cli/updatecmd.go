package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func updateCommand(b Build) command {
	return command{
		name: "update", about: "change the firmware of a box or of a whole site, and go back",
		more: `
A bundle is one signed file. A box takes it into the slot that does not run, starts with it, and keeps it when the site is well with it;
otherwise it goes back by itself. docs/update.md

Examples:
  holdfast update key --out update.key                     (once; keep the file where no box is)
  holdfast update trust first MFkwEwYHKoZI...              (on a box: the site decides)
  holdfast image build --profile generic-arm64 --key update.key --bundle 1.2.hfb -o 1.2.img
  holdfast update inspect 1.2.hfb
  holdfast update site 1.2.hfb
  holdfast update status
`,
		sub: []command{
			updateKeyCommand(), updateTrustCommand(), updateDistrustCommand(), updateBundleCommand(b), updateInspectCommand(), updateApplyCommand(), updateSiteCommand(), updateStatusCommand(),
			updateOrderCommand("pause", "let no further box change over"),
			updateOrderCommand("resume", "go on with the site's update, also with the box that failed"),
			updateOrderCommand("undo", "have the boxes that changed over go back, one by one"),
			updateReturnCommand(),
		},
	}
}

// asked declares the flags of what changes firmware.
type asked struct {
	addr                  *string
	asJSON, older, force  *bool
	health, latency, each *string
}

func updating(f *flag.FlagSet) *asked {
	u := new(asked)
	u.addr, u.asJSON = asking(f)
	u.older = f.Bool("older", false, "also a version that is older than the one that runs")
	u.health = f.String("health", "", "for how `long` the site must be well with it (30s)")
	u.latency = f.String("latency", "", "what 99 of 100 messages may take then, a `time` (500ms)")
	u.each = f.String("box-time", "", "how `long` a box may take for all (30m)")
	return u
}

func (u *asked) fields(bundle coord.Digest) map[string]string {
	p := map[string]string{"bundle": bundle.String()}
	for k, v := range map[string]string{"health": *u.health, "latency": *u.latency, "box_time": *u.each} {
		if v != "" {
			p[k] = v
		}
	}
	if u.force != nil && *u.force {
		p["force"] = "true"
	}
	return p
}

// check says what is wrong with the rules, before a bundle is sent for them.
func (u *asked) check() error {
	for name, text := range map[string]string{"--health": *u.health, "--latency": *u.latency, "--box-time": *u.each} {
		if d, err := time.ParseDuration(text); text != "" && (err != nil || d <= 0) {
			return fmt.Errorf("%w: %s %q; write 30s, 500ms or the like", errUsage, name, text)
		}
	}
	return nil
}

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// give has the box take a bundle, from a file or an address, and says how far it is. It waits until all of it is there.
func (u *asked) give(ctx context.Context, s *streams, b *remote.Box, from string) (*remote.Taken, error) {
	if isURL(from) {
		p := map[string]string{"url": from}
		if *u.older {
			p["older"] = "true"
		}
		t := new(remote.Taken)
		if err := b.Post(ctx, "/api/v1/update/fetch", p, t); err != nil {
			return nil, err
		}
		return t, u.watchFetch(ctx, s, b, t)
	}
	f, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if h, err := release.ReadUntrusted(f); err == nil { // else the box says what is wrong with it
		if v, err := b.Update(ctx); err == nil && v.Fetch != nil && v.Fetch.Done && v.Fetch.Bundle == h.ID() {
			return &remote.Taken{Bundle: h.ID(), Version: h.Version, Bytes: h.BundleBytes()}, nil // it has it
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return b.Upload(ctx, &bundleProgress{r: f, total: info.Size(), to: s.err, quiet: *u.asJSON}, info.Size(), *u.older)
}

func (u *asked) watchFetch(ctx context.Context, s *streams, b *remote.Box, t *remote.Taken) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	p := &bundleProgress{to: s.err, quiet: *u.asJSON}
	for {
		v, err := b.Update(ctx)
		if err != nil {
			return err
		}
		if f := v.Fetch; f != nil && f.Bundle == t.Bundle {
			p.total = f.Bytes
			if err := p.show(f.Have); err != nil {
				return err
			}
			switch {
			case f.Done:
				return nil
			case f.Error != "":
				return errors.New(f.Error)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bundleProgress says in tenths how far a reader is.
type bundleProgress struct {
	r           io.Reader
	have, total int64
	tenths      int64
	to          io.Writer
	quiet       bool
}

func (p *bundleProgress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.have += int64(n)
	if e := p.show(p.have); err == nil {
		err = e
	}
	return n, err // an io.EOF as it is: package http compares
}

func (p *bundleProgress) show(have int64) error {
	if p.total <= 0 || p.quiet {
		return nil
	}
	t := have * 10 / p.total
	if t <= p.tenths {
		return nil
	}
	p.tenths = t
	_, err := fmt.Fprintf(p.to, "%d %% of %d bytes\n", t*10, p.total)
	return err
}

func updateApplyCommand() command {
	return command{
		name: "apply", args: "FILE|URL", about: "give a box a bundle and start it with that",
		more: addrHelp + `
The box verifies the bundle while it comes, starts the machine with it, and keeps it when the site was well with it for --health; else it goes
back by itself, and ` + "`holdfast update status`" + ` says why. A bundle that the box has is not sent again, and what is there of one after a power
cut is not written again.

Examples:
  holdfast update apply 1.2.hfb
  holdfast update apply https://example.net/1.2.hfb --health 2m
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			u := updating(f)
			u.force = f.Bool("force", false, "also when the site does not order without this box")
			stage := f.Bool("stage-only", false, "give it the bundle and start nothing")
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one bundle", errUsage)
				}
				if err := u.check(); err != nil {
					return err
				}
				return ask(*u.addr, func(b *remote.Box) error {
					t, err := u.give(ctx, s, b, args[0])
					if err != nil {
						return err
					}
					if !*stage {
						if err := b.Post(ctx, "/api/v1/update/apply", u.fields(t.Bundle), nil); err != nil {
							return err
						}
					}
					if *u.asJSON {
						return printJSON(s.out, t)
					}
					what := "is started with"
					if *stage {
						what = "has"
					}
					_, err = fmt.Fprintf(s.out, "the box %s %s, bundle %s\n", what, plain(t.Version), t.Bundle)
					return err
				})
			}
		},
	}
}

func updateSiteCommand() command {
	return command{
		name: "site", args: "FILE|URL|BUNDLE-ID", about: "change a site over to a bundle, one box after the other",
		more: addrHelp + `
One box takes the bundle, the others fetch it from each other. Each box changes over when the site can spare it, the leader last; the first that
fails stops it. ` + "`holdfast update pause`, `resume` and `undo`" + ` steer it.

Examples:
  holdfast update site 1.2.hfb
  holdfast update site 3fa9...     (the id of a bundle that the box has, 64 digits)
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			u := updating(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one bundle", errUsage)
				}
				if err := u.check(); err != nil {
					return err
				}
				return ask(*u.addr, func(b *remote.Box) error {
					t := new(remote.Taken)
					if err := t.Bundle.UnmarshalText([]byte(args[0])); err != nil {
						if t, err = u.give(ctx, s, b, args[0]); errors.Is(err, fs.ErrNotExist) {
							err = fmt.Errorf("%w; the id of a bundle that the box has is 64 hexadecimal digits", err)
						}
						if err != nil {
							return err
						}
					}
					p := u.fields(t.Bundle)
					if isURL(args[0]) {
						p["url"] = args[0]
					}
					return steer(ctx, s, b, "/api/v1/update/site", p, *u.asJSON)
				})
			}
		},
	}
}

// steer asks for a decision about the site's update.
func steer(ctx context.Context, s *streams, b *remote.Box, path string, p map[string]string, asJSON bool) error {
	var l remote.Later
	if err := b.Post(ctx, path, p, &l); err != nil {
		return err
	}
	if asJSON {
		return printJSON(s.out, l)
	}
	text := "decided; `holdfast update status` shows how it goes"
	if l.Waits != "" {
		text = l.Waits
	}
	_, err := fmt.Fprintln(s.out, text)
	return err
}

func updateOrderCommand(name, about string) command {
	return command{
		name: name, about: about, more: addrHelp + "\nExample:\n  holdfast update " + name + "\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					return steer(ctx, s, b, "/api/v1/update/"+name, map[string]string{}, *asJSON)
				})
			}
		},
	}
}

func updateReturnCommand() command {
	return command{
		name: "return", about: "start a box with the firmware in its other slot, which was good once",
		more: addrHelp + "\nExample:\n  holdfast update return\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr := f.String("addr", "", "`address` of the box's console")
			force := f.Bool("force", false, "also when the site does not order without this box")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				p := map[string]string{}
				if *force {
					p["force"] = "true"
				}
				return ask(*addr, func(b *remote.Box) error {
					if err := b.Post(ctx, "/api/v1/update/return", p, nil); err != nil {
						return err
					}
					_, err := fmt.Fprintln(s.out, "the box starts with the firmware in its other slot")
					return err
				})
			}
		},
	}
}

func updateStatusCommand() command {
	return command{
		name: "status", about: "print a box's firmware, and how the site's update stands",
		more: addrHelp + "\nExamples:\n  holdfast update status\n  holdfast update status --json\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			return showing(f, "/api/v1/update", (*remote.Box).Update, printUpdate)
		},
	}
}

func printUpdate(w io.Writer, u *api.Update) error {
	t := table(w)
	fmt.Fprintf(t, "this box runs %s", plain(u.Version))
	if u.Slot != "" {
		fmt.Fprintf(t, " from slot %s, board %s (%s)", u.Slot, plain(u.Board), plain(u.Arch))
	}
	fmt.Fprintln(t)
	if u.Cannot != "" {
		fmt.Fprintf(t, "it takes no updates: %s\n", plain(u.Cannot))
	}
	if u.Trial != "" {
		fmt.Fprintf(t, "on trial: %s\n", plain(u.Trial))
	}
	for _, x := range u.Slots {
		fmt.Fprintf(t, "slot %s: %s %s", x.Slot, x.State, plain(x.Version))
		if x.Have < x.Bytes {
			fmt.Fprintf(t, ", %d %% of it: the same bundle, given again, goes on", x.Have*100/x.Bytes)
		}
		if x.Reason != "" {
			fmt.Fprintf(t, ": %s", plain(x.Reason))
		}
		fmt.Fprintln(t)
	}
	if j := u.Job; j != nil {
		fmt.Fprintf(t, "last: %s %s", j.Phase, plain(j.Version))
		if j.Why != "" {
			fmt.Fprintf(t, ": %s", plain(j.Why))
		}
		fmt.Fprintf(t, " (%s)\n", plain(j.At))
	}
	if f := u.Fetch; f != nil && !f.Done {
		fmt.Fprintf(t, "bundle %s: %d of %d bytes %s\n", plain(f.Version), f.Have, f.Bytes, plain(f.Error))
	}
	for _, k := range u.Keys {
		fmt.Fprintf(t, "key %s %s\n", plain(k.Name), plain(k.ID))
	}
	if p := u.Plan; p != nil {
		to := "to"
		if p.Undo {
			to = "back from"
		}
		fmt.Fprintf(t, "\nthe site's update %d, %s %s: %s", p.Number, to, plain(p.Version), p.State)
		if p.Why != "" {
			fmt.Fprintf(t, ": %s", plain(p.Why))
		}
		fmt.Fprintln(t, "\nBOX\tSTEP\tWHY")
		for i, b := range p.Boxes {
			step := string(b.Step)
			if i == u.Turn {
				step += " <-"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", plain(b.Name), step, plain(b.Why))
		}
		if u.Waits != "" {
			fmt.Fprintf(t, "this box: %s\n", plain(u.Waits))
		}
	}
	return t.Flush()
}
