// Package members is how operators change who is in a site: it makes the decisions that coord/trust/roster and coord/trust/join
// describe, says beforehand what they do to the site's quorum, and hands them to the site. It serves the command line and the console, and keeps nothing.
package members

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
	"github.com/holdfast-edge/holdfast/firmware/console"
)

// Site is what is read of the site.
type Site interface {
	join.State
	// Up says whether a box is reached; this one is.
	Up(id coord.BoxID) bool
}

// Config of New; all fields are required but Listen.
type Config struct {
	Site Site
	// Decide has the site decide d, in the name of who asks, and waits until it took effect. console.ErrLater, wrapped, says that it is
	// open and waits for others.
	Decide func(ctx context.Context, by *console.Caller, d *coord.Decision) error
	Random io.Reader
	// Self is this box, and NextKey makes the key that it is to have next, if it has none yet, and gives the public half.
	Self    func() coord.BoxID
	NextKey func() (public []byte, err error)
	// Lobby is where boxes wait for an operator.
	Lobby *Lobby
	// Listen is the box's joining port, empty if it has none.
	Listen string
}

// Desk is where members are changed.
type Desk struct{ c Config }

// New makes a desk.
func New(c Config) *Desk { return &Desk{c} }

// Answer says what a change does, or did.
type Answer struct {
	Kind    string         `json:"kind"`
	Subject string         `json:"subject"`
	Advice  *roster.Advice `json:"advice,omitempty"`
	// Done says that it took effect; it did not when only a check was asked for, or when it waits.
	Done bool `json:"done"`
	// Token is a join token, when the box made it itself. ID and NotAfter (seconds of the site's clock) are of any.
	Token    string `json:"token,omitempty"`
	ID       string `json:"id,omitempty"`
	NotAfter uint64 `json:"not_after,omitempty"`
	Listen   string `json:"listen,omitempty"`
}

// Note is what the console's page says once: the token is nowhere else.
func (a *Answer) Note() string {
	if a.Token == "" {
		return ""
	}
	return "Join token, shown this once: " + a.Token
}

// Overview is the site's list, and what is open about it.
type Overview struct {
	Site     coord.SiteID `json:"site"`
	Epoch    uint64       `json:"epoch"`
	SiteHash coord.Digest `json:"site_hash"`
	Sums     roster.Sums  `json:"sums"`
	Up       int          `json:"up"`
	Members  []Box        `json:"members"`
	Tokens   []join.Doc   `json:"tokens"`
	// Guests wait for an operator's word on this box.
	Guests []Guest `json:"guests"`
	// Seconds is the site's clock, by which tokens expire.
	Seconds uint64 `json:"seconds"`
	Listen  string `json:"listen,omitempty"`
}

// Box is a member, and whether it is reached.
type Box struct {
	coord.Member
	Up bool `json:"up"`
}

// Overview is the site now.
func (d *Desk) Overview() (any, error) {
	m := d.c.Site.Members()
	o := &Overview{
		Site: m.Site, Epoch: m.Epoch, SiteHash: join.SiteHash(m), Sums: roster.SumsOf(m.N()), Seconds: d.c.Site.Seconds(), Listen: d.c.Listen,
		Tokens: []join.Doc{}, Guests: d.c.Lobby.Guests(),
	}
	for i := range m.List {
		b := Box{m.List[i], d.c.Site.Up(m.List[i].ID)}
		if b.Up {
			o.Up++
		}
		o.Members = append(o.Members, b)
	}
	for _, doc := range d.c.Site.Docs(join.DocPrefix) {
		if t, err := join.ParseDoc(doc.Value); err == nil {
			o.Tokens = append(o.Tokens, *t)
		}
	}
	return o, nil
}

// Acts are what can be asked for. Fields are texts; force and check are "true" or not there. check asks what would be.
func (d *Desk) Acts() []*console.Act {
	// What is about one box is asked of the policies by its id, whatever name is given; the rest is about the site.
	box := func(p console.Params) string {
		if b, err := d.place(p["box"]); err == nil {
			return "box:" + b.ID.String()
		}
		return "box:" + p["box"] // nobody: whoever may, hears so
	}
	// To let in a box that takes another's place is to replace that.
	admits := func(p console.Params) string {
		if d.replacedBy(p["box"]) != nil {
			return roster.Replace
		}
		return roster.Add
	}
	admitted := func(p console.Params) string {
		if old := d.replacedBy(p["box"]); old != nil {
			return "box:" + old.String()
		}
		return ""
	}
	return []*console.Act{
		{Path: "/site/join-token", Action: join.MakeToken, Back: "/", Run: d.token},
		{Path: "/site/withdraw", Action: join.RevokeToken, Back: "/", Run: d.withdraw},
		{Path: "/site/admit", Action: roster.Add, ActionOf: admits, Resource: admitted, Signed: true, Back: "/", Run: d.say(true)},
		{Path: "/site/refuse", Action: roster.Add, ActionOf: admits, Resource: admitted, Signed: true, Back: "/", Run: d.say(false)},
		{Path: "/site/add", Action: roster.Add, Back: "/", Run: d.add},
		{Path: "/site/remove", Action: roster.Remove, Resource: box, Back: "/", Run: d.remove},
		{Path: "/site/replace", Action: roster.Replace, Resource: box, Back: "/", Run: d.replace},
		{Path: "/site/rotate-key", Action: roster.Rotate, Resource: func(console.Params) string { return "box:" + d.c.Self().String() }, Signed: true, Back: "/", Run: d.rotate},
		{Path: "/site/edit", Action: roster.Edit, Resource: box, Back: "/", Run: d.edit},
	}
}

func (d *Desk) nonce() (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(d.c.Random, b[:])
	return binary.BigEndian.Uint64(b[:]), err
}

// token makes a token known to the site. Whoever asks may have made it (fields id, site_hash and key): then its secret was never here.
func (d *Desk) token(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	w := join.Wish{Name: p["name"]}
	if p["ttl"] != "" {
		n, err := strconv.ParseUint(p["ttl"], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: ttl %q is no number of seconds", console.ErrBad, p["ttl"])
		}
		w.TTL = n
	}
	if p["replaces"] != "" {
		m := d.c.Site.Members()
		i, err := roster.Find(m, p["replaces"])
		if err != nil {
			return nil, bad(err)
		}
		w.Replaces = &m.List[i].ID
	}
	t, public, text, err := d.tokenOf(p)
	if err != nil {
		return nil, err
	}
	nonce, err := d.nonce()
	if err != nil {
		return nil, err
	}
	dec, err := join.Offer(d.c.Site, t, public, w, by.Principal, nonce)
	if err != nil {
		return nil, bad(err)
	}
	doc, err := join.ParseDoc(dec.Writes[0].Value)
	if err != nil {
		return nil, err
	}
	a := &Answer{Kind: dec.Kind, Subject: dec.Subject, Token: text, ID: t.ID.String(), NotAfter: doc.NotAfter, Listen: d.c.Listen}
	err = d.c.Decide(ctx, by, dec)
	a.Done = err == nil
	return a, err
}

// tokenOf is the token that p names by its public half, or a new one with its text.
func (d *Desk) tokenOf(p console.Params) (t *join.Token, public []byte, text string, err error) {
	if p["key"] == "" {
		t, err := join.NewToken(join.SiteHash(d.c.Site.Members()), d.c.Random)
		if err != nil {
			return nil, nil, "", err
		}
		key, err := t.Key()
		if err != nil {
			return nil, nil, "", err
		}
		return t, key.PublicKey(), t.Text(), nil
	}
	t = new(join.Token)
	if err := t.ID.UnmarshalText([]byte(p["id"])); err != nil {
		return nil, nil, "", bad(err)
	}
	hash, err := hex.DecodeString(p["site_hash"])
	if err != nil || coord.Digest(append(hash, make([]byte, len(t.Site))...)[:len(t.Site)]) != join.SiteHash(d.c.Site.Members()) || len(hash) != len(t.Site) {
		return nil, nil, "", fmt.Errorf("%w: site_hash is not that of the members now; they may just have changed", console.ErrBad)
	}
	copy(t.Site[:], hash)
	if public, err = base64.StdEncoding.DecodeString(p["key"]); err != nil {
		return nil, nil, "", fmt.Errorf("%w: key: %w", console.ErrBad, err)
	}
	return t, public, "", nil
}

func (d *Desk) withdraw(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	var id join.TokenID
	if err := id.UnmarshalText([]byte(p["id"])); err != nil {
		return nil, bad(err)
	}
	nonce, err := d.nonce()
	if err != nil {
		return nil, err
	}
	dec, err := join.Withdraw(d.c.Site, id, by.Principal, nonce)
	if err != nil {
		return nil, bad(err)
	}
	err = d.c.Decide(ctx, by, dec)
	return &Answer{Kind: dec.Kind, Subject: dec.Subject, ID: id.String(), Done: err == nil}, err
}

// replacedBy is the box whose place the guest with this id would take, by its token; nil: none, or there is no such guest.
func (d *Desk) replacedBy(text string) *coord.BoxID {
	var id coord.BoxID
	if id.UnmarshalText([]byte(text)) != nil {
		return nil
	}
	for _, g := range d.c.Lobby.Guests() {
		if g.ID != id {
			continue
		}
		if doc, ok := d.c.Site.Doc(join.DocKey(g.Token)); ok {
			if t, err := join.ParseDoc(doc.Value); err == nil {
				return t.Replaces
			}
		}
	}
	return nil
}

// say is the operator's word on a box that waits here; what the site decides then goes its own way.
func (d *Desk) say(yes bool) func(context.Context, *console.Caller, console.Params) (any, error) {
	return func(_ context.Context, _ *console.Caller, p console.Params) (any, error) {
		var id coord.BoxID
		if err := id.UnmarshalText([]byte(p["box"])); err != nil {
			return nil, bad(err)
		}
		if err := d.c.Lobby.Say(id, yes); err != nil {
			return nil, bad(err)
		}
		return &Answer{Kind: roster.Add, Subject: id.String(), Done: true}, nil
	}
}

// member reads a new member's entry.
func member(p console.Params) (*coord.Member, error) {
	key, err := base64.StdEncoding.DecodeString(p["key"])
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("%w: key is not a public key in base64", console.ErrBad)
	}
	return &coord.Member{
		ID: coord.BoxIDOf(key), Name: p["name"], Key: key, Peer: p["peer"], Client: p["client"], Native: p["native"], Console: p["console"],
	}, nil
}

func (d *Desk) add(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	b, err := member(p)
	if err != nil {
		return nil, err
	}
	next, err := roster.Adding(d.c.Site, b)
	if err != nil {
		return nil, bad(err)
	}
	return d.change(ctx, by, p, roster.Add, next, false)
}

// place is the member that a field names.
func (d *Desk) place(name string) (*coord.Member, error) {
	m := d.c.Site.Members()
	i, err := roster.Find(m, name)
	if err != nil {
		return nil, bad(err)
	}
	return &m.List[i], nil
}

func (d *Desk) remove(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	b, err := d.place(p["box"])
	if err != nil {
		return nil, err
	}
	next, err := roster.Removing(d.c.Site, b.ID)
	if err != nil {
		return nil, bad(err)
	}
	return d.change(ctx, by, p, roster.Remove, next, false)
}

func (d *Desk) replace(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	old, err := d.place(p["box"])
	if err != nil {
		return nil, err
	}
	b, err := member(p)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct{ to, was *string }{
		{&b.Name, &old.Name}, {&b.Peer, &old.Peer}, {&b.Client, &old.Client}, {&b.Native, &old.Native}, {&b.Console, &old.Console},
	} {
		if *f.to == "" {
			*f.to = *f.was
		}
	}
	next, err := roster.Replacing(d.c.Site, old.ID, b)
	if err != nil {
		return nil, bad(err)
	}
	return d.change(ctx, by, p, roster.Replace, next, false)
}

func (d *Desk) edit(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	b, err := d.place(p["box"])
	if err != nil {
		return nil, err
	}
	next, err := roster.Editing(d.c.Site, b.ID, func(b *coord.Member) {
		for _, f := range []struct {
			to   *string
			name string
		}{{&b.Name, "name"}, {&b.Peer, "peer"}, {&b.Client, "client"}, {&b.Native, "native"}, {&b.Console, "console"}} {
			if v, ok := p[f.name]; ok && v != "" {
				*f.to = v
			}
		}
	})
	if err != nil {
		return nil, bad(err)
	}
	return d.change(ctx, by, p, roster.Edit, next, false)
}

// rotate gives this box another key.
func (d *Desk) rotate(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	b, err := d.place(d.c.Self().String())
	if err != nil {
		return nil, err
	}
	public, err := d.c.NextKey()
	if err != nil {
		return nil, err
	}
	next, err := roster.Rotating(d.c.Site, b.ID, public)
	if err != nil {
		return nil, bad(err)
	}
	// The box runs and has the key: it is there with it as soon as it has started anew.
	return d.change(ctx, by, p, roster.Rotate, next, true)
}

// change weighs a new list, and has it decided unless that is refused or only asked about. waits says that a box with a new key is known to run.
func (d *Desk) change(ctx context.Context, by *console.Caller, p console.Params, kind string, next *coord.Members, waits bool) (any, error) {
	now := d.c.Site.Members()
	subject, advice := roster.Subject(kind, now, next), roster.Weigh(now, next, d.c.Site.Up, waits)
	a := &Answer{Kind: kind, Subject: subject, Advice: &advice}
	force := p["force"] == "true"
	switch {
	case subject == "":
		return nil, fmt.Errorf("%w: it would change nothing", console.ErrBad)
	case p["check"] == "true":
		return a, nil
	case advice.Verdict == roster.Never:
		return nil, fmt.Errorf("%w: %s: refused", console.ErrBad, advice.String())
	case advice.Verdict == roster.Forced && !force:
		return nil, fmt.Errorf("%w: %s: refused unless --force", console.ErrBad, advice.String())
	}
	writes, err := roster.Writes(d.c.Site, next)
	if err != nil {
		return nil, err
	}
	nonce, err := d.nonce()
	if err != nil {
		return nil, err
	}
	dec := &coord.Decision{Kind: kind, Subject: subject, Principal: by.Principal, Nonce: nonce, Writes: writes}
	if advice.Verdict == roster.Forced {
		dec.Reason = "forced"
	}
	err = d.c.Decide(ctx, by, dec)
	a.Done = err == nil
	return a, err
}

// bad marks what was asked for wrongly.
func bad(err error) error {
	if errors.Is(err, console.ErrBad) {
		return err
	}
	return fmt.Errorf("%w: %w", console.ErrBad, err)
}
