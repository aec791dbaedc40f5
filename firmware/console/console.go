// Package console shows one box and its site to people and programs over HTTP: pages that
// can be read and used without script (page.go; pagelist.go has them all), a stream of their changes (live.go), JSON under
// /api/v1, Prometheus metrics and health. It reads what coord/site shows of itself (View, Top, Get, Log, Evidence). What changes
// something is a POST (acts.go) of an operator who is logged in, of a program with a token, or of whoever stands at the box
// and uses its socket; viewing and changing are separate rights (auth.go).
//
// It promises: nothing slow or hostile on the network stops the box (connections, header
// sizes, times and streams are bounded), and a web page of another origin can neither read
// it nor embed it nor act through its user's browser (host names are checked against DNS rebinding, a content security policy
// allows its own files only, none inline, a POST must come from a page of ours and bring its session's secret along).
package console

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/history"
	"github.com/holdfast-edge/holdfast/firmware/metrics"
	"github.com/holdfast-edge/holdfast/firmware/operators"
)

// ErrConfig says that a Config cannot work.
var ErrConfig = errors.New("console: bad configuration")

// Site is what the console asks of the box; *site.Site is one. All methods may be called from
// many goroutines at once.
type Site interface {
	View() *site.View
	Top(n int) (site.Top, error)
	Get(key []byte) (value []byte, revision uint64, found bool, err error)
	Log(from, to uint64, fn func(*site.LogBlock) error) error
	Evidence() (*coord.Exhibit, error)
	Prove(ctx context.Context, key, nonce []byte) (*coord.ReadProof, error)
	Decider
}

// Config is what a console needs; Site, Audit, Desk, Record and Logger are required.
type Config struct {
	Site Site
	// Notice is what people should know about the machine beside that; may be empty.
	Notice string
	// Audit is the box's audit log.
	Audit Audit
	// Desk is where operators log in.
	Desk *operators.Desk
	// Past gives how the epochs before this one ended, ascending, as far as the box has kept it; nil: none is known.
	Past func() ([]*coord.Handover, error)
	// Access says who may do what; nil: operators may do everything, and there are no tokens.
	Access Access
	// Acts are what can be done beside operators and sessions.
	Acts []*Act
	// State is the site's documents, of which rules are made; nil: Site has them.
	State func() access.State
	// Settings are the box's configuration, explained, without secrets; nil: it is not shown.
	Settings []config.Section
	// Shows are further answers under /api/v1, by path.
	Shows map[string]Show
	// Traces answers for traces; nil: there are none.
	Traces Tracer
	// Metrics are what /metrics shows, and where answers are counted.
	Metrics *metrics.Metrics
	// History, if not nil, answers HistoryRoutes below /api/v1: questions about metrics, also by POST.
	History       http.Handler
	HistoryRoutes []string
	// Query answers questions about this box's metrics for the pages; nil: no history is kept.
	Query history.Querier
	// Unusual watches the metrics; nil: nobody does.
	Unusual Unusual
	// Alarms are the box's alarms; nil: there are none.
	Alarms Alarms
	// Updates are about firmware; nil: nobody changes it.
	Updates Updates
	// Machine tells of the hardware below; nil: nobody asks it.
	Machine Machine
	// ViewOpen and MetricsOpen say that nobody needs to log in to look.
	ViewOpen, MetricsOpen bool
	// RecentLog writes the newest lines of the box's log; nil: they are not kept.
	RecentLog func(w io.Writer) error
	// NativeSocket is the path of the box's native socket, for whoever asks over the console's; empty: none.
	NativeSocket string
	// Secure says that browsers come over TLS, so that cookies keep to it.
	Secure bool
	// Record writes the audit log.
	Record func(ctx context.Context, r audit.Record) error
	// Hosts are names under which browsers may come, beside addresses and localhost.
	Hosts []string
	// Submit has the site order a message; nil: keys are not changed here.
	Submit func(r *site.Request)
	Logger *slog.Logger
}

// Show is an answer as JSON, for who may do Action and, if it is not empty, Also.
type Show struct {
	Action, Also string
	Get          func() (any, error)
}

// Console is the handler of all pages. Make one with New.
type Console struct {
	cfg       Config
	hosts     map[string]bool
	templates *template.Template
	pages     []*page
	looks     *http.ServeMux // pages by address, for streams and for forms that come back
	mark      string         // stands in renderings for the viewer's CSRF token
	origins   *http.CrossOriginProtection
	assets    *assets
	boards    *boards
	asked     asking
	machine   machineCache
	top       topCache
	issued    issuedTokens
	bundles   chan struct{} // a token for each bundle that another box fetches
	draining  atomic.Bool
	bodies    map[string]*fields // of "METHOD /path", as openapi.json has them
	handler   http.Handler
}

// New makes a console. It starts nothing, and asks nothing of the site, which need not run yet.
func New(cfg Config) (*Console, error) {
	if cfg.Site == nil || cfg.Audit == nil || cfg.Desk == nil || cfg.Record == nil || cfg.Metrics == nil || cfg.Logger == nil {
		return nil, fmt.Errorf("%w: Site, Audit, Desk, Record, Metrics and Logger are required", ErrConfig)
	}
	c := &Console{cfg: cfg, hosts: allowedHosts(cfg.Hosts), boards: newBoards(), origins: http.NewCrossOriginProtection(), bundles: make(chan struct{}, bundlesMax)}
	if err := c.loadPages(); err != nil {
		return nil, err
	}
	var err error
	if c.bodies, err = readOpenAPI(); err != nil {
		return nil, err
	}
	routes, err := c.routes()
	if err != nil {
		return nil, err
	}
	c.handler = c.guard(routes)
	return c, nil
}

// Handler serves the console to anybody who can reach it.
func (c *Console) Handler() http.Handler { return c.handler }

// Ready says whether writes are being ordered as far as this box can tell.
func (c *Console) Ready() bool {
	ok, _ := c.ready()
	return ok
}

// Drain makes /readyz say that the box is stopping, so that programs go elsewhere.
func (c *Console) Drain() { c.draining.Store(true) }

func (c *Console) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	var faults error
	handle := func(pattern, name string, h http.HandlerFunc) {
		faults = errors.Join(faults, c.described(pattern))
		mux.Handle(pattern, c.measured(name, h))
	}
	for _, r := range []struct {
		pattern string
		need    need
		action  string // of who looks; empty: console.view
		handle  http.HandlerFunc
	}{
		{"/login", anyone, "", c.loginPage},
		{"/setup", anyone, "", c.setupPage},
		{"/password", anyone, "", c.own(c.passwordPage)},
		{"/unlock", anyone, "", c.own(c.unlockPage)},
		{assetsPath + "{name}", anyone, "", c.assets.serve},
		{"/healthz", anyone, "", c.healthz},
		{"/readyz", anyone, "", c.readyz},
		{"/metrics", scraping, "", c.scrapes()},
		{"/api/v1/status", viewing, "", c.apiStatus},
		{"/api/v1/members", viewing, "member.list", c.apiMembers},
		{"/api/v1/members/history", viewing, "member.list", c.apiMembersHistory},
		{"/api/v1/blocks", viewing, "site.read", c.apiBlocks},
		{"/api/v1/top", viewing, actionGet, c.apiTop},
		{"/api/v1/kv/{key...}", viewing, actionGet, c.apiKV},
		{"/api/v1/proof/{key...}", viewing, actionGet, c.apiProof},
		{"/api/v1/log", viewing, "log.read", c.apiLog},
		{"/api/v1/evidence", viewing, "evidence.read", c.apiEvidence},
		{"/api/v1/trust", viewing, "trust.read", c.apiTrust},
		{"/api/v1/operators", viewing, "role.list", c.apiOperators},
		{"/api/v1/audit", viewing, "audit.read", c.apiAudit},
		{"/api/v1/audit/log", viewing, "audit.read", c.apiAuditLog},
		{"/api/v1/audit/heads", viewing, "audit.heads", c.apiAuditHeads},
		{"/api/v1/audit/proof/{index}", viewing, "audit.read", c.apiAuditProof},
		{"/api/v1/decisions", viewing, "decision.list", c.apiDecisions},
		{"/api/v1/decisions/{id}", boxOnly, "", c.apiDecision},
		{"/api/v1/config", viewing, actionConfig, c.apiConfig},
		{"/api/v1/crashes", viewing, "", c.apiCrashes},
		{"/api/v1/crashes/{file}", viewing, actionCrash, c.apiCrash},
		{"/api/v1/debug/goroutines", boxOnly, "", apiGoroutines},
		{"/api/v1/debug/log", boxOnly, "", c.apiRecentLog},
		{"/api/v1/openapi.json", anyone, "", c.apiOpenAPI},
	} {
		handle("GET "+r.pattern, r.pattern, c.let(r.need, r.action, r.handle))
	}
	if c.cfg.Traces != nil {
		for _, r := range []struct {
			pattern, action string
			handle          http.HandlerFunc
		}{
			{"/api/v1/traces", "", c.apiTraces},
			{"/api/v1/traces/{id}", "", c.apiTrace},
			{"/api/v1/why/{revision}", "log.read", c.apiWhy}, // it shows keys
		} {
			handle("GET "+r.pattern, r.pattern, c.let(viewing, r.action, r.handle))
		}
	}
	if c.cfg.Alarms != nil {
		for pattern, answer := range map[string]http.HandlerFunc{
			"/api/v1/alarms": c.apiAlarms, "/api/v1/alarms/rules": c.apiAlarmRules, "/api/v1/alarms/silences": c.apiSilences,
		} {
			handle("GET "+pattern, pattern, c.let(viewing, "alarm.read", answer))
		}
	}
	if c.cfg.Updates != nil {
		handle("GET /api/v1/update", "/api/v1/update", c.let(viewing, "update.read", c.apiUpdate))
		handle("GET "+bundlePath, bundlePath, c.apiBundle)
		handle("POST "+uploadPath, uploadPath, c.apiUpload)
		handle("POST "+uploadForm, uploadForm, c.formUpload)
	}
	for _, p := range c.pages {
		handle("GET "+p.path, p.path, c.let(viewing, p.action, c.showPage(p)))
	}
	for path, show := range c.cfg.Shows {
		handle("GET /api/v1"+path, "/api/v1"+path, c.let(viewing, show.Action, c.shown(show)))
	}
	for _, path := range c.cfg.HistoryRoutes {
		name, answer := "/api/v1"+path, c.let(viewing, "", c.cfg.History.ServeHTTP)
		handle("GET "+name, name, answer)
		// A question may be too long for an address: Grafana posts it as a form. It changes nothing, so no page of ours has to ask.
		mux.Handle("POST "+name, c.measured(name, answer))
	}
	mux.HandleFunc("GET /events", c.events) // lets in who may look at the page; lasts as long as its reader: not a duration to measure
	post := func(path string, h http.HandlerFunc) {
		for _, p := range []string{path, "/api/v1" + path} {
			handle("POST "+p, p, h)
		}
	}
	post("/login", c.login)
	post("/logout", c.logout)
	post("/setup", c.setup)
	post("/password", c.password)
	post("/passkey/options", c.passkeyOptions)
	post("/passkey/login", c.passkeyLogin)
	post("/unlock", c.unlock)
	for _, a := range slices.Concat(c.operatorActs(), c.passkeyActs(), c.auditActs(), c.decisionActs(), c.alarmActs(), c.updateActs(), c.keyActs(), c.cfg.Acts) {
		post(a.Path, c.act(a))
	}
	mux.HandleFunc("/", c.notFound)
	return mux, faults
}

// shown answers with what show gives, as JSON.
func (c *Console) shown(show Show) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if show.Also != "" && !c.sees(r, show.Also) {
			x, _ := r.Context().Value(callerKey{}).(*Caller)
			c.turnAway(w, r, x, &refused{show.Also, "none permits it"})
			return
		}
		v, err := show.Get()
		if err != nil {
			plainText(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		writeJSON(w, v)
	}
}

// healthz answers when the goroutine that orders for the site does: a supervisor must not feed its watchdog for a process that only serves pages any
// more. Whether the site orders does not matter here.
func (c *Console) healthz(w http.ResponseWriter, r *http.Request) {
	turned := make(chan struct{})
	go func() { c.cfg.Site.View(); close(turned) }()
	select {
	case <-turned:
		plainText(w, http.StatusOK, "ok")
	case <-r.Context().Done(): // who asked has waited long enough
	}
}

func (c *Console) readyz(w http.ResponseWriter, _ *http.Request) {
	if ok, why := c.ready(); !ok {
		plainText(w, http.StatusServiceUnavailable, why)
		return
	}
	plainText(w, http.StatusOK, "ready")
}

func (c *Console) ready() (ok bool, why string) {
	v := c.cfg.Site.View()
	switch {
	case c.draining.Load():
		return false, "the box is stopping"
	case v.Fault != "":
		return false, v.Fault
	case !v.Serving && v.Verdict != "":
		return false, v.Verdict
	case !v.Serving:
		return false, "the site does not order writes as far as this box can tell"
	}
	return true, ""
}

func (c *Console) notFound(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		plainText(w, http.StatusMethodNotAllowed, "there is nothing to be done here; use GET")
		return
	}
	if isAPI(r) {
		apiError(w, http.StatusNotFound, "no such resource; /api/v1/openapi.json lists all")
		return
	}
	c.sorry(w, r, http.StatusNotFound, errNotFound)
}

func plainText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text) // the reader has gone: nothing to tell it
}
