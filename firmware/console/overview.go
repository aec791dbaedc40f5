package console

import (
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
)

// overview is what the overview shows.
type overview struct {
	Mood, Sentence string
	LeaderName     string
	Up             int
	Latency        string
	Members        []memberRow
	Blocks         []blockRow
	Top            site.Top
	TopError       error
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

func (c *Console) overviewData(l *look) (any, error) {
	v := l.View
	d := &overview{Latency: "none yet", LeaderName: nameOf(v, v.Leader)}
	d.Top, d.TopError = c.top.get(c.cfg.Site, v)
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
	return d, nil
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

func dayText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }
