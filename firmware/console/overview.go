package console

import (
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/console/chart"
)

// What the page lists: enough for one screen; /api/v1 has the rest.
const (
	pageBlocks = 8
	pageTop    = 8
	pageEnded  = 5
)

// overview is what the overview shows.
type overview struct {
	Mood, Sentence string
	Steps          []nextStep
	LeaderName     string
	Up             int
	Members        []standing
	Map, Quorum    template.HTML
	Tiles          []tile
	Durations      template.HTML
	Charts         []template.HTML // of the last hour, if there is a history
	Blocks         []blockRow
	Top            site.Top
	TopError       error
	Firing         []alarms.AlertView
	Open           int
	Ended          []site.Outcome
}

// tile is a figure, and how it became what it is.
type tile struct {
	Name, Value, Note string
	Spark             template.HTML
}

type blockRow struct {
	site.BlockView
	LeaderName string
}

func (c *Console) overviewData(l *look) (any, error) {
	v := l.View
	d := &overview{LeaderName: nameOf(v, v.Leader), Members: standings(v, c.cfg.Secure), Open: len(v.Decisions)}
	for i := range d.Members {
		if d.Members[i].Up {
			d.Up++
		}
	}
	d.Top, d.TopError = c.top.get(c.cfg.Site, v)
	for _, b := range v.Blocks[:min(len(v.Blocks), pageBlocks)] {
		d.Blocks = append(d.Blocks, blockRow{b, nameOf(v, b.Leader)})
	}
	d.Ended = v.Decided[:min(len(v.Decided), pageEnded)]
	d.Map, d.Quorum = siteMap(v, d.Members), quorumBar(d.Up, v.N, v.Quorum)
	d.Mood, d.Sentence = verdict(v, d.Up)
	d.Steps = c.nextSteps(v, d)
	c.space(v, d)
	d.Tiles, d.Durations = tiles(v), durations(&v.Counters)
	c.past(l, d)
	if c.cfg.Alarms != nil {
		for _, a := range c.cfg.Alarms.View().Alarms {
			if a.State == alarms.Firing && a.Silenced == "" {
				d.Firing = append(d.Firing, a)
			}
		}
		c.alarmed(d)
	}
	return d, nil
}

// rateTile is the tile that the history has a line for.
const rateTile = "Messages a second"

// tiles are the figures of this box since it started.
func tiles(v *site.View) []tile {
	n := &v.Counters
	list := []tile{
		{Name: rateTile, Value: rateText(v.Rate), Note: countText(v.Applied) + " applied"},
		{Name: "Height", Value: countText(v.Height), Note: "revision " + countText(v.Revision)},
		{Name: "Decision, mean", Value: "none yet", Note: "of this box's own batches"},
		{Name: "May fail or lie", Value: strconv.Itoa(v.F), Note: fmt.Sprintf("of %d; %d are needed", v.N, v.Quorum)},
	}
	if n.LatencyCount > 0 {
		list[2].Value = chart.Seconds.Text(n.LatencySum.Seconds() / float64(n.LatencyCount))
		list[2].Note = "99 in 100 within " + chart.Seconds.Text(within(n, .99).Seconds())
	}
	return list
}

// within is a bound that a share of the decisions keep, from the counters' buckets.
func within(n *site.Counters, share float64) time.Duration {
	var sum uint64
	for i, k := range n.LatencyBuckets {
		if sum += k; float64(sum) >= share*float64(n.LatencyCount) && i < len(site.LatencyBounds) {
			return site.LatencyBounds[i]
		}
	}
	return site.LatencyBounds[len(site.LatencyBounds)-1]
}

// durations draws how long decisions took.
func durations(n *site.Counters) template.HTML {
	if n.LatencyCount == 0 {
		return ""
	}
	bars := chart.Bars{Title: "How long decisions took", About: "this box's batches, closed to applied, since it started", Unit: chart.Ratio}
	first, last := len(n.LatencyBuckets), 0
	for i, k := range n.LatencyBuckets {
		if k > 0 {
			first, last = min(first, i), i
		}
	}
	for i := first; i <= last; i++ {
		name := "beyond"
		if i < len(site.LatencyBounds) {
			name = "to " + chart.Seconds.Text(site.LatencyBounds[i].Seconds())
		}
		bars.Bars = append(bars.Bars, chart.Bar{Name: name, Value: float64(n.LatencyBuckets[i]) / float64(n.LatencyCount), Note: countText(n.LatencyBuckets[i])})
	}
	return bars.HTML()
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

// alarmed says where an alarm tells what to do, if nothing else is to be done.
func (c *Console) alarmed(d *overview) {
	for i := range d.Firing {
		if !d.Firing[i].Calls() {
			continue
		}
		if d.Mood == "ok" {
			d.Mood = "warn"
		}
		if len(d.Steps) == 0 {
			d.Steps = append(d.Steps, nextStep{"An alarm fires. Its page says what it means and what to do.", "/alarms", "Alarms"})
		}
	}
}

// space says when the disk of this box has little left, unless it has none, of which the verdict itself speaks.
func (c *Console) space(v *site.View, d *overview) {
	if c.cfg.Machine == nil || v.Full != "" {
		return
	}
	disk, err := c.cfg.Machine.Disk()
	if err != nil || !disk.Short() {
		return
	}
	if d.Mood == "ok" {
		d.Mood = "warn"
	}
	d.Sentence += fmt.Sprintf(" The disk of this box has only %s of %s left.", chart.Bytes.Text(float64(disk.Free)), chart.Bytes.Text(float64(disk.Total)))
	d.Steps = append(d.Steps, nextStep{"Make space on this box's disk, or let it keep less: log.retain_size, history.keep_bytes and audit.keep_bytes. When it is full the box takes nothing in.", "/boxes", "Boxes"})
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

// memberName is what people call a member.
func memberName(m *site.MemberView) string { return m.Label() }
