package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/rights"
)

func roleCommand() command {
	return command{
		name: "role", about: "who may do what: roles, grants and policies",
		more: `
A principal (operator:NAME, program:NAME, box:ID) has roles; policies, in the Cedar language, say what roles and principals may do. The
roles viewer, operator, admin and program ship. Nobody gives more than they have, and a site keeps an admin. docs/access.md has the
words of policies.

A change is decided by the site. Root of a box speaks for that box only: where the site has more, it waits for operators on
them (holdfast decision approve), unless it is asked for with a token of an operator (HOLDFAST_TOKEN with --addr).

Examples:
  holdfast role list
  holdfast role grant operator:bob viewer
  holdfast role explain program:cache kv.put key:cache/a
  holdfast role policy check cache.cedar
  holdfast role policy put cache cache.cedar
`,
		sub: []command{
			roleListCommand(), roleShowCommand(), roleGrantCommand("grant", "give a principal a role", ""), roleGrantCommand("revoke", "take a role from a principal, or all without ROLE", "true"),
			roleExplainCommand(), rolePutCommand(), roleRemoveCommand(), rolePolicyCommand(), roleActionsCommand(),
		},
	}
}

// rulesFrom declares where rules come from: a box, or a file that `holdfast role list --json` wrote.
func rulesFrom(f *flag.FlagSet) (fetch func(ctx context.Context) (*rights.Overview, error), asJSON *bool) {
	addr, asJSON := asking(f)
	file := f.String("file", "", "not a box but this `file`, which holdfast role list --json wrote")
	return func(ctx context.Context) (o *rights.Overview, err error) {
		if *file != "" {
			return fromFile(*file, func(r io.Reader) (*rights.Overview, error) {
				o := new(rights.Overview)
				return o, json.NewDecoder(io.LimitReader(r, 64<<20)).Decode(o)
			})
		}
		err = ask(*addr, func(b *remote.Box) error { o, err = b.Access(ctx); return err })
		return o, err
	}, asJSON
}

func roleListCommand() command {
	return command{
		name: "list", about: "print roles, who has them, and policies",
		more: "\nExamples:\n  holdfast role list\n  holdfast role list --json > rules.json      (for role explain --file)\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			fetch, asJSON := rulesFrom(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				o, err := fetch(ctx)
				if err != nil {
					return err
				}
				if *asJSON {
					return printJSON(s.out, o)
				}
				return printRoles(s.out, o)
			}
		},
	}
}

func printRoles(w io.Writer, o *rights.Overview) error {
	t := table(w)
	fmt.Fprintln(t, "ROLE\tIN\tABOUT")
	for i := range o.Roles {
		r := &o.Roles[i]
		fmt.Fprintf(t, "%s\t%s\t%s\n", r.Name, cmp.Or(strings.Join(r.In, ", "), "-"), plain(r.About))
	}
	fmt.Fprintln(t, "\nPRINCIPAL\tROLES")
	for _, p := range slices.Sorted(maps.Keys(o.Grants)) {
		fmt.Fprintf(t, "%s\t%s\n", plain(p), strings.Join(o.Grants[p], ", "))
	}
	fmt.Fprintln(t, "\nPOLICY\tBYTES")
	for i := range o.Roles {
		if r := &o.Roles[i]; r.Builtin {
			fmt.Fprintf(t, "builtin/%s\t%d\n", r.Name, len(r.Policy))
		}
	}
	for _, d := range o.Documents {
		if strings.HasPrefix(d.Key, access.DocPolicy) {
			fmt.Fprintf(t, "%s\t%d\n", d.Key, len(d.Value))
		}
	}
	for _, f := range o.Faults {
		fmt.Fprintf(t, "\nCANNOT BE READ: %s: %s\n", f.Doc, plain(f.Err))
	}
	return t.Flush()
}

func roleShowCommand() command {
	return command{
		name: "show", args: "ROLE|POLICY|PRINCIPAL", about: "print one role, policy or principal",
		more: "\nExamples:\n  holdfast role show viewer\n  holdfast role show policy/cache\n  holdfast role show operator:ann\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			fetch, asJSON := rulesFrom(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: %d arguments where one is needed", errUsage, len(args))
				}
				o, err := fetch(ctx)
				if err != nil {
					return err
				}
				return showOne(s, o, args[0], *asJSON)
			}
		},
	}
}

func showOne(s *streams, o *rights.Overview, name string, asJSON bool) error {
	var value any
	text := ""
	for i := range o.Roles {
		if r := &o.Roles[i]; r.Name == name || "builtin/"+r.Name == name && r.Builtin {
			value, text = r, fmt.Sprintf("%s: %s\nin: %s\n%s", r.Name, plain(r.About), cmp.Or(strings.Join(r.In, ", "), "-"), r.Policy)
		}
	}
	for i := range o.Documents {
		if d := &o.Documents[i]; d.Key == name && strings.HasPrefix(name, access.DocPolicy) {
			value, text = d, d.Value
		}
	}
	if strings.Contains(name, ":") {
		roles := append([]string{}, access.RulesOf(o.State()).RolesOf(name)...)
		value = map[string]any{"principal": name, "granted": append([]string{}, o.Grants[name]...), "roles": roles}
		text = fmt.Sprintf("%s has %s", plain(name), cmp.Or(strings.Join(roles, ", "), "no role"))
	}
	switch {
	case value == nil:
		return fmt.Errorf("there is no %q; `holdfast role list` prints roles, principals and policies", name)
	case asJSON:
		return printJSON(s.out, value)
	}
	_, err := fmt.Fprintln(s.out, strings.TrimRight(text, "\n"))
	return err
}

// rightsAct declares the flags of a command that changes rights, and gives what asks for it.
func rightsAct(f *flag.FlagSet) func(ctx context.Context, s *streams, path string, fields map[string]string) error {
	addr, asJSON := asking(f)
	reason := f.String("reason", "", "why, for the audit log: a `text`")
	return func(ctx context.Context, s *streams, path string, fields map[string]string) error {
		if *reason != "" {
			fields["reason"] = *reason
		}
		return ask(*addr, func(b *remote.Box) error {
			r, err := b.ChangeAccess(ctx, path, fields)
			switch {
			case err != nil:
				return err
			case *asJSON:
				return printJSON(s.out, r)
			case r.Waits != "":
				_, err = fmt.Fprintf(s.out, "%s %s: %s; see `holdfast decision list`\n", r.Kind, plain(r.Subject), r.Waits)
			default:
				_, err = fmt.Fprintf(s.out, "done: %s %s\n", r.Kind, plain(r.Subject))
			}
			if err == nil && r.Hint != "" {
				_, err = fmt.Fprintf(s.err, "Note: %s.\n", plain(r.Hint))
			}
			return err
		})
	}
}

func roleGrantCommand(name, about, take string) command {
	return command{
		name: name, args: "PRINCIPAL ROLE", about: about,
		more: "\nExamples:\n  holdfast role " + name + " operator:bob operator\n  holdfast role " + name + " program:cache program --reason 'the new cache'\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			act := rightsAct(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 2 && (take == "" || len(args) != 1) {
					return fmt.Errorf("%w: give a principal and a role", errUsage)
				}
				if err := access.CheckPrincipal(args[0]); err != nil {
					return fmt.Errorf("%w: %w", errUsage, err)
				}
				fields := map[string]string{"principal": args[0]}
				if len(args) == 2 {
					fields["role"] = args[1]
				}
				return act(ctx, s, "/access/"+name, fields)
			}
		},
	}
}

func roleExplainCommand() command {
	return command{
		name: "explain", args: "PRINCIPAL ACTION RESOURCE", about: "say whether somebody may do something, and which policy says so",
		more: `
Resources: site, key:K, prefix:P, keys:FIRST..END, box:ID, role:NAME, operator:NAME, doc:KEY, token:ID. The exit code is 1 when it
may not.

Examples:
  holdfast role explain program:cache kv.put key:cache/a
  holdfast role explain operator:bob role.grant role:admin --json
  holdfast role explain program:anyone kv.get prefix: --file rules.json     (anywhere, without a box)
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			fetch, asJSON := rulesFrom(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 3 {
					return fmt.Errorf("%w: %d arguments where a principal, an action and a resource are needed", errUsage, len(args))
				}
				action, ok := access.ParseAction(args[1])
				if !ok {
					return fmt.Errorf("%w: there is no action %q; `holdfast role actions` lists them", errUsage, args[1])
				}
				on, err := access.ParseResource(args[2])
				if err != nil {
					return fmt.Errorf("%w: %w", errUsage, err)
				}
				o, err := fetch(ctx)
				if err != nil {
					return err
				}
				e := access.RulesOf(o.State()).Explain(args[0], action, on)
				if *asJSON {
					err = printJSON(s.out, e)
				} else {
					err = printExplanation(s.out, e)
				}
				if err == nil && !e.Allowed {
					err = errSaid
				}
				return err
			}
		},
	}
}

func printExplanation(w io.Writer, e *access.Explanation) error {
	may := "may not"
	if e.Allowed {
		may = "may"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s on %s: %s\n", plain(e.Principal), may, e.Action, plain(e.Resource), plain(e.Reason))
	for _, l := range []struct {
		what string
		list []string
	}{{"roles", e.Roles}, {"permit", e.Permits}, {"forbid", e.Forbids}, {"cannot be evaluated", e.Errors}} {
		if len(l.list) > 0 {
			fmt.Fprintf(&b, "  %s: %s\n", l.what, plain(strings.Join(l.list, ", ")))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func rolePutCommand() command {
	return command{
		name: "put", args: "ROLE", about: "define a role, or change it",
		more: "\nA role has the rights that policies give it and those of the roles that it is in.\n\nExample:\n  holdfast role put night --about 'the night shift' --in viewer\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			act := rightsAct(f)
			about := f.String("about", "", "what it is for, a `text`")
			in := f.String("in", "", "the `roles` that it is in, with commas")
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one role", errUsage)
				}
				return act(ctx, s, "/access/role", map[string]string{"role": args[0], "about": *about, "in": *in})
			}
		},
	}
}

func roleRemoveCommand() command {
	return command{
		name: "remove", args: "ROLE", about: "remove a role that nobody has",
		more: "\nExample:\n  holdfast role remove night\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			act := rightsAct(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name one role", errUsage)
				}
				return act(ctx, s, "/access/role/remove", map[string]string{"role": args[0]})
			}
		},
	}
}

func rolePolicyCommand() command {
	return command{
		name: "policy", about: "put, remove and check policies",
		more: `
Example of a policy, in cache.cedar:
  permit (principal == Program::"cache", action in [Action::"read", Action::"write"], resource in Prefix::"cache/");
  forbid (principal, action, resource in Prefix::"cache/keys/") unless { principal in Role::"admin" };
`,
		sub: []command{
			{
				name: "put", args: "NAME FILE", about: "have the site set a policy",
				more: "\nExample:\n  holdfast role policy put cache cache.cedar\n",
				flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
					act := rightsAct(f)
					return func(ctx context.Context, s *streams, args []string) error {
						if len(args) != 2 {
							return fmt.Errorf("%w: give a name and a file", errUsage)
						}
						text, err := policyFile(args[0], args[1])
						if err != nil {
							return err
						}
						return act(ctx, s, "/access/policy", map[string]string{"name": args[0], "text": text})
					}
				},
			},
			{
				name: "rm", args: "NAME", about: "have the site remove a policy",
				more: "\nExample:\n  holdfast role policy rm cache\n",
				flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
					act := rightsAct(f)
					return func(ctx context.Context, s *streams, args []string) error {
						if len(args) != 1 {
							return fmt.Errorf("%w: name one policy", errUsage)
						}
						return act(ctx, s, "/access/policy/remove", map[string]string{"name": args[0]})
					}
				},
			},
			{
				name: "check", args: "FILE", about: "say whether a file may be stored as a policy, without a box",
				more: "\nExample:\n  holdfast role policy check cache.cedar\n",
				flags: func(*flag.FlagSet) func(context.Context, *streams, []string) error {
					return func(_ context.Context, s *streams, args []string) error {
						if len(args) != 1 {
							return fmt.Errorf("%w: name one file", errUsage)
						}
						if _, err := policyFile("check", args[0]); err != nil {
							return err
						}
						_, err := fmt.Fprintln(s.out, "it is a policy")
						return err
					}
				},
			},
		},
	}
}

func policyFile(name, file string) (string, error) {
	text, err := fromFile(file, func(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, access.PolicyBytesMax+1)) })
	if err != nil {
		return "", err
	}
	return string(text), access.CheckPolicy(name, string(text))
}

func roleActionsCommand() command {
	return command{
		name: "actions", about: "list what can be allowed, with the group that policies call it by",
		more: "\nThese are the actions of this program's release; with --addr those of the box's.\n\nExamples:\n  holdfast role actions\n  holdfast role actions --addr 10.0.0.10:8080\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				rows := rights.Actions()
				if *addr != "" {
					err := ask(*addr, func(b *remote.Box) error {
						o, err := b.Access(ctx)
						if err == nil {
							rows = o.Actions
						}
						return err
					})
					if err != nil {
						return err
					}
				}
				if *asJSON {
					return printJSON(s.out, rows)
				}
				t := table(s.out)
				fmt.Fprintln(t, "ACTION\tGROUP\tABOUT")
				for _, r := range rows {
					fmt.Fprintf(t, "%s\t%s\t%s\n", plain(r.Action), plain(r.Group), plain(r.About))
				}
				return t.Flush()
			}
		},
	}
}
