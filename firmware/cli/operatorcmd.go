package cli

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func operatorCommand() command {
	return command{
		name: "operator", about: "who may log in: list, add, disable, give a new password",
		more: addrHelp + `
The first password of an operator is made here and printed once; it must be changed at the first login. On the box itself no login
is needed: this is how somebody who is locked out gets in again. Root of a box speaks for that box only: where the site has
more, the change waits for operators on them (holdfast decision approve). docs/operators.md says more.

Examples:
  holdfast operator list
  holdfast operator add ann --role viewer
  holdfast operator reset ann
  holdfast operator disable bob
`,
		sub: []command{
			operatorListCommand(),
			operatorChange("add", "make somebody an operator", "add", true, true),
			operatorChange("reset", "give an operator a new key and a new first password", "reset", true, false),
			operatorChange("disable", "lock an operator out, at once and on all boxes", "disable", false, false),
			operatorChange("enable", "let a disabled operator in again", "enable", false, false),
			passkeyCommand(),
		},
	}
}

func operatorListCommand() command {
	return command{
		name: "list", about: "print who may log in",
		more: "\nExamples:\n  holdfast operator list\n  holdfast operator list --json\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			return showing(f, "/api/v1/operators", (*remote.Box).Operators, printOperators)
		},
	}
}

func printOperators(w io.Writer, list api.Operators) error {
	t := table(w)
	fmt.Fprintln(t, "NAME\tSINCE\tSTATE")
	for _, o := range list.Operators {
		state := "active"
		switch {
		case o.Disabled:
			state = "disabled"
		case o.MustChange:
			state = "must choose a password"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", o.Name, o.Created.UTC().Format("2006-01-02 15:04"), state)
	}
	return t.Flush()
}

func passkeyCommand() command {
	return command{
		name: "passkey", about: "the passkeys of operators: list, remove",
		more: addrHelp + `
Passkeys are added in a browser, on the console's page of operators. One that was lost is removed here or there; sessions that began with
it end on all boxes.

Examples:
  holdfast operator passkey list
  holdfast operator passkey remove ann rJdYc1mXH0A
`,
		sub: []command{passkeyListCommand(), passkeyRemoveCommand()},
	}
}

func passkeyListCommand() command {
	return command{
		name: "list", args: "[NAME]", about: "print the passkeys of all operators, or of one",
		more: "\nExample:\n  holdfast operator passkey list ann\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) > 1 {
					return fmt.Errorf("%w: name one operator, or none", errUsage)
				}
				return ask(*addr, func(b *remote.Box) error {
					list, err := b.Operators(ctx)
					if err != nil {
						return err
					}
					type row struct {
						Operator string `json:"operator"`
						api.Passkey
					}
					rows := []row{}
					for _, o := range list.Operators {
						for _, k := range o.Passkeys {
							if len(args) == 0 || args[0] == o.Name {
								rows = append(rows, row{o.Name, k})
							}
						}
					}
					if *asJSON {
						return printJSON(s.out, rows)
					}
					t := table(s.out)
					fmt.Fprintln(t, "OPERATOR\tPASSKEY\tDOMAIN\tSINCE\tCOPIES\tID")
					for _, r := range rows {
						copies := "none"
						if r.Synced {
							copies = "possible"
						}
						fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Operator, r.Name, r.Domain, r.Created.UTC().Format("2006-01-02 15:04"), copies, r.ID)
					}
					return t.Flush()
				})
			}
		},
	}
}

func passkeyRemoveCommand() command {
	return command{
		name: "remove", args: "NAME ID", about: "take a passkey from an operator",
		more: "\nThe ID is as `holdfast operator passkey list` prints it.\n\nExample:\n  holdfast operator passkey remove ann rJdYc1mXH0A\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 2 {
					return fmt.Errorf("%w: name an operator and the id of a passkey", errUsage)
				}
				return ask(*addr, func(b *remote.Box) error {
					var got struct {
						Result string `json:"result,omitempty"`
						Waits  string `json:"waits,omitempty"`
					}
					if err := b.Post(ctx, "/api/v1/operators/"+url.PathEscape(args[0])+"/passkeys/"+url.PathEscape(args[1])+"/remove", nil, &got); err != nil {
						return err
					}
					if *asJSON {
						return printJSON(s.out, got)
					}
					if got.Waits != "" {
						_, err := fmt.Fprintln(s.out, got.Waits)
						return err
					}
					_, err := fmt.Fprintf(s.out, "%s: done\n", args[0])
					return err
				})
			}
		},
	}
}

// firstPassword is one that a person can type once: 80 bits of base32 in groups.
func firstPassword() string {
	letters := strings.ToLower(rand.Text()[:16])
	return letters[:4] + "-" + letters[4:8] + "-" + letters[8:12] + "-" + letters[12:]
}

// operatorChange is a command that asks for a decision about one operator.
func operatorChange(name, about, verb string, password, role bool) command {
	return command{
		name: name, args: "NAME", about: about,
		more: "\nExample:\n  holdfast operator " + name + " ann\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			what := new(string)
			if role {
				what = f.String("role", "viewer", "the operator's `role`: viewer, operator, admin, or one of the site's own")
			}
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 || strings.ContainsAny(args[0], "/?#") {
					return fmt.Errorf("%w: name one operator", errUsage)
				}
				fields := map[string]string{}
				path := "/api/v1/operators/" + url.PathEscape(args[0]) + "/" + verb
				if role {
					path, fields["name"], fields["role"] = "/api/v1/operators/add", args[0], *what
				}
				if password {
					fields["password"] = firstPassword()
				}
				return ask(*addr, func(b *remote.Box) error {
					var got struct {
						Result   string `json:"result,omitempty"`
						Waits    string `json:"waits,omitempty"`
						Password string `json:"password,omitempty"`
					}
					if err := b.Post(ctx, path, fields, &got); err != nil {
						return err
					}
					got.Password = fields["password"]
					if *asJSON {
						return printJSON(s.out, got)
					}
					if got.Waits != "" {
						fmt.Fprintf(s.out, "%s\n", got.Waits)
					} else {
						fmt.Fprintf(s.out, "%s: done\n", args[0])
					}
					if got.Password == "" {
						return nil
					}
					_, err := fmt.Fprintf(s.out, "First password: %s\nIt must be changed at the first login.\n", got.Password)
					return err
				})
			}
		},
	}
}

func settingCommand() command {
	return command{
		name: "setting", about: "settings of the site: how boxes join, what proof of a lie does, whether programs need tokens",
		more: addrHelp + `
joins {"approve":"token"|"operator"}, expulsion {"mode":"operator"|"automatic"}, client {"access":"open"|"token"}; the first of each is
what ships. With client "token" a program that shows no token may do nothing on the client ports: give tokens out before.

Examples:
  holdfast setting list
  holdfast setting put client '{"access":"token"}'
  holdfast setting remove client
`,
		sub: []command{
			settingListCommand(),
			settingChange("put", "NAME VALUE", "set a setting", `client '{"access":"token"}'`, 2),
			settingChange("remove", "NAME", "put a setting back to what ships", "client", 1),
		},
	}
}

func settingChange(name, args, about, example string, n int) command {
	return command{
		name: name, args: args, about: about,
		more: "\nExample:\n  holdfast setting " + name + " " + example + "\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != n {
					return fmt.Errorf("%w: %d arguments where %d are needed", errUsage, len(args), n)
				}
				path, fields := "/api/v1/settings/"+url.PathEscape(args[0]), map[string]string{}
				if n == 2 {
					fields["value"] = args[1]
				} else {
					path += "/remove"
				}
				return ask(*addr, func(b *remote.Box) error {
					var got struct {
						Setting string `json:"setting,omitempty"`
						Value   string `json:"value,omitempty"`
						Waits   string `json:"waits,omitempty"`
					}
					if err := b.Post(ctx, path, fields, &got); err != nil {
						return err
					}
					if *asJSON {
						return printJSON(s.out, got)
					}
					if got.Waits != "" {
						_, err := fmt.Fprintln(s.out, got.Waits)
						return err
					}
					_, err := fmt.Fprintf(s.out, "%s: done\n", args[0])
					return err
				})
			}
		},
	}
}
