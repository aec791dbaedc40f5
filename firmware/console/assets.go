package console

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// dist is what tools/web makes of the folder web; docs/console.md says how.
//
//go:embed dist
var dist embed.FS

// asset is a file that never changes under its name.
type asset struct {
	kind         string
	plain, small []byte // as it is, and gzipped
}

// assets are the console's own script and style, whose names have hashes of their content.
type assets struct {
	Script, Style, Icon string // paths
	files               map[string]*asset
}

// policy is the content security policy of all answers (CSP Level 3): what the console's pages use are files of its own.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

const assetsPath = "/static/"

func loadAssets() (*assets, error) {
	entries, err := dist.ReadDir("dist")
	if err != nil {
		return nil, fmt.Errorf("console: load assets: %w", err)
	}
	a := &assets{files: map[string]*asset{}}
	for _, e := range entries {
		f := &asset{}
		if f.plain, err = dist.ReadFile("dist/" + e.Name()); err != nil {
			return nil, fmt.Errorf("console: load assets: %w", err)
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err = z.Write(f.plain); err == nil {
			err = z.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("console: load assets: %w", err)
		}
		f.small = b.Bytes()
		a.files[e.Name()] = f
		switch path.Ext(e.Name()) {
		case ".js":
			a.Script, f.kind = assetsPath+e.Name(), "text/javascript; charset=utf-8"
		case ".css":
			a.Style, f.kind = assetsPath+e.Name(), "text/css; charset=utf-8"
		case ".svg":
			a.Icon, f.kind = assetsPath+e.Name(), "image/svg+xml"
		}
	}
	if a.Script == "" || a.Style == "" || a.Icon == "" {
		return nil, fmt.Errorf("console: load assets: %w: dist has no script, style or icon", ErrConfig)
	}
	return a, nil
}

// serve answers with a file; the login page needs them too, and they hold nothing of the site.
func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	f := a.files[r.PathValue("name")]
	if f == nil {
		plainText(w, http.StatusNotFound, "no such file; load the page again")
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.small
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the reader has gone: nothing to tell it
}
