package console

import (
	"errors"
	"net/http"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
)

// apiCrashes lists how the box's program ended when nobody had asked it to.
func (c *Console) apiCrashes(w http.ResponseWriter, _ *http.Request) {
	list := []crash.Report{}
	if c.cfg.Machine != nil {
		found, err := c.cfg.Machine.Crashes()
		if err != nil {
			apiError(w, http.StatusInternalServerError, err.Error())
			return
		}
		list = append(list, found...)
	}
	writeJSON(w, api.Crashes{Crashes: list})
}

// apiCrash shows a report as it was printed.
func (c *Console) apiCrash(w http.ResponseWriter, r *http.Request) {
	if c.cfg.Machine == nil {
		apiError(w, http.StatusNotFound, crash.ErrUnknown.Error())
		return
	}
	report, err := c.cfg.Machine.Crash(r.PathValue("file"))
	switch {
	case errors.Is(err, crash.ErrUnknown):
		apiError(w, http.StatusNotFound, err.Error())
	case err != nil:
		apiError(w, http.StatusInternalServerError, err.Error())
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(report.Text) // the reader has gone: nothing to tell it
	}
}
