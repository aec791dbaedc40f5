package history

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/coord/observe"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// catalogue gives series their numbers.
type catalogue struct {
	max     int
	byKey   map[string]*entry
	byName  map[string][]*entry
	list    []*entry // by number
	dropped uint64   // samples of series for which there was no room
	key     []byte   // reused
}

type entry struct {
	Info
	set labels.Labels // with the name
}

func newCatalogue(limit int) catalogue {
	return catalogue{max: limit, byKey: map[string]*entry{}, byName: map[string][]*entry{}}
}

// flatten makes samples of what a gatherer gave: of a histogram its buckets, sum and count, of a summary its quantiles, sum and count. It is
// what Prometheus makes of the text format.
func (c *catalogue) flatten(families []*dto.MetricFamily, samples []observe.Sample, scraped []Scraped) ([]observe.Sample, []Scraped) {
	add := func(name string, m *dto.Metric, label, value string, counter bool, v float64) {
		e := c.entry(name, m.GetLabel(), label, value, counter)
		if e == nil {
			c.dropped++
			return
		}
		samples = append(samples, observe.Sample{ID: e.ID, Value: v})
		scraped = append(scraped, Scraped{&e.Info, v})
	}
	for _, f := range families {
		name := f.GetName()
		for _, m := range f.GetMetric() {
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				add(name, m, "", "", true, m.GetCounter().GetValue())
			case dto.MetricType_GAUGE:
				add(name, m, "", "", false, m.GetGauge().GetValue())
			case dto.MetricType_UNTYPED:
				add(name, m, "", "", false, m.GetUntyped().GetValue())
			case dto.MetricType_SUMMARY:
				s := m.GetSummary()
				for _, q := range s.GetQuantile() {
					add(name, m, "quantile", number(q.GetQuantile()), false, q.GetValue())
				}
				add(name+"_sum", m, "", "", true, s.GetSampleSum())
				add(name+"_count", m, "", "", true, float64(s.GetSampleCount()))
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				inf := false
				for _, b := range h.GetBucket() {
					inf = inf || math.IsInf(b.GetUpperBound(), 1)
					add(name+"_bucket", m, "le", number(b.GetUpperBound()), true, float64(b.GetCumulativeCount()))
				}
				if !inf {
					add(name+"_bucket", m, "le", "+Inf", true, float64(h.GetSampleCount()))
				}
				add(name+"_sum", m, "", "", true, h.GetSampleSum())
				add(name+"_count", m, "", "", true, float64(h.GetSampleCount()))
			}
		}
	}
	return samples, scraped
}

func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// entry finds a series or makes it; nil when there is no room.
func (c *catalogue) entry(name string, pairs []*dto.LabelPair, label, value string, counter bool) *entry {
	k := append(c.key[:0], name...)
	for _, p := range pairs { // a gatherer sorts them
		k = append(append(append(append(k, 0xff), p.GetName()...), 0xff), p.GetValue()...)
	}
	if label != "" {
		k = append(append(append(append(k, 0xff), label...), 0xff), value...)
	}
	c.key = k
	if e := c.byKey[string(k)]; e != nil {
		return e
	}
	if len(c.list) >= c.max {
		return nil
	}
	e := &entry{Info: Info{ID: uint32(len(c.list)), Name: name, Labels: map[string]string{}, Counter: counter}}
	for _, p := range pairs {
		e.Labels[p.GetName()] = p.GetValue()
	}
	if label != "" {
		e.Labels[label] = value
	}
	c.put(string(k), e)
	return e
}

// restore puts a series back that has its number; what comes out of order is left out.
func (c *catalogue) restore(i Info) {
	if int(i.ID) != len(c.list) || len(c.list) >= c.max {
		return
	}
	names := slices.Sorted(maps.Keys(i.Labels))
	k := []byte(i.Name)
	// The pairs of a gatherer are sorted, but for the label that a bucket or a quantile adds.
	for _, last := range []string{"le", "quantile"} {
		if at := slices.Index(names, last); at >= 0 && (strings.HasSuffix(i.Name, "_bucket") || last == "quantile") {
			names = append(slices.Delete(names, at, at+1), last)
		}
	}
	for _, n := range names {
		k = append(append(append(append(k, 0xff), n...), 0xff), i.Labels[n]...)
	}
	c.put(string(k), &entry{Info: i})
}

func (c *catalogue) put(key string, e *entry) {
	b := labels.NewScratchBuilder(len(e.Labels) + 1)
	b.Add(model.MetricNameLabel, e.Name)
	for n, v := range e.Labels {
		b.Add(n, v)
	}
	b.Sort()
	e.set = b.Labels()
	c.list = append(c.list, e)
	c.byKey[key] = e
	c.byName[e.Name] = append(c.byName[e.Name], e)
}

// match is the series that all matchers match.
func (c *catalogue) match(ms []*labels.Matcher) (found []*entry) {
	from := c.list
	for _, m := range ms {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			from = c.byName[m.Value]
		}
	}
series:
	for _, e := range from {
		for _, m := range ms {
			if !m.Matches(e.set.Get(m.Name)) {
				continue series
			}
		}
		found = append(found, e)
	}
	return found
}
