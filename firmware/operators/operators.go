package operators

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/crowd"
	"github.com/holdfast-edge/holdfast/firmware/passkey"
	"github.com/holdfast-edge/holdfast/firmware/setupcode"
)

// Documents are those of the site's state; *state.Machine has them.
type Documents interface {
	Doc(key string) (coord.Doc, bool)
	Docs(prefix string) []coord.Doc
}

// By is who asks for a decision.
type By struct {
	Principal string
	// Sign adds what convinces other boxes; nil: nothing does, and operators on them must be asked.
	Sign func(d *coord.Decision) error
	// Check, where Sign is nil, says whether who asks may, of whom this box alone knows; nil: who stands at the box.
	Check func(d *coord.Decision) error
}

// Config of a Desk; all but Code, Passkeys and Params are required.
type Config struct {
	// Documents may have some of version 0: those of the operator whom the site was founded with, which are not in its state yet. They
	// are written with the first decision about operators.
	Documents Documents
	// Decide has the site decide d, and returns when it took effect or did not.
	Decide func(ctx context.Context, d *coord.Decision, by By) error
	// First is who asks for a site's first operator: the box, whose setup code was given.
	First func() By
	// Signer gives what signs as the operator of a session.
	Signer func(s *Session) By
	// Code gives the setup code; nil: there is no setup at this box.
	Code func() (string, error)
	// Record writes the audit log.
	Record func(ctx context.Context, r audit.Record) error
	// Passkeys judges what authenticators sign; nil: this box takes none.
	Passkeys *passkey.Party
	// Params are those of new passwords; zero: ParamsDefault.
	Params Params
	Logger *slog.Logger
	Now    func() time.Time
}

// Desk is where operators log in at one box.
type Desk struct {
	cfg      Config
	hash     *hasher
	throttle *throttle
	sessions sessions
	device   []byte   // makes device cookies; a restart forgets them, and the failures
	nobody   Document // whose password is tried for names that do not exist
}

// NewDesk makes a Desk. Error: ErrConfig.
func NewDesk(cfg Config) (*Desk, error) {
	if cfg.Documents == nil || cfg.Decide == nil || cfg.First == nil || cfg.Signer == nil || cfg.Record == nil || cfg.Logger == nil || cfg.Now == nil {
		return nil, fmt.Errorf("%w: Documents, Decide, First, Signer, Record, Logger and Now are required", ErrConfig)
	}
	if cfg.Params == (Params{}) {
		cfg.Params = ParamsDefault()
	}
	d := &Desk{
		cfg: cfg, hash: newHasher(), throttle: newThrottle(), device: make([]byte, keyBytes),
		nobody: Document{Sealed: Sealed{Params: cfg.Params, Salt: newSalt()}},
	}
	d.sessions.list = map[[sha256.Size]byte]*Session{}
	_, _ = rand.Read(d.device)
	return d, nil
}

// Try is who wants to be let in.
type Try struct {
	// Source is host:port of the peer; Local says that it is the box's own socket, which nothing slows down.
	Source string
	Local  bool
	// Device is what the browser's device cookie says, if any.
	Device string
	// Agent is what the browser calls itself.
	Agent string
}

// Entry is an open session and what its browser keeps.
type Entry struct {
	Session *Session
	// Token opens the session, Device tells the browser from strangers at the next login.
	Token, Device string
	// MustChange: the password was chosen by somebody else, and nothing but changing it is allowed.
	MustChange bool
}

// Get is an operator's document, if there is one. Its fields are not to be changed.
func (d *Desk) Get(name string) (*Document, uint64, bool) {
	doc, ok := d.cfg.Documents.Doc(DocPrefix + name)
	if !ok {
		return nil, 0, false
	}
	o, err := Decode(doc.Value)
	if err != nil || o.Name != name {
		d.cfg.Logger.Warn("an operator's document cannot be used", "key", doc.Key, "err", err)
		return nil, doc.Version, false
	}
	return o, doc.Version, true
}

// List is all operators, by name.
func (d *Desk) List() []*Document {
	var out []*Document
	for _, doc := range d.cfg.Documents.Docs(DocPrefix) {
		if o, err := Decode(doc.Value); err == nil {
			out = append(out, o)
		}
	}
	return out
}

// Fresh says that the site has no operator.
func (d *Desk) Fresh() bool { return len(d.cfg.Documents.Docs(DocPrefix)) == 0 }

// Login lets an operator in. Errors: ErrWrong, ErrWait, ErrBusy, ctx's.
func (d *Desk) Login(ctx context.Context, name, password string, t Try) (*Entry, error) {
	o, err := d.check(ctx, "auth.login", name, password, t, func(o *Document, key *ecdsa.PrivateKey) (*Session, string) {
		return d.sessions.begin(o, key, nil, t.Source, t.Agent, d.cfg.Now())
	})
	return o, err
}

// firstPassword is an ErrWrong: what somebody else chose is good for choosing another, and nothing else.
type firstPassword struct{}

func (firstPassword) Error() string {
	return "this is a first password: log in on the console with it and choose your own"
}

func (firstPassword) Is(target error) bool { return target == ErrWrong }

// Vouch is Login for a program that needs no session: fn gets the operator and the key, which it must not keep. Errors: Login's, or fn's;
// one that is ErrWrong too, and says so, for an operator who must choose a password first.
func (d *Desk) Vouch(ctx context.Context, name, password string, t Try, fn func(o *Document, key *ecdsa.PrivateKey) error) error {
	var err error
	_, failed := d.check(ctx, "auth.login", name, password, t, func(o *Document, key *ecdsa.PrivateKey) (*Session, string) {
		if err = (firstPassword{}); !o.MustChange {
			err = fn(o, key)
		}
		return nil, ""
	})
	return errors.Join(failed, err)
}

// check tries a password; open makes what a right one opens.
func (d *Desk) check(ctx context.Context, action, name, password string, t Try, open func(*Document, *ecdsa.PrivateKey) (*Session, string)) (*Entry, error) {
	o, _, found := d.Get(name)
	a := attempt{source: crowd.Source(t.Source), device: d.deviceOf(t.Device, name)}
	if !found {
		sum := sha256.Sum256([]byte(name))
		o, a.strange = &d.nobody, string(sum[:])
	} else {
		a.known = name
	}
	// A name that nobody has is not written down: people type their password there.
	principal, resource := "", ""
	if found {
		principal, resource = o.Principal(), name
	}
	refuse := func(err error) error {
		d.record(ctx, audit.Record{Principal: principal, Action: action, Outcome: audit.Denied, Resource: resource, Reason: err.Error(), Source: t.Source})
		return err
	}
	if !t.Local {
		if err := d.throttle.begin(a, d.cfg.Now()); err != nil {
			return nil, refuse(err)
		}
	}
	forgive := func() {
		if !t.Local {
			d.throttle.forgive(a, d.cfg.Now())
		}
	}
	if len(password) > passwordBytesMax {
		return nil, refuse(ErrWrong)
	}
	secret, err := d.hash.do(ctx, a.source+"\x00"+a.device, t.Local || a.device != "", password, o.Sealed.Salt, o.Sealed.Params)
	if err != nil { // nothing was tried
		forgive()
		return nil, err
	}
	defer clear(secret)
	key, err := o.unseal(secret)
	if err == nil && (!found || o.Disabled) {
		err = ErrWrong
	}
	if err != nil {
		return nil, refuse(err)
	}
	forgive()
	if err := d.cfg.Record(ctx, audit.Record{Principal: principal, Action: action, Outcome: audit.Allowed, Source: t.Source}); err != nil {
		return nil, fmt.Errorf("operators: the login could not be recorded: %w", err)
	}
	s, token := open(o, key)
	return &Entry{Session: s, Token: token, Device: d.newDevice(name), MustChange: o.MustChange}, nil
}

func (d *Desk) record(ctx context.Context, r audit.Record) {
	if err := d.cfg.Record(context.WithoutCancel(ctx), r); err != nil {
		d.cfg.Logger.Error("an action was not recorded", "action", r.Action, "err", err)
	}
}

// Setup makes the site's first operator, for whoever has the box's setup code. Errors: ErrDone, ErrCode, ErrName, ErrPassword, ErrWait,
// ErrBusy, or Decide's.
func (d *Desk) Setup(ctx context.Context, code, name, password string, t Try) (*Entry, error) {
	if err := d.checkCode(ctx, code, t); err != nil {
		return nil, err
	}
	if err := d.add(ctx, name, password, roleFirst, false, t, d.cfg.First()); err != nil {
		return nil, err
	}
	return d.Login(ctx, name, password, t)
}

// Offer makes the box's setup code where there is none, for whoever is about to read it: its file is there once the page says where it is.
func (d *Desk) Offer() error {
	if d.cfg.Code == nil || !d.Fresh() {
		return ErrDone
	}
	_, err := d.cfg.Code()
	return err
}

// checkCode says whether somebody has the setup code of a box that needs it.
func (d *Desk) checkCode(ctx context.Context, code string, t Try) error {
	if d.cfg.Code == nil || !d.Fresh() {
		return ErrDone
	}
	a := attempt{source: crowd.Source(t.Source)}
	if !t.Local {
		if err := d.throttle.begin(a, d.cfg.Now()); err != nil {
			return err
		}
	}
	want, err := d.cfg.Code()
	if err != nil {
		return err
	}
	if !setupcode.Same(want, code) {
		d.record(ctx, audit.Record{Action: "auth.setup", Outcome: audit.Denied, Reason: ErrCode.Error(), Source: t.Source})
		return ErrCode
	}
	if !t.Local {
		d.throttle.forgive(a, d.cfg.Now())
	}
	return nil
}

// grantPrefix begins the document that says which roles an operator has; coord/access reads it.
const grantPrefix = "grant/" + PrincipalPrefix

// roleFirst is the role of a site's first operator: somebody must be able to give the others theirs.
const roleFirst = "admin"

// Add decides on a new operator with a role, whose first password somebody else has chosen. Errors: ErrName, ErrPassword, ErrBusy, or Decide's.
func (d *Desk) Add(ctx context.Context, name, password, role string, t Try, by By) error {
	return d.add(ctx, name, password, role, true, t, by)
}

func (d *Desk) add(ctx context.Context, name, password, role string, mustChange bool, t Try, by By) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if _, _, taken := d.Get(name); taken {
		return fmt.Errorf("%w: there is a %s already", ErrName, name)
	}
	o, key, err := newDocument(name, d.cfg.Now().Unix())
	if err != nil {
		return err
	}
	o.MustChange = mustChange
	grant, err := json.Marshal(map[string][]string{"roles": {role}})
	if err != nil {
		return err
	}
	old, _ := d.cfg.Documents.Doc(grantPrefix + name)
	return d.sealAndDecide(ctx, "operator.add", o, key, 0, password, t, by, coord.DocWrite{Key: grantPrefix + name, Was: old.Version, Value: grant})
}

// Change gives the session's operator another password; all other sessions of the operator end. Errors: ErrWrong, ErrPassword, ErrWait,
// ErrBusy, ErrNoSession, or Decide's.
func (d *Desk) Change(ctx context.Context, s *Session, old, password string, t Try) error {
	if old == password {
		return fmt.Errorf("%w: it is the old one", ErrPassword)
	}
	if err := CheckPassword(s.Operator, password); err != nil {
		return err
	}
	var key *ecdsa.PrivateKey
	_, err := d.check(ctx, "auth.password", s.Operator, old, t, func(_ *Document, k *ecdsa.PrivateKey) (*Session, string) {
		key = k
		s.unlock(k)
		return s, ""
	})
	if err != nil {
		return err
	}
	o, version, ok := d.Get(s.Operator)
	if !ok {
		return ErrUnknown
	}
	next := *o
	next.MustChange = false
	if err := d.sealAndDecide(ctx, "operator.password", &next, key, version, password, t, d.cfg.Signer(s)); err != nil {
		return err
	}
	s.relock(&next)
	d.EndOthers(s)
	return nil
}

// Reset gives an operator a new key under a new password, for one who forgot the old: what the old key signed counts no more.
// Errors: ErrUnknown, ErrPassword, ErrBusy, or Decide's.
func (d *Desk) Reset(ctx context.Context, name, password string, t Try, by By) error {
	old, version, ok := d.Get(name)
	if !ok {
		return ErrUnknown
	}
	o, key, err := newDocument(name, old.Created)
	if err != nil {
		return err
	}
	o.MustChange, o.Disabled = true, old.Disabled
	return d.sealAndDecide(ctx, "operator.reset", o, key, version, password, t, by)
}

// Disable decides that an operator cannot log in any more, or can again. Errors: ErrUnknown, or Decide's.
func (d *Desk) Disable(ctx context.Context, name string, disabled bool, by By) error {
	o, version, ok := d.Get(name)
	if !ok {
		return ErrUnknown
	}
	next := *o
	next.Disabled = disabled
	kind := "operator.enable"
	if disabled {
		kind = "operator.disable"
	}
	return d.decide(ctx, kind, &next, version, by)
}

func (d *Desk) sealAndDecide(ctx context.Context, kind string, o *Document, key *ecdsa.PrivateKey, was uint64, password string, t Try, by By, more ...coord.DocWrite) error {
	if err := CheckPassword(o.Name, password); err != nil {
		return err
	}
	p, salt := d.cfg.Params, newSalt()
	secret, err := d.hash.do(ctx, crowd.Source(t.Source)+"\x00"+kind, true, password, salt, p)
	if err != nil {
		return err
	}
	defer clear(secret)
	if err := o.seal(key, secret, salt, p); err != nil {
		return err
	}
	return d.decide(ctx, kind, o, was, by, more...)
}

func (d *Desk) decide(ctx context.Context, kind string, o *Document, was uint64, by By, more ...coord.DocWrite) error {
	value, err := o.Encode()
	if err != nil {
		return err
	}
	x := &coord.Decision{
		Kind: kind, Subject: o.Principal(), Principal: by.Principal,
		Writes: append([]coord.DocWrite{{Key: DocPrefix + o.Name, Was: was, Value: value}}, more...),
	}
	for _, prefix := range []string{DocPrefix, grantPrefix} { // of the founding operator
		for _, doc := range d.cfg.Documents.Docs(prefix) {
			if doc.Version == 0 && !slices.ContainsFunc(x.Writes, func(w coord.DocWrite) bool { return w.Key == doc.Key }) {
				x.Writes = append(x.Writes, coord.DocWrite{Key: doc.Key, Value: doc.Value})
			}
		}
	}
	return d.cfg.Decide(ctx, x, by)
}

// Session finds the session of a token. It ends with the operator, and with a password that was changed elsewhere. Error: ErrNoSession.
func (d *Desk) Session(token string) (*Session, *Document, error) {
	s := d.sessions.get(token, d.cfg.Now())
	if s == nil {
		return nil, nil, ErrNoSession
	}
	o, _, ok := d.Get(s.Operator)
	if !ok || !s.of(o) {
		d.sessions.endWhere(func(x *Session) bool { return x == s })
		return nil, nil, ErrNoSession
	}
	return s, o, nil
}

// Logout ends a session.
func (d *Desk) Logout(ctx context.Context, s *Session) {
	d.sessions.endWhere(func(x *Session) bool { return x == s })
	d.record(ctx, audit.Record{Principal: s.Principal(), Action: "auth.logout", Outcome: audit.Allowed, Source: s.Source})
}

// Sessions lists all open ones, newest first.
func (d *Desk) Sessions() []*Session { return d.sessions.all(d.cfg.Now()) }

// Alive says whether a session is still open, without counting as its use.
func (d *Desk) Alive(s *Session) bool {
	o, _, ok := d.Get(s.Operator)
	d.sessions.mu.Lock()
	defer d.sessions.mu.Unlock()
	return ok && s.of(o) && d.sessions.list[s.token] == s && !s.over(d.cfg.Now())
}

// EndOthers ends all other sessions of the operator of s.
func (d *Desk) EndOthers(s *Session) {
	d.sessions.endWhere(func(x *Session) bool { return x.Operator == s.Operator && x != s })
}

// End ends the session with this ID. Error: ErrNoSession.
func (d *Desk) End(id string) error {
	if d.sessions.endWhere(func(x *Session) bool { return x.ID == id }) == 0 {
		return ErrNoSession
	}
	return nil
}

// newDevice is a cookie that tells a browser from strangers: it opens nothing. An HMAC over the name and a random number.
func (d *Desk) newDevice(name string) string {
	id := random(saltBytes)
	return id + "." + d.deviceSum(name, id)
}

func (d *Desk) deviceSum(name, id string) string {
	m := hmac.New(sha256.New, d.device)
	m.Write([]byte(name + "\x00" + id))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// deviceOf is the device that a cookie names, or nothing.
func (d *Desk) deviceOf(cookie, name string) string {
	id, sum, ok := strings.Cut(cookie, ".")
	if !ok || !hmac.Equal([]byte(sum), []byte(d.deviceSum(name, id))) {
		return ""
	}
	return id
}
