package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/rights"
)

// tokenList is what a box knows of tokens. A token is known to who holds it; those that were issued offline are in nobody's list.
type tokenList struct {
	Epoch   uint64         `json:"token_epoch"`
	Issued  []issuedToken  `json:"issued"`
	Revoked []revokedToken `json:"revoked"`
	// Unread says why Issued is not known.
	Unread string `json:"unread,omitempty"`
}

type issuedToken struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`    // who asked for it
	Scope   string    `json:"scope"` // who signed it, what it is good for and until when
	Revoked bool      `json:"revoked"`
}

type revokedToken struct {
	ID string `json:"id"`
}

func tokenListCommand() command {
	return command{
		name: "list", about: "list the tokens that this box issued, as far back as its audit log goes, and those that the site revoked",
		more: addrHelp + `
A token that was made of another one, or issued without a box, is listed nowhere: whoever holds it has it. The token epoch ends all tokens of the
epochs before it (holdfast token epoch).

Examples:
  holdfast token list
  holdfast token list --json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					l, err := tokensOf(ctx, b)
					if err != nil {
						return err
					}
					if *asJSON {
						return printJSON(s.out, l)
					}
					return printTokens(s.out, l)
				})
			}
		},
	}
}

func tokensOf(ctx context.Context, b *remote.Box) (*tokenList, error) {
	o, err := b.Access(ctx)
	if err != nil {
		return nil, err
	}
	l := &tokenList{Epoch: o.TokenEpoch, Issued: []issuedToken{}, Revoked: []revokedToken{}}
	for _, d := range o.Documents {
		if id, ok := strings.CutPrefix(d.Key, access.DocRevoked); ok {
			l.Revoked = append(l.Revoked, revokedToken{id})
		}
	}
	err = b.Audit(ctx, url.Values{"action": {access.TokenIssue.String()}, "outcome": {audit.Allowed.String()}}, func(e *audit.Entry) error {
		id, ok := strings.CutPrefix(e.Resource, access.TokenOf+":")
		if ok {
			revoked := slices.Contains(l.Revoked, revokedToken{id})
			l.Issued = append(l.Issued, issuedToken{id, time.UnixMilli(e.TimeMs).UTC(), e.Principal, e.Reason, revoked})
		}
		return nil
	})
	if errors.Is(err, remote.ErrRefused) {
		l.Unread, err = "what was issued is in the box's audit log: run this on the box, or with the right audit.read", nil
	}
	return l, err
}

func printTokens(w io.Writer, l *tokenList) error {
	t := table(w)
	fmt.Fprintf(t, "token epoch %d\n", l.Epoch)
	if l.Unread != "" {
		fmt.Fprintf(t, "%s\n", l.Unread)
	} else {
		fmt.Fprintln(t, "\nISSUED\tTOKEN\tBY\tWHAT\t")
	}
	for i := range l.Issued {
		x := &l.Issued[i]
		state := ""
		if x.Revoked {
			state = "REVOKED"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", x.At.Format(time.RFC3339), plain(x.ID), plain(cmp.Or(x.By, "-")), plain(x.Scope), state)
	}
	if len(l.Revoked) > 0 {
		fmt.Fprintln(t, "\nREVOKED")
	}
	for _, r := range l.Revoked {
		fmt.Fprintf(t, "%s\n", plain(r.ID))
	}
	return t.Flush()
}

// settingView is a setting of the site.
type settingView struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Set says that the site has decided on it; else it is what ships.
	Set bool `json:"set"`
	// Choices are what holdfast setting put takes.
	Choices []string `json:"choices"`
	About   string   `json:"about"`
}

func settingListCommand() command {
	return command{
		name: "list", about: "list the settings of the site, what each may be, and what it is",
		more: addrHelp + "\nExamples:\n  holdfast setting list\n  holdfast setting list --json\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					o, err := b.Access(ctx)
					if err != nil {
						return err
					}
					list := settingsOf(o)
					if *asJSON {
						return printJSON(s.out, list)
					}
					t := table(s.out)
					fmt.Fprintln(t, "SETTING\tIS\tMAY BE\tABOUT")
					for i := range list {
						v := &list[i]
						is := plain(v.Value)
						if !v.Set {
							is += " (as it ships)"
						}
						fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.Name, is, strings.Join(v.Choices, ", "), v.About)
					}
					return t.Flush()
				})
			}
		},
	}
}

func settingsOf(o *rights.Overview) []settingView {
	st := o.State()
	list := []settingView{}
	for _, x := range access.Settings() {
		_, set := st.Doc(x.Key)
		v := settingView{Name: strings.TrimPrefix(x.Key, access.DocSetting), Value: access.Setting(st, x.Key), Set: set, About: x.About}
		for _, choice := range x.Values {
			v.Choices = append(v.Choices, fmt.Sprintf("{%q:%q}", x.Field, choice))
		}
		list = append(list, v)
	}
	return list
}
