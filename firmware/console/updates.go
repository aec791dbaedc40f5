package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/operators"
)

// Updates is what the console asks about firmware; *update.Runner is one.
type Updates interface {
	View() *api.Update
	Bundle(id coord.Digest) (io.ReadSeekCloser, error)
	Take(ctx context.Context, from io.Reader, older bool) (*release.Head, error)
	TakeFrom(ctx context.Context, url string, older bool) (*release.Head, error)
	Apply(ctx context.Context, bundle coord.Digest, r rollout.Rules, by string, force bool) error
	Return(ctx context.Context, by string, force bool) error
	Site(ctx context.Context, bundle coord.Digest, url string, r rollout.Rules, by operators.By) error
	Order(ctx context.Context, what rollout.What, by operators.By) error
	Key(ctx context.Context, name, key string, by operators.By) error
	Rules(health, latency, box string) (rollout.Rules, error)
}

const (
	// bundlesMax is how many others may fetch a bundle of this box at a time: more would take each longer, and the box's disk and link.
	bundlesMax = 2
	// chunkTimeMax is how long a chunk of a bundle may take on its way.
	chunkTimeMax = 60 * time.Second
	// csrfBytesMax bounds a session's secret.
	csrfBytesMax = 256
	uploadAction = "update.install"
	uploadPath   = "/api/v1/update/upload"
	uploadForm   = "/update/upload"
	bundlePath   = "/api/v1/update/bundles/{id}"
)

func (c *Console) apiUpdate(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, c.cfg.Updates.View())
}

// apiBundle gives a bundle to another box, or to whoever knows its id: it is signed, and no secret.
func (c *Console) apiBundle(w http.ResponseWriter, r *http.Request) {
	var id coord.Digest
	if err := id.UnmarshalText([]byte(r.PathValue("id"))); err != nil {
		apiError(w, http.StatusBadRequest, "a bundle is named by 64 hexadecimal digits")
		return
	}
	select {
	case c.bundles <- struct{}{}:
		defer func() { <-c.bundles }()
	default:
		w.Header().Set("Retry-After", "5")
		apiError(w, http.StatusServiceUnavailable, "enough others fetch from this box")
		return
	}
	b, err := c.cfg.Updates.Bundle(id)
	if err != nil {
		code := http.StatusInternalServerError
		if errors.Is(err, fs.ErrNotExist) {
			code = http.StatusNotFound
		}
		apiError(w, code, err.Error())
		return
	}
	defer b.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, &paced{b, http.NewResponseController(w)})
}

// paced gives its reader time for each piece.
type paced struct {
	io.ReadSeeker
	to *http.ResponseController
}

func (p *paced) Read(b []byte) (int, error) {
	if err := p.to.SetWriteDeadline(time.Now().Add(chunkTimeMax)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.ReadSeeker.Read(b)
}

// uploadBytesMax bounds a bundle.
const uploadBytesMax = int64(release.HeadBytesMax) + 2*release.FileBytesMax

// uploader is who gives the box a bundle; it is nil when that was refused, and answered. What proves that a form is of its session is
// not looked at here.
func (c *Console) uploader(w http.ResponseWriter, r *http.Request) (x *Caller, on string) {
	x, err := c.caller(r, uploadAction, "")
	on = "box:" + c.cfg.Site.View().ID.String()
	if err == nil {
		err = c.may(r.Context(), x, uploadAction, on)
	}
	if err != nil {
		c.turnAway(w, r, x, err)
		return nil, on
	}
	return x, on
}

// fromSession says whether a request proves that it is of x's session, if x has one; it is answered when it does not.
func (c *Console) fromSession(w http.ResponseWriter, r *http.Request, x *Caller, on, secret string) bool {
	if x.Session == nil || x.Session.CheckCSRF(secret) {
		return true
	}
	c.record(r.Context(), x, uploadAction, on, audit.Denied, "", errCSRF.Error())
	c.sorry(w, r, http.StatusForbidden, errCSRF)
	return false
}

// take has the box take a bundle from x, and records that.
func (c *Console) take(r *http.Request, x *Caller, on string, from io.Reader, older bool) (*release.Head, error) {
	h, err := c.cfg.Updates.Take(r.Context(), from, older)
	if err != nil {
		c.record(r.Context(), x, uploadAction, on, audit.Failed, "", err.Error())
		return nil, err
	}
	c.record(r.Context(), x, uploadAction, on, audit.Allowed, "", "took "+h.Version+", bundle "+h.ID().Short())
	return h, nil
}

// formUpload takes a bundle from a form: the session's secret, and then the file.
func (c *Console) formUpload(w http.ResponseWriter, r *http.Request) {
	x, on := c.uploader(w, r)
	if x == nil {
		return
	}
	ctl := http.NewResponseController(w)
	body := &pacedBody{io.LimitReader(r.Body, uploadBytesMax+formBytesMax), ctl}
	r.Body = struct {
		io.Reader
		io.Closer
	}{body, r.Body}
	parts, err := r.MultipartReader()
	if err != nil {
		c.sorry(w, r, http.StatusBadRequest, fmt.Errorf("%w: send a form with a file: %w", ErrBad, err))
		return
	}
	secret := ""
	part, err := parts.NextPart()
	if err == nil && part.FormName() == "csrf" {
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(part, csrfBytesMax)); err == nil {
			secret = string(b)
			part, err = parts.NextPart()
		}
	}
	if !c.fromSession(w, r, x, on, secret) {
		return
	}
	if err == nil && (part.FormName() != "bundle" || part.FileName() == "") {
		err = errors.New("choose a file")
	}
	code := http.StatusBadRequest
	if err == nil {
		if _, err = c.take(r, x, on, part, false); err != nil {
			code = updateCode(err)
			// A browser looks at an answer when it has sent all.
			_, _ = io.Copy(io.Discard, body)
		}
	}
	_ = ctl.SetWriteDeadline(time.Now().Add(writeTimeMax)) // else the answer is cut off
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrBad, err)
		if !c.comeBack(w, r, "/update", &returned{path: uploadForm, typed: Params{}, code: code, err: err}) {
			c.sorry(w, r, code, err)
		}
		return
	}
	http.Redirect(w, r, "/update", http.StatusSeeOther)
}

// apiUpload takes a bundle into the slot that does not run, as the body of the request.
func (c *Console) apiUpload(w http.ResponseWriter, r *http.Request) {
	x, on := c.uploader(w, r)
	if x == nil {
		return
	}
	if !c.fromSession(w, r, x, on, r.Header.Get("X-CSRF-Token")) {
		return
	}
	if r.Header.Get("Content-Type") != "application/octet-stream" {
		apiError(w, http.StatusBadRequest, "send a bundle, as application/octet-stream")
		return
	}
	ctl := http.NewResponseController(w)
	older := r.URL.Query().Get("older") == "true"
	h, err := c.take(r, x, on, &pacedBody{io.LimitReader(r.Body, uploadBytesMax), ctl}, older)
	_ = ctl.SetWriteDeadline(time.Now().Add(writeTimeMax)) // else the answer is cut off, and who asked sees that
	if err != nil {
		c.sorry(w, r, updateCode(err), err)
		return
	}
	writeJSON(w, taken(h))
}

// pacedBody gives its sender time for each piece.
type pacedBody struct {
	io.Reader
	ctl *http.ResponseController
}

func (p *pacedBody) Read(b []byte) (int, error) {
	if err := p.ctl.SetReadDeadline(time.Now().Add(chunkTimeMax)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.Reader.Read(b)
}

// takenBundle is a bundle that a box has.
type takenBundle struct {
	Bundle  coord.Digest `json:"bundle"`
	Version string       `json:"version"`
	Bytes   int64        `json:"bytes"`
}

// Audited implements Audited.
func (t *takenBundle) Audited() (resource, reason string) { return "", "bundle " + t.Bundle.Short() }

func taken(h *release.Head) *takenBundle {
	return &takenBundle{h.ID(), h.Version, h.BundleBytes()}
}

func updateCode(err error) int {
	switch {
	case errors.Is(err, release.ErrBundle), errors.Is(err, release.ErrSignature), errors.Is(err, release.ErrUnfit), errors.Is(err, release.ErrKey):
		return http.StatusBadRequest
	case errors.Is(err, rollout.ErrStep), errors.Is(err, rollout.ErrPlan):
		return http.StatusBadRequest
	}
	return http.StatusConflict
}

// updateActs are what is done about firmware.
func (c *Console) updateActs() []*Act {
	u := c.cfg.Updates
	if u == nil {
		return nil
	}
	bad := func(err error) error {
		if err == nil || errors.Is(err, ErrLater) || errors.Is(err, ErrBad) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	box := func(Params) string { return "box:" + c.cfg.Site.View().ID.String() }
	rules := func(p Params) (rollout.Rules, coord.Digest, error) {
		var id coord.Digest
		if err := id.UnmarshalText([]byte(p["bundle"])); err != nil {
			return rollout.Rules{}, id, fmt.Errorf("%w: a bundle is named by 64 hexadecimal digits", ErrBad)
		}
		r, err := u.Rules(p["health"], p["latency"], p["box_time"])
		return r, id, bad(err)
	}
	done := map[string]string{"result": "done"}
	order := func(what rollout.What) func(context.Context, *Caller, Params) (any, error) {
		return func(ctx context.Context, x *Caller, _ Params) (any, error) {
			return done, bad(u.Order(ctx, what, x.By))
		}
	}
	return []*Act{
		{Path: "/update/fetch", Action: "update.install", Resource: box, Back: "/update", Run: func(ctx context.Context, _ *Caller, p Params) (any, error) {
			h, err := u.TakeFrom(ctx, p["url"], p["older"] == "true")
			if err != nil {
				return nil, bad(err)
			}
			return taken(h), nil
		}},
		{Path: "/update/apply", Action: "update.install", Resource: box, Back: "/update", Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
			r, id, err := rules(p)
			if err != nil {
				return nil, err
			}
			return done, bad(u.Apply(ctx, id, r, x.Principal, p["force"] == "true"))
		}},
		{Path: "/update/return", Action: "update.rollback", Resource: box, Back: "/update", Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
			return done, bad(u.Return(ctx, x.Principal, p["force"] == "true"))
		}},
		{Path: "/update/site", Action: "update.site", Back: "/update", Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
			r, id, err := rules(p)
			if err != nil {
				return nil, err
			}
			return done, bad(u.Site(ctx, id, p["url"], r, x.By))
		}},
		{Path: "/update/pause", Action: "update.pause", Back: "/update", Run: order(rollout.Pause)},
		{Path: "/update/resume", Action: "update.resume", Back: "/update", Run: order(rollout.Resume)},
		{Path: "/update/undo", Action: "update.rollback", Back: "/update", Run: order(rollout.Undo)},
		{Path: "/update/key", Action: "update.key", Back: "/update", Resource: func(p Params) string { return "doc:" + rollout.DocKey + p["name"] }, Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
			return done, bad(u.Key(ctx, p["name"], p["key"], x.By))
		}},
	}
}

// updatePages are there if the box knows of updates.
func (c *Console) updatePages() []*page {
	if c.cfg.Updates == nil {
		return nil
	}
	return []*page{{
		path: "/update", title: "Update", name: "update", group: "Manage", action: "update.read", live: true, data: c.updateData,
		acts:     []string{"update.install", "update.site", "update.pause", "update.resume", "update.rollback", "update.key"},
		sections: []part{{"plan", ""}, {"box", "half"}, {"new", "half bare"}, {"keys", ""}},
	}}
}

// updatePage is what the page of updates shows.
type updatePage struct {
	*api.Update
	Boxes []updateBox
	// Ready is a bundle that the other slot has and that does not run.
	Ready *api.UpdateSlot
}

type updateBox struct {
	rollout.Box
	Turn bool
	Mood string
}

func (c *Console) updateData(*look) (any, error) {
	d := &updatePage{Update: c.cfg.Updates.View()}
	if d.Plan != nil {
		for i, b := range d.Plan.Boxes {
			mood := map[rollout.Step]string{rollout.Good: "good", rollout.Failed: "bad", rollout.Begun: "warn"}[b.Step]
			d.Boxes = append(d.Boxes, updateBox{b, i == d.Turn, mood})
		}
	}
	for i := range d.Slots {
		if s := &d.Slots[i]; !s.Runs && s.Bundle != "" && d.Fetch != nil && d.Fetch.Done && d.Fetch.Bundle.String() == s.Bundle {
			d.Ready = s
		}
	}
	return d, nil
}
