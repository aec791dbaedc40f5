package access

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// authorityBytesMax bounds what a decision carries to convince: evidence is the largest, with a token.
const authorityBytesMax = 16 << 10

// Authority is what a coord.Decision carries, as JSON, to convince boxes that have not been asked themselves. All signatures are over the
// decision's digest, so they are worth nothing for another one.
type Authority struct {
	Operator *OperatorAuthority `json:"operator,omitempty"`
	Token    *TokenAuthority    `json:"token,omitempty"`
	// Join is a box's request to be a member, encoded (coord/trust/join).
	Join []byte `json:"join,omitempty"`
	// Evidence is the proof that the member to be removed has lied.
	Evidence *coord.Finding `json:"evidence,omitempty"`
	// Box is the signature of a member that speaks about itself, or sets a site up.
	Box    *BoxAuthority    `json:"box,omitempty"`
	Rotate *RotateAuthority `json:"rotate,omitempty"`
}

// OperatorAuthority is an operator's signature.
type OperatorAuthority struct {
	Name string          `json:"name"`
	Sig  coord.Signature `json:"sig"`
}

// TokenAuthority is a token and its holder's signature. A key that travels with the token is left out: the signature proves it.
type TokenAuthority struct {
	Token string          `json:"token"`
	Sig   coord.Signature `json:"sig"`
}

// BoxAuthority is a member's signature.
type BoxAuthority struct {
	ID  coord.BoxID     `json:"id"`
	Sig coord.Signature `json:"sig"`
}

// RotateAuthority are the signatures of a member's key and of the one that is to take its place.
type RotateAuthority struct {
	Old coord.Signature `json:"old"`
	New coord.Signature `json:"new"`
}

// Encode is the authority as a decision carries it.
func (a *Authority) Encode() ([]byte, error) {
	b, err := json.Marshal(a)
	if err == nil && len(b) > authorityBytesMax {
		err = fmt.Errorf("%d bytes where %d can be", len(b), authorityBytesMax)
	}
	if err != nil {
		return nil, fmt.Errorf("access: authority: %w", err)
	}
	return b, nil
}

// DecodeAuthority reads what Encode wrote; of nothing it is an Authority without anything.
func DecodeAuthority(b []byte) (*Authority, error) {
	a := new(Authority)
	if len(b) == 0 {
		return a, nil
	}
	if err := strictJSON(b, authorityBytesMax, a); err != nil {
		return nil, fmt.Errorf("access: authority: %w", err)
	}
	return a, nil
}

// AsOperator adds an operator's signature to a decision. The decision is stamped before (coord/state.Machine.Stamp) and not changed after.
func AsOperator(d *coord.Decision, site coord.SiteID, name string, key Signer) error {
	sig, err := key.SignDigest(d.Digest(site))
	if err != nil {
		return fmt.Errorf("access: sign decision: %w", err)
	}
	return carry(d, func(a *Authority) { a.Operator = &OperatorAuthority{name, sig} })
}

// AsHolder adds a token and its holder's signature; by nil is the key that travels with the token. The decision's Principal must be the
// token's ("token:" and its id); where the token is for this decision only, which then cannot name it, its issuer's.
func AsHolder(d *coord.Decision, t *Token, by Signer) error {
	if by == nil {
		k := t.Secret()
		if k == nil {
			return fmt.Errorf("%w: its key does not travel with it, so the holder's is needed", ErrHolder)
		}
		by = k
	}
	e := t.Effective()
	sig, err := by.SignDigest(useDigest(t.ID(), d.Digest(e.Site)))
	if err != nil {
		return fmt.Errorf("access: sign decision: %w", err)
	}
	public := *t
	public.secret = nil
	return carry(d, func(a *Authority) { a.Token = &TokenAuthority{public.Text(), sig} })
}

func useDigest(id TokenID, d coord.Digest) coord.Digest {
	return digestOf("holdfast tokenuse1", id[:], d[:])
}

// AsBox adds a member's signature.
func AsBox(d *coord.Decision, site coord.SiteID, id coord.BoxID, key Signer) error {
	sig, err := key.SignDigest(d.Digest(site))
	if err != nil {
		return fmt.Errorf("access: sign decision: %w", err)
	}
	return carry(d, func(a *Authority) { a.Box = &BoxAuthority{id, sig} })
}

// AsRotation adds the signatures of a member's old key and of its new one.
func AsRotation(d *coord.Decision, site coord.SiteID, old, next Signer) error {
	digest := d.Digest(site)
	o, err := old.SignDigest(digest)
	if err != nil {
		return fmt.Errorf("access: sign decision: %w", err)
	}
	n, err := next.SignDigest(digest)
	if err != nil {
		return fmt.Errorf("access: sign decision: %w", err)
	}
	return carry(d, func(a *Authority) { a.Rotate = &RotateAuthority{o, n} })
}

// WithEvidence adds the proof that the member to be removed has lied.
func WithEvidence(d *coord.Decision, f *coord.Finding) error {
	return carry(d, func(a *Authority) { a.Evidence = f })
}

// WithRequest adds the encoded request of the box that wants to join.
func WithRequest(d *coord.Decision, request []byte) error {
	return carry(d, func(a *Authority) { a.Join = request })
}

func carry(d *coord.Decision, add func(*Authority)) error {
	a, err := DecodeAuthority(d.Authority)
	if err != nil {
		return err
	}
	add(a)
	d.Authority, err = a.Encode()
	return err
}

// actor is who has convinced a box.
type actor struct {
	principal string
	roles     []string
	decide    func(Action, Resource) Verdict
}

// errNobody says that a decision carries nothing that speaks for anybody.
var errNobody = errors.New("an operator on this box must approve it")

// actor finds who stands behind a decision: its Principal, by a signature. The error says why nobody does.
func (r *Rules) actor(a *Authority, d *coord.Decision, site coord.SiteID, now uint64) (*actor, error) {
	digest := d.Digest(site)
	switch {
	case a.Operator != nil:
		who := Operator + ":" + a.Operator.Name
		key := r.keys[who]
		switch {
		case d.Principal != who:
			return nil, fmt.Errorf("%s signed it and %q asks for it", who, d.Principal)
		case key == nil:
			return nil, fmt.Errorf("%s is no operator of this site, or is disabled", who)
		case !verify(key, digest, &a.Operator.Sig):
			return nil, fmt.Errorf("the signature is not by %s", who)
		}
		return &actor{who, r.RolesOf(who), func(x Action, on Resource) Verdict { return r.Decide(who, x, on) }}, nil
	case a.Token != nil:
		return r.holder(a.Token, d, digest, now)
	case a.Box != nil:
		who := Box + ":" + a.Box.ID.String()
		if d.Principal != who {
			return nil, fmt.Errorf("%s signed it and %q asks for it", who, d.Principal)
		}
		if key := r.keys[who]; key == nil || !verify(key, digest, &a.Box.Sig) {
			return nil, fmt.Errorf("%s is no member, or the signature is not by it", who)
		}
		return &actor{who, r.RolesOf(who), func(x Action, on Resource) Verdict { return r.Decide(who, x, on) }}, nil
	}
	return nil, errNobody
}

// actorOf is who c says.
func (r *Rules) actorOf(c *Credentials, d *coord.Decision, now uint64) (*actor, error) {
	who := c.Who()
	if c.Grant == nil {
		return &actor{who, r.RolesOf(who), func(x Action, on Resource) Verdict { return r.Decide(who, x, on) }}, nil
	}
	if err := r.Still(c.Grant, now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDenied, err)
	}
	digest := d.Digest(r.site)
	return &actor{who, r.RolesOf(c.Grant.Issuer()), func(x Action, on Resource) Verdict { return r.decideToken(c.Grant, x, on, &digest) }}, nil
}

func (r *Rules) holder(a *TokenAuthority, d *coord.Decision, digest coord.Digest, now uint64) (*actor, error) {
	t, err := ParseToken(a.Token)
	if err != nil {
		return nil, err
	}
	g, err := r.verifyChain(t, now)
	if err != nil {
		return nil, err
	}
	key, err := g.e.Holder.parse()
	switch {
	case err != nil:
		return nil, err
	case !verify(key, useDigest(t.ID(), digest), &a.Sig):
		return nil, fmt.Errorf("%w: the decision is not signed with its key", ErrHolder)
	case d.Principal != g.principal && (g.e.Decision == nil || d.Principal != g.e.Issuer):
		return nil, fmt.Errorf("%s signed it and %q asks for it", g.principal, d.Principal)
	}
	return &actor{g.principal, r.RolesOf(g.e.Issuer), func(x Action, on Resource) Verdict { return r.decideToken(g, x, on, &digest) }}, nil
}

// proves says whether evidence proves a lie of the member id of these members.
func proves(f *coord.Finding, m *coord.Members, id coord.BoxID, termRounds uint64) error {
	i := m.Index(id)
	switch {
	case i < 0 || f.Box != id || string(f.Key) != string(m.List[i].Key):
		return fmt.Errorf("the evidence is against %v, not %v", f.Box, id)
	case f.Site != m.Site:
		return fmt.Errorf("the evidence is of site %v", f.Site)
	case f.TermRounds != termRounds:
		return fmt.Errorf("the evidence is for terms of %d rounds and the site's have %d", f.TermRounds, termRounds)
	}
	_, _, err := trust.CheckFinding(f)
	return err
}
