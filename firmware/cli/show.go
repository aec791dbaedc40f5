package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

const addrHelp = `
The box is asked at its console: --addr http://HOST:PORT, HOST:PORT or unix:///PATH/holdfast.sock.
Over TLS: --addr https://ID@HOST:PORT, with the box's id (or more digits of its key's SHA-256), which is checked; or
https://HOST:PORT, with who issued its certificate in the file that HOLDFAST_CA names.
Without --addr it is this machine's own box. Over the network HOLDFAST_TOKEN is shown, a token; where that is bound to a key,
HOLDFAST_TOKEN_KEY names the file of the holder's private key.
`

// asking declares the flags of commands that ask a box.
func asking(f *flag.FlagSet) (addr *string, asJSON *bool) {
	addr = f.String("addr", "", "`address` of the box's console")
	asJSON = f.Bool("json", false, "print JSON")
	return addr, asJSON
}

// showing is a command without arguments that prints what a box answers; with --json as it came from path.
func showing[T any](f *flag.FlagSet, path string, get func(*remote.Box, context.Context) (T, error), print func(io.Writer, T) error) func(context.Context, *streams, []string) error {
	addr, asJSON := asking(f)
	return func(ctx context.Context, s *streams, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		return ask(*addr, func(b *remote.Box) error {
			if *asJSON {
				return b.Raw(ctx, path, s.out)
			}
			v, err := get(b, ctx)
			if err != nil {
				return err
			}
			return print(s.out, v)
		})
	}
}

func boxAt(addr string) (*remote.Box, error) {
	if addr == "" {
		addr = remote.Default()
	}
	b, err := remote.New(addr)
	if errors.Is(err, remote.ErrToken) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return b, nil
}

func statusCommand() command {
	return command{
		name: "status", about: "say how a box and its site are, and what to do next",
		more: addrHelp + `
The graphs are the last 30 minutes of the box's own history. With --watch it is shown anew each second until q or Ctrl-C; in a pipe one after the
other. NO_COLOR is heeded.

Examples:
  holdfast status
  holdfast status --watch
  holdfast status --addr http://127.0.0.1:8081 --json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			again, every := watching(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *again && *asJSON {
					return fmt.Errorf("%w: --watch or --json", errUsage)
				}
				return ask(*addr, func(b *remote.Box) error {
					switch {
					case *asJSON:
						return b.Raw(ctx, "/api/v1/status", s.out)
					case *again:
						return watchBox(ctx, s, b, *every, func(context.Context, style) []string { return nil })
					}
					o, err := look(ctx, b, nil)
					if err != nil {
						return err
					}
					_, err = fmt.Fprintln(s.out, strings.Join(o.draw(styleOf(s.out)), "\n"))
					return err
				})
			}
		},
	}
}

// watching declares the flags of commands that show something again and again.
func watching(f *flag.FlagSet) (again *bool, every *time.Duration) {
	return f.Bool("watch", false, "show it again and again, until q or Ctrl-C"), f.Duration("every", time.Second, "with --watch: how `often`")
}

// watchBox shows the overview of a box and below it what more gives. A box that does not answer is said to, and waited for.
func watchBox(ctx context.Context, s *streams, b *remote.Box, every time.Duration, more func(ctx context.Context, s style) []string) error {
	var before *overview
	return live(ctx, s, every, func(ctx context.Context, st style) []string {
		o, err := look(ctx, b, before)
		if err != nil {
			var lines []string
			for _, l := range wrap(plain(oneLine(err)), max(40, st.width)-2) {
				lines = append(lines, "  "+l)
			}
			lines[0] = st.paint(red, st.pick("●", "*")) + lines[0][1:]
			if before != nil {
				lines = append(append(lines, "", "  "+st.paint(dim, "as it was "+ago(time.Since(before.Status.Taken))+" ago:"), ""), before.draw(st)...)
			}
			return lines
		}
		before = o
		return append(o.draw(st), more(ctx, st)...)
	})
}

func ask(addr string, fn func(*remote.Box) error) error {
	b, err := boxAt(addr)
	if err != nil {
		return err
	}
	defer b.Close()
	return fn(b)
}

func nameOf(members []site.MemberView, id coord.BoxID) string {
	for i := range members {
		if members[i].ID == id {
			return members[i].Name
		}
	}
	return id.String()
}

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

func membersCommand() command {
	return command{
		name: "members", about: "list the boxes of a site as one box sees them",
		more: addrHelp + `
With --pem: the certificates of the etcd API of all boxes that answer, checked against the keys that the site has of
them; what clients take as their CA file where no certificates of your own are configured.

Examples:
  holdfast members
  holdfast members --addr 127.0.0.1:8081 --json
  holdfast members --history
  holdfast members --history --json > chain.json && holdfast audit verify --site site.json --chain chain.json audit.jsonl
  holdfast members --epoch 3 > site-of-epoch-3.json
  holdfast members --pem > site.pem && etcdctl --cacert site.pem --endpoints https://10.0.0.1:2379 member list
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			pem := f.Bool("pem", false, "print the certificates of the boxes' etcd API")
			history := f.Bool("history", false, "say how the boxes changed, as far back as the box knows")
			epoch := f.Uint64("epoch", 0, "print the member set of an `epoch`, as site.json has it; 0: the boxes now")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *pem && *asJSON {
					return fmt.Errorf("%w: --pem or --json", errUsage)
				}
				return ask(*addr, func(b *remote.Box) error {
					if *epoch != 0 {
						return printMembersOf(ctx, s, b, *epoch)
					}
					if *history {
						return printHistory(ctx, s, b, *asJSON)
					}
					if *asJSON {
						return b.Raw(ctx, "/api/v1/members", s.out)
					}
					if *pem {
						return printCertificates(ctx, s, b)
					}
					st, err := b.Status(ctx)
					if err != nil {
						return err
					}
					return printMembers(s.out, &st)
				})
			}
		},
	}
}

func printMembers(w io.Writer, st *api.Status) error {
	t := table(w)
	fmt.Fprintln(t, "BOX\tID\tSTATE\tHEIGHT\tROUND\tROUND TRIP\tCONSOLE\tNATIVE")
	for i := range st.Members {
		m := &st.Members[i]
		state, rtt := "down", ""
		switch {
		case m.Self:
			state = "this box"
		case m.Up:
			state, rtt = "up", m.RTT.Round(10*time.Microsecond).String()
		}
		if m.ID == st.Leader {
			state += ", leader"
		}
		if m.Suspect > 0 {
			state += fmt.Sprintf(", suspect %d", m.Suspect)
		}
		if m.Twins > 0 {
			state += ", ON TWO MACHINES"
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%d\t%d\t%s\t%s\t%s\n", m.Name, m.ID, state, m.Height, m.Round, rtt, m.Console, m.Native)
	}
	return t.Flush()
}

func topCommand() command {
	return command{
		name: "top", about: "list the most observed objects; with --watch live, below how the box is",
		more: addrHelp + `
Examples:
  holdfast top -n 20
  holdfast top --watch
  holdfast top -n 100 --json --addr http://127.0.0.1:8083
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			n := f.Int("n", 10, "how `many` objects")
			again, every := watching(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *n < 0 || *n > api.TopMax {
					return fmt.Errorf("%w: -n %d; it is from 0 to %d", errUsage, *n, api.TopMax)
				}
				if *again && *asJSON {
					return fmt.Errorf("%w: --watch or --json", errUsage)
				}
				return ask(*addr, func(b *remote.Box) error {
					if *again {
						return watchBox(ctx, s, b, *every, topBelow(b, *n))
					}
					top, err := b.Top(ctx, *n)
					if err != nil {
						return err
					}
					if *asJSON {
						return printJSON(s.out, top)
					}
					return printTop(s.out, top)
				})
			}
		},
	}
}

// topBelow gives the lines of the most observed objects, with how often each is observed since the last time.
func topBelow(b *remote.Box, n int) func(context.Context, style) []string {
	var before map[uint64]uint64
	var at time.Time
	return func(ctx context.Context, s style) []string {
		top, err := b.Top(ctx, n)
		now := time.Now()
		if err != nil {
			return []string{"", "  " + s.cut(plain(oneLine(err)), s.width-2)}
		}
		lines := []string{"", "  " + s.paint(dim, s.cut(fmt.Sprintf("%s  %s %s   %s observations of %s objects", padded("OBJECT", 20, false), padded("COUNT", 12, true),
			padded("PER SECOND", 11, true), grouped(top.Total), grouped(top.Distinct)), s.width-2))}
		counts := make(map[uint64]uint64, len(top.Top))
		for _, c := range top.Top {
			counts[c.Object] = c.Count
			rate := ""
			if was, known := before[c.Object]; known && now.After(at) {
				rate = fmt.Sprintf("%.1f", float64(c.Count-was)/now.Sub(at).Seconds())
			}
			lines = append(lines, s.cut(fmt.Sprintf("  %s  %s %s", padded(fmt.Sprint(c.Object), 20, false), padded(grouped(c.Count), 12, true), padded(rate, 11, true)), s.width))
		}
		before, at = counts, now
		return lines
	}
}

func printTop(w io.Writer, top site.Top) error {
	t := table(w)
	fmt.Fprintf(t, "%d observations of %d objects\n\n", top.Total, top.Distinct)
	fmt.Fprintln(t, "OBJECT\tCOUNT")
	for _, c := range top.Top {
		fmt.Fprintf(t, "%d\t%d\n", c.Object, c.Count)
	}
	return t.Flush()
}

func logCommand() command {
	return command{
		name: "log", about: "read what the site has ordered",
		sub: []command{{
			name: "dump", about: "print committed blocks with their messages and certificates",
			more: addrHelp + `
A block without a certificate is final through that of a later block.

Examples:
  holdfast log dump --from 100 --to 110
  holdfast log dump --json | jq .messages
`,
			flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
				addr, asJSON := asking(f)
				from := f.Uint64("from", 0, "first `height`; without it the oldest in the log")
				to := f.Uint64("to", 0, "last `height`; without it the newest")
				return func(ctx context.Context, s *streams, args []string) error {
					if err := noArgs(args); err != nil {
						return err
					}
					if *to != 0 && *to < *from {
						return fmt.Errorf("%w: --to %d is below --from %d", errUsage, *to, *from)
					}
					return ask(*addr, func(b *remote.Box) error {
						if *asJSON {
							return b.Raw(ctx, remote.LogPath(*from, *to), s.out)
						}
						return b.Log(ctx, *from, *to, func(l *api.LogLine) error { return printBlock(s.out, l) })
					})
				}
			},
		}},
	}
}

func printBlock(w io.Writer, l *api.LogLine) error {
	var b strings.Builder
	proof := "final through a later block"
	if l.Certificate != nil {
		proof = fmt.Sprintf("%s certificate of %d", l.Certificate.Kind, len(l.Certificate.Signatures))
	}
	fmt.Fprintf(&b, "height %d  round %d  leader %v  %d messages  %s  %s\n", l.Height, l.Round, l.Leader, len(l.Messages), proof, l.Digest)
	for i := range l.Messages {
		m := &l.Messages[i]
		what := m.Kind + " " + shown(m.Key)
		if m.Object != nil && m.Count != nil {
			what = fmt.Sprintf("%s %d by %d", m.Kind, *m.Object, *m.Count)
		} else if len(m.Value) > 0 {
			what += " = " + shown(m.Value)
		}
		fmt.Fprintf(&b, "  %s  session %s number %d  %s\n", m.Time.Format(time.RFC3339Nano), m.Session, m.Seq, what)
	}
	for _, batch := range l.Batches {
		if batch.Error != "" {
			fmt.Fprintf(&b, "  batch %d of %v cannot be read and has no effect: %s\n", batch.Seq, batch.Author, batch.Error)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shown is a key or value as one word of a line.
func shown(b api.Bytes) string {
	text, err := b.MarshalText()
	if err != nil {
		return "?"
	}
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(string(text))
}

func printJSON(w io.Writer, v any) error {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
