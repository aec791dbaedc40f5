// Package rights is how people change who may do what in a site: roles, grants, policies, capability tokens. It makes the decisions that
// coord/access judges, and shows the documents that rules are made of, so that a program can work out and explain answers by itself. It serves
// the command line and the console, and keeps nothing.
package rights

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/firmware/console"
)

// Config of New; all fields are required.
type Config struct {
	// State is the site's documents as they are now.
	State func() access.State
	// Decide has the site decide d, in the name of who asks, and waits until it took effect. console.ErrLater, wrapped, says that it is
	// open and waits for others.
	Decide func(ctx context.Context, by *console.Caller, d *coord.Decision) error
	// Key lends the key of the operator who asks, or of another whose password is given. fn must not keep it.
	Key func(ctx context.Context, by *console.Caller, operator, password string, fn func(name string, key *ecdsa.PrivateKey) error) error
	// Random makes nonces and keys; Now is the box's clock.
	Random io.Reader
	Now    func() time.Time
}

// Desk is where rights are changed.
type Desk struct{ c Config }

// New makes a desk.
func New(c Config) *Desk { return &Desk{c} }

// Document is a document that rules are made of. Of an operator it is the name, the public key and whether it is disabled.
type Document struct {
	Key     string `json:"key"`
	Version uint64 `json:"version"`
	Value   string `json:"value"`
}

// Overview is all that answers about access depend on.
type Overview struct {
	Members   *coord.Members    `json:"members"`
	Seconds   uint64            `json:"seconds"` // the site's clock
	Documents []Document        `json:"documents"`
	Roles     []access.RoleInfo `json:"roles"`
	// Grants are the roles of principals, those included that need no document.
	Grants     map[string][]string `json:"grants"`
	TokenEpoch uint64              `json:"token_epoch"`
	Faults     []access.Fault      `json:"faults,omitempty"`
	// Actions are what can be allowed.
	Actions []ActionInfo `json:"actions"`
}

// ActionInfo is an action, the group that policies call it by, and what it is.
type ActionInfo struct {
	Action string `json:"action"`
	Group  string `json:"group"`
	About  string `json:"about"`
}

// Actions are those of this release that can be allowed.
func Actions() (list []ActionInfo) {
	for _, a := range access.Actions() {
		if a.Class() != access.ClassNote {
			list = append(list, ActionInfo{a.String(), a.Class().String(), a.About()})
		}
	}
	return list
}

// Overview is the site now.
func (d *Desk) Overview() (any, error) {
	st := d.c.State()
	r := access.RulesOf(st)
	o := &Overview{
		Members: st.Members(), Seconds: st.Seconds(), Documents: []Document{}, Roles: r.Roles(), Grants: r.Grants(),
		TokenEpoch: r.TokenEpoch(), Faults: r.Faults(), Actions: Actions(),
	}
	for _, p := range access.DocPrefixes() {
		for _, doc := range st.Docs(p) {
			o.Documents = append(o.Documents, public(&doc))
		}
	}
	return o, nil
}

// public is a document without what only its owner should see: sealed keys.
func public(doc *coord.Doc) Document {
	v := Document{doc.Key, doc.Version, string(doc.Value)}
	if strings.HasPrefix(doc.Key, access.DocOperator) {
		var o access.OperatorDoc
		v.Value = ""
		if json.Unmarshal(doc.Value, &o) == nil {
			b, _ := json.Marshal(&o) // of plain fields: it never fails
			v.Value = string(b)
		}
	}
	return v
}

// State is the site that an Overview is of, to be asked as a box is.
func (o *Overview) State() access.State { return shown{o} }

type shown struct{ o *Overview }

// Doc is a document of the overview.
func (s shown) Doc(key string) (coord.Doc, bool) {
	for _, d := range s.o.Documents {
		if d.Key == key {
			return coord.Doc{Key: d.Key, Version: d.Version, Value: []byte(d.Value)}, true
		}
	}
	return coord.Doc{}, false
}

// Docs are the documents whose keys begin with prefix.
func (s shown) Docs(prefix string) (list []coord.Doc) {
	for _, d := range s.o.Documents {
		if strings.HasPrefix(d.Key, prefix) {
			list = append(list, coord.Doc{Key: d.Key, Version: d.Version, Value: []byte(d.Value)})
		}
	}
	return list
}

func (s shown) Members() *coord.Members { return s.o.Members }
func (s shown) Seconds() uint64         { return s.o.Seconds }

// Answer says what was decided.
type Answer struct {
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	// Done says that it took effect; it did not when it waits.
	Done bool `json:"done"`
	// Token is one that was issued, and ID its name.
	Token string `json:"token,omitempty"`
	ID    string `json:"id,omitempty"`
	// Hint is what is odd about what was asked for and is done nevertheless.
	Hint string `json:"hint,omitempty"`

	issued string // what the token is good for, for the audit log
}

// Note is what a page says once: a token is nowhere else.
func (a *Answer) Note() string {
	if a.Token == "" {
		return a.Hint
	}
	return "Token, shown this once: " + a.Token
}

// Audited implements console.Audited.
func (a *Answer) Audited() (resource, reason string) {
	if a.issued == "" {
		return "", ""
	}
	return access.TokenOf + ":" + a.ID, a.issued
}

// Acts are what can be asked for. Fields are texts; lists have commas.
func (d *Desk) Acts() []*console.Act {
	role := func(p console.Params) string { return "role:" + p["role"] }
	policy := func(p console.Params) string { return "doc:" + access.DocPolicy + p["name"] }
	site := func(console.Params) string { return "site" }
	return []*console.Act{
		{Path: "/access/grant", Action: access.RoleGrant.String(), Resource: role, Back: "/", Run: d.grant(false)},
		{Path: "/access/revoke", Action: access.RoleRevoke.String(), Resource: role, Back: "/", Run: d.grant(true)},
		{Path: "/access/role", Action: access.RolePut.String(), Resource: role, Back: "/", Run: d.putRole},
		{Path: "/access/role/remove", Action: access.RoleRemove.String(), Resource: role, Back: "/", Run: d.removeRole},
		{Path: "/access/policy", Action: access.PolicyPut.String(), Resource: policy, Back: "/", Run: d.putPolicy},
		{Path: "/access/policy/remove", Action: access.PolicyRemove.String(), Resource: policy, Back: "/", Run: d.removePolicy},
		{Path: "/access/token", Action: access.TokenIssue.String(), Resource: site, Back: "/", Run: d.issue},
		{Path: "/access/token/revoke", Action: access.TokenRevoke.String(), Resource: func(p console.Params) string { return "token:" + p["id"] }, Back: "/", Run: d.revoke},
		{Path: "/access/token/epoch", Action: access.TokenEpoch.String(), Resource: site, Back: "/", Run: d.epoch},
	}
}

func bad(err error) error { return fmt.Errorf("%w: %w", console.ErrBad, err) }

// write is a decision on one document; value nil removes it.
func (d *Desk) write(ctx context.Context, by *console.Caller, kind access.Action, subject, key string, value []byte, seconds uint64, reason string) (any, error) {
	old, exists := d.c.State().Doc(key)
	if value == nil && !exists {
		return nil, bad(fmt.Errorf("there is no %s", key))
	}
	var nonce [8]byte
	if _, err := io.ReadFull(d.c.Random, nonce[:]); err != nil {
		return nil, err
	}
	dec := &coord.Decision{
		Kind: kind.String(), Subject: subject, Principal: by.Principal, Reason: reason, Nonce: binary.BigEndian.Uint64(nonce[:]),
		Writes: []coord.DocWrite{{Key: key, Was: old.Version, Seconds: seconds, Value: value}},
	}
	a := &Answer{Kind: dec.Kind, Subject: subject}
	err := d.c.Decide(ctx, by, dec)
	a.Done = err == nil
	return a, err
}

// grant gives a role, or takes it; without one it takes all. The path says which, for the path is what the caller was asked about.
func (d *Desk) grant(takes bool) func(context.Context, *console.Caller, console.Params) (any, error) {
	return func(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
		who, role := p["principal"], p["role"]
		if err := access.CheckPrincipal(who); err != nil {
			return nil, bad(err)
		}
		key := access.DocGrant + who
		var roles []string
		if old, ok := d.c.State().Doc(key); ok {
			g, err := access.ReadGrant(who, old.Value)
			if err != nil && !takes {
				return nil, bad(fmt.Errorf("%w; take all roles first", err))
			}
			if err == nil {
				roles = g.Roles
			}
		}
		kind := access.RoleGrant
		if takes {
			kind = access.RoleRevoke
			if role != "" && !slices.Contains(roles, role) {
				return nil, bad(fmt.Errorf("%s has no role %s", who, role))
			}
			roles = slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return r == role || role == "" })
		} else {
			if slices.Contains(roles, role) {
				return nil, bad(fmt.Errorf("%s has the role %s already", who, role))
			}
			roles = append(slices.Clone(roles), role)
			slices.Sort(roles)
		}
		var value []byte
		if len(roles) > 0 {
			var err error
			if value, err = json.Marshal(access.GrantDoc{Roles: roles}); err != nil {
				return nil, err
			}
		}
		answer, err := d.write(ctx, by, kind, who, key, value, 0, p["reason"])
		if a, ok := answer.(*Answer); ok && !takes {
			a.Hint = d.stranger(who)
		}
		return answer, err
	}
}

// stranger says that a principal that has a role now does not exist yet: a name that was mistyped is given rights without a word otherwise.
func (d *Desk) stranger(who string) string {
	name, ok := strings.CutPrefix(who, access.Operator+":")
	if !ok {
		return ""
	}
	if _, known := d.c.State().Doc(access.DocOperator + name); known {
		return ""
	}
	return fmt.Sprintf("there is no operator %s yet: whoever is added by that name has the role; `holdfast operator list` shows who there is", name)
}

func (d *Desk) putRole(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	doc := access.RoleDoc{About: p["about"], In: list(p["in"])}
	value, err := json.Marshal(doc)
	if err == nil {
		_, err = access.ReadRole(p["role"], value)
	}
	if err != nil {
		return nil, bad(err)
	}
	key := access.DocRole + p["role"]
	return d.write(ctx, by, access.RolePut, key, key, value, 0, p["reason"])
}

func (d *Desk) removeRole(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	key := access.DocRole + p["role"]
	return d.write(ctx, by, access.RoleRemove, key, key, nil, 0, p["reason"])
}

func (d *Desk) putPolicy(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	if err := access.CheckPolicy(p["name"], p["text"]); err != nil {
		return nil, bad(err)
	}
	key := access.DocPolicy + p["name"]
	if version := p["version"]; version != "" {
		old, exists := d.c.State().Doc(key)
		switch {
		case strconv.FormatUint(old.Version, 10) == version:
		case !exists:
			return nil, bad(fmt.Errorf("%s was removed after you read it", key))
		case version == "0":
			return nil, bad(fmt.Errorf("there is a %s already: change that one", key))
		default:
			return nil, bad(fmt.Errorf("%s was changed after you read it: compare, and send it again", key))
		}
	}
	return d.write(ctx, by, access.PolicyPut, key, key, []byte(p["text"]), 0, p["reason"])
}

func (d *Desk) removePolicy(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	key := access.DocPolicy + p["name"]
	return d.write(ctx, by, access.PolicyRemove, key, key, nil, 0, p["reason"])
}

// list splits a list with commas and sorts it.
func list(s string) []string {
	out := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	slices.Sort(out)
	return slices.Compact(out)
}

// keepSeconds is how much longer a revoked token is remembered than it would be good, for clocks that differ.
const keepSeconds = 86400

// revoke has the site remember that a token is good no more: until, Unix seconds, is when it would have ended; without it, for good.
func (d *Desk) revoke(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	id, err := access.ParseTokenID(p["id"])
	if err != nil {
		return nil, bad(err)
	}
	key := access.DocRevoked + id.String()
	if _, ok := d.c.State().Doc(key); ok {
		return nil, bad(fmt.Errorf("token %v is revoked already", id))
	}
	var seconds uint64
	if p["until"] != "" {
		until, err := strconv.ParseInt(p["until"], 10, 64)
		if err != nil {
			return nil, bad(fmt.Errorf("until %q is no number of seconds", p["until"]))
		}
		seconds = uint64(max(0, until-d.c.Now().Unix())) + keepSeconds
	}
	value, err := json.Marshal(map[string]string{"by": by.Principal})
	if err != nil {
		return nil, err
	}
	return d.write(ctx, by, access.TokenRevoke, access.TokenOf+":"+id.String(), key, value, seconds, p["reason"])
}

// epoch ends all tokens.
func (d *Desk) epoch(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	next := access.RulesOf(d.c.State()).TokenEpoch() + 1
	return d.write(ctx, by, access.TokenEpoch, "site", access.DocEpoch, strconv.AppendUint(nil, next, 10), 0, p["reason"])
}

// TTLMax is for how long a token can be good: access.TokenSecondsMax, without the minute before now at which it begins.
const TTLMax = 365 * 24 * time.Hour

// Wish is what a token is to be.
type Wish struct {
	Actions, Resources []string
	// Holder, if not nil, keeps its key; otherwise a new one travels with the token.
	Holder   *access.PublicKey
	TTL      time.Duration
	Decision *coord.Digest
	Note     string
}

// NewBlock is the first block of a token that begins a minute ago, for clocks that differ. carried is the key that travels with it, or nil.
func NewBlock(w *Wish, site coord.SiteID, epoch uint64, issuer string, now time.Time, random io.Reader) (b access.Block, carried *ecdsa.PrivateKey, err error) {
	b = access.Block{
		Site: site, Epoch: epoch, Issuer: issuer, NotBefore: uint64(now.Add(-time.Minute).Unix()), NotAfter: uint64(now.Add(w.TTL).Unix()),
		Actions: w.Actions, Resources: w.Resources, Decision: w.Decision, Note: w.Note,
	}
	if _, err := io.ReadFull(random, b.Nonce[:]); err != nil {
		return b, nil, err
	}
	if w.Holder != nil {
		b.Holder, b.Bound = *w.Holder, true
		return b, nil, nil
	}
	carried, err = ecdsa.GenerateKey(elliptic.P256(), random)
	return b, carried, err
}

// scope says of a token, in one line, who signed it, what it is good for and until when, and who holds its key; nothing of it is secret.
func scope(t *access.Token) string {
	e := t.Effective()
	holder := "whoever has its text"
	if !t.Carries() {
		holder = e.Holder.String()
	}
	s := fmt.Sprintf("signed by %s until %s for holder %s: %s on %s", e.Issuer, time.Unix(int64(e.NotAfter), 0).UTC().Format(time.RFC3339), holder,
		strings.Join(e.Actions, ","), strings.Join(e.Resources, ","))
	if e.Decision != nil {
		s += ", for decision " + e.Decision.Short()
	}
	return s
}

// issue makes a token with the operator's own key.
func (d *Desk) issue(ctx context.Context, by *console.Caller, p console.Params) (any, error) {
	w := &Wish{Actions: list(p["actions"]), Resources: list(p["resources"]), Note: p["note"], TTL: time.Hour}
	var err error
	if p["ttl"] != "" {
		if w.TTL, err = time.ParseDuration(p["ttl"]); err != nil || w.TTL <= 0 || w.TTL > TTLMax {
			return nil, bad(fmt.Errorf("ttl %q; a token is good for %v at most, and that is written such as 90m, 24h or 720h", p["ttl"], TTLMax))
		}
	}
	if p["holder"] != "" {
		w.Holder = new(access.PublicKey)
		if err := w.Holder.UnmarshalText([]byte(p["holder"])); err != nil {
			return nil, bad(err)
		}
	}
	if p["decision"] != "" {
		w.Decision = new(coord.Digest)
		if err := w.Decision.UnmarshalText([]byte(p["decision"])); err != nil {
			return nil, bad(err)
		}
	}
	rules := access.RulesOf(d.c.State())
	a := &Answer{Kind: access.TokenIssue.String()}
	err = d.c.Key(ctx, by, p["operator"], p["password"], func(name string, key *ecdsa.PrivateKey) error {
		issuer := access.Operator + ":" + name
		if v := rules.Decide(issuer, access.TokenIssue, access.Site()); !v.Allowed {
			return v.Err()
		}
		b, carried, err := NewBlock(w, rules.Site(), rules.TokenEpoch(), issuer, d.c.Now(), d.c.Random)
		if err != nil {
			return err
		}
		k, err := access.NewPrivateKey(key)
		if err != nil {
			return err
		}
		t, err := access.Issue(b, k, carried)
		if errors.Is(err, access.ErrMalformed) {
			return bad(err)
		}
		if err != nil {
			return err
		}
		a.Subject, a.Token, a.ID, a.Done, a.issued = t.String(), t.Text(), t.ID().String(), true, scope(t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}
