package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/passkey"
)

// formBytesMax bounds what a form or a JSON body of an action has.
const formBytesMax = 64 << 10

// Params are the fields of a form, or of a flat JSON object of texts; and the path's.
type Params map[string]string

// Act is something that changes the box or its site, as a POST: from a form of a page, and as JSON under /api/v1.
type Act struct {
	// Path is where forms are posted; programs post the same fields as JSON to /api/v1 and Path. A path's {name} is a Param.
	Path string
	// Action is what the policies call it, and Resource on what it is.
	Action   string
	Resource func(p Params) string
	// Run does it. What it gives back is the JSON answer.
	Run func(ctx context.Context, by *Caller, p Params) (any, error)
	// Back is the page that a browser sees afterwards.
	Back string
	// ActionOf, if not nil, is what the policies call it this time.
	ActionOf func(p Params) string
	// Own says that it is about the caller's own account: whoever is logged in may do it, also one who must choose a password.
	Own bool
	// Self, if not nil, says whether it is about the caller's own account this time, which needs no policy.
	Self func(x *Caller, p Params) bool
	// Signed says that it speaks for the site, so that a session needs its operator's key: one that began with a passkey has none until the
	// password is given. What asks for a decision signs it, and needs no Signed.
	Signed bool
}

// ErrBad, wrapped, says that an action was asked for wrongly; ErrLater that it waits for others and is no failure.
var (
	ErrBad   = errors.New("cannot be done so")
	ErrLater = errors.New("it waits for the word of other boxes")
)

// errCSRF says that a form did not bring its session's secret.
var errCSRF = fmt.Errorf("%w: the form is not from your session; open the page again and repeat it", ErrBad)

// act serves an Act.
func (c *Console) act(a *Act) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := c.params(w, r)
		if err != nil {
			c.sorry(w, r, http.StatusBadRequest, err)
			return
		}
		for _, name := range pathNames(a.Path) {
			p[name] = r.PathValue(name)
		}
		resource := ""
		if a.Resource != nil {
			resource = a.Resource(p)
		}
		action := a.Action
		if a.ActionOf != nil {
			action = a.ActionOf(p)
		}
		x, err := c.caller(r, action, resource)
		if err == nil && x.Session != nil && !x.Session.CheckCSRF(first(r.Header.Get("X-CSRF-Token"), p["csrf"])) {
			err = errCSRF
			c.record(r.Context(), x, action, resource, audit.Denied, "", err.Error())
			c.sorry(w, r, http.StatusForbidden, err)
			return
		}
		if err == nil && a.Own && x.Session == nil {
			err = errLogin
		}
		back := localPath(first(p["back"], a.Back))
		switch {
		case err != nil || a.Own:
		case a.Self != nil && !x.mustChange && a.Self(x, p):
		default:
			err = c.may(r.Context(), x, action, resource)
		}
		if err == nil && a.Signed && x.Session != nil && x.Session.Locked() {
			err = operators.ErrLocked
			c.record(r.Context(), x, action, resource, audit.Denied, "", err.Error())
			if !askPassword(w, r, back, err) {
				c.sorry(w, r, codeOf(err), err)
			}
			return
		}
		if err != nil {
			c.turnAway(w, r, x, err)
			return
		}
		x.By, x.origin = c.by(x), c.origin(r)
		answer, err := a.Run(r.Context(), x, p)
		if err != nil && !errors.Is(err, ErrLater) {
			c.record(r.Context(), x, action, resource, audit.Failed, "", err.Error())
			if !askPassword(w, r, back, err) && !c.comeBack(w, r, back, &returned{path: r.URL.Path, typed: p, code: codeOf(err), err: err}) {
				c.sorry(w, r, codeOf(err), err)
			}
			return
		}
		reason := ""
		if err != nil {
			reason = err.Error()
		}
		if d, ok := answer.(Audited); ok {
			on, what := d.Audited()
			resource, reason = first(on, resource), strings.TrimSpace(reason+" "+what)
		}
		c.record(r.Context(), x, action, resource, audit.Allowed, "", reason)
		text, code := note(answer), http.StatusOK
		if err != nil {
			text, code = strings.TrimPrefix(text+". "+err.Error(), ". "), http.StatusAccepted
		}
		switch {
		case isAPI(r) && err != nil:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusAccepted)
			_ = json.NewEncoder(w).Encode(map[string]any{"waits": err.Error(), "answer": answer})
		case isAPI(r):
			writeJSON(w, answer)
		case text != "":
			if !c.comeBack(w, r, back, &returned{code: code, note: text}) {
				f := c.frame("Done", nil, x)
				f.Note = text
				c.answer(w, r, code, "message", f)
			}
		default:
			http.Redirect(w, r, back, http.StatusSeeOther)
		}
	}
}

// Audited is an answer whose record says more than what was asked for: on what it was done, empty for what the Act says, and how.
type Audited interface {
	Audited() (resource, reason string)
}

// note is what an answer has a page say, such as a secret that is shown once.
func note(answer any) string {
	if n, ok := answer.(interface{ Note() string }); ok {
		return n.Note()
	}
	return ""
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

func codeOf(err error) int {
	switch {
	case errors.Is(err, operators.ErrUnknown), errors.Is(err, operators.ErrNoSession), errors.Is(err, operators.ErrPasskey), errors.Is(err, operators.ErrNoPasskeys):
		return http.StatusNotFound
	case errors.Is(err, ErrBad), errors.Is(err, operators.ErrName), errors.Is(err, operators.ErrPassword), errors.Is(err, passkey.ErrHost):
		return http.StatusBadRequest
	case errors.Is(err, operators.ErrWrong), errors.Is(err, operators.ErrCode), errors.Is(err, operators.ErrLocked),
		errors.Is(err, passkey.ErrRefused), errors.Is(err, passkey.ErrUnknown), errors.Is(err, passkey.ErrCopied):
		return http.StatusForbidden
	case errors.Is(err, errOrder):
		return http.StatusServiceUnavailable
	case errors.Is(err, operators.ErrDone), errors.Is(err, errConflict):
		return http.StatusConflict
	case errors.Is(err, operators.ErrWait):
		return http.StatusTooManyRequests
	case errors.Is(err, operators.ErrBusy), errors.Is(err, site.ErrBusy), errors.Is(err, passkey.ErrBusy):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// params reads the body of a POST. A program's is held to openapi.json.
func (c *Console) params(w http.ResponseWriter, r *http.Request) (Params, error) {
	p, err := readParams(w, r)
	if err == nil {
		err = c.checkBody(r, p)
	}
	return p, err
}

func readParams(w http.ResponseWriter, r *http.Request) (Params, error) {
	r.Body = http.MaxBytesReader(w, r.Body, formBytesMax)
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.ContentLength == 0:
		return Params{}, nil
	case err == nil && kind == "application/json":
		p := Params{}
		d := json.NewDecoder(r.Body)
		err := d.Decode(&p)
		if _, more := d.Token(); err == nil && !errors.Is(more, io.EOF) {
			err = errors.New("something follows it")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: the body is not a flat JSON object of texts: %w", ErrBad, err)
		}
		if p == nil {
			p = Params{}
		}
		return p, nil
	case err == nil && kind == "application/x-www-form-urlencoded":
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBad, err)
		}
		values, err := url.ParseQuery(string(b))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBad, err)
		}
		p := Params{}
		for k := range values {
			p[k] = values.Get(k)
		}
		return p, nil
	}
	return nil, fmt.Errorf("%w: send application/json or a form", ErrBad)
}

// pathNames are the names in a pattern's braces.
func pathNames(path string) (names []string) {
	for i := 0; i < len(path); i++ {
		if path[i] != '{' {
			continue
		}
		j := i
		for path[j] != '}' {
			j++
		}
		names = append(names, path[i+1:j])
		i = j
	}
	return names
}

// operatorActs are what is done with operators and their sessions.
func (c *Console) operatorActs() []*Act {
	desk := c.cfg.Desk
	who := func(p Params) string { return operators.PrincipalPrefix + p["name"] }
	try := func(x *Caller) operators.Try { return operators.Try{Source: x.Source, Local: x.Local} }
	done := map[string]string{"result": "done"}
	return []*Act{
		{Path: "/operators/add", Action: "operator.add", Resource: who, Back: "/operators", Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
			return done, desk.Add(ctx, p["name"], p["password"], first(p["role"], access.RoleViewer), try(x), x.By)
		}},
		{Path: "/operators/{name}/reset", Action: "operator.reset", Resource: who, Back: "/operators", Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
			return done, desk.Reset(ctx, p["name"], p["password"], try(x), x.By)
		}},
		{Path: "/operators/{name}/disable", Action: "operator.disable", Resource: who, Back: "/operators", Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
			return done, desk.Disable(ctx, p["name"], true, x.By)
		}},
		{Path: "/operators/{name}/enable", Action: "operator.enable", Resource: who, Back: "/operators", Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
			return done, desk.Disable(ctx, p["name"], false, x.By)
		}},
		{Path: "/sessions/{id}/end", Action: "session.end", Back: "/operators", Resource: func(p Params) string { return "session:" + p["id"] }, Run: func(_ context.Context, _ *Caller, p Params) (any, error) {
			return done, desk.End(p["id"])
		}},
		{Path: "/sessions/end-others", Action: "session.end", Own: true, Back: "/operators", Run: func(_ context.Context, x *Caller, _ Params) (any, error) {
			desk.EndOthers(x.Session)
			return done, nil
		}},
	}
}
