// Package console shows one box and its site to people and programs over HTTP: pages that
// can be read without script, JSON under /api/v1, Prometheus metrics, health, and a
// stream of changes. It reads what coord/site shows of itself (View, Top, Get, Log, Evidence) and
// changes nothing: every request is a GET.
//
// It promises: nothing slow or hostile on the network stops the box (connections, header
// sizes, times and streams are bounded), and a web page of another origin can neither read
// it nor embed it (host names are checked against DNS rebinding, a content security policy
// that allows its own script and style only).
package console

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/prometheus/client_golang/prometheus"
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
}

// Config is what a console needs; all fields but Hosts are required.
type Config struct {
	Site Site
	// Audit is the box's audit log.
	Audit Audit
	// Hosts are names under which browsers may come, beside addresses and localhost.
	Hosts  []string
	Logger *slog.Logger
}

// Console is the handler of all pages. Make one with New.
type Console struct {
	cfg      Config
	hosts    map[string]bool
	page     *template.Template
	assets   assets
	registry *prometheus.Registry
	http     *prometheus.HistogramVec
	streams  chan struct{} // holds a token for each open event stream
	top      topCache
	draining atomic.Bool
	handler  http.Handler
}

// New makes a console. It starts nothing, and asks nothing of the site, which need not run yet.
func New(cfg Config) (*Console, error) {
	if cfg.Site == nil || cfg.Audit == nil || cfg.Logger == nil {
		return nil, fmt.Errorf("%w: Site, Audit and Logger are required", ErrConfig)
	}
	c := &Console{cfg: cfg, hosts: allowedHosts(cfg.Hosts), streams: make(chan struct{}, streamsMax)}
	if err := c.loadPages(); err != nil {
		return nil, err
	}
	if err := c.registerMetrics(); err != nil {
		return nil, err
	}
	c.handler = c.guard(c.routes())
	return c, nil
}

// Handler serves the console to anybody who can reach it.
func (c *Console) Handler() http.Handler { return c.handler }

// Drain makes /readyz say that the box is stopping, so that programs go elsewhere.
func (c *Console) Drain() { c.draining.Store(true) }

func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range []struct {
		pattern string
		handle  http.HandlerFunc
	}{
		{"/{$}", c.home},
		{"/healthz", c.healthz},
		{"/readyz", c.readyz},
		{"/metrics", c.metrics},
		{"/api/v1/status", c.apiStatus},
		{"/api/v1/members", c.apiMembers},
		{"/api/v1/blocks", c.apiBlocks},
		{"/api/v1/top", c.apiTop},
		{"/api/v1/kv/{key...}", c.apiKV},
		{"/api/v1/proof/{key...}", c.apiProof},
		{"/api/v1/log", c.apiLog},
		{"/api/v1/evidence", c.apiEvidence},
		{"/api/v1/audit", socketOnly(c.apiAudit)},
		{"/api/v1/audit/log", socketOnly(c.apiAuditLog)},
		{"/api/v1/audit/heads", socketOnly(c.apiAuditHeads)},
		{"/api/v1/audit/proof/{index}", socketOnly(c.apiAuditProof)},
		{"/api/v1/openapi.json", c.apiOpenAPI},
	} {
		mux.Handle("GET "+r.pattern, c.measured(r.pattern, r.handle))
	}
	mux.HandleFunc("GET /events", c.events) // lasts as long as its reader: not a duration to measure
	mux.HandleFunc("/", notFound)
	return mux
}

func (c *Console) healthz(w http.ResponseWriter, _ *http.Request) { plainText(w, http.StatusOK, "ok") }

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

func notFound(w http.ResponseWriter, r *http.Request) {
	if isAPI(r) {
		apiError(w, http.StatusNotFound, "no such resource; /api/v1/openapi.json lists all")
		return
	}
	plainText(w, http.StatusNotFound, "no such page; the console is at /")
}

func plainText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text) // the reader has gone: nothing to tell it
}
