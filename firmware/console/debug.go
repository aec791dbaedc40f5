package console

import (
	"net/http"
	"runtime/pprof"
)

// apiGoroutines says what the box's goroutines do: where each stands, those alike together, and no argument, which could be a secret's bytes.
func apiGoroutines(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = pprof.Lookup("goroutine").WriteTo(w, 1) // the reader has gone: nothing to tell it
}

// apiRecentLog shows the newest lines of the box's log.
func (c *Console) apiRecentLog(w http.ResponseWriter, r *http.Request) {
	if c.cfg.RecentLog == nil {
		apiError(w, http.StatusNotFound, "this box keeps no lines of its log")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := c.cfg.RecentLog(w); err != nil {
		c.cfg.Logger.Info("an answer was not sent whole", "path", r.URL.Path, "err", err)
	}
}
