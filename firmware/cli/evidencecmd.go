package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// evidenceMode is of the exported file: signatures and keys in it are public.
const evidenceMode = 0o644

func debugCommand() command {
	return command{
		name: "debug", about: "look into what a box knows of the others, and why the state is what it is",
		sub: []command{evidenceCommand(), whyCommand()},
	}
}

func evidenceCommand() command {
	return command{
		name: "evidence", about: "print proofs that a box signed what no honest box signs",
		more: addrHelp + `
Each finding is two votes signed by one box. It can be verified by anybody, without the site.

Examples:
  holdfast debug evidence
  holdfast debug evidence --out evidence.json
  holdfast debug evidence verify evidence.json --site /var/lib/holdfast/site.json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			out := f.String("out", "", "write what verify reads to a `file`")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					x, err := b.Evidence(ctx)
					if err != nil {
						return err
					}
					if *out != "" {
						var text bytes.Buffer
						if err := printJSON(&text, x); err != nil {
							return err
						}
						if err := os.WriteFile(*out, text.Bytes(), evidenceMode); err != nil {
							return err
						}
						fmt.Fprintf(s.err, "wrote %s: %d findings\n", *out, len(x.Findings))
					}
					if *asJSON {
						return printJSON(s.out, x)
					}
					return printEvidence(s.out, x)
				})
			}
		},
		sub: []command{{
			name: "verify", args: "FILE", about: "check an exported file by itself, without a box",
			more: `
Every finding is checked: the key is the box's, both signatures are by it, and no honest box signs both votes.
That the box is one of your site only your own site.json can say: give it with --site.
The exit code is 1 if a finding proves nothing, or if there is none.

Example:
  holdfast debug evidence verify evidence.json --site /var/lib/holdfast/site.json
`,
			flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
				trusted := f.String("site", "", "the site.json that you trust, a `file`")
				asJSON := f.Bool("json", false, "print JSON")
				return func(_ context.Context, s *streams, args []string) error {
					if len(args) != 1 {
						return fmt.Errorf("%w: %d arguments where a file is needed", errUsage, len(args))
					}
					return verifyEvidence(s.out, args[0], *trusted, *asJSON)
				}
			},
		}},
	}
}

func printEvidence(w io.Writer, x *coord.Exhibit) error {
	if len(x.Findings) == 0 {
		_, err := fmt.Fprintln(w, "no evidence: no box was caught lying")
		return err
	}
	for i := range x.Findings {
		rule, at, err := trust.CheckFinding(&x.Findings[i])
		if err := printFinding(w, &x.Findings[i], rule, at, err); err != nil {
			return err
		}
	}
	if x.More > 0 {
		_, err := fmt.Fprintf(w, "%d more were found and not kept\n", x.More)
		return err
	}
	return nil
}

func printFinding(w io.Writer, f *coord.Finding, rule coord.Rule, at uint64, bad error) error {
	verdict := fmt.Sprintf("PROVEN: it %v (%s %d)", rule, placeOf(rule), at)
	if bad != nil {
		verdict = "NOT PROVEN: " + bad.Error()
	}
	t := table(w)
	fmt.Fprintf(t, "box %v (%q) of site %v, noticed %s\n", f.Box, f.Name, f.Site, f.Found.UTC().Format(time.RFC3339))
	for _, v := range []*coord.Vote{&f.A, &f.B} {
		fmt.Fprintf(t, "  signed\t%v\tepoch %d\t%s %d\t%v\n", v.Kind, v.Epoch, map[bool]string{true: "height", false: "round"}[v.Kind == coord.VoteCheckpoint], v.Round, v.Digest)
	}
	fmt.Fprintf(t, "  %s\n", verdict)
	return t.Flush()
}

func placeOf(r coord.Rule) string {
	switch r {
	case coord.RuleOneLevel, coord.RuleEmptyIsNotFinal:
		return "term"
	case coord.RuleOneState:
		return "height"
	}
	return "round"
}

// judgement is a finding's verdict for programs.
type judgement struct {
	Box    coord.BoxID `json:"box"`
	Proven bool        `json:"proven"`
	Rule   string      `json:"rule,omitempty"`
	At     uint64      `json:"at,omitempty"`
	Why    string      `json:"why,omitempty"`
}

func verifyEvidence(w io.Writer, file, trusted string, asJSON bool) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	x, err := coord.ReadExhibit(in)
	if err = errors.Join(err, in.Close()); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var members *coord.Members
	if trusted != "" {
		if members, err = trust.LoadMembersFile(trusted); err != nil {
			return err
		}
	}
	if len(x.Findings) == 0 {
		return fmt.Errorf("%s has no finding: it proves nothing", file)
	}
	bad := 0
	for i := range x.Findings {
		f := &x.Findings[i]
		rule, at, err := trust.CheckFinding(f)
		if err == nil {
			err = ofSite(f, members)
		}
		if err != nil {
			bad++
		}
		if !asJSON {
			err = printFinding(w, f, rule, at, err)
		} else {
			j := judgement{Box: f.Box, Proven: err == nil, Rule: rule.String(), At: at}
			if err != nil {
				j = judgement{Box: f.Box, Why: err.Error()}
			}
			err = json.NewEncoder(w).Encode(j)
		}
		if err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d findings prove nothing", bad, len(x.Findings))
	}
	if members == nil && !asJSON {
		_, err = fmt.Fprintln(w, "whether the keys are of boxes of your site was not checked: give --site")
	}
	return err
}

// ofSite says whether a finding is about a box of the site that is trusted. The rounds a term are not signed, and with
// others than the site's two honest votes could be called a lie.
func ofSite(f *coord.Finding, m *coord.Members) error {
	if f.TermRounds != site.TermRounds {
		return fmt.Errorf("%w: terms of %d rounds, not %d", coord.ErrEvidence, f.TermRounds, site.TermRounds)
	}
	if m == nil {
		return nil
	}
	if f.Site != m.Site {
		return fmt.Errorf("%w: it is of site %v, not of %v", coord.ErrEvidence, f.Site, m.Site)
	}
	i := m.Index(f.Box)
	if i < 0 || !bytes.Equal(m.List[i].Key, f.Key) {
		return fmt.Errorf("%w: box %v with this key is no member of the site", coord.ErrEvidence, f.Box)
	}
	return nil
}
