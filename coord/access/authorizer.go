package access

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// Credentials are who asks: a principal that somebody else has made sure of (a session, a certificate, the box's own socket), or the holder of
// a token.
type Credentials struct {
	// Principal is used if Grant is nil. Empty is Anyone.
	Principal string
	Grant     *Grant
	// Source is where from, and Request which request, for the audit log.
	Source, Request string
}

// Who is the principal.
func (c *Credentials) Who() string {
	switch {
	case c.Grant != nil:
		return c.Grant.principal
	case c.Principal != "":
		return c.Principal
	}
	return Anyone
}

// Authorizer answers by the rules of a site as they are now. It may be used by many goroutines.
type Authorizer struct {
	me    coord.BoxID
	audit func(context.Context, audit.Record) error
	now   func() uint64 // Unix milliseconds

	rules  atomic.Pointer[Rules]
	making sync.Mutex
	at     uint64
	seen   Replays
}

// NewAuthorizer begins with rules that let nobody but Root do anything, until Update gave it the site's. record is where refusals go, nil for
// nowhere; nowMs is the box's clock, Unix milliseconds.
func NewAuthorizer(me coord.BoxID, record func(context.Context, audit.Record) error, nowMs func() uint64) *Authorizer {
	a := &Authorizer{me: me, audit: record, now: nowMs, seen: Replays{since: nowMs()}}
	closed := Compile(&coord.Members{}, []coord.Doc{{Key: SettingClient, Value: []byte(`{"access":"token"}`)}})
	a.rules.Store(closed)
	return a
}

// Update makes other rules if the documents are others than at the last call. It is called when a document may have changed.
func (a *Authorizer) Update(version uint64, st State) {
	a.making.Lock()
	defer a.making.Unlock()
	if a.at == version && a.rules.Load().site != (coord.SiteID{}) {
		return
	}
	a.rules.Store(RulesOf(st))
	a.at = version
}

// Rules are those of now.
func (a *Authorizer) Rules() *Rules { return a.rules.Load() }

// Token makes credentials of a token's text and, if its holder keeps the key, of a proof's. binding is what the proof must be tied to; zero is
// nothing.
// Errors: all that Verify, ParseToken and CheckProof have; ErrHolder also if a proof is needed and there is none.
func (a *Authorizer) Token(text, proof string, binding coord.Digest) (*Grant, error) {
	t, err := ParseToken(text)
	if err != nil {
		return nil, err
	}
	nowMs := a.now()
	g, err := a.Rules().Verify(t, nowMs/1000)
	if err != nil {
		return nil, err
	}
	if proof == "" {
		if g.NeedsProof() {
			return nil, ErrHolder
		}
		return g, nil
	}
	p, err := ParseProof(proof)
	if err != nil {
		return nil, err
	}
	return g, g.CheckProof(p, a.me, binding, nowMs, &a.seen)
}

// Decide says whether who asks may do an action on a resource, and records nothing.
func (a *Authorizer) Decide(c *Credentials, action Action, res Resource) Verdict {
	r := a.rules.Load()
	if c.Grant == nil {
		return r.Decide(c.Who(), action, res)
	}
	if err := r.Still(c.Grant, a.now()/1000); err != nil {
		return Verdict{Principal: c.Grant.principal, Action: action, Resource: res, Policy: c.Grant.policy, Note: err.Error()}
	}
	return r.DecideToken(c.Grant, action, res)
}

// Authorize is Decide as an error, nil or a *Denial; a refusal is recorded.
func (a *Authorizer) Authorize(ctx context.Context, c *Credentials, action Action, res Resource) error {
	v := a.Decide(c, action, res)
	if v.Allowed {
		return nil
	}
	if a.audit != nil {
		r := audit.Record{
			Principal: v.Principal, Action: action.String(), Resource: res.String(), Outcome: audit.Denied, Policy: v.Policy, Reason: v.Reason(),
			Source: c.Source, Request: c.Request,
		}
		r.Clip()
		// A refusal is a refusal, recorded or not: the log says for itself what it lost.
		_ = a.audit(ctx, r)
	}
	return v.Err()
}
