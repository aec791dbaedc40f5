package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/console/chart"
)

// page is one page of the console: sections that templates make of data, on the server, for the first paint and again
// whenever they change. The list of pages (pageList) is all there is: routes, navigation and streams come from it.
type page struct {
	// path is a pattern of net/http's ServeMux, without a method.
	path  string
	title string
	// name begins the names of its templates: of section "verdict" of page "overview" it is "overview/verdict".
	name string
	// group is where the navigation lists it; empty: it is reached from other pages.
	group string
	// action is what the policies call looking at it; empty: console.view. listed is what the navigation lists it for; empty: action.
	action, listed string
	// acts are the actions for which it has forms: look.Can says which of them the viewer may do.
	acts []string
	// share says who may see the same rendering.
	share sharing
	// live says that it changes while one looks.
	live     bool
	sections []part
	// needs are further actions of those who see a section.
	needs map[string]string
	// data is what the templates see as .Data.
	data func(l *look) (any, error)
}

// sharing says with whom a viewer shares the rendering of a page.
type sharing uint8

const (
	byRights    sharing = iota // with all who may do the same of its acts
	byPrincipal                // with the same principal: what is shown depends on what that may see
	bySession                  // with nobody: it shows something of the viewer
)

// part is a section of a page.
type part struct {
	id    string
	class string // how wide it is: "", "half", "third", "bare"
}

// errNotFound, wrapped, says that a page is about something that is not there.
var errNotFound = errors.New("there is no such page; the links of the console lead to those that are")

// look is one viewer's look at a page: what data may use, and what templates see.
type look struct {
	// View is the site at the time of rendering.
	View *site.View
	Data any
	// CSRF stands in forms; what is rendered for many has a mark in its place.
	CSRF string
	// Who is the operator who is logged in, empty if nobody is; set only when the page is the viewer's own.
	Who string

	// failed is the path of the form that came back with err, and typed what was typed into it.
	returned          bool
	failed, err, note string
	typed             Params
	ctx               context.Context
	request           *http.Request
	caller            *Caller
	can               map[string]bool
	hidden            map[string]bool // sections that the viewer may not see
}

// Can says whether the viewer may do one of the page's acts.
func (l *look) Can(action string) bool { return l.can[action] }

// Back is what was typed into a field of the form that was posted to path and came back; otherwise it is otherwise.
func (l *look) Back(path, field, otherwise string) string {
	if l.failed != path {
		return otherwise
	}
	return l.typed[field]
}

// BackOf is Back for one of several forms that are posted to the same path: the one whose field has this value.
func (l *look) BackOf(path, field, value, typed, otherwise string) string {
	if l.failed != path || l.typed[field] != value {
		return otherwise
	}
	return l.typed[typed]
}

// Here is the page's own address, for forms to come back to.
func (l *look) Here() string { return l.request.URL.RequestURI() }

// value is a parameter of the page: of its path, or of its query.
func (l *look) value(name string) string {
	if v := l.request.PathValue(name); v != "" {
		return v
	}
	return l.request.URL.Query().Get(name)
}

//go:embed pages
var pageFiles embed.FS

type section struct {
	ID, Class string
	HTML      template.HTML
}

// frame is what stands around a page.
type frame struct {
	*assets
	Title string
	Page  string // its name
	View  *site.View
	Nav   []navGroup
	// Who is logged in, and what its forms bring along.
	Who, CSRF string
	// Events is where the page's changes come from; empty: it does not change.
	Events string
	// Reload says that a browser without script shall load the page again by itself.
	Reload      bool
	Error, Note string
	Sections    []section
	// Name and Next are what was typed into the form to log in, and where to go then.
	Name, Next string
	// Passkeys says that the page offers to sign in with one.
	Passkeys bool
}

type navGroup struct {
	Title string
	Items []navItem
}

type navItem struct {
	Path, Title, Icon string
	Here              bool
	// Count is of what waits there for somebody.
	Count int
}

func (c *Console) loadPages() error {
	var err error
	if c.assets, err = loadAssets(); err != nil {
		return err
	}
	c.templates, err = template.New("").Funcs(template.FuncMap{
		"count": countText, "rate": rateText, "clock": clockText, "day": dayText, "icon": iconOf,
		"slice": func(list ...string) []string { return list }, "reason": reasonText, "colour": func(i int) int { return i%6 + 1 },
		"percent": func(have, all int64) string { return fmt.Sprintf("%d %%", have*100/max(1, all)) },
		"bytes":   func(b api.Bytes) string { return bytesText(b) }, "urlpath": func(b api.Bytes) string { return url.PathEscape(string(b)) },
		"lasted":  func(d time.Duration) string { return d.Round(time.Second).String() },
		"size":    func(n uint64) string { return chart.Bytes.Text(float64(n)) },
		"count64": func(n int64) string { return countText(uint64(max(n, 0))) }, "countInt": func(n int) string { return countText(uint64(max(n, 0))) },
	}).ParseFS(pageFiles, "pages/*.html")
	if err != nil {
		return fmt.Errorf("console: load pages: %w", err)
	}
	c.mark = rand.Text()
	c.pages = c.pageList()
	c.looks = http.NewServeMux()
	for _, p := range c.pages {
		for _, s := range p.sections {
			if c.templates.Lookup(p.name+"/"+s.id) == nil {
				return fmt.Errorf("console: load pages: %w: page %s has no template %s", ErrConfig, p.name, s.id)
			}
		}
		c.looks.HandleFunc("GET "+p.path, c.let(viewing, p.action, func(w http.ResponseWriter, r *http.Request) {
			if again, ok := r.Context().Value(returnedKey{}).(*returned); ok {
				c.showAgain(w, r, p, again)
				return
			}
			c.serveEvents(w, r, p)
		}))
	}
	return nil
}

// showPage answers with a page.
func (c *Console) showPage(p *page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x, err := c.caller(r, first(p.action, actionView), "")
		if err != nil && !c.open(p.action) {
			c.turnAway(w, r, x, err)
			return
		}
		c.answerPage(w, r, p, c.lookOf(p, r, x), http.StatusOK)
	}
}

// returned is a form that comes back: with what was typed into it and what is wrong with that, or with a note of what was done.
type returned struct {
	path  string
	typed Params
	code  int
	err   error
	note  string
}

type returnedKey struct{}

// comeBack answers a POST with the page that its form is on; false: that page is not known.
func (c *Console) comeBack(w http.ResponseWriter, r *http.Request, page string, form *returned) bool {
	u, err := url.ParseRequestURI(page)
	if err != nil || isAPI(r) {
		return false
	}
	of := r.Clone(context.WithValue(r.Context(), returnedKey{}, form))
	of.Method, of.URL, of.RequestURI = http.MethodGet, u, page
	if _, pattern := c.looks.Handler(of); pattern == "" {
		return false
	}
	c.looks.ServeHTTP(w, of)
	return true
}

func (c *Console) showAgain(w http.ResponseWriter, r *http.Request, p *page, form *returned) {
	x, _ := c.caller(r, first(p.action, actionView), "") // let has let it in
	l := c.lookOf(p, r, x)
	l.returned, l.note = true, form.note
	if form.err != nil {
		l.failed, l.typed, l.err = form.path, form.typed, form.err.Error()
	}
	c.answerPage(w, r, p, l, form.code)
}

func (c *Console) answerPage(w http.ResponseWriter, r *http.Request, p *page, l *look, code int) {
	sections, err := c.render(p, l)
	if err != nil {
		c.pageFailed(w, r, err)
		return
	}
	f := c.frame(p.title, p, l.caller)
	f.View, f.Sections, f.Error, f.Note = l.View, sections, l.err, l.note
	if p.live && !l.returned { // the address of a form that came back is not that of its page
		f.Events = "/events?page=" + url.QueryEscape(r.URL.RequestURI())
		f.Reload = len(p.acts) == 0
	}
	c.answer(w, r, code, "page", f)
}

// lookOf makes x's look at a page. x may be nil.
func (c *Console) lookOf(p *page, r *http.Request, x *Caller) *look {
	if x == nil {
		x = &Caller{}
	}
	l := &look{CSRF: c.mark, ctx: r.Context(), request: r, caller: x, can: map[string]bool{}}
	if p.share == bySession && x.Session != nil {
		l.Who = x.Session.Operator
	}
	for _, a := range p.acts {
		l.can[a] = c.mayDo(x, a, "")
	}
	l.hidden = map[string]bool{}
	for id, action := range p.needs {
		l.hidden[id] = !c.maySee(x, action)
	}
	return l
}

// mayDo says whether a form for an action is worth showing to x: only who is logged in can post one.
func (c *Console) mayDo(x *Caller, action, resource string) bool {
	if x.Session == nil || x.mustChange {
		return false
	}
	if c.cfg.Access == nil {
		return true
	}
	ok, _ := c.cfg.Access.May(x.Principal, action, resource)
	return ok
}

// mayLook says whether x may see a page; nothing is recorded. A page of which every section has an action of its own is for who may see one.
func (c *Console) mayLook(x *Caller, p *page) bool {
	if p.action == "" && p.listed == "" && len(p.needs) == len(p.sections) && !slices.ContainsFunc(p.sections, func(s part) bool { return c.maySee(x, p.needs[s.id]) }) {
		return false
	}
	return c.maySee(x, first(p.listed, p.action, actionView))
}

// render makes a page's sections for a look.
func (c *Console) render(p *page, l *look) ([]section, error) {
	l.View = c.cfg.Site.View()
	if p.data != nil {
		var err error
		if l.Data, err = p.data(l); err != nil {
			return nil, err
		}
	}
	var list []section
	for _, s := range p.sections {
		if l.hidden[s.id] {
			continue
		}
		var b strings.Builder
		if err := c.templates.ExecuteTemplate(&b, p.name+"/"+s.id, l); err != nil {
			return nil, fmt.Errorf("console: render %s/%s: %w", p.name, s.id, err)
		}
		list = append(list, section{s.id, s.class, template.HTML(b.String())}) // just made by html/template
	}
	return list, nil
}

// frame is what stands around a page for x, who may be nil; p is nil for what is in no navigation.
func (c *Console) frame(title string, p *page, x *Caller) *frame {
	f := &frame{assets: c.assets, Title: title, View: c.cfg.Site.View()}
	if x == nil {
		x = &Caller{}
	}
	if x.Session != nil {
		f.Who, f.CSRF = x.Session.Operator, x.Session.CSRF()
	}
	if p != nil {
		f.Page = p.name
	}
	for _, q := range c.pages {
		if q.group == "" || !c.mayLook(x, q) {
			continue
		}
		if len(f.Nav) == 0 || f.Nav[len(f.Nav)-1].Title != q.group {
			f.Nav = append(f.Nav, navGroup{Title: q.group})
		}
		g := &f.Nav[len(f.Nav)-1]
		item := navItem{Path: q.path, Title: q.title, Icon: q.name, Here: p == q || p != nil && p.group == "" && strings.HasPrefix(p.path, q.path+"/")}
		if item.Path == home {
			item.Path = "/"
		}
		if q.name == "decisions" {
			item.Count = len(f.View.Decisions)
		}
		g.Items = append(g.Items, item)
	}
	return f
}

// home is the pattern of the page that is shown first.
const home = "/{$}"

// answer writes a whole document.
func (c *Console) answer(w http.ResponseWriter, r *http.Request, code int, name string, f *frame) {
	var b bytes.Buffer
	if err := c.templates.ExecuteTemplate(&b, name, f); err != nil {
		c.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(bytes.ReplaceAll(b.Bytes(), []byte(c.mark), []byte(f.CSRF)))
}

// pageFailed says why a page cannot be shown.
func (c *Console) pageFailed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.As(err, new(*refused)), errors.Is(err, errLogin), errors.Is(err, errChange):
		x, _ := c.caller(r, actionView, "")
		c.turnAway(w, r, x, err)
	case errors.Is(err, errNotFound):
		c.sorry(w, r, http.StatusNotFound, err)
	case errors.Is(err, ErrBad):
		c.sorry(w, r, http.StatusBadRequest, err)
	default:
		c.cfg.Logger.Warn("a page was not shown", "path", r.URL.Path, "err", err)
		c.sorry(w, r, http.StatusInternalServerError, err)
	}
}
