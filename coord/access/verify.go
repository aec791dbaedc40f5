package access

import (
	"crypto/ecdsa"
	"fmt"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// Grant is what a verified token is worth. It is immutable. It was true when it was verified: whoever keeps one verifies again when rules or
// the time have changed (Rules.Still).
type Grant struct {
	token     *Token
	e         Block
	issuer    *ecdsa.PublicKey // the key that it was verified with
	principal string
	policy    string
	actions   actionSet
	resources []pattern
}

// pattern is one resource of a token, taken apart.
type pattern struct {
	all    bool
	kind   ResourceKind
	name   string
	prefix bool
}

// Verify says whether a token is good now (Unix seconds) by these rules: the site's, in its time, of the token epoch, not revoked, signed by an
// issuer who may issue, and every block by the holder before it. Of a token whose key travels with it, the key must be the last holder's;
// otherwise who shows it has yet to prove possession (CheckProof).
//
// Errors: ErrSite, ErrEarly, ErrExpired, ErrEpoch, ErrRevoked, ErrIssuer, ErrMayNotIssue, ErrHolder.
func (r *Rules) Verify(t *Token, now uint64) (*Grant, error) {
	g, err := r.verifyChain(t, now)
	if err != nil {
		return nil, err
	}
	if last := &t.blocks[len(t.blocks)-1]; !last.Bound {
		if k := t.Secret(); k == nil || k.Public() != last.Holder {
			return nil, fmt.Errorf("%w: the key that travels with it is another one, or missing", ErrHolder)
		}
	}
	return g, nil
}

// verifyChain is Verify but for whether who shows the token has its key.
func (r *Rules) verifyChain(t *Token, now uint64) (*Grant, error) {
	if err := r.still(t, now); err != nil {
		return nil, err
	}
	root := &t.blocks[0]
	key := r.keys[root.Issuer]
	if key == nil {
		return nil, fmt.Errorf("%w: %s", ErrIssuer, root.Issuer)
	}
	for i := range t.blocks {
		b := &t.blocks[i]
		if !verify(key, b.digest, &b.sig) {
			if i == 0 {
				return nil, fmt.Errorf("%w: the signature is not by %s", ErrIssuer, root.Issuer)
			}
			return nil, fmt.Errorf("%w: block %d is not signed by the holder before it", ErrHolder, i)
		}
		if i+1 < len(t.blocks) {
			var err error
			if key, err = b.Holder.parse(); err != nil {
				return nil, err
			}
		}
	}
	return newGrant(t, r.keys[root.Issuer]), nil
}

func newGrant(t *Token, issuer *ecdsa.PublicKey) *Grant {
	g := &Grant{token: t, e: t.Effective(), issuer: issuer, principal: t.String()}
	g.policy = "token of " + g.e.Issuer
	for a := noAction + 1; a < actions; a++ {
		for _, of := range g.e.Actions {
			if wider(of, a.String()) {
				g.actions.add(a)
			}
		}
	}
	for _, text := range g.e.Resources {
		if p, ok := parsePattern(text); ok {
			g.resources = append(g.resources, p)
		}
	}
	return g
}

// parsePattern takes a resource of a token apart; ok is whether there are such resources here.
func parsePattern(text string) (p pattern, ok bool) {
	name, prefix := strings.CutSuffix(text, "*")
	if name == "" {
		return pattern{all: true}, prefix
	}
	kind, rest, _ := strings.Cut(name, ":")
	if rest == "" && prefix {
		for k := KindKey; k < resourceKinds; k++ {
			if resourceNames[k].text == kind {
				return pattern{kind: k, prefix: true}, true
			}
		}
	}
	r, err := ParseResource(name)
	if err != nil || kind == "prefix" || kind == "keys" {
		return pattern{}, false
	}
	return pattern{kind: r.Kind, name: r.Name, prefix: prefix}, true
}

// Still says whether a grant is good yet, by other rules or at a later time. Signatures are not looked at again: what the issuer signed with
// a key that was replaced since counts no more. Errors: as Verify.
func (r *Rules) Still(g *Grant, now uint64) error {
	if err := r.still(g.token, now); err != nil {
		return err
	}
	switch key := r.keys[g.e.Issuer]; {
	case key == nil:
		return fmt.Errorf("%w: %s", ErrIssuer, g.e.Issuer)
	case key != g.issuer && !key.Equal(g.issuer):
		return fmt.Errorf("%w: %s has another key since", ErrIssuer, g.e.Issuer)
	}
	return nil
}

// still checks what is not signatures, and what costs nothing first.
func (r *Rules) still(t *Token, now uint64) error {
	root := &t.blocks[0]
	if root.Site != r.site {
		return fmt.Errorf("%w: %v, and this is %v", ErrSite, root.Site, r.site)
	}
	e := t.Effective()
	switch {
	case root.Epoch != r.epoch:
		return fmt.Errorf("%w: %d, and the site's is %d", ErrEpoch, root.Epoch, r.epoch)
	case now < e.NotBefore:
		return fmt.Errorf("%w: for %d s", ErrEarly, e.NotBefore-now)
	case now > e.NotAfter:
		return fmt.Errorf("%w: %d s ago", ErrExpired, now-e.NotAfter)
	}
	if len(r.revoked) > 0 {
		for _, id := range t.IDs() {
			if r.revoked[id] {
				return fmt.Errorf("%w: %v", ErrRevoked, id)
			}
		}
	}
	if v := r.Decide(root.Issuer, TokenIssue, Site()); !v.Allowed {
		if r.keys[root.Issuer] == nil {
			return fmt.Errorf("%w: %s", ErrIssuer, root.Issuer)
		}
		return fmt.Errorf("%w: %s: %s", ErrMayNotIssue, root.Issuer, v.Reason())
	}
	return nil
}

// Principal is who the holder is to policies and the audit log: "token:" and the token's id.
func (g *Grant) Principal() string { return g.principal }

// Token is the token.
func (g *Grant) Token() *Token { return g.token }

// Issuer is the principal who issued it.
func (g *Grant) Issuer() string { return g.e.Issuer }

// NotAfter is the last second in which it is good, Unix.
func (g *Grant) NotAfter() uint64 { return g.e.NotAfter }

// NeedsProof says whether the holder keeps the key, so that who shows the token must prove to have it.
func (g *Grant) NeedsProof() bool { return g.e.Bound }

// covers says whether the token is about an action on a resource.
func (g *Grant) covers(a Action, res Resource) bool {
	if a >= actions || !g.actions.has(a) {
		return false
	}
	for i := range g.resources {
		p := &g.resources[i]
		switch {
		case p.all:
			return true
		case p.kind != res.Kind:
		case !p.prefix:
			if p.name == res.Name && res.End == "" {
				return true
			}
		case strings.HasPrefix(res.Name, p.name) && (res.End == "" || within(p.name, res.End)):
			return true
		}
	}
	return false
}

// decideToken says whether the holder may do an action on a resource: the token covers it, its issuer may do it now, and no policy forbids it to the
// token. decision is what it is to be used for, nil if that is no decision: a token that is for one decision is good for nothing else.
func (r *Rules) decideToken(g *Grant, a Action, res Resource, decision *coord.Digest) Verdict {
	v := Verdict{Principal: g.principal, Action: a, Resource: res, Policy: g.policy}
	switch {
	case g.e.Decision != nil && (decision == nil || *decision != *g.e.Decision):
		v.Note = "it is for decision " + g.e.Decision.Short() + " only"
		return v
	case !g.covers(a, res):
		v.Note = ErrScope.Error()
		return v
	}
	issuer := r.Decide(g.e.Issuer, a, res)
	if !issuer.Allowed {
		v.Note = g.e.Issuer + " may not do it: " + issuer.Reason()
		return v
	}
	if own := r.Decide(g.principal, a, res); !own.Allowed && own.Policy != "" {
		return own
	}
	v.Allowed = true
	return v
}

// DecideToken is Decide for the holder of a token. See Grant.
func (r *Rules) DecideToken(g *Grant, a Action, res Resource) Verdict {
	return r.decideToken(g, a, res, nil)
}
