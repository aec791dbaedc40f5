package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// Series is a series of a box's history: its labels, and its values by time.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Point is a value at a time.
type Point struct {
	At    time.Time
	Value float64
}

// UnmarshalJSON reads a point as Prometheus' API writes it: [seconds, "value"].
func (p *Point) UnmarshalJSON(b []byte) error {
	var seconds float64
	var text string
	if err := json.Unmarshal(b, &[2]any{&seconds, &text}); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return err
	}
	*p = Point{time.UnixMilli(int64(seconds * 1e3)), v}
	return nil
}

// Query asks the box's own history, in PromQL, for what is now: one point a series. Errors: ErrNotFound of a box that keeps none.
func (b *Box) Query(ctx context.Context, expr string) ([]Series, error) {
	return b.history(ctx, "/api/v1/query?"+url.Values{"query": {expr}}.Encode())
}

// QueryRange asks for the time from one to another in steps. Errors: as Query.
func (b *Box) QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	seconds := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1e3, 'f', 3, 64) }
	return b.history(ctx, "/api/v1/query_range?"+url.Values{
		"query": {expr}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	}.Encode())
}

func (b *Box) history(ctx context.Context, path string) ([]Series, error) {
	var got struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  *Point            `json:"value"`
				Values []Point           `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := b.get(ctx, path, &got); err != nil {
		return nil, err
	}
	list := make([]Series, 0, len(got.Data.Result))
	for _, r := range got.Data.Result {
		if r.Value != nil {
			r.Values = append(r.Values, *r.Value)
		}
		if len(r.Values) == 0 {
			return nil, fmt.Errorf("remote: %w: %s: a series without values", ErrAnswer, b.address)
		}
		list = append(list, Series{r.Metric, r.Values})
	}
	return list, nil
}
