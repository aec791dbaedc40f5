package console

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-edge/holdfast/coord/audit"
)

const (
	// pageRecords is how many records the page lists, and pageWindow among how many it looks for those that a filter chooses: a page is
	// rendered each second while somebody looks at it, and records can only be read forward.
	pageRecords = 100
	pageWindow  = 4096
)

// auditPage is what the page of the audit log shows.
type auditPage struct {
	Query                 url.Values
	First, Size, Exported int64
	// From and To are among which records it looked; Older and Newer lead to those before and after.
	From, To     int64
	Older, Newer string
	Records      []auditRow
	More         bool // than are listed
	Heads        []headRow
}

type auditRow struct {
	audit.Entry
	Time time.Time
	Mood string
}

// headRow is the last head of a box's log that the site has signed.
type headRow struct {
	Name   string
	Self   bool
	Known  bool
	Size   int64
	Height uint64
	Signed int
	Root   string
	Since  int64 // records of this box after it
}

// Is says whether a value is chosen in the form of filters.
func (d *auditPage) Is(name, value string) bool { return d.Query.Get(name) == value }

// Filtered says whether anything is chosen.
func (d *auditPage) Filtered() bool {
	return slices.ContainsFunc([]string{"principal", "action", "resource", "outcome"}, func(k string) bool { return d.Query.Get(k) != "" })
}

func (c *Console) auditData(l *look) (any, error) {
	d := &auditPage{Query: l.request.URL.Query()}
	d.First, d.Size, d.Exported = c.cfg.Audit.Span()
	f := audit.Filter{Principal: d.Query.Get("principal"), Action: d.Query.Get("action"), Resource: d.Query.Get("resource")}
	if s := d.Query.Get("outcome"); s != "" && f.Outcome.UnmarshalText([]byte(s)) != nil {
		return nil, fmt.Errorf("%w: outcome must be allowed, denied or failed", ErrBad)
	}
	d.To = d.Size
	if s := d.Query.Get("before"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%w: before must be the number of a record", ErrBad)
		}
		d.To = min(n, d.Size)
	}
	span := int64(pageRecords)
	if d.Filtered() {
		span = pageWindow
	}
	d.From = max(d.First, d.To-span)
	err := c.cfg.Audit.Read(d.From, d.To, f, func(e *audit.Entry) bool {
		mood := map[audit.Outcome]string{audit.Allowed: "ok", audit.Denied: "warn"}[e.Outcome]
		d.Records = append(d.Records, auditRow{*e, time.UnixMilli(e.TimeMs), first(mood, "bad")})
		return true
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(d.Records) // the newest first
	if d.More = len(d.Records) > pageRecords; d.More {
		d.Records = d.Records[:pageRecords]
		d.From = d.Records[pageRecords-1].Index
	}
	if d.From > d.First {
		d.Older = d.path(d.From)
	}
	if d.To < d.Size {
		d.Newer = d.path(0)
	}
	return d, d.heads(c, l)
}

// path is this page with other records; 0: the newest.
func (d *auditPage) path(before int64) string {
	q := url.Values{}
	for _, k := range []string{"principal", "action", "resource", "outcome"} {
		if v := d.Query.Get(k); v != "" {
			q.Set(k, v)
		}
	}
	if before > 0 {
		q.Set("before", strconv.FormatInt(before, 10))
	}
	return "/audit?" + q.Encode()
}

func (d *auditPage) heads(c *Console, l *look) error {
	for i := range l.View.Members {
		m := &l.View.Members[i]
		heads, err := c.cfg.Audit.Heads(m.ID)
		if err != nil {
			return err
		}
		row := headRow{Name: memberName(m), Self: m.Self, Since: d.Size}
		if len(heads) > 0 {
			h := &heads[len(heads)-1]
			row.Known, row.Size, row.Height, row.Signed, row.Root = true, h.Size, h.Height, len(h.Sigs), h.Root.Short()
			row.Since = d.Size - h.Size
		}
		d.Heads = append(d.Heads, row)
	}
	return nil
}
