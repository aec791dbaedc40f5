package operators

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"slices"

	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/crowd"
	"github.com/holdfast-edge/holdfast/firmware/passkey"
)

// Passkeys judges what authenticators sign; nil: this box takes no passkeys.
func (d *Desk) Passkeys() *passkey.Party { return d.cfg.Passkeys }

// LoginPasskey lets the operator in whose passkey signed body, at a page of origin. The session has not the operator's key, so it decides
// nothing until Unlock. Failures count for the source; what others fail at the operator's name does not stand in the way.
// Errors: ErrNoPasskeys, ErrWait, passkey's.
func (d *Desk) LoginPasskey(ctx context.Context, body []byte, origin string, t Try) (*Entry, error) {
	if d.cfg.Passkeys == nil {
		return nil, ErrNoPasskeys
	}
	a := attempt{source: crowd.Source(t.Source)}
	r := audit.Record{Action: "auth.passkey", Outcome: audit.Denied, Source: t.Source}
	refuse := func(err error) (*Entry, error) {
		r.Reason = err.Error()
		r.Clip()
		d.record(ctx, r)
		return nil, err
	}
	if err := d.throttle.begin(a, d.cfg.Now()); err != nil {
		return refuse(err)
	}
	answer, err := d.cfg.Passkeys.Read(body)
	if err != nil {
		return refuse(err)
	}
	o, key := d.withPasskey(answer.Credential())
	if o == nil {
		return refuse(passkey.ErrUnknown)
	}
	r.Principal, r.Resource = o.Principal(), o.Name
	if err = d.cfg.Passkeys.Judge(answer, origin, o.Name, key); err == nil && o.Disabled {
		err = ErrWrong
	}
	if err != nil {
		return refuse(err)
	}
	d.throttle.forgive(a, d.cfg.Now())
	r.Outcome, r.Reason = audit.Allowed, key.Name
	r.Clip()
	if err := d.cfg.Record(ctx, r); err != nil {
		return nil, fmt.Errorf("operators: the login could not be recorded: %w", err)
	}
	s, token := d.sessions.begin(o, nil, key.ID, t.Source, t.Agent, d.cfg.Now())
	return &Entry{Session: s, Token: token, Device: d.newDevice(o.Name), MustChange: o.MustChange}, nil
}

// withPasskey finds who has a passkey for the domain of this box.
func (d *Desk) withPasskey(id []byte) (*Document, *passkey.Credential) {
	for _, o := range d.List() {
		if key := o.passkey(id); key != nil && key.Domain == d.cfg.Passkeys.Domain() {
			return o, key
		}
	}
	return nil, nil
}

// Unlock gives a session that began with a passkey the operator's key, which the password opens. Errors: ErrWrong, ErrWait, ErrBusy.
func (d *Desk) Unlock(ctx context.Context, s *Session, password string, t Try) error {
	_, err := d.check(ctx, "auth.unlock", s.Operator, password, t, func(o *Document, key *ecdsa.PrivateKey) (*Session, string) {
		if s.of(o) {
			s.unlock(key)
		}
		return s, ""
	})
	return err
}

// NewPasskey is what the browser of a session is asked to make (passkey.Party.Creation). Errors: ErrNoPasskeys, ErrUnknown, passkey.ErrRefused.
func (d *Desk) NewPasskey(s *Session) (any, error) {
	o, _, ok := d.Get(s.Operator)
	switch {
	case d.cfg.Passkeys == nil:
		return nil, ErrNoPasskeys
	case !ok:
		return nil, ErrUnknown
	case len(o.Passkeys) >= passkeysMax:
		return nil, fmt.Errorf("%w: an operator has %d at most; remove one first", passkey.ErrRefused, passkeysMax)
	}
	return d.cfg.Passkeys.Creation(o.Name, s.ID, o.Passkeys), nil
}

// AddPasskey decides that the session's operator has the passkey that the browser made at a page of origin. Errors: ErrNoPasskeys, ErrUnknown, ErrLocked,
// passkey's, or Decide's.
func (d *Desk) AddPasskey(ctx context.Context, s *Session, body []byte, origin, name string, by By) (*passkey.Credential, error) {
	if _, err := d.NewPasskey(s); err != nil {
		return nil, err
	}
	if s.Locked() { // before the authenticator's answer is used up
		return nil, ErrLocked
	}
	key, err := d.cfg.Passkeys.Register(body, origin, s.ID, name)
	if err != nil {
		return nil, err
	}
	if other, _ := d.withPasskey(key.ID); other != nil {
		return nil, fmt.Errorf("%w: it is registered already", passkey.ErrRefused)
	}
	o, version, ok := d.Get(s.Operator)
	if !ok {
		return nil, ErrUnknown
	}
	next := *o
	next.Passkeys = append(slices.Clone(o.Passkeys), *key)
	return key, d.decide(ctx, "operator.passkey", &next, version, by)
}

// RemovePasskey decides that an operator has a passkey no more; sessions that began with it end. Errors: ErrUnknown, ErrPasskey, or Decide's.
func (d *Desk) RemovePasskey(ctx context.Context, name string, id []byte, by By) error {
	o, version, ok := d.Get(name)
	switch {
	case !ok:
		return ErrUnknown
	case o.passkey(id) == nil:
		return ErrPasskey
	}
	next := *o
	next.Passkeys = slices.DeleteFunc(slices.Clone(o.Passkeys), func(k passkey.Credential) bool { return slices.Equal(k.ID, id) })
	return d.decide(ctx, "operator.passkey", &next, version, by)
}
