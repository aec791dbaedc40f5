package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func decisionCommand() command {
	return command{
		name: "decision", about: "what the site decides about itself: see it, and give this box's word",
		more: `
A decision takes effect when a quorum of the boxes has given its word. A box gives its word by itself where what is asked for is signed by
somebody who may; else an operator on that box approves or refuses. ID is a decision's id, or its first digits (four at least).

Examples:
  holdfast decision list
  holdfast decision show 3fa9
  holdfast decision approve 3fa9
  holdfast decision refuse 3fa9
`,
		sub: []command{
			decisionListCommand(), decisionShowCommand(), decisionProposeCommand(),
			wordCommand("approve", "give this box's yes to a decision; it cannot be taken back", true),
			wordCommand("refuse", "give this box's no to a decision; more than f boxes end it", false),
		},
	}
}

// endedShown is how many decisions that have ended a list shows.
const endedShown = 10

func decisionListCommand() command {
	return command{
		name: "list", about: "list open decisions, and how the last ones ended",
		more: addrHelp + `
Examples:
  holdfast decision list
  holdfast decision list --all
  holdfast decision list --json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			all := f.Bool("all", false, fmt.Sprintf("all ended ones that the box remembers, not the last %d", endedShown))
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					if *asJSON {
						return b.Raw(ctx, "/api/v1/decisions", s.out)
					}
					d, err := b.Decisions(ctx)
					if err != nil {
						return err
					}
					if !*all {
						d.Ended = d.Ended[:min(len(d.Ended), endedShown)]
					}
					return printDecisions(s.out, &d)
				})
			}
		},
	}
}

func printDecisions(w io.Writer, d *api.Decisions) error {
	t := table(w)
	if len(d.Open) == 0 {
		fmt.Fprintln(t, "no decision is open")
	} else {
		fmt.Fprintln(t, "ID\tKIND\tON\tASKED BY\tYES\tNO\tNEEDED\tLEFT\tTHIS BOX")
	}
	for i := range d.Open {
		o := &d.Open[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%v\t%s\n", o.ID.Short(), plain(o.Kind), plain(o.Subject), plain(o.Principal), len(o.Yes), len(o.No),
			o.Needed, time.Duration(o.Left)*time.Second, plain(saidHere(o)))
	}
	if len(d.Ended) > 0 {
		fmt.Fprintln(t, "\nENDED\tKIND\tON\tASKED BY\tYES\tNO\tHOW\tHEIGHT")
	}
	for i := range d.Ended {
		e := &d.Ended[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%v\t%d\n", e.ID.Short(), plain(e.Kind), plain(e.Subject), plain(e.Principal), len(e.Yes), len(e.No), e.Outcome, e.Height)
	}
	return t.Flush()
}

// saidHere is the asked box's word in a few.
func saidHere(o *site.DecisionView) string {
	switch {
	case o.Word != "":
		return "said " + o.Word
	case o.Waits != "":
		return "waits: " + o.Waits
	}
	return "judges it"
}

func decisionShowCommand() command {
	return command{
		name: "show", args: "ID", about: "print a decision: who asked, whose words are there, and what it writes",
		more: `
What a decision writes is shown on the box's socket only: run this on the box. Of the list of boxes it is what would differ.

Example:
  holdfast decision show 3fa9
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				id, err := oneID(args)
				if err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					d, err := b.Decision(ctx, id)
					if err != nil {
						return err
					}
					if *asJSON {
						return printJSON(s.out, d)
					}
					m, err := b.Members(ctx)
					if err != nil {
						return err
					}
					return printDecision(s.out, &d, &m)
				})
			}
		},
	}
}

func oneID(args []string) (string, error) {
	if len(args) != 1 || len(args[0]) < 4 {
		return "", fmt.Errorf("%w: a decision's id, or its first digits, is needed; `holdfast decision list` shows them", errUsage)
	}
	return args[0], nil
}

func printDecision(w io.Writer, d *api.Decision, m *api.Members) error {
	names := func(ids []coord.BoxID) string {
		var out []string
		for _, id := range ids {
			name := id.String()
			for i := range m.Members {
				if m.Members[i].ID == id {
					name = m.Members[i].Name
				}
			}
			out = append(out, plain(name))
		}
		if len(out) == 0 {
			return "nobody"
		}
		return strings.Join(out, ", ")
	}
	t := table(w)
	if e := d.Ended; e != nil {
		fmt.Fprintf(t, "id\t%v\nkind\t%s\non\t%s\nasked by\t%s, at %s\n", e.ID, plain(e.Kind), plain(e.Subject), plain(e.Principal), names([]coord.BoxID{e.By}))
		fmt.Fprintf(t, "it\t%v, at height %d\nyes\t%s\nno\t%s\n", e.Outcome, e.Height, names(e.Yes), names(e.No))
		return t.Flush()
	}
	o := d.Open
	if o == nil {
		return errors.New("the box knows no such decision any more")
	}
	fmt.Fprintf(t, "id\t%v\nkind\t%s\non\t%s\nasked by\t%s, at %s\nreason\t%s\n", o.ID, plain(o.Kind), plain(o.Subject), plain(o.Principal), names([]coord.BoxID{o.By}), plain(o.Reason))
	fmt.Fprintf(t, "it\tis open for %v more; %d of %d words are there\nyes\t%s\nno\t%s\nno word yet\t%s\nthis box\t%s\n", time.Duration(o.Left)*time.Second,
		len(o.Yes), o.Needed, names(o.Yes), names(o.No), names(o.Missing), plain(saidHere(o)))
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range d.Documents {
		if err := printWritten(w, &d.Documents[i]); err != nil {
			return err
		}
	}
	return nil
}

func wordCommand(name, about string, yes bool) command {
	return command{
		name: name, args: "ID", about: about,
		more: fmt.Sprintf(`
The word is that of the box that is asked: run this on the box.

Examples:
  holdfast decision %s 3fa9
  holdfast decision %s 3fa9 --addr unix:///var/lib/holdfast/holdfast.sock --json
`, name, name),
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				id, err := oneID(args)
				if err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					said, err := b.Word(ctx, id, yes)
					if err != nil {
						return err
					}
					d, err := b.Decision(ctx, said.ID)
					if err != nil {
						return err
					}
					if *asJSON {
						return printJSON(s.out, d)
					}
					if d.Ended != nil {
						_, err = fmt.Fprintf(s.out, "decision %s: %v\n", d.Ended.ID.Short(), d.Ended.Outcome)
					} else if d.Open != nil {
						_, err = fmt.Fprintf(s.out, "decision %s has this box's word; %d of %d say yes\n", d.Open.ID.Short(), len(d.Open.Yes), d.Open.Needed)
					}
					return err
				})
			}
		},
	}
}

func decisionProposeCommand() command {
	return command{
		name: "propose", about: "propose to change documents of the site",
		more: `
For what has no command of its own. The box says yes to what it proposes; other boxes wait for their operators. --set and --remove may be given
several times; a value is taken as it is.

Examples:
  holdfast decision propose --kind setting.put --on setting/joins --reason "a new shop" --set setting/joins='{"approve":"token"}'
  holdfast decision propose --kind role.remove --on role/cleaner --remove role/cleaner
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			p := new(api.Proposal)
			f.StringVar(&p.Kind, "kind", "", "what sort of decision it is, `area.verb`")
			f.StringVar(&p.Subject, "on", "", "`what` it is about, for people")
			f.StringVar(&p.Reason, "reason", "", "`why`, for people")
			lasts := f.Duration("for", 0, "how `long` boxes may give their word; 0: a day")
			f.Func("set", "set a document, `KEY=VALUE`", func(text string) error {
				k, v, ok := strings.Cut(text, "=")
				if !ok {
					return errors.New("write KEY=VALUE")
				}
				p.Writes = append(p.Writes, api.ProposalWrite{Key: k, Value: &v})
				return nil
			})
			f.Func("remove", "remove the document `KEY`", func(k string) error {
				p.Writes = append(p.Writes, api.ProposalWrite{Key: k})
				return nil
			})
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if p.Kind == "" || len(p.Writes) == 0 {
					return fmt.Errorf("%w: --kind, and --set or --remove, are needed", errUsage)
				}
				p.Seconds = uint64(max(*lasts, 0) / time.Second)
				return ask(*addr, func(b *remote.Box) error {
					said, err := b.Propose(ctx, p)
					if err != nil {
						return err
					}
					switch {
					case *asJSON:
						return printJSON(s.out, said)
					case said.Waits != "":
						_, err = fmt.Fprintf(s.out, "decision %.8s is open: %s\n", said.ID, plain(said.Waits))
					default:
						_, err = fmt.Fprintf(s.out, "decision %.8s %s\n", said.ID, said.Outcome)
					}
					return err
				})
			}
		},
	}
}
