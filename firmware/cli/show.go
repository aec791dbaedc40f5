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
		name: "status", about: "say how a box and its site are",
		more: addrHelp + `
Examples:
  holdfast status
  holdfast status --addr http://127.0.0.1:8081 --json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					if *asJSON {
						return b.Raw(ctx, "/api/v1/status", s.out)
					}
					st, err := b.Status(ctx)
					if err != nil {
						return err
					}
					return printStatus(s.out, &st)
				})
			}
		},
	}
}

func ask(addr string, fn func(*remote.Box) error) error {
	b, err := boxAt(addr)
	if err != nil {
		return err
	}
	defer b.Close()
	return fn(b)
}

func printStatus(w io.Writer, st *api.Status) error {
	up := 0
	for i := range st.Members {
		if st.Members[i].Up {
			up++
		}
	}
	t := table(w)
	fmt.Fprintf(t, "%s\n\n", st.Verdict)
	fmt.Fprintf(t, "box\t%s (%v), up for %v, version %s\n", st.Name, st.ID, st.Taken.Sub(st.Started).Round(time.Second), st.Version)
	fmt.Fprintf(t, "site\t%v, %d of %d boxes up, %d may fail, %d must agree\n", st.Site, up, st.N, st.F, st.Quorum)
	fmt.Fprintf(t, "leader\t%s, round %d\n", nameOf(st.Members, st.Leader), st.Round)
	fmt.Fprintf(t, "height\t%d, revision %d\n", st.Height, st.Revision)
	fmt.Fprintf(t, "messages\t%d applied, %.1f a second\n", st.Applied, st.Rate)
	return t.Flush()
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
		name: "top", about: "list the most observed objects",
		more: addrHelp + `
Examples:
  holdfast top -n 20
  holdfast top -n 100 --json --addr http://127.0.0.1:8083
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			n := f.Int("n", 10, "how `many` objects")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *n < 0 || *n > api.TopMax {
					return fmt.Errorf("%w: -n %d; it is from 0 to %d", errUsage, *n, api.TopMax)
				}
				return ask(*addr, func(b *remote.Box) error {
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
