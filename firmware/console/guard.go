package console

import (
	"net"
	"net/http"
	"strings"
)

// allowedHosts is the set of names, in lower case, that a Host header may have beside an address.
func allowedHosts(names []string) map[string]bool {
	m := map[string]bool{"localhost": true}
	for _, n := range names {
		m[strings.ToLower(strings.TrimSuffix(n, "."))] = true
	}
	return m
}

// guard answers what no route should see and sets what every answer has.
func (c *Console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case !c.hostAllowed(r.Host):
			plainText(w, http.StatusMisdirectedRequest, "unknown host name; use the box's address, or add the name to console.hosts")
		case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
			h.Set("Allow", "GET, HEAD, POST")
			plainText(w, http.StatusMethodNotAllowed, "use GET to look and POST to act")
		case c.origins.Check(r) != nil:
			plainText(w, http.StatusForbidden, "pages of other sites may link here, not act")
		case r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate":
			plainText(w, http.StatusForbidden, "pages of other sites may link here, not fetch")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hostAllowed says whether the name that the client used can only mean this box. A page that
// rebinds its own DNS name to our address still sends that name; an address cannot be rebound.
func (c *Console) hostAllowed(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if c.hosts[host] {
		return true
	}
	v := c.cfg.Site.View()
	for i := range v.Members {
		h, _, err := net.SplitHostPort(v.Members[i].Console)
		if err == nil && strings.EqualFold(h, host) {
			return true
		}
	}
	return false
}

func isAPI(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/") }
