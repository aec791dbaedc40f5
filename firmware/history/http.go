package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	// queriesMax bounds questions at one time: each may hold querySamplesMax samples. More are told to come again.
	queriesMax = 4
	// matchersMax bounds "match[]" of one request.
	matchersMax = 16
	// formBytesMax bounds what a request may say.
	formBytesMax = 64 << 10
)

// Routes are the paths below /api/v1 that API answers, with GET or POST, as the patterns of net/http have them.
func Routes() []string {
	return []string{"/query", "/query_range", "/series", "/labels", "/label/{name}/values"}
}

// API answers questions over HTTP as Prometheus does (prometheus.io/docs/prometheus/latest/querying/api), so that its clients, Grafana among
// them, can be pointed at a box. It is served below a prefix, such as /api/v1; who may ask is the caller's to say.
func (h *History) API(prefix string) http.Handler {
	mux, slots := http.NewServeMux(), make(chan struct{}, queriesMax)
	for i, answer := range []func(*http.Request) (any, error){h.apiQuery, h.apiRange, h.apiSeries, h.apiLabels, h.apiValues} {
		mux.HandleFunc(prefix+Routes()[i], func(w http.ResponseWriter, r *http.Request) {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			default:
				w.Header().Set("Retry-After", "1")
				reply(w, http.StatusServiceUnavailable, nil, "unavailable", "too many questions at one time")
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, formBytesMax)
			if err := r.ParseForm(); err != nil {
				reply(w, http.StatusBadRequest, nil, "bad_data", err.Error())
				return
			}
			data, err := answer(r)
			switch {
			case err == nil:
				reply(w, http.StatusOK, data, "", "")
			case errors.As(err, new(promql.ErrQueryTimeout)), errors.Is(err, context.DeadlineExceeded):
				reply(w, http.StatusServiceUnavailable, nil, "timeout", err.Error())
			case errors.Is(err, errBadData), errors.Is(err, ErrQuery):
				reply(w, http.StatusBadRequest, nil, "bad_data", err.Error())
			default:
				reply(w, http.StatusUnprocessableEntity, nil, "execution", err.Error())
			}
		})
	}
	return mux
}

// errBadData says that a request is not one.
var errBadData = errors.New("bad request")

// envelope is Prometheus' answer.
type envelope struct {
	Status    string `json:"status"`
	Data      any    `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

func reply(w http.ResponseWriter, code int, data any, kind, why string) {
	e := envelope{Status: "success", Data: data}
	if kind != "" {
		e = envelope{Status: "error", ErrorType: kind, Error: why}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(e) // the reader has gone: nothing to tell it
}

// found is the data of an answer to a query.
type found struct {
	ResultType parser.ValueType `json:"resultType"`
	Result     any              `json:"result"`
}

// pair is a value at a time as Prometheus writes it: [seconds, "value"].
type pair struct {
	t int64
	v float64
}

// MarshalJSON writes the value as text: JSON has no NaN.
func (p pair) MarshalJSON() ([]byte, error) {
	b := strconv.AppendFloat([]byte{'['}, float64(p.t)/1e3, 'f', -1, 64)
	b = strconv.AppendFloat(append(b, ',', '"'), p.v, 'f', -1, 64)
	return append(b, '"', ']'), nil
}

type row struct {
	Metric map[string]string `json:"metric"`
	Value  *pair             `json:"value,omitempty"`
	Values []pair            `json:"values,omitempty"`
}

func (h *History) apiQuery(r *http.Request) (any, error) {
	at, err := h.instantOf(r, "time", time.Time{})
	if err != nil {
		return nil, err
	}
	v, err := h.instant(r.Context(), r.Form.Get("query"), at)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case promql.Vector:
		rows := make([]row, 0, len(v))
		for _, s := range v {
			rows = append(rows, row{Metric: s.Metric.Map(), Value: &pair{s.T, s.F}})
		}
		return found{v.Type(), rows}, nil
	case promql.Matrix:
		return found{v.Type(), matrixRows(v)}, nil
	case promql.Scalar:
		return found{v.Type(), pair{v.T, v.V}}, nil
	case promql.String:
		return found{v.Type(), []any{float64(v.T) / 1e3, v.V}}, nil
	}
	return nil, fmt.Errorf("history: %w: a %s", ErrQuery, v.Type())
}

func matrixRows(m promql.Matrix) []row {
	rows := make([]row, 0, len(m))
	for _, s := range m {
		ps := make([]pair, len(s.Floats))
		for i, p := range s.Floats {
			ps[i] = pair{p.T, p.F}
		}
		rows = append(rows, row{Metric: s.Metric.Map(), Values: ps})
	}
	return rows
}

func (h *History) apiRange(r *http.Request) (any, error) {
	from, err := h.instantOf(r, "start", time.Time{})
	if err != nil {
		return nil, err
	}
	to, err := h.instantOf(r, "end", time.Time{})
	if err != nil {
		return nil, err
	}
	step, err := duration(r.Form.Get("step"))
	if err != nil {
		return nil, fmt.Errorf("%w: step: %w", errBadData, err)
	}
	if from.IsZero() || to.IsZero() {
		return nil, fmt.Errorf("%w: start and end are needed", errBadData)
	}
	m, err := h.matrix(r.Context(), r.Form.Get("query"), from, to, step)
	if err != nil {
		return nil, err
	}
	return found{m.Type(), matrixRows(m)}, nil
}

func (h *History) apiSeries(r *http.Request) (any, error) {
	sets, err := selectors(r)
	if err != nil {
		return nil, err
	}
	if len(sets) == 0 {
		return nil, fmt.Errorf("%w: match[] is needed", errBadData)
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	seen, out := map[uint32]bool{}, []map[string]string{}
	for _, ms := range sets {
		for _, e := range h.series.match(ms) {
			if !seen[e.ID] {
				seen[e.ID] = true
				out = append(out, e.set.Map())
			}
		}
	}
	return out, nil
}

func (h *History) apiLabels(r *http.Request) (any, error) { return h.texts(r, h.labelNames) }

func (h *History) apiValues(r *http.Request) (any, error) {
	return h.texts(r, func(ms []*labels.Matcher) []string { return h.labelValues(r.PathValue("name"), ms) })
}

// texts joins what fn gives for each of a request's selectors, or for all series.
func (h *History) texts(r *http.Request, fn func([]*labels.Matcher) []string) (any, error) {
	sets, err := selectors(r)
	if err != nil {
		return nil, err
	}
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	out := []string{}
	for _, ms := range sets {
		out = append(out, fn(ms)...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func selectors(r *http.Request) (sets [][]*labels.Matcher, err error) {
	texts := r.Form["match[]"]
	if len(texts) > matchersMax {
		return nil, fmt.Errorf("%w: more than %d match[]", errBadData, matchersMax)
	}
	for _, text := range texts {
		ms, err := matching(text)
		if err != nil {
			return nil, err
		}
		sets = append(sets, ms)
	}
	return sets, nil
}

// instantOf parses a time of a request: seconds since 1970 or RFC 3339.
func (h *History) instantOf(r *http.Request, key string, missing time.Time) (time.Time, error) {
	text := r.Form.Get(key)
	if text == "" {
		return missing, nil
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		if math.IsNaN(s) || math.Abs(s) > 1<<40 { // tens of thousands of years
			return time.Time{}, fmt.Errorf("%w: %s = %q is no time", errBadData, key, text)
		}
		whole, part := math.Modf(s)
		return time.Unix(int64(whole), int64(part*1e9)), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s: %w", errBadData, key, err)
	}
	return t, nil
}

// duration parses seconds, or "5m" and the like.
func duration(text string) (time.Duration, error) {
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		if math.IsNaN(s) || s <= 0 || s > 1e9 {
			return 0, errors.New("out of range")
		}
		return time.Duration(s * float64(time.Second)), nil
	}
	d, err := model.ParseDuration(text)
	return time.Duration(d), err
}
