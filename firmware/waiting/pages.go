package waiting

import (
	"cmp"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"

	"github.com/holdfast-edge/holdfast/coord"
)

// formBytesMax is several tokens and all servers.
const formBytesMax = 16 << 10

// State is what a waiting box says of itself at /api/v1/waiting.
type State struct {
	Waiting bool        `json:"waiting"`
	ID      coord.BoxID `json:"id"`
	Name    string      `json:"name,omitempty"`
	Key     []byte      `json:"key"` // public, PKIX DER
	Todo    string      `json:"todo"`
	Notice  string      `json:"notice,omitempty"`
	// Doing and Progress are of what is under way, Failed is why the last try was of no use.
	Doing    string `json:"doing,omitempty"`
	Progress string `json:"progress,omitempty"`
	Failed   string `json:"failed,omitempty"`
}

// page is what the page shows beside the state. What was typed comes back, but for code and token.
type page struct {
	State
	Box            coord.Member
	Servers, Error string
	Closed, Done   bool
	Refresh        int
}

func (d *Desk) state() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return State{!d.done, d.cfg.ID, d.cfg.Box.Name, d.cfg.Key, d.cfg.Todo, d.cfg.Notice, d.what, d.progress, d.failed}
}

// Handler serves the pages.
func (d *Desk) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { d.show(w, http.StatusOK, &page{Box: d.cfg.Box}) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /api/v1/waiting", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(d.state()) // the reader has gone: nothing to tell it
	})
	mux.HandleFunc("POST /join", func(w http.ResponseWriter, r *http.Request) { d.take(w, r, false) })
	mux.HandleFunc("POST /found", func(w http.ResponseWriter, r *http.Request) { d.take(w, r, true) })
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) {
		if err := d.allow(r); err != nil {
			d.refuse(w, r, err)
			return
		}
		d.halt()
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusServiceUnavailable, d.cfg.Todo) })
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		if origins.Check(r) != nil {
			plain(w, http.StatusForbidden, "pages of other sites may link here, not act")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, formBytesMax)
		mux.ServeHTTP(w, r)
	})
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // the reader has gone: nothing to tell it
}

// take begins an errand, for whoever has the setup code.
func (d *Desk) take(w http.ResponseWriter, r *http.Request, found bool) {
	err := d.allow(r)
	if err == nil && d.cfg.Closed {
		err = ErrClosed
	}
	var wish Wish
	if err == nil {
		wish, err = readWish(found, r.PostFormValue)
	}
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	what := "joining a site"
	if found {
		what = "founding a site"
	}
	d.cfg.Logger.Warn("somebody with the setup code", "wants", what, "from", r.RemoteAddr)
	d.put(&errand{what, d.cfg.Do(wish)})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// refuse shows the page again, with why.
func (d *Desk) refuse(w http.ResponseWriter, r *http.Request, err error) {
	code := http.StatusBadRequest
	switch {
	case errors.Is(err, ErrSoon):
		code = http.StatusTooManyRequests
		w.Header().Set("Retry-After", "10")
	case errors.Is(err, ErrCode):
		code = http.StatusForbidden
	case errors.Is(err, ErrClosed):
		code = http.StatusConflict
	}
	p := &page{Box: d.cfg.Box, Error: err.Error(), Servers: r.PostFormValue("servers")}
	p.Box.Name, p.Box.Peer = cmp.Or(r.PostFormValue("name"), p.Box.Name), cmp.Or(r.PostFormValue("peer"), p.Box.Peer)
	d.show(w, code, p)
}

func (d *Desk) show(w http.ResponseWriter, code int, p *page) {
	p.State, p.Closed = d.state(), d.cfg.Closed
	d.mu.Lock()
	d.looked, p.Done = d.cfg.Now(), d.done
	told := d.done && code == http.StatusOK
	d.mu.Unlock()
	if p.Done || p.Doing != "" && p.Error == "" {
		p.Refresh = refreshSeconds
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_ = pageTemplate.Execute(w, p) // the reader has gone: nothing to tell it
	if told {
		d.mu.Lock()
		defer d.mu.Unlock()
		select {
		case <-d.seen:
		default:
			close(d.seen)
		}
	}
}

var pageTemplate = template.Must(template.New("waiting").Parse(pageText))

// pageText reads without script.
const pageText = `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
{{with .Refresh}}<meta http-equiv="refresh" content="{{.}};url=/">{{end}}<title>{{.Box.Name}}: no site yet</title><style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}
.note{border-left:4px solid #47c;padding:.5rem 1rem;overflow-wrap:anywhere}.bad{border-color:#c33}button,input,textarea{font:inherit;padding:.4rem .6rem}
label{display:block;margin:.8rem 0 .2rem}input,textarea{width:100%;box-sizing:border-box}textarea{font-family:ui-monospace,monospace}button{margin:1rem 0}
.dim{opacity:.75;font-size:.9em}code{overflow-wrap:anywhere}</style></head><body><main>
{{if .Done}}<h1>This box is in a site now</h1><p class="note" role="status">Its console opens here in a moment. <a href="/">Go there</a></p>
{{else}}<h1>{{with .Box.Name}}{{.}}{{else}}This box{{end}} is in no site yet</h1>
<p>Box <code>{{.ID}}</code></p>
{{with .Notice}}<p class="note bad" role="alert">{{.}}</p>{{end}}
{{with .Error}}<p class="note bad" role="alert">{{.}}</p>{{end}}
{{if .Doing}}<p class="note" role="status"><strong>{{.Doing}}</strong>{{with .Progress}}: {{.}}{{end}}</p>
<form method="post" action="/stop"><label for="stopcode">Setup code</label><input id="stopcode" name="code" autocomplete="off" spellcheck="false" required><button>Stop that</button></form>{{end}}
{{with .Failed}}<p class="note bad" role="alert">The last try was of no use: {{.}}</p>{{end}}
{{if .Closed}}<p class="note">{{.Todo}}</p>{{else}}
<h2>Join a site</h2><p>On a box of the site: its console, page Boxes, <em>Let a box join</em>; or <code>holdfast site join-token</code>.</p>
<form method="post" action="/join">
<label for="token">Token, or the whole line that was printed with it</label><textarea id="token" name="token" rows="4" spellcheck="false" autocomplete="off" required></textarea>
<label for="servers">Boxes of the site <span class="dim">addresses, between spaces; port 7500 unless you say another; may be empty if the line has them</span></label><input id="servers" name="servers" value="{{.Servers}}" spellcheck="false" autocomplete="off">
{{template "box" .}}<button>Join</button></form>
<h2>Or found a site</h2><p>This box is the first of a new site; others join it.</p>
<form method="post" action="/found">{{template "box" .}}<button>Found a site</button></form>
<p class="dim">{{.Todo}}</p>{{end}}{{end}}
</main></body></html>
{{define "box"}}<label>This box's name <input name="name" value="{{.Box.Name}}" spellcheck="false" autocomplete="off" maxlength="64" required></label>
<label>Where other boxes reach it <span class="dim">HOST:PORT</span> <input name="peer" value="{{.Box.Peer}}" spellcheck="false" autocomplete="off" required></label>
<label>Setup code <span class="dim">on the serial console</span> <input name="code" autocomplete="off" spellcheck="false" required></label>{{end}}`
