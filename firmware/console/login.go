package console

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/passkey"
)

// sorry says what went wrong: as JSON to programs, on a page to people.
func (c *Console) sorry(w http.ResponseWriter, r *http.Request, code int, err error) {
	var wait *operators.Wait
	if errors.As(err, &wait) {
		w.Header().Set("Retry-After", fmt.Sprint(int(wait.For/time.Second)+1))
	}
	if isAPI(r) {
		apiError(w, code, err.Error())
		return
	}
	x, _ := c.caller(r, actionView, "") // nobody is shown as nobody
	f := c.frame(titleOf(code), nil, x)
	f.Error = err.Error()
	if errors.Is(err, ErrLater) {
		f.Title, f.Error, f.Note = "Waiting", "", err.Error()
	}
	c.answer(w, r, code, "message", f)
}

// titleOf says in two words what a status means.
func titleOf(code int) string {
	switch code {
	case http.StatusForbidden:
		return "Not allowed"
	case http.StatusNotFound:
		return "Not found"
	case http.StatusUnauthorized:
		return "Log in first"
	}
	return "Not done"
}

func (c *Console) loginPage(w http.ResponseWriter, r *http.Request) {
	x, _ := c.caller(r, actionView, "")
	if c.cfg.Desk.Fresh() {
		http.Redirect(w, r, "/setup", http.StatusSeeOther)
		return
	}
	f := c.frame("Log in", nil, x)
	f.Next, f.Passkeys = localPath(r.URL.Query().Get("next")), c.passkeysHere(r) == nil
	c.answer(w, r, http.StatusOK, "login", f)
}

// login opens a session: for a form by a cookie, for a program by the token in the answer.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	p, err := c.params(w, r)
	if err != nil {
		c.sorry(w, r, http.StatusBadRequest, err)
		return
	}
	x := &Caller{Source: r.RemoteAddr, Local: local(r.Context())}
	e, err := c.cfg.Desk.Login(r.Context(), p["name"], p["password"], x.try(r, c.cookieValue(r, deviceCookie)))
	if err != nil {
		if isAPI(r) {
			c.sorry(w, r, loginCode(err), err)
			return
		}
		f := c.frame("Log in", nil, nil)
		f.Error, f.Name, f.Next, f.Passkeys = err.Error(), p["name"], localPath(p["next"]), c.passkeysHere(r) == nil
		c.answer(w, r, loginCode(err), "login", f)
		return
	}
	c.welcome(w, r, e, localPath(p["next"]))
}

// loginCode: a wrong password or passkey is 401 to programs and people alike.
func loginCode(err error) int {
	if errors.Is(err, operators.ErrWrong) || errors.Is(err, passkey.ErrRefused) || errors.Is(err, passkey.ErrUnknown) || errors.Is(err, passkey.ErrCopied) {
		return http.StatusUnauthorized
	}
	return codeOf(err)
}

func (c *Console) welcome(w http.ResponseWriter, r *http.Request, e *operators.Entry, next string) {
	c.setCookie(w, sessionCookie, e.Token, 0)
	c.setCookie(w, deviceCookie, e.Device, deviceFor)
	switch {
	case isAPI(r):
		writeJSON(w, map[string]any{"operator": e.Session.Operator, "csrf": e.Session.CSRF(), "must_change": e.MustChange, "locked": e.Session.Locked()})
	case e.MustChange:
		http.Redirect(w, r, "/password", http.StatusSeeOther)
	default:
		http.Redirect(w, r, next, http.StatusSeeOther)
	}
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	p, err := c.params(w, r)
	if err != nil {
		c.sorry(w, r, http.StatusBadRequest, err)
		return
	}
	x, err := c.caller(r, actionView, "")
	if err == nil && x.Session != nil {
		if !x.Session.CheckCSRF(first(r.Header.Get("X-CSRF-Token"), p["csrf"])) {
			c.sorry(w, r, http.StatusForbidden, fmt.Errorf("%w: the form is not from your session; open the page again and repeat it", ErrBad))
			return
		}
		c.cfg.Desk.Logout(r.Context(), x.Session)
	}
	c.setCookie(w, sessionCookie, "", 0)
	if isAPI(r) {
		writeJSON(w, map[string]string{"result": "done"})
		return
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (c *Console) setupPage(w http.ResponseWriter, r *http.Request) {
	if !c.cfg.Desk.Fresh() {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	}
	f := c.frame("First operator", nil, nil)
	if err := c.cfg.Desk.Offer(); err != nil {
		f.Error = err.Error()
	}
	c.answer(w, r, http.StatusOK, "setup", f)
}

func (c *Console) setup(w http.ResponseWriter, r *http.Request) {
	p, err := c.params(w, r)
	if err != nil {
		c.sorry(w, r, http.StatusBadRequest, err)
		return
	}
	if again, given := p["again"]; given && again != p["password"] {
		err = fmt.Errorf("%w: the two passwords are not the same", operators.ErrPassword)
	}
	x := &Caller{Source: r.RemoteAddr, Local: local(r.Context())}
	var e *operators.Entry
	if err == nil {
		e, err = c.cfg.Desk.Setup(r.Context(), p["code"], p["name"], p["password"], x.try(r, ""))
	}
	if err == nil {
		c.welcome(w, r, e, "/")
		return
	}
	code := codeOf(err)
	if errors.Is(err, ErrLater) {
		code = http.StatusAccepted
	}
	if isAPI(r) {
		c.sorry(w, r, code, err)
		return
	}
	f := c.frame("First operator", nil, nil)
	f.Error, f.Name = err.Error(), p["name"]
	c.answer(w, r, code, "setup", f)
}

// own gives the caller of a page that is about the caller's own account.
func (c *Console) own(next func(w http.ResponseWriter, r *http.Request, x *Caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x, err := c.caller(r, actionView, "")
		if err == nil && x.Session == nil {
			err = errLogin
		}
		if err != nil {
			c.turnAway(w, r, x, err)
			return
		}
		next(w, r, x)
	}
}

func (c *Console) passwordPage(w http.ResponseWriter, r *http.Request, x *Caller) {
	f := c.frame("Password", nil, x)
	if x.mustChange {
		f.Note = "Somebody else chose your password. Choose one that only you know before you go on."
	}
	c.answer(w, r, http.StatusOK, "password", f)
}

// ofSession is the fields and the sender of a form about the sender's own session; false: it is none, which was answered.
func (c *Console) ofSession(w http.ResponseWriter, r *http.Request) (Params, *Caller, bool) {
	p, err := c.params(w, r)
	if err != nil {
		c.sorry(w, r, http.StatusBadRequest, err)
		return nil, nil, false
	}
	x, err := c.caller(r, actionView, "")
	if err == nil && x.Session == nil {
		err = errLogin
	}
	if err != nil {
		c.turnAway(w, r, x, err)
		return nil, nil, false
	}
	if !x.Session.CheckCSRF(first(r.Header.Get("X-CSRF-Token"), p["csrf"])) {
		c.sorry(w, r, http.StatusForbidden, errCSRF)
		return nil, nil, false
	}
	return p, x, true
}

func (c *Console) password(w http.ResponseWriter, r *http.Request) {
	p, x, ok := c.ofSession(w, r)
	if !ok {
		return
	}
	var err error
	if again, given := p["again"]; given && again != p["password"] {
		err = fmt.Errorf("%w: the two passwords are not the same", operators.ErrPassword)
	}
	if err == nil {
		err = c.cfg.Desk.Change(r.Context(), x.Session, p["old"], p["password"], x.try(r, c.cookieValue(r, deviceCookie)))
	}
	switch {
	case err == nil && isAPI(r):
		writeJSON(w, map[string]string{"result": "done"})
	case err == nil:
		http.Redirect(w, r, "/operators", http.StatusSeeOther)
	case isAPI(r):
		c.sorry(w, r, codeOf(err), err)
	default:
		f := c.frame("Password", nil, x)
		f.Error = err.Error()
		c.answer(w, r, codeOf(err), "password", f)
	}
}

const minute = "2006-01-02 15:04 MST"

// operatorsPage is what the page of operators shows.
type operatorsPage struct {
	Operators []operatorRow
	Sessions  []sessionRow
	// Passkeys are the viewer's own; Domain is what new ones would be for, empty where there are none, and Here that this page may make some.
	Passkeys []api.Passkey
	Domain   string
	Here     bool
}

type operatorRow struct {
	*operators.Document
	Made string
	Self bool
}

type sessionRow struct {
	ID, Operator, Source, Agent, Began, Last string
	Self                                     bool
}

func (c *Console) operatorsData(l *look) (any, error) {
	d := &operatorsPage{}
	for _, o := range c.cfg.Desk.List() {
		d.Operators = append(d.Operators, operatorRow{o, time.Unix(o.Created, 0).UTC().Format(minute), o.Name == l.Who})
	}
	if p := c.cfg.Desk.Passkeys(); p != nil {
		d.Domain, d.Here = p.Domain(), c.passkeysHere(l.request) == nil
	}
	if o, _, ok := c.cfg.Desk.Get(l.Who); ok {
		for i := range o.Passkeys {
			d.Passkeys = append(d.Passkeys, passkeyOf(&o.Passkeys[i]))
		}
	}
	for _, s := range c.cfg.Desk.Sessions() {
		d.Sessions = append(d.Sessions, sessionRow{
			s.ID, s.Operator, s.Source, s.Agent, s.Began.UTC().Format(minute), s.Last().UTC().Format(minute), l.caller.Session == s,
		})
	}
	return d, nil
}

// apiOperators lists the operators, without their sealed keys.
func (c *Console) apiOperators(w http.ResponseWriter, _ *http.Request) {
	out := api.Operators{Operators: []api.Operator{}}
	for _, d := range c.cfg.Desk.List() {
		out.Operators = append(out.Operators, api.Operator{
			Name: d.Name, Key: d.Key, Created: time.Unix(d.Created, 0).UTC(), Disabled: d.Disabled, MustChange: d.MustChange,
			Passkeys: make([]api.Passkey, 0, len(d.Passkeys)),
		})
		for i := range d.Passkeys {
			o := &out.Operators[len(out.Operators)-1]
			o.Passkeys = append(o.Passkeys, passkeyOf(&d.Passkeys[i]))
		}
	}
	writeJSON(w, out)
}
