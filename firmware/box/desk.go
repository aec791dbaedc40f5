package box

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/console"
	"github.com/holdfast-edge/holdfast/firmware/etcdapi"
	"github.com/holdfast-edge/holdfast/firmware/native"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/passkey"
	"github.com/holdfast-edge/holdfast/firmware/rights"
	"github.com/holdfast-edge/holdfast/firmware/setupcode"
)

const (
	// decideWait is how long somebody who asks for a decision waits for it: boxes that agree by themselves need some rounds of ordering.
	decideWait = 5 * time.Second
	// rulesEvery is how often it is looked whether the documents have changed, which rules are made of: how late a change counts here.
	rulesEvery = 100 * time.Millisecond
	// clientTokenFor is how long the token of an operator is good who logs in at the client API; clients log in again by themselves.
	clientTokenFor = time.Hour
)

// authority is who may do what at this box: the site's rules, the operators' desk, and the way from both to decisions. The ports ask it.
type authority struct {
	log      *slog.Logger
	who      *identity
	founding []byte // the founding operator's document; nil: none
	rules    *access.Authorizer
	record   func(context.Context, audit.Record) error
	code     func() (string, error)
	passkeys *passkey.Party // nil: this box takes none
	// termRounds is the site's, by which evidence is judged.
	termRounds uint64

	// What follows is there when attach was called.
	site *site.Site
	desk *operators.Desk
}

func newAuthority(c *config.Config, who *identity, l *ledger, log *slog.Logger) (*authority, error) {
	founding, err := operators.LoadFounding(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("box: %w", err)
	}
	a := &authority{
		log: log, who: who, founding: founding, record: l.Record, code: func() (string, error) { return setupcode.Of(c.DataDir) },
		rules: access.NewAuthorizer(who.member.ID, l.Record, func() uint64 { return uint64(time.Now().UnixMilli()) }),
	}
	if domain := c.Console.Passkeys; domain != "" {
		a.passkeys = passkey.New(domain, who.members.Site.String(), time.Now)
	}
	return a, nil
}

// judge says for a decision whether this box gives its word by itself.
func (a *authority) judge(st *state.Machine, d *coord.Decision) site.Judgement {
	j := access.Judge{TermRounds: a.termRounds, Founding: a.founding}
	v := j.Judge(st, d, uint64(time.Now().Unix()))
	return site.Judgement{Word: site.Verdict(v.Word), Why: v.Why}
}

// attach gives the authority its site, which need not run yet.
func (a *authority) attach(s *site.Site) error {
	a.site = s
	var err error
	a.desk, err = operators.NewDesk(operators.Config{
		Documents: documents{a}, Code: a.code, Record: a.record, Passkeys: a.passkeys, Logger: a.log, Now: time.Now,
		Decide: a.decide, First: a.asBox, Signer: func(x *operators.Session) operators.By { return a.Signer(x.Principal(), "", x) },
	})
	return err
}

// run keeps the rules those of the site, and has the founding operator's documents written.
func (a *authority) run(ctx context.Context) error {
	t := time.NewTicker(rulesEvery)
	defer t.Stop()
	for {
		a.update()
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (a *authority) update() { a.rules.Update(a.site.State().DocsVersion(), a.state()) }

// state is the site's, with the founding operator while it has none.
func (a *authority) state() access.State { return access.WithFounding(a.site.State(), a.founding) }

// documents are those that the desk sees.
type documents struct{ a *authority }

func (d documents) Doc(key string) (coord.Doc, bool) { return d.a.state().Doc(key) }
func (d documents) Docs(prefix string) []coord.Doc   { return d.a.state().Docs(prefix) }

// decide has the site decide d and waits a moment. The error is console.ErrLater if it is open and needs others.
func (a *authority) decide(ctx context.Context, d *coord.Decision, by operators.By) error {
	var nonce [8]byte
	_, _ = rand.Read(nonce[:])
	d.Nonce, d.Principal = binary.BigEndian.Uint64(nonce[:]), by.Principal
	a.site.State().Stamp(d)
	if by.Sign != nil {
		if err := by.Sign(d); err != nil {
			return fmt.Errorf("box: decide: %w", err)
		}
	}
	// To propose is to give this box's word, which on a site of one box is enough: so it is judged as others' are.
	if j := a.judge(a.site.State(), d); j.Word == site.No {
		return fmt.Errorf("%w: %s", console.ErrBad, j.Why)
	}
	if by.Sign == nil && by.Check != nil { // where nothing proves who asks, the judge has not asked whether they may
		if err := by.Check(d); err != nil {
			return fmt.Errorf("%w: %w", console.ErrBad, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, decideWait)
	defer cancel()
	_, err := a.site.Decide(ctx, d)
	if errors.Is(err, site.ErrWaits) {
		id := d.Digest(a.who.members.Site)
		return fmt.Errorf("%w: decision %s; an operator on other boxes approves it with `holdfast decision approve %s`", console.ErrLater, id.Short(), id.Short())
	}
	a.update()
	for _, no := range []error{site.ErrDecision, site.ErrStale, site.ErrRefused, site.ErrNoRoom, site.ErrExpired} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: %w", console.ErrBad, err)
		}
	}
	return err
}

// asBox asks in the box's own name.
func (a *authority) asBox() operators.By {
	id := a.who.member.ID
	return operators.By{Principal: access.Box + ":" + id.String(), Sign: func(d *coord.Decision) error {
		return access.AsBox(d, a.who.members.Site, id, boxSigner{a.who.key})
	}}
}

type boxSigner struct{ key *trust.Identity }

func (s boxSigner) SignDigest(d coord.Digest) (coord.Signature, error) {
	return s.key.SignDigest(d), nil
}

// Signer implements console.Access.
func (a *authority) Signer(principal, token string, s *operators.Session) operators.By {
	by := operators.By{Principal: principal, Check: func(d *coord.Decision) error { return a.MayAsk(principal, token, d) }}
	switch {
	case s != nil:
		by.Sign = func(d *coord.Decision) error {
			return s.WithKey(func(key *ecdsa.PrivateKey) error {
				k, err := access.NewPrivateKey(key)
				if err != nil {
					return err
				}
				return access.AsOperator(d, a.who.members.Site, s.Operator, k)
			})
		}
	case token != "":
		if t, err := access.ParseToken(token); err == nil && t.Carries() {
			by.Sign = func(d *coord.Decision) error { return access.AsHolder(d, t, nil) }
		}
	}
	return by
}

// May implements console.Access.
func (a *authority) May(principal, action, resource string) (bool, string) {
	v := a.judged(&access.Credentials{Principal: principal}, action, resource)
	return v.Allowed, v.Reason()
}

func (a *authority) judged(c *access.Credentials, action, resource string) access.Verdict {
	x, known := access.ParseAction(action)
	if !known {
		return access.Verdict{Principal: c.Who(), Action: x, Note: "this release does not know the action " + action}
	}
	on, err := resourceNamed(resource)
	if err != nil {
		return access.Verdict{Principal: c.Who(), Action: x, Note: err.Error()}
	}
	return a.rules.Decide(c, x, on)
}

// resourceNamed reads what a route says that it is about. Without a word, and for records of the audit log, which policies have no name for, it
// is the site. What cannot be read is about nothing: nobody may do anything to it, whatever the policies are.
func resourceNamed(text string) (access.Resource, error) {
	if kind, _, _ := strings.Cut(text, ":"); kind == "" || kind == "records" {
		return access.Site(), nil
	}
	return access.ParseResource(text)
}

// Token implements console.Access.
func (a *authority) Token(token, proof, action, resource string) (string, error) {
	g, err := a.rules.Token(token, proof, coord.Digest{})
	if err != nil {
		return "", err
	}
	v := a.judged(&access.Credentials{Grant: g}, action, resource)
	return g.Principal(), v.Err()
}

// again verifies a token whose holder was verified before.
func (a *authority) again(token string) (*access.Grant, error) {
	t, err := access.ParseToken(token)
	if err != nil {
		return nil, err
	}
	return a.rules.Rules().Verify(t, uint64(time.Now().Unix()))
}

// Still implements console.Access.
func (a *authority) Still(token, action string) bool {
	g, err := a.again(token)
	return err == nil && a.judged(&access.Credentials{Grant: g}, action, "site").Allowed
}

// MayAsk implements console.Access. The proof that a token may need was checked when the request came.
func (a *authority) MayAsk(principal, token string, d *coord.Decision) error {
	c := &access.Credentials{Principal: principal}
	if token != "" {
		var err error
		if c.Grant, err = a.again(token); err != nil {
			return err
		}
	}
	j := access.Judge{TermRounds: a.termRounds, Founding: a.founding}
	if v := j.As(a.site.State(), d, uint64(time.Now().Unix()), c); v.Word == access.No {
		return errors.New(v.Why)
	}
	return nil
}

// password lets an operator in at the client API: the answer is a token of the operator's, by the operator's own key, that any box takes.
func (a *authority) password(ctx context.Context, name, password, source string) (token string, err error) {
	err = a.desk.Vouch(ctx, name, password, operators.Try{Source: source}, func(o *operators.Document, key *ecdsa.PrivateKey) error {
		holder, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		k, err := access.NewPrivateKey(key)
		if err != nil {
			return err
		}
		now := time.Now()
		b := access.Block{
			Site: a.who.members.Site, Epoch: a.rules.Rules().TokenEpoch(), Issuer: o.Principal(),
			NotBefore: uint64(now.Add(-time.Minute).Unix()), NotAfter: uint64(now.Add(clientTokenFor).Unix()),
			Actions: []string{"kv.*", "lease.*", "member.list", "site.*"}, Resources: []string{"*"}, Note: "login at the client API",
		}
		_, _ = rand.Read(b.Nonce[:])
		t, err := access.Issue(b, k, holder)
		if err == nil {
			token = t.Text()
		}
		return err
	})
	switch {
	case errors.Is(err, operators.ErrWrong):
		return "", etcdapi.ErrWrong
	case errors.Is(err, operators.ErrWait), errors.Is(err, operators.ErrBusy):
		return "", etcdapi.ErrSlow
	}
	return token, err
}

// rights is where people change who may do what.
func (a *authority) rights() *rights.Desk {
	return rights.New(rights.Config{
		State: a.state, Random: rand.Reader, Now: time.Now,
		Decide: func(ctx context.Context, by *console.Caller, d *coord.Decision) error { return a.decide(ctx, d, by.By) },
		Key: func(ctx context.Context, by *console.Caller, name, password string, fn func(string, *ecdsa.PrivateKey) error) error {
			if by.Session != nil && name == "" {
				return by.Session.WithKey(func(key *ecdsa.PrivateKey) error { return fn(by.Session.Operator, key) })
			}
			err := a.desk.Vouch(ctx, name, password, operators.Try{Source: by.Source, Local: by.Local}, func(o *operators.Document, key *ecdsa.PrivateKey) error {
				return fn(o.Name, key)
			})
			if errors.Is(err, operators.ErrWrong) {
				err = fmt.Errorf("%w: %w", console.ErrBad, err)
			}
			return err
		},
	})
}

// acts are what is done to settings of the site.
func (a *authority) acts() []*console.Act {
	key := func(p console.Params) string { return access.DocSetting + p["name"] }
	put := func(ctx context.Context, x *console.Caller, p console.Params, kind string, value []byte) (any, error) {
		if err := access.CheckSetting(a.state(), key(p), value); err != nil {
			return nil, fmt.Errorf("%w: %w", console.ErrBad, err)
		}
		old, _ := a.state().Doc(key(p))
		d := &coord.Decision{Kind: kind, Subject: key(p), Writes: []coord.DocWrite{{Key: key(p), Was: old.Version, Value: value}}}
		return map[string]string{"setting": p["name"], "value": string(value)}, a.decide(ctx, d, x.By)
	}
	on := func(p console.Params) string { return "doc:" + key(p) }
	return []*console.Act{
		{Path: "/settings/{name}", Action: "setting.put", Resource: on, Back: "/", Run: func(ctx context.Context, x *console.Caller, p console.Params) (any, error) {
			return put(ctx, x, p, "setting.put", []byte(p["value"]))
		}},
		{Path: "/settings/{name}/remove", Action: "setting.remove", Resource: on, Back: "/", Run: func(ctx context.Context, x *console.Caller, p console.Params) (any, error) {
			return put(ctx, x, p, "setting.remove", nil)
		}},
	}
}

// Admit implements native.Guard. A holder who keeps its token's key sends a proof behind the token, after a space.
func (a *authority) Admit(token []byte, _ string, over net.Conn) (native.Caller, error) {
	c := &nativeCaller{a: a, who: &access.Credentials{Source: over.RemoteAddr().String()}}
	switch {
	case over.LocalAddr().Network() == "unix": // for root and the box's own user alone
		c.who.Principal = access.Root
	case len(token) > 0:
		text, proof, _ := strings.Cut(string(token), " ")
		g, err := a.rules.Token(text, proof, coord.Digest{})
		if err != nil {
			a.deny(audit.Record{Action: "auth.token", Resource: access.ResourceOfToken(text), Reason: err.Error(), Source: c.who.Source})
			return nil, err
		}
		c.who.Grant = g
	default:
		c.nobody = true
	}
	return c, nil
}

func (a *authority) deny(r audit.Record) {
	r.Outcome = audit.Denied
	r.Clip()
	_ = a.record(context.Background(), r) // a refusal is one, recorded or not
}

// nativeCaller is who has a connection of the native stream.
type nativeCaller struct {
	a      *authority
	who    *access.Credentials
	nobody bool // showed nothing
}

// nativeActions are what the messages of programs do. Observations are of no key.
var nativeActions = map[coord.Kind]access.Action{
	coord.KindPut: access.KVPut, coord.KindDelete: access.KVDelete, coord.KindGet: access.KVGet, coord.KindObserve: access.KVPut,
}

// May implements native.Caller.
func (c *nativeCaller) May(k coord.Kind, key []byte) bool {
	on := access.Site()
	if k != coord.KindObserve {
		on = access.Key(string(key))
	}
	v := c.a.rules.Decide(c.who, nativeActions[k], on)
	if v.Allowed || c.nobody && v.Policy == "" && c.a.rules.Rules().ClientOpen() {
		return true
	}
	c.a.deny(audit.Record{
		Principal: v.Principal, Action: v.Action.String(), Resource: v.Resource.String(), Policy: v.Policy, Reason: v.Reason(), Source: c.who.Source,
	})
	return false
}

// Good implements native.Caller.
func (c *nativeCaller) Good() error {
	if c.who.Grant == nil {
		return nil
	}
	return c.a.rules.Rules().Still(c.who.Grant, uint64(time.Now().Unix()))
}
