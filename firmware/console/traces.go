package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// ErrNoTrace, from a Tracer: there is no such trace, or nothing is known of the revision.
var ErrNoTrace = errors.New("not known")

// tracesTimeMax is how long other boxes may take to tell their part.
const tracesTimeMax = 5 * time.Second

// Tracer answers for traces and causes.
type Tracer interface {
	List(q api.TraceQuery) (*api.Traces, error)
	// Show and Why give ErrNoTrace for what nobody knows.
	Show(ctx context.Context, id trace.ID) (*api.Trace, error)
	Why(ctx context.Context, revision uint64, depth int) (*api.Why, error)
}

func (c *Console) apiTraces(w http.ResponseWriter, r *http.Request) {
	q, err := traceQuery(r, time.Now())
	if err != nil {
		apiError(w, http.StatusBadRequest, err.Error())
		return
	}
	t, err := c.cfg.Traces.List(q)
	if err != nil {
		c.failed(w, r, err)
		return
	}
	writeJSON(w, t)
}

// traceQuery reads min (a duration), reason (a name, several times for several), since (a time, or how long ago) and limit.
func traceQuery(r *http.Request, now time.Time) (q api.TraceQuery, err error) {
	v := r.URL.Query()
	q.Limit = api.TracesDefault
	if s := v.Get("min"); s != "" {
		if q.Min, err = time.ParseDuration(s); err != nil || q.Min < 0 {
			return q, fmt.Errorf("min must be a duration, such as 20ms")
		}
	}
	for _, s := range v["reason"] {
		if s == "" {
			continue // what a form sends for all
		}
		reason := trace.ReasonNamed(s)
		if reason == 0 {
			return q, fmt.Errorf("reason must be error, slow, round_change, anomaly, random or client")
		}
		q.Reason |= reason
	}
	if s := v.Get("since"); s != "" {
		if d, e := time.ParseDuration(s); e == nil && d >= 0 {
			q.Since = now.Add(-d)
		} else if q.Since, err = time.Parse(time.RFC3339, s); err != nil {
			return q, fmt.Errorf("since must be a duration, such as 1h, or a time, such as 2026-11-28T20:00:00Z")
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > api.TracesMax {
			return q, fmt.Errorf("limit must be a number from 1 to %d", api.TracesMax)
		}
	}
	return q, nil
}

func (c *Console) apiTrace(w http.ResponseWriter, r *http.Request) {
	var id trace.ID
	if err := id.UnmarshalText([]byte(r.PathValue("id"))); err != nil {
		apiError(w, http.StatusBadRequest, "a trace is named by 32 lower-case hexadecimal digits")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), tracesTimeMax)
	defer cancel()
	t, err := c.cfg.Traces.Show(ctx, id)
	c.told(w, r, t, err)
}

func (c *Console) apiWhy(w http.ResponseWriter, r *http.Request) {
	revision, err := strconv.ParseUint(r.PathValue("revision"), 10, 64)
	depth := api.WhyDepthDefault
	if s := r.URL.Query().Get("depth"); s != "" && err == nil {
		depth, err = strconv.Atoi(s)
	}
	if err != nil || depth < 1 || depth > api.WhyDepthMax {
		apiError(w, http.StatusBadRequest, fmt.Sprintf("a revision is a number, depth one from 1 to %d", api.WhyDepthMax))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), tracesTimeMax)
	defer cancel()
	why, err := c.cfg.Traces.Why(ctx, revision, depth)
	c.told(w, r, why, err)
}

func (c *Console) told(w http.ResponseWriter, r *http.Request, v any, err error) {
	switch {
	case errors.Is(err, ErrNoTrace):
		apiError(w, http.StatusNotFound, err.Error())
	case err != nil:
		c.failed(w, r, err)
	default:
		writeJSON(w, v)
	}
}
