package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func whyCommand() command {
	return command{
		name: "why", args: "REVISION", about: "say on what a revision depends, and who ordered it",
		more: addrHelp + `
What is printed comes from the signed log and the history of keys, not from samples: the message that made the revision, the batch and
the block that it is in, which earlier revisions it compared or replaced, what its session and its box did before, and who proposed and
voted. It takes a box that has applied the revision itself and still has its block.

Examples:
  holdfast debug why 4711
  holdfast debug why 4711 --depth 5 --json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			depth := f.Int("depth", api.WhyDepthDefault, fmt.Sprintf("how many steps to go back, 1 to %d", api.WhyDepthMax))
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one revision", errUsage)
				}
				revision, err := strconv.ParseUint(args[0], 10, 64)
				if err != nil || *depth < 1 || *depth > api.WhyDepthMax {
					return fmt.Errorf("%w: a revision is a number, the depth one from 1 to %d", errUsage, api.WhyDepthMax)
				}
				return ask(*addr, func(b *remote.Box) error {
					w, err := b.Why(ctx, revision, *depth)
					if err != nil {
						return err
					}
					if *asJSON {
						return printJSON(s.out, w)
					}
					return printWhy(s.out, &w)
				})
			}
		},
	}
}

// verbs say an edge in words, before what it leads to.
var verbs = map[string]string{
	api.WhyIn: "in", api.WhyReads: "looked at", api.WhyWrites: "replaced", api.WhySession: "its session before:", api.WhyAuthor: "its box before:", api.WhyParent: "builds on",
}

// printWhy prints the graph as a tree; what was shown before is named only.
func printWhy(w io.Writer, y *api.Why) error {
	nodes, below := map[string]*api.WhyNode{}, map[string][]*api.WhyEdge{}
	for i := range y.Nodes {
		nodes[y.Nodes[i].ID] = &y.Nodes[i]
	}
	for i := range y.Edges {
		e := &y.Edges[i]
		below[e.From] = append(below[e.From], e)
	}
	out := &strings.Builder{}
	fmt.Fprintf(out, "%s\n\n", y.Sentence)
	shown := map[string]bool{}
	var print func(id, prefix, how, indent string)
	print = func(id, prefix, how, indent string) {
		n := nodes[id]
		if n == nil {
			return
		}
		fmt.Fprintf(out, "%s%s%s", prefix, how, n.Label)
		if shown[id] {
			fmt.Fprint(out, " (above)\n")
			return
		}
		shown[id] = true
		fmt.Fprintf(out, "%s\n", details(n))
		for i, e := range below[id] {
			branch, more := "├─ ", "│  "
			if i == len(below[id])-1 {
				branch, more = "└─ ", "   "
			}
			how := verbs[e.Kind] + " "
			if e.Label != "" {
				how += e.Label + " of "
			}
			print(e.To, indent+branch, how, indent+more)
		}
	}
	if len(y.Nodes) > 0 {
		print(y.Nodes[0].ID, "", "", "")
	}
	if y.Truncated {
		fmt.Fprintln(out, "\nThere is more, further back; --depth shows it as far as this box's log goes.")
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// details are what is worth knowing of a node beside its label.
func details(n *api.WhyNode) string {
	var d []string
	if n.Session != "" {
		d = append(d, fmt.Sprintf("message %d of session %s", n.Seq, n.Session))
	}
	if len(n.Phases) > 0 {
		var ps []string
		for _, p := range n.Phases {
			ps = append(ps, fmt.Sprintf("%s %v", p.Name, short(p.Duration)))
		}
		d = append(d, strings.Join(ps, ", "))
	}
	if n.Kept && n.Trace != nil {
		d = append(d, "trace "+n.Trace.String())
	}
	if len(n.Voters) > 0 {
		by := "final by " + strings.Join(n.Voters, ", ")
		if n.CertHeight != n.Height {
			by += fmt.Sprintf(" (certificate of block %d)", n.CertHeight)
		}
		d = append(d, by)
	}
	if n.Kind == api.WhyBlock {
		d = append(d, fmt.Sprintf("round %d", n.Round))
	}
	if n.Skipped > 0 {
		d = append(d, fmt.Sprintf("after %d rounds that were given up", n.Skipped))
	}
	if len(d) == 0 {
		return ""
	}
	return " [" + strings.Join(d, "; ") + "]"
}
