package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func alarmCommand() command {
	return command{
		name: "alarm", about: "what is wrong, and who is told",
		more: `
Each box evaluates rules over its own history and tells the receivers of its configuration ([alarms]). docs/alarms.md has every rule with
what it means and what to do.

Examples:
  holdfast alarm list
  holdfast alarm show HoldfastBoxAway
  holdfast alarm silence HoldfastBoxAway member=box-2 --for 2h --why 'new disk'
  holdfast alarm unsilence 3fa9
  holdfast alarm test
  holdfast alarm rules > holdfast.rules.yaml        (for a Prometheus of your own)
`,
		sub: []command{alarmListCommand(), alarmShowCommand(), alarmRulesCommand(), alarmSilenceCommand(), alarmUnsilenceCommand(), alarmTestCommand()},
	}
}

func alarmListCommand() command {
	return command{
		name: "list", about: "list a box's alarms, silences and receivers",
		more: addrHelp + `
An alarm is pending until it has lasted, and fires. When what it is about is not so any more it is ending: it goes on firing until that has lasted too,
and is resolved then. What is resolved stays for a quarter of an hour.

Examples:
  holdfast alarm list
  holdfast alarm list --addr 127.0.0.1:8081 --json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					v, err := b.Alarms(ctx)
					if err != nil {
						return err
					}
					if *asJSON {
						return json.NewEncoder(s.out).Encode(v)
					}
					return printAlarms(s.out, v, time.Now())
				})
			}
		},
	}
}

func printAlarms(w io.Writer, v *alarms.View, now time.Time) error {
	p := table(w)
	switch {
	case v.Taken.IsZero():
		fmt.Fprintln(p, "The box has not asked its rules yet.")
	case len(v.Alarms) == 0:
		fmt.Fprintln(p, "Nothing is wrong as far as the rules can tell.")
	default:
		fmt.Fprintln(p, "STATE\tSEVERITY\tFOR\tALARM\tSUMMARY\tSILENCED BY")
		for i := range v.Alarms {
			a := &v.Alarms[i]
			since := a.Since
			if a.State == alarms.Resolved {
				since = a.Resolved
			}
			state, what := string(a.State), orNone(a.Annotations["summary"])
			if a.Ending() {
				state, what = "ending", what+" (not so for "+span(now, a.Away)+", over in "+span(a.Over, now)+")"
			}
			fmt.Fprintf(p, "%s\t%s\t%s\t%s\t%s\t%s\n", state, a.Severity, span(now, since), a.Name, what, orNone(digits(a.Silenced)))
		}
	}
	if len(v.Silences) > 0 {
		fmt.Fprintln(p, "\nSILENCE\tENDS IN\tBY\tMATCHERS\tWHY")
		for i := range v.Silences {
			x := &v.Silences[i]
			fmt.Fprintf(p, "%s\t%s\t%s\t%s\t%s\n", digits(x.ID), span(x.Until, now), x.By, matcherText(x), x.Why)
		}
	}
	if len(v.Receivers) == 0 {
		fmt.Fprintln(p, "\nNobody is told: no receiver is configured ([alarms] in the configuration).")
	} else {
		fmt.Fprintln(p, "\nRECEIVER\tFROM\tTOLD\tWAITING\tGIVEN UP\tLAST TRY")
		for i := range v.Receivers {
			r := &v.Receivers[i]
			last := "none yet"
			if !r.Last.IsZero() {
				last = span(now, r.Last) + " ago: " + map[bool]string{true: "it took it", false: r.Error}[r.Error == ""]
			}
			fmt.Fprintf(p, "%s\t%s\t%d\t%d\t%d\t%s\n", r.Name, r.Severity, r.Sent, r.Waiting, r.Dropped, last)
		}
	}
	for rule, why := range v.Faults {
		fmt.Fprintf(p, "\nRule %s cannot be evaluated: %s\n", rule, why)
	}
	if v.Unsaved != "" {
		fmt.Fprintf(p, "\nAlarms are not kept over a restart: %s\n", v.Unsaved)
	}
	return p.Flush()
}

func matcherText(x *alarms.Silence) string {
	texts := make([]string, len(x.Matchers))
	for i, m := range x.Matchers {
		texts[i] = m.String()
	}
	return strings.Join(texts, " ")
}

// digits are those of an id, as far as people need it.
func digits(id string) string { return id[:min(len(id), 8)] }

// span is the time between, whole seconds.
func span(later, earlier time.Time) string { return later.Sub(earlier).Round(time.Second).String() }

func alarmShowCommand() command {
	return command{
		name: "show", args: "NAME", about: "say what a rule means, what to do, and what it is in",
		more: addrHelp + `
NAME is a rule's, or the first digits of an alarm's fingerprint.

Example:
  holdfast alarm show HoldfastBoxAway
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one rule", errUsage)
				}
				return ask(*addr, func(b *remote.Box) error {
					v, err := b.Alarms(ctx)
					if err != nil {
						return err
					}
					rules, err := b.AlarmRules(ctx)
					if err != nil {
						return err
					}
					return showAlarm(s.out, v, rules, args[0], *asJSON)
				})
			}
		},
	}
}

func showAlarm(w io.Writer, v *alarms.View, rules []alarms.RuleView, name string, asJSON bool) error {
	var found struct {
		Rules  []alarms.RuleView  `json:"rules"`
		Alarms []alarms.AlertView `json:"alarms"`
	}
	for i := range v.Alarms {
		if a := &v.Alarms[i]; a.Name == name || len(name) >= 4 && strings.HasPrefix(a.Fingerprint, name) {
			found.Alarms = append(found.Alarms, *a)
		}
	}
	for i := range rules {
		if r := &rules[i]; r.Name == name || len(found.Alarms) > 0 && r.Name == found.Alarms[0].Name {
			found.Rules = append(found.Rules, *r)
		}
	}
	if len(found.Rules) == 0 {
		return fmt.Errorf("there is no rule or alarm %q; `holdfast alarm rules --states` lists all", name)
	}
	if asJSON {
		return json.NewEncoder(w).Encode(&found)
	}
	p := table(w)
	for i := range found.Rules {
		r := &found.Rules[i]
		fmt.Fprintf(p, "rule\t%s (%s), %s\n", r.Name, r.Severity(), r.State)
		fmt.Fprintf(p, "from\t%s\n", map[bool]string{true: "ships with the box", false: r.File}[r.File == ""])
		fmt.Fprintf(p, "meaning\t%s\n", orNone(r.Annotations["description"]))
		fmt.Fprintf(p, "what to do\t%s\n", orNone(r.Annotations["action"]))
		fmt.Fprintf(p, "console\t%s\n", orNone(r.Annotations["console"]))
		fmt.Fprintf(p, "fires after\t%s, is over when away for %s\n", r.For, r.KeepFiring)
		fmt.Fprintf(p, "expression\t%s\n", strings.Join(strings.Fields(r.Expr), " "))
		if r.Fault != "" {
			fmt.Fprintf(p, "fault\t%s\n", r.Fault)
		}
	}
	for i := range found.Alarms {
		a := &found.Alarms[i]
		fmt.Fprintf(p, "\nalarm\t%s, %s since %s\n", a.Fingerprint, a.State, a.Since.UTC().Format(time.RFC3339))
		if a.Ending() {
			fmt.Fprintf(p, "ending\tnot so since %s, over at %s unless it comes back\n", a.Away.UTC().Format(time.RFC3339), a.Over.UTC().Format(time.RFC3339))
		}
		fmt.Fprintf(p, "summary\t%s\n", a.Annotations["summary"])
		if todo := a.Annotations["action"]; todo != "" {
			fmt.Fprintf(p, "what to do\t%s\n", todo)
		}
		fmt.Fprintf(p, "labels\t%v\n", a.Labels)
	}
	return p.Flush()
}

func alarmRulesCommand() command {
	return command{
		name: "rules", about: "print the rules that ship, for a Prometheus of your own, or what a box's rules are in",
		more: addrHelp + `
Without --states no box is asked: the file is the one in this program.

Examples:
  holdfast alarm rules > holdfast.rules.yaml && promtool check rules holdfast.rules.yaml
  holdfast alarm rules --states
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			states := f.Bool("states", false, "ask a box what its rules are in, those of the site's own too")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if !*states && !*asJSON {
					_, err := s.out.Write(alarms.BuiltinText())
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					rules, err := b.AlarmRules(ctx)
					if err != nil {
						return err
					}
					if *asJSON {
						return json.NewEncoder(s.out).Encode(rules)
					}
					p := table(s.out)
					fmt.Fprintln(p, "STATE\tSEVERITY\tRULE\tFROM")
					for i := range rules {
						r := &rules[i]
						from := "ships"
						if r.File != "" {
							from = r.File
						}
						fmt.Fprintf(p, "%s\t%s\t%s\t%s\n", r.State, orNone(r.Severity()), r.Name, from)
					}
					return p.Flush()
				})
			}
		},
	}
}

func alarmSilenceCommand() command {
	return command{
		name: "silence", args: "MATCHER...", about: "keep a box from telling of alarms for a time",
		more: addrHelp + `
MATCHER is a rule's name, or label=value, label!=value, label=~regex, label!~regex; all must hold. Silenced alarms are shown. A silence is of one
box and survives its restart: one box that was stolen must not make the others silent. Put it on each box that tells.

Examples:
  holdfast alarm silence HoldfastBoxAway member=box-2 --for 2h --why 'new disk'
  holdfast alarm silence 'alertname=~Holdfast.+' --until 2026-12-24T18:00:00Z --why 'the shop moves'
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			why := f.String("why", "", "the `reason`, for whoever is on duty next")
			length := f.String("for", "", "how `long` from now, such as 30m, 2h or 7d; 2h if neither this nor --until is given")
			until := f.String("until", "", "a `time` in RFC 3339")
			return func(ctx context.Context, s *streams, args []string) error {
				switch {
				case len(args) == 0:
					return fmt.Errorf("%w: say what to silence", errUsage)
				case *why == "":
					return fmt.Errorf("%w: say why, with --why", errUsage)
				case *length != "" && *until != "":
					return fmt.Errorf("%w: give --for or --until", errUsage)
				}
				if *length != "" {
					if _, err := alarms.ParseLength(*length); err != nil {
						return fmt.Errorf("%w: --for: %w", errUsage, err)
					}
				}
				fields := map[string]string{"matchers": strings.Join(args, "\n"), "why": *why, "until": *until, "for": *length}
				return ask(*addr, func(b *remote.Box) error {
					x, err := b.Silence(ctx, fields)
					if err != nil {
						return err
					}
					if *asJSON {
						return json.NewEncoder(s.out).Encode(x)
					}
					_, err = fmt.Fprintf(s.out, "silence %s until %s: %s\n", digits(x.ID), x.Until.UTC().Format(time.RFC3339), matcherText(x))
					return err
				})
			}
		},
	}
}

func alarmUnsilenceCommand() command {
	return command{
		name: "unsilence", args: "ID", about: "end a silence; the first digits of its id are enough",
		more: addrHelp + "\nExample:\n  holdfast alarm unsilence 3fa9\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one silence", errUsage)
				}
				return ask(*addr, func(b *remote.Box) error {
					x, err := b.Unsilence(ctx, args[0])
					if err != nil {
						return err
					}
					if *asJSON {
						return json.NewEncoder(s.out).Encode(x)
					}
					_, err = fmt.Fprintf(s.out, "silence %s is over: %s\n", digits(x.ID), matcherText(x))
					return err
				})
			}
		},
	}
}

func alarmTestCommand() command {
	return command{
		name: "test", about: "have every receiver of a box told of an alarm that is none",
		more: addrHelp + "\nIt does not wait: `holdfast alarm list` says whether they took it.\n\nExample:\n  holdfast alarm test && holdfast alarm list\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					n, err := b.TestAlarms(ctx)
					if err != nil {
						return err
					}
					switch {
					case *asJSON:
						return json.NewEncoder(s.out).Encode(map[string]int{"receivers": n})
					case n == 0:
						return fmt.Errorf("nobody was told: no receiver is configured ([alarms] in the configuration)")
					}
					_, err = fmt.Fprintf(s.out, "%d receivers are being told\n", n)
					return err
				})
			}
		},
	}
}
