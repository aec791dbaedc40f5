package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/rights"
)

func tokenCommand() command {
	return command{
		name: "token", about: "capability tokens: issue, narrow, inspect, verify, revoke",
		more: `
A token says what its holder may do, on what, until when. It is worth no more than what its issuer may do at that moment. Anybody who
holds it can narrow it, without a box, and nobody can widen it. A token for a holder's key is of no use to who steals it; without
--holder the key travels with the token: then the text is the secret.

Examples:
  holdfast token issue --operator ann --actions 'kv.*' --resources 'key:cache/*' --ttl 24h > cache.token
  holdfast token attenuate cache.token --actions kv.get --ttl 1h > read.token
  holdfast token inspect read.token
  holdfast token verify read.token --action kv.get --resource key:cache/a
  holdfast token revoke cache.token
  holdfast token list
  holdfast token epoch                 (ends all tokens)
`,
		sub: []command{
			tokenKeygenCommand(), tokenIssueCommand(), tokenAttenuateCommand(), tokenInspectCommand(), tokenVerifyCommand(),
			tokenProveCommand(), tokenListCommand(), tokenRevokeCommand(), tokenEpochCommand(),
		},
	}
}

// scopeFlags declares what a token is narrowed by.
type scopeFlags struct {
	actions, resources, holder, decision, note *string
	ttl                                        *time.Duration
}

func scopes(f *flag.FlagSet, ttl time.Duration) *scopeFlags {
	return &scopeFlags{
		f.String("actions", "", "`actions` with commas: kv.get, all of an area 'kv.*', or '*'"),
		f.String("resources", "", "`resources` with commas: key:a, key:prefix*, site, box:ID, or '*'"),
		f.String("holder", "", "the holder's public `key`, as holdfast token keygen prints it; without it the key travels with the token"),
		f.String("decision", "", "only for the decision with this `digest`"),
		f.String("note", "", "a `text` for people"),
		f.Duration("ttl", ttl, "how `long` it is good"),
	}
}

func (s *scopeFlags) wish() (*rights.Wish, error) {
	if *s.ttl < 0 || *s.ttl > rights.TTLMax {
		return nil, fmt.Errorf("%w: --ttl %v; a token is good for %v at most", errUsage, *s.ttl, rights.TTLMax)
	}
	split := func(t string) []string {
		return strings.FieldsFunc(t, func(r rune) bool { return r == ',' || r == ' ' })
	}
	w := &rights.Wish{Actions: split(*s.actions), Resources: split(*s.resources), TTL: *s.ttl, Note: *s.note}
	if *s.holder != "" {
		w.Holder = new(access.PublicKey)
		if err := w.Holder.UnmarshalText([]byte(*s.holder)); err != nil {
			return nil, fmt.Errorf("%w: --holder: %w", errUsage, err)
		}
	}
	if *s.decision != "" {
		w.Decision = new(coord.Digest)
		if err := w.Decision.UnmarshalText([]byte(*s.decision)); err != nil {
			return nil, fmt.Errorf("%w: --decision: %w", errUsage, err)
		}
	}
	return w, nil
}

// tokenFrom reads a token: its text, a file with it, or - for standard input.
func tokenFrom(s *streams, arg string) (*access.Token, error) {
	text := arg
	if !strings.HasPrefix(arg, "hf1.") {
		read := func(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, int64(access.TokenTextMax)+64)) }
		var b []byte
		var err error
		if arg == "-" {
			b, err = read(s.in)
		} else {
			b, err = fromFile(arg, read)
		}
		if err != nil {
			return nil, err
		}
		text = strings.TrimSpace(string(b))
	}
	return access.ParseToken(text)
}

func oneToken(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: give one token: its text, a file with it, or - for standard input", errUsage)
	}
	return nil
}

// keyFrom reads a private key; no name is no key.
func keyFrom(file string) (*access.PrivateKey, error) {
	if file == "" {
		return nil, nil
	}
	return remote.ReadKey(file)
}

func tokenKeygenCommand() command {
	return command{
		name: "keygen", args: "FILE", about: "make a holder's key: the private half into FILE, the public half is printed",
		more: "\nExample:\n  holdfast token keygen cache.key\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			asJSON := f.Bool("json", false, "print JSON")
			return func(_ context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: name a file for the private key", errUsage)
				}
				key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				if err != nil {
					return err
				}
				der, err := x509.MarshalPKCS8PrivateKey(key)
				if err != nil {
					return err
				}
				public, err := access.PublicKeyOf(&key.PublicKey)
				if err != nil {
					return err
				}
				file, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if errors.Is(err, fs.ErrExist) {
					return fmt.Errorf("%s is there already, and a key is not replaced", args[0])
				}
				if err != nil {
					return err
				}
				if err := errors.Join(pem.Encode(file, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), file.Close()); err != nil {
					return errors.Join(err, os.Remove(args[0]))
				}
				if *asJSON {
					return printJSON(s.out, map[string]any{"public": public, "file": args[0]})
				}
				_, err = fmt.Fprintln(s.out, public)
				return err
			}
		},
	}
}

func tokenIssueCommand() command {
	return command{
		name: "issue", about: "issue a token in the name of an operator",
		more: `
On a box: --operator, whose password is asked for; the box opens the operator's key with it. Without a box: --key is the issuer's private key,
--issuer whose it is, --site the site's id and --epoch its token epoch (holdfast role list --json).

Examples:
  holdfast token issue --operator ann --actions kv.get,kv.put --resources 'key:cache/*' --ttl 24h
  holdfast token issue --operator ann --holder 02ab... --actions 'kv.*' --resources '*'
  holdfast token issue --key ann.key --issuer operator:ann --site 0123456789abcdef --actions kv.get --resources key:a
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			sc := scopes(f, time.Hour)
			operator := f.String("operator", "", "in whose `name`")
			keyFile := f.String("key", "", "the issuer's private key, a `file`")
			issuer := f.String("issuer", "", "whose key that is, a `principal`")
			site := f.String("site", "", "the site's `id`")
			epoch := f.Uint64("epoch", 0, "the site's token epoch, a `number`")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				w, err := sc.wish()
				switch {
				case err != nil:
					return err
				case *keyFile != "":
					t, err := issueHere(w, *keyFile, *issuer, *site, *epoch)
					if err != nil {
						return err
					}
					return printCapability(s, t, *asJSON)
				case *operator == "":
					return fmt.Errorf("%w: say in whose name with --operator, or give --key, --issuer and --site", errUsage)
				}
				password, err := box.AskPassphrase(s.in, s.err, "Password of "+*operator+": ")
				if err != nil {
					return err
				}
				return ask(*addr, func(b *remote.Box) error {
					r, err := b.ChangeAccess(ctx, "/access/token", map[string]string{
						"operator": *operator, "password": string(password), "actions": *sc.actions, "resources": *sc.resources,
						"holder": *sc.holder, "decision": *sc.decision, "note": *sc.note, "ttl": sc.ttl.String(),
					})
					if err != nil {
						return err
					}
					t, err := access.ParseToken(r.Token)
					if err != nil {
						return err
					}
					return printCapability(s, t, *asJSON)
				})
			}
		},
	}
}

func issueHere(w *rights.Wish, keyFile, issuer, site string, epoch uint64) (*access.Token, error) {
	var id coord.SiteID
	if err := id.UnmarshalText([]byte(site)); err != nil {
		return nil, fmt.Errorf("%w: --site: %w", errUsage, err)
	}
	if err := access.CheckPrincipal(issuer); err != nil {
		return nil, fmt.Errorf("%w: --issuer: %w", errUsage, err)
	}
	key, err := keyFrom(keyFile)
	if err != nil {
		return nil, err
	}
	b, carried, err := rights.NewBlock(w, id, epoch, issuer, time.Now(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return access.Issue(b, key, carried)
}

func printCapability(s *streams, t *access.Token, asJSON bool) error {
	if asJSON {
		return printJSON(s.out, map[string]any{"token": t.Text(), "id": t.ID()})
	}
	_, err := fmt.Fprintln(s.out, t.Text())
	return err
}

func tokenAttenuateCommand() command {
	return command{
		name: "attenuate", args: "TOKEN", about: "make a narrower token of a token, without a box",
		more: `
TOKEN is the text, a file with it, or - for standard input. What is not said stays as it is. A token that is bound to a key needs
that key (--key).

Examples:
  holdfast token attenuate cache.token --actions kv.get --resources 'key:cache/a/*' --ttl 10m
  holdfast token attenuate mine.token --key mine.key --holder 02ab...
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			asJSON := f.Bool("json", false, "print JSON")
			sc := scopes(f, 0)
			keyFile := f.String("key", "", "the holder's private key, a `file`")
			return func(_ context.Context, s *streams, args []string) error {
				if err := oneToken(args); err != nil {
					return err
				}
				t, err := tokenFrom(s, args[0])
				if err != nil {
					return err
				}
				w, err := sc.wish()
				if err != nil {
					return err
				}
				key, err := keyFrom(*keyFile)
				if err != nil {
					return err
				}
				next, err := attenuate(t, w, key)
				if err != nil {
					return err
				}
				if end := t.Effective().NotAfter; w.TTL > 0 && next.Effective().NotAfter == end && time.Until(time.Unix(int64(end), 0)) < w.TTL-time.Second {
					fmt.Fprintf(s.err, "Note: it ends at %s, as the token that it is made of does, not in %v.\n", clockTime(end), w.TTL)
				}
				return printCapability(s, next, *asJSON)
			}
		},
	}
}

func attenuate(t *access.Token, w *rights.Wish, key *access.PrivateKey) (*access.Token, error) {
	b := access.Block{Actions: w.Actions, Resources: w.Resources, Decision: w.Decision, Note: w.Note}
	if w.TTL > 0 {
		b.NotAfter = min(uint64(time.Now().Add(w.TTL).Unix()), t.Effective().NotAfter)
	}
	var carried *ecdsa.PrivateKey
	switch {
	case w.Holder != nil:
		b.Holder, b.Bound = *w.Holder, true
	case t.Carries():
		var err error
		if carried, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	var by access.Signer
	if key != nil {
		by = key
	}
	return t.Attenuate(b, by, carried)
}

// tokenInfo is what inspect says.
type tokenInfo struct {
	ID        access.TokenID   `json:"id"`
	IDs       []access.TokenID `json:"ids"`
	Site      coord.SiteID     `json:"site"`
	Issuer    string           `json:"issuer"`
	Epoch     uint64           `json:"epoch"`
	NotBefore uint64           `json:"not_before"`
	NotAfter  uint64           `json:"not_after"`
	Actions   []string         `json:"actions"`
	Resources []string         `json:"resources"`
	Holder    access.PublicKey `json:"holder"`
	Carried   bool             `json:"carried"` // the key travels with the token
	Decision  *coord.Digest    `json:"decision,omitempty"`
	Note      string           `json:"note,omitempty"`
	Bytes     int              `json:"bytes"`
}

func infoOf(t *access.Token) *tokenInfo {
	e := t.Effective()
	return &tokenInfo{
		t.ID(), t.IDs(), e.Site, e.Issuer, e.Epoch, e.NotBefore, e.NotAfter, e.Actions, e.Resources, e.Holder, t.Carries(), e.Decision, e.Note,
		len(t.Append(nil)),
	}
}

func tokenInspectCommand() command {
	return command{
		name: "inspect", args: "TOKEN", about: "print what a token says, without a box; nothing is verified",
		more: "\nExamples:\n  holdfast token inspect cache.token\n  holdfast token inspect hf1.AQE... --json\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			asJSON := f.Bool("json", false, "print JSON")
			return func(_ context.Context, s *streams, args []string) error {
				if err := oneToken(args); err != nil {
					return err
				}
				t, err := tokenFrom(s, args[0])
				if err != nil {
					return err
				}
				if *asJSON {
					return printJSON(s.out, infoOf(t))
				}
				return printInfo(s.out, infoOf(t))
			}
		},
	}
}

// clockTime shows Unix seconds.
func clockTime(u uint64) string { return time.Unix(int64(u), 0).UTC().Format(time.RFC3339) }

func printInfo(w io.Writer, i *tokenInfo) error {
	t := table(w)
	fmt.Fprintf(t, "id\t%v\n", i.ID)
	for n, id := range i.IDs[:len(i.IDs)-1] {
		fmt.Fprintf(t, "made of\t%v (block %d)\n", id, n)
	}
	fmt.Fprintf(t, "site\t%v, token epoch %d\nissuer\t%s\ngood\t%s to %s\n", i.Site, i.Epoch, plain(i.Issuer), clockTime(i.NotBefore), clockTime(i.NotAfter))
	fmt.Fprintf(t, "actions\t%s\nresources\t%s\n", plain(strings.Join(i.Actions, ", ")), plain(strings.Join(i.Resources, ", ")))
	if i.Carried {
		fmt.Fprintln(t, "holder\twhoever has this text")
	} else {
		fmt.Fprintf(t, "holder\t%v\n", i.Holder)
	}
	if i.Decision != nil {
		fmt.Fprintf(t, "only for\tdecision %v\n", i.Decision)
	}
	if i.Note != "" {
		fmt.Fprintf(t, "note\t%s\n", plain(i.Note))
	}
	fmt.Fprintf(t, "size\t%d bytes\n", i.Bytes)
	return t.Flush()
}

func tokenVerifyCommand() command {
	return command{
		name: "verify", args: "TOKEN", about: "say whether a token is good, and for an action if you name one",
		more: `
The rules come from a box, or from a file that ` + "`holdfast role list --json`" + ` wrote. Whether whoever shows the token has the holder's key is not
seen here. The exit code is 1 if it is not good.

Examples:
  holdfast token verify cache.token
  holdfast token verify cache.token --action kv.put --resource key:cache/a
  holdfast token verify cache.token --file rules.json      (anywhere, without a box)
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			fetch, asJSON := rulesFrom(f)
			action := f.String("action", "", "whether it is good for this `action`")
			resource := f.String("resource", "site", "on this `resource`")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := oneToken(args); err != nil {
					return err
				}
				t, err := tokenFrom(s, args[0])
				if err != nil {
					return err
				}
				o, err := fetch(ctx)
				if err != nil {
					return err
				}
				return verifyToken(s, t, access.RulesOf(o.State()), *action, *resource, *asJSON)
			}
		},
	}
}

func verifyToken(s *streams, t *access.Token, r *access.Rules, action, resource string, asJSON bool) error {
	g, err := r.Verify(t, uint64(time.Now().Unix()))
	if err != nil {
		return err
	}
	said := struct {
		*tokenInfo
		Why string `json:"why,omitempty"`
	}{tokenInfo: infoOf(t)}
	if action != "" {
		a, ok := access.ParseAction(action)
		if !ok {
			return fmt.Errorf("%w: there is no action %q; `holdfast role actions` lists them", errUsage, action)
		}
		on, err := access.ParseResource(resource)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		v := r.DecideToken(g, a, on)
		if err := v.Err(); err != nil {
			return err
		}
		said.Why = v.Reason()
	}
	if asJSON {
		return printJSON(s.out, said)
	}
	proof := ""
	if g.NeedsProof() {
		proof = "; who shows it must prove to have the holder's key"
	}
	_, err = fmt.Fprintf(s.out, "good until %s%s\n", clockTime(g.NotAfter()), proof)
	if err == nil && said.Why != "" {
		_, err = fmt.Fprintf(s.out, "%s on %s: %s\n", action, plain(resource), plain(said.Why))
	}
	return err
}

func tokenProveCommand() command {
	return command{
		name: "prove", args: "TOKEN", about: "print a proof that you have the holder's key, good once for half a minute",
		more: `
It goes with the token: in the header Holdfast-Proof, or on the native stream behind the token, after a space. This command line makes
proofs by itself where HOLDFAST_TOKEN_KEY names the key's file.

Example:
  holdfast token prove mine.token --key mine.key --box 0123456789abcdef
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			keyFile := f.String("key", "", "the holder's private key, a `file`; not for a token whose key travels with it")
			boxID := f.String("box", "", "the `id` of the box that it is for; default: any box of the site")
			return func(_ context.Context, s *streams, args []string) error {
				if err := oneToken(args); err != nil {
					return err
				}
				t, err := tokenFrom(s, args[0])
				if err != nil {
					return err
				}
				p := &access.Proof{TimeMs: uint64(time.Now().UnixMilli())}
				if *boxID != "" {
					if err := p.Audience.UnmarshalText([]byte(*boxID)); err != nil {
						return fmt.Errorf("%w: --box: %w", errUsage, err)
					}
				}
				if _, err := rand.Read(p.Nonce[:]); err != nil {
					return err
				}
				key, err := keyFrom(*keyFile)
				if err != nil {
					return err
				}
				var by access.Signer
				if key != nil {
					by = key
				}
				if err := p.Sign(t, by); err != nil {
					return err
				}
				_, err = fmt.Fprintln(s.out, p)
				return err
			}
		},
	}
}

func tokenRevokeCommand() command {
	return command{
		name: "revoke", args: "TOKEN|ID", about: "have the site take a token, and all that were made of it, no more",
		more: `
With the token the site forgets it when it would have ended anyway; with its id alone it remembers it for good. --block 0 revokes what
the token was first made of.

Examples:
  holdfast token revoke cache.token
  holdfast token revoke 0123456789abcdef0123456789abcdef --reason 'the laptop was stolen'
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			act := rightsAct(f)
			blockOf := f.Int("block", -1, "revoke this block and all after it, a `number` from 0; default: the last")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := oneToken(args); err != nil {
					return err
				}
				fields := map[string]string{"id": args[0]}
				if _, err := access.ParseTokenID(args[0]); err != nil {
					t, err := tokenFrom(s, args[0])
					if err != nil {
						return err
					}
					ids := t.IDs()
					n := *blockOf
					if n < 0 {
						n = len(ids) - 1
					}
					if n >= len(ids) {
						return fmt.Errorf("%w: --block %d of a token of %d", errUsage, n, len(ids))
					}
					fields["id"] = ids[n].String()
					fields["until"] = strconv.FormatUint(t.Blocks()[0].NotAfter, 10)
				}
				return act(ctx, s, "/access/token/revoke", fields)
			}
		},
	}
}

func tokenEpochCommand() command {
	return command{
		name: "epoch", about: "end all tokens of the site at once",
		more: "\nEvery token carries the token epoch in which it was issued; the next one begins.\n\nExample:\n  holdfast token epoch --yes\n",
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			act := rightsAct(f)
			yes := f.Bool("yes", false, "do not ask whether to go on")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if !*yes {
					if err := confirm(s); err != nil {
						return err
					}
				}
				return act(ctx, s, "/access/token/epoch", map[string]string{})
			}
		},
	}
}
