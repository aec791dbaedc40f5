package console

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/passkey"
)

// origin is the page's origin as a browser under this host name has it.
func (c *Console) origin(r *http.Request) string {
	if c.cfg.Secure {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// passkeysHere says whether a page that was asked for as r may offer passkeys. Errors: operators.ErrNoPasskeys, passkey.ErrHost.
func (c *Console) passkeysHere(r *http.Request) error {
	p := c.cfg.Desk.Passkeys()
	if p == nil {
		return operators.ErrNoPasskeys
	}
	return p.Here(r.Host)
}

// passkeyOptions is what a browser asks an authenticator for, to sign in.
func (c *Console) passkeyOptions(w http.ResponseWriter, r *http.Request) {
	_, err := c.params(w, r)
	if err == nil {
		err = c.passkeysHere(r)
	}
	if err != nil {
		c.sorry(w, r, codeOf(err), err)
		return
	}
	writeJSON(w, c.cfg.Desk.Passkeys().Request())
}

// passkeyLogin opens a session for who has signed those options.
func (c *Console) passkeyLogin(w http.ResponseWriter, r *http.Request) {
	p, err := c.params(w, r)
	var e *operators.Entry
	if err == nil {
		x := &Caller{Source: r.RemoteAddr}
		e, err = c.cfg.Desk.LoginPasskey(r.Context(), []byte(p["credential"]), c.origin(r), x.try(r, ""))
	}
	if err != nil {
		c.sorry(w, r, loginCode(err), err)
		return
	}
	c.welcome(w, r, e, localPath(p["next"]))
}

// unlock gives a session that began with a passkey its operator's key. It answers a wrong password as a login does, and is recorded by the
// desk.
func (c *Console) unlock(w http.ResponseWriter, r *http.Request) {
	p, x, ok := c.ofSession(w, r)
	if !ok {
		return
	}
	next := localPath(p["next"])
	err := c.cfg.Desk.Unlock(r.Context(), x.Session, p["password"], x.try(r, c.cookieValue(r, deviceCookie)))
	switch {
	case err == nil && isAPI(r):
		writeJSON(w, map[string]string{"result": "done"})
	case err == nil:
		http.Redirect(w, r, next, http.StatusSeeOther)
	case isAPI(r):
		c.sorry(w, r, codeOf(err), err)
	default:
		f := c.frame("Your password", nil, x)
		f.Error, f.Next = err.Error(), next
		c.answer(w, r, codeOf(err), "unlock", f)
	}
}

func (c *Console) unlockPage(w http.ResponseWriter, r *http.Request, x *Caller) {
	f := c.frame("Your password", nil, x)
	f.Next = localPath(r.URL.Query().Get("next"))
	c.answer(w, r, http.StatusOK, "unlock", f)
}

// askPassword leads a form of a page to where the password is given, and then back; false: it is no page that asks, or no password that is missing.
func askPassword(w http.ResponseWriter, r *http.Request, back string, err error) bool {
	if isAPI(r) || !errors.Is(err, operators.ErrLocked) {
		return false
	}
	http.Redirect(w, r, "/unlock?next="+url.QueryEscape(back), http.StatusSeeOther)
	return true
}

// passkeyActs change which passkeys an operator has.
func (c *Console) passkeyActs() []*Act {
	desk := c.cfg.Desk
	return []*Act{
		{Path: "/passkeys/options", Action: "operator.passkey", Own: true, Run: func(_ context.Context, x *Caller, _ Params) (any, error) {
			return desk.NewPasskey(x.Session)
		}},
		{Path: "/passkeys/add", Action: "operator.passkey", Own: true, Back: "/operators", Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
			key, err := desk.AddPasskey(ctx, x.Session, []byte(p["credential"]), x.origin, p["name"], x.By)
			if key == nil {
				return nil, err
			}
			return passkeyOf(key), err
		}},
		{
			Path: "/operators/{name}/passkeys/{id}/remove", Action: "operator.passkey", Back: "/operators",
			Self:     func(x *Caller, p Params) bool { return x.Session != nil && x.Session.Operator == p["name"] },
			Resource: func(p Params) string { return operators.PrincipalPrefix + p["name"] },
			Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
				id, err := base64.RawURLEncoding.DecodeString(p["id"])
				if err != nil {
					return nil, fmt.Errorf("%w: a passkey's id is base64url", ErrBad)
				}
				return map[string]string{"result": "done"}, desk.RemovePasskey(ctx, p["name"], id, x.By)
			},
		},
	}
}

func passkeyOf(k *passkey.Credential) api.Passkey {
	return api.Passkey{
		ID: base64.RawURLEncoding.EncodeToString(k.ID), Name: k.Name, Domain: k.Domain, Created: time.Unix(k.Created, 0).UTC(), Synced: k.Synced,
	}
}
