package cli

import (
	"context"
	"encoding/json"
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

func trustCommand() command {
	evidence := evidenceCommand()
	evidence.more = strings.ReplaceAll(evidence.more, "holdfast debug evidence", "holdfast trust evidence")
	for i := range evidence.sub {
		evidence.sub[i].more = strings.ReplaceAll(evidence.sub[i].more, "holdfast debug evidence", "holdfast trust evidence")
	}
	return command{
		name: "trust", about: "say whom a box suspects and why, and what is proved",
		sub: []command{
			{
				name: "list", about: "list the members with what a box holds against them",
				more: addrHelp + `
Points are of one box's opinion. They halve every 10 minutes: from 3 a member is watched, from 10 suspect, until it is below 5. Whom more
than f others suspect does not lead; nobody is expelled for it. For proof see: holdfast trust evidence.

Examples:
  holdfast trust list
  holdfast trust list --addr 127.0.0.1:8081 --json
`,
				flags: trustFlags(0, func(w io.Writer, t *api.Trust, _ []string) error { return printTrust(w, t) }),
			},
			{
				name: "show", args: "BOX", about: "say what a box holds against one member: reasons, how often, when, and when it will be forgiven",
				more: addrHelp + `
BOX is a name or an id.

Example:
  holdfast trust show box-2
`,
				flags: trustFlags(1, func(w io.Writer, t *api.Trust, args []string) error {
					m, err := memberIn(t, args[0])
					if err != nil {
						return err
					}
					return printStanding(w, t, m)
				}),
			},
			evidence,
		},
	}
}

// trustFlags are of a command that shows what a box thinks, with n arguments; JSON is of one member when there is one.
func trustFlags(n int, show func(io.Writer, *api.Trust, []string) error) func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	return func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
		addr, asJSON := asking(f)
		return func(ctx context.Context, s *streams, args []string) error {
			if len(args) != n {
				return fmt.Errorf("%w: %d arguments where %d are needed", errUsage, len(args), n)
			}
			return ask(*addr, func(b *remote.Box) error {
				t, err := b.Trust(ctx)
				if err != nil {
					return err
				}
				if !*asJSON {
					return show(s.out, &t, args)
				}
				if n == 0 {
					return json.NewEncoder(s.out).Encode(t)
				}
				m, err := memberIn(&t, args[0])
				if err != nil {
					return err
				}
				return json.NewEncoder(s.out).Encode(m)
			})
		}
	}
}

func memberIn(t *api.Trust, name string) (*site.TrustView, error) {
	for i := range t.Members {
		if m := &t.Members[i]; m.Name == name || m.Box.String() == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("there is no box %q; `holdfast trust list` lists all", name)
}

func printTrust(w io.Writer, t *api.Trust) error {
	p := table(w)
	fmt.Fprintln(p, "BOX\tLEVEL\tPOINTS\tFINE IN\tLEADS\tSUSPECTED BY\tWHY")
	for i := range t.Members {
		m := &t.Members[i]
		name := m.Name
		if m.Self {
			name += " (this box)"
		}
		why := make([]string, 0, len(m.Why))
		for _, g := range m.Why {
			why = append(why, g.Reason.String())
		}
		fmt.Fprintf(p, "%s\t%v\t%.1f\t%s\t%s\t%s\t%s\n", name, m.Level, m.Points, fineIn(m.FineIn), map[bool]string{true: "no", false: "yes"}[m.Aside],
			orNone(namesIn(t, m.SuspectedBy)), orNone(strings.Join(why, ", ")))
	}
	return p.Flush()
}

func printStanding(w io.Writer, t *api.Trust, m *site.TrustView) error {
	p := table(w)
	fmt.Fprintf(p, "box\t%s (%v)\n", m.Name, m.Box)
	fmt.Fprintf(p, "level\t%v, %.1f points\n", m.Level, m.Points)
	fmt.Fprintf(p, "forgiven\t%s\n", map[bool]string{true: "in " + fineIn(m.FineIn) + " if nothing more happens", false: "there is nothing to forgive"}[m.FineIn > 0])
	fmt.Fprintf(p, "suspected by\t%s\n", orNone(namesIn(t, m.SuspectedBy)))
	fmt.Fprintf(p, "leads\t%s\n", map[bool]string{true: "no: more than f others suspect it", false: "yes"}[m.Aside])
	for _, g := range m.Why {
		fmt.Fprintf(p, "%v\t%.1f points, %d times, last %s: %s\n", g.Reason, g.Points, g.Events, g.Last.UTC().Format(time.RFC3339), g.Detail)
	}
	return p.Flush()
}

func fineIn(d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return d.Round(time.Second).String()
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func namesIn(t *api.Trust, ids []coord.BoxID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
		for k := range t.Members {
			if t.Members[k].Box == id {
				names[i] = t.Members[k].Name
			}
		}
	}
	return strings.Join(names, ", ")
}
