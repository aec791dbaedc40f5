package console

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/operators"
)

// Caller is who a request is from.
type Caller struct {
	// Principal is the name for policies and the audit log: "operator:ann", "token:ID"; empty: nobody known.
	Principal string
	// Source is host:port of the peer; Local says that it came over the box's own socket, which only the box's user can open.
	Source string
	Local  bool
	// Session is that of an operator who is logged in, and signs what the operator decides; nil: none.
	Session *operators.Session
	// Token is the token that the request showed, if any. It was verified.
	Token string

	// By is who asks, in the decisions that come of it.
	By operators.By

	mustChange bool
	origin     string // of the page, as its browser has it
}

// try is how the operators' desk sees the caller.
func (c *Caller) try(r *http.Request, device string) operators.Try {
	return operators.Try{Source: c.Source, Local: c.Local, Device: device, Agent: r.UserAgent()}
}

// proofHeader has the proof of a token's holder.
const proofHeader = "Holdfast-Proof"

// By is the caller as one who asks for a decision.
func (c *Console) by(x *Caller) operators.By {
	if c.cfg.Access == nil || x.Local {
		return operators.By{Principal: x.Principal}
	}
	return c.cfg.Access.Signer(x.Principal, x.Token, x.Session)
}

// Access says who may do what; coord/access does.
type Access interface {
	// May judges an action of a principal on a resource, and names the policy that decided.
	May(principal, action, resource string) (ok bool, policy string)
	// Token verifies a token that a program shows as bearer, and the proof that it has the token's key if that does not travel with it, for
	// an action on a resource, and gives whose it is.
	Token(token, proof, action, resource string) (principal string, err error)
	// Still says whether a token that was verified is good yet, for an action on the site.
	Still(token, action string) bool
	// MayAsk says why a principal, or the holder of a token that was verified, may not ask for a decision; nil: may.
	MayAsk(principal, token string, d *coord.Decision) error
	// Signer gives what signs decisions as the holder of a token, or, without one, as the operator of a session.
	Signer(principal, token string, s *operators.Session) operators.By
}

// Actions of the console's own pages; those that change something have the kind of the decision that they ask for.
const (
	actionView = "console.view"
	// actionConfig is for how the box is set up.
	actionConfig = "config.read"
	// actionCrash is for what the program printed before it ended.
	actionCrash = "crash.read"
	actionGet   = "kv.get" // of the key that the path names: what programs keep is not for everybody who may look
)

const (
	sessionCookie = "holdfast-"
	deviceCookie  = "holdfast-device-"
	// deviceFor is how long a browser is known.
	deviceFor    = 180 * 24 * time.Hour
	bearer       = "Bearer "
	tokenTextMax = 8 << 10
)

// cookie is the name of a cookie of this box: the consoles of several boxes on one machine share a host name, and ports do not tell
// cookies apart (RFC 6265, 8.5).
func (c *Console) cookie(kind string) string {
	name := kind + c.cfg.Site.View().ID.String()
	if c.cfg.Secure {
		name = "__Host-" + name
	}
	return name
}

func (c *Console) setCookie(w http.ResponseWriter, kind, value string, life time.Duration) {
	k := &http.Cookie{Name: c.cookie(kind), Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: c.cfg.Secure}
	switch {
	case value == "":
		k.MaxAge = -1
	case life > 0:
		k.MaxAge = int(life / time.Second)
	}
	http.SetCookie(w, k)
}

func (c *Console) cookieValue(r *http.Request, kind string) string {
	k, err := r.Cookie(c.cookie(kind))
	if err != nil {
		return ""
	}
	return k.Value
}

// local says whether a request came over the box's socket.
func local(ctx context.Context) bool {
	a, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	return ok && a.Network() == "unix"
}

// caller finds out who a request is from, for an action on a resource. An error says that what it shows is not good, not that it shows nothing.
func (c *Console) caller(r *http.Request, action, resource string) (*Caller, error) {
	x := &Caller{Source: r.RemoteAddr}
	if local(r.Context()) {
		x.Local, x.Source, x.Principal = true, "the box's socket", access.Root
	}
	if text := r.Header.Get("Authorization"); text != "" {
		token, ok := strings.CutPrefix(text, bearer)
		switch {
		case !ok || len(token) > tokenTextMax:
			return nil, errors.New("the Authorization header has no bearer token")
		case c.cfg.Access == nil:
			return nil, errors.New("this box takes no tokens")
		}
		p, err := c.cfg.Access.Token(token, r.Header.Get(proofHeader), action, resource)
		if err != nil {
			return nil, err
		}
		x.Principal, x.Token, x.Local = p, token, false
		return x, nil
	}
	if x.Local {
		return x, nil
	}
	token := c.cookieValue(r, sessionCookie)
	if token == "" {
		return x, nil
	}
	s, doc, err := c.cfg.Desk.Session(token)
	if err != nil {
		return x, nil // as if it had none: the browser is asked to log in
	}
	x.Principal, x.Session, x.mustChange = s.Principal(), s, doc.MustChange
	return x, nil
}

// need is what a route asks of its caller.
type need uint8

const (
	anyone   need = iota // nothing
	viewing              // an action that only looks (console.view), unless the console is open
	scraping             // console.view, unless metrics are open
	boxOnly              // the box's own socket
	acting               // an action of its own
)

// let wraps a page or an answer that only shows.
func (c *Console) let(n need, action string, next http.HandlerFunc) http.HandlerFunc {
	switch {
	case n == anyone, n == viewing && c.open(action), n == scraping && c.cfg.MetricsOpen:
		return next
	case n == boxOnly:
		return socketOnly(next)
	}
	if action == "" {
		action = actionView
	}
	return func(w http.ResponseWriter, r *http.Request) {
		resource := resourceOf(action)
		if key := r.PathValue("key"); key != "" && action == actionGet {
			resource = keyResource([]byte(key))
		}
		x, err := c.caller(r, action, resource)
		if err == nil {
			err = c.may(r.Context(), x, action, resource)
		}
		if err != nil {
			c.turnAway(w, r, x, err)
			return
		}
		next(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, x)))
	}
}

// open says whether nobody needs to log in to look at what has this action. What people and programs did, how a box is set up, and what its
// program printed is not for everybody, ever.
func (c *Console) open(action string) bool {
	return c.cfg.ViewOpen && action != "audit.read" && action != "audit.heads" && action != actionConfig && action != actionCrash
}

// resourceOf is what a page or an answer that shows keys, and names none, shows: all of them.
func resourceOf(action string) string {
	if action == actionGet {
		return "prefix:"
	}
	return ""
}

// sees says whether who was let in may see a further part of an answer; nothing is recorded.
func (c *Console) sees(r *http.Request, action string) bool {
	x, ok := r.Context().Value(callerKey{}).(*Caller)
	if !ok { // nobody was asked for
		return c.open(action)
	}
	return c.maySee(x, action)
}

// maySee says whether x may see what has an action of its own; nothing is recorded.
func (c *Console) maySee(x *Caller, action string) bool {
	switch {
	case c.open(action) || x.Local:
		return true
	case x.Principal == "" || x.mustChange:
		return false
	case c.cfg.Access == nil:
		return true
	case x.Token != "":
		return c.cfg.Access.Still(x.Token, action)
	}
	ok, _ := c.cfg.Access.May(x.Principal, action, resourceOf(action))
	return ok
}

// callerKey is the context key of the *Caller whom let has let in.
type callerKey struct{}

// still says whether who was let in would be yet: it does not count as use of the session, and is not recorded.
func (c *Console) still(r *http.Request, action string) bool {
	x, ok := r.Context().Value(callerKey{}).(*Caller)
	return ok && (x.Session == nil || c.cfg.Desk.Alive(x.Session)) && c.maySee(x, action)
}

// errLogin says that somebody has to say who they are.
var errLogin = errors.New("log in first, or show a token")

// errChange says that an operator has to choose a password before anything else.
var errChange = errors.New("choose a password of your own first, at /password")

// refused is an action that a policy does not allow.
type refused struct{ action, policy string }

func (e *refused) Error() string {
	return "you may not do this (" + e.action + "); policy: " + e.policy
}

// may says why not, and records it.
func (c *Console) may(ctx context.Context, x *Caller, action, resource string) error {
	switch {
	case x.Local:
		return nil
	case x.Principal == "":
		return errLogin
	case x.mustChange:
		return errChange
	case x.Token != "" || c.cfg.Access == nil: // a token was verified for the action
		return nil
	}
	ok, policy := c.cfg.Access.May(x.Principal, action, resource)
	if ok {
		return nil
	}
	err := &refused{action, policy}
	c.record(ctx, x, action, resource, audit.Denied, policy, err.Error())
	return err
}

// turnAway answers a request that may not be; x may be nil.
func (c *Console) turnAway(w http.ResponseWriter, r *http.Request, x *Caller, err error) {
	var no *refused
	var denial *access.Denial
	page := !isAPI(r) && r.Header.Get("Authorization") == "" && strings.Contains(r.Header.Get("Accept"), "text/html")
	switch {
	case errors.As(err, &no):
		c.sorry(w, r, http.StatusForbidden, err)
	case errors.As(err, &denial): // a token that is good, and not for this
		v := &denial.Verdict
		c.record(r.Context(), &Caller{Principal: v.Principal, Source: r.RemoteAddr}, v.Action.String(), v.Resource.String(), audit.Denied, v.Policy, v.Reason())
		c.sorry(w, r, http.StatusForbidden, err)
	case page && errors.Is(err, errLogin):
		to := "/login"
		if c.cfg.Desk.Fresh() {
			to = "/setup"
		} else if r.Method == http.MethodGet && r.URL.Path != "/" {
			to += "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	case page && errors.Is(err, errChange):
		http.Redirect(w, r, "/password", http.StatusSeeOther)
	case errors.Is(err, errChange):
		c.sorry(w, r, http.StatusForbidden, err)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
		if x == nil { // what it showed is not good
			c.record(r.Context(), &Caller{Source: r.RemoteAddr}, "auth.token", access.ResourceOfToken(strings.TrimPrefix(r.Header.Get("Authorization"), bearer)), audit.Denied, "", err.Error())
		}
		c.sorry(w, r, http.StatusUnauthorized, err)
	}
}

func (c *Console) record(ctx context.Context, x *Caller, action, resource string, o audit.Outcome, policy, reason string) {
	rec := audit.Record{Principal: x.Principal, Action: action, Resource: resource, Outcome: o, Policy: policy, Reason: reason, Source: x.Source}
	rec.Clip()
	if err := c.cfg.Record(context.WithoutCancel(ctx), rec); err != nil {
		c.cfg.Logger.Error("an action was not recorded", "action", action, "err", err)
	}
}

// localPath is where to go after a login: a page of this console and no other.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
