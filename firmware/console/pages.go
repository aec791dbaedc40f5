package console

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // page.html, page.css, page.js
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// What the page lists: enough for one screen; /api/v1 has the rest.
const (
	pageBlocks = 10
	pageTop    = 10
	// pageEvidence: of four liars in a site of 13, some of each.
	pageEvidence = 16
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// assets are the page's own script and style and the policy that allows only them.
type assets struct {
	style  template.CSS
	script template.JS
	policy string
}

func (c *Console) loadPages() error {
	page, err := template.New("page").Funcs(template.FuncMap{"count": countText, "rate": rateText, "clock": clockText}).Parse(pageHTML + formsHTML)
	if err != nil {
		return fmt.Errorf("console: load pages: %w", err)
	}
	c.page = page
	c.assets = assets{
		style: template.CSS(pageCSS), script: template.JS(pageJS), // ours, not data: html/template leaves them as they are
		policy: "default-src 'none'; style-src '" + sourceHash(pageCSS) + "'; script-src '" + sourceHash(pageJS) +
			"'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
	}
	return nil
}

// sourceHash names an inline script or style in a policy (CSP Level 3, 2.3.1).
func sourceHash(text string) string {
	h := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(h[:])
}

// sectionIDs are the parts of the page that change, in order; each is a template and an
// element's id.
func sectionIDs() []string {
	return []string{"verdict", "facts", "members", "blocks", "top", "trust", "evidence"}
}

type section struct {
	ID   string
	HTML template.HTML
}

// pageData is what the sections show.
type pageData struct {
	View           *site.View
	Mood, Sentence string
	LeaderName     string
	Up             int
	Latency        string
	Members        []memberRow
	Blocks         []blockRow
	Top            site.Top
	TopError       error
	Trust          trustRows
	Evidence       []lieRow
	EvidenceMore   uint64
	EvidenceError  error
}

type lieRow struct {
	coord.Finding
	Rule coord.Rule
}

type memberRow struct {
	site.MemberView
	Leader bool
	RTT    string
	URL    string
}

type blockRow struct {
	site.BlockView
	LeaderName string
}

func (c *Console) home(w http.ResponseWriter, r *http.Request) {
	x, _ := c.caller(r, actionView, "") // who looks without a login is nobody
	data := c.pageData()
	sections, err := c.sections(data)
	if err != nil {
		c.failed(w, r, err)
		return
	}
	var b bytes.Buffer
	err = c.page.ExecuteTemplate(&b, "page", struct {
		Title    string
		View     *site.View
		Style    template.CSS
		Script   template.JS
		Sections []section
		*form
	}{"Holdfast " + data.View.Name, data.View, c.assets.style, c.assets.script, sections, c.form("", x)})
	if err != nil {
		c.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

// sections renders what changes.
func (c *Console) sections(data *pageData) ([]section, error) {
	var list []section
	for _, id := range sectionIDs() {
		var b bytes.Buffer
		if err := c.page.ExecuteTemplate(&b, id, data); err != nil {
			return nil, fmt.Errorf("console: render %s: %w", id, err)
		}
		list = append(list, section{id, template.HTML(b.String())}) // just made by html/template
	}
	return list, nil
}

func (c *Console) pageData() *pageData {
	v := c.cfg.Site.View()
	d := &pageData{View: v, Latency: "none yet", LeaderName: nameOf(v, v.Leader)}
	d.Top, d.TopError = c.top.get(c.cfg.Site, v)
	d.evidence(c.cfg.Site)
	d.Trust = trustOf(v)
	for i := range v.Members {
		m := v.Members[i]
		if m.Up {
			d.Up++
		}
		row := memberRow{MemberView: m, Leader: m.ID == v.Leader, RTT: "", URL: consoleURL(m.Console, c.cfg.Secure)}
		if m.Up && !m.Self && m.RTT > 0 {
			row.RTT = m.RTT.Round(10 * time.Microsecond).String()
		}
		d.Members = append(d.Members, row)
	}
	for _, b := range slices.Clip(v.Blocks[:min(len(v.Blocks), pageBlocks)]) {
		d.Blocks = append(d.Blocks, blockRow{b, nameOf(v, b.Leader)})
	}
	if n := v.Counters.LatencyCount; n > 0 {
		d.Latency = (v.Counters.LatencySum / time.Duration(n)).Round(10 * time.Microsecond).String()
	}
	d.Mood, d.Sentence = verdict(v, d.Up)
	return d
}

func (d *pageData) evidence(s Site) {
	x, err := s.Evidence()
	if err != nil {
		d.EvidenceError = err
		return
	}
	d.EvidenceMore = x.More
	for i := range x.Findings {
		if i == pageEvidence {
			d.EvidenceMore += uint64(len(x.Findings) - i)
			break
		}
		rule, _ := coord.Conflict(&x.Findings[i].A, &x.Findings[i].B, x.Findings[i].TermRounds)
		d.Evidence = append(d.Evidence, lieRow{x.Findings[i], rule})
	}
}

// topCache shares the top objects among pages: finding them walks every counter.
type topCache struct {
	mu     sync.Mutex
	top    site.Top
	err    error
	height uint64
	at     time.Time
}

// get is the top objects as of v's height, or of at most eventEvery before.
func (t *topCache) get(s Site, v *site.View) (site.Top, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := t.height == v.Height || time.Since(t.at) < eventEvery
	if t.at.IsZero() || t.err != nil || !fresh {
		t.top, t.err = s.Top(pageTop)
		t.height, t.at = v.Height, time.Now()
	}
	return t.top, t.err
}

// verdict is the first thing on the page: how the site is, in one sentence.
func verdict(v *site.View, up int) (mood, sentence string) {
	sentence = v.Verdict
	switch {
	case v.Fault != "":
		mood, sentence = "bad", "This box has stopped voting: "+v.Fault
	case !v.Serving:
		mood = "bad"
	case up < v.N:
		mood = "warn"
	default:
		mood = "ok"
	}
	if sentence == "" {
		sentence = map[bool]string{true: "The site orders writes.", false: "The site does not order writes."}[v.Serving]
	}
	return mood, sentence
}

func nameOf(v *site.View, id coord.BoxID) string {
	for i := range v.Members {
		if v.Members[i].ID == id {
			return memberName(&v.Members[i])
		}
	}
	return "none"
}

// consoleURL takes the other boxes to be set up as this one is.
func consoleURL(address string, secure bool) string {
	if address == "" {
		return ""
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, Host: address, Path: "/"}).String()
}

// countText separates thousands by a thin space.
func countText(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func rateText(r float64) string {
	if r < 10 {
		return strconv.FormatFloat(r, 'f', 1, 64)
	}
	return countText(uint64(r + 0.5))
}

func clockText(t time.Time) string { return t.UTC().Format("15:04:05.000") + " UTC" }
