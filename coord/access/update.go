package access

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/rollout"
)

// UpdateKeys are the keys that sign firmware for a site, as its documents have them. What cannot be read signs nothing.
func UpdateKeys(docs interface {
	Docs(prefix string) []coord.Doc
},
) (list []release.Key) {
	for _, d := range docs.Docs(rollout.DocKey) {
		if k, err := release.ParseKey(string(d.Value)); err == nil {
			list = append(list, k)
		}
	}
	return list
}

// judgeUpdate judges the steps of an update of the site's firmware: each must be exactly what follows. Operators begin, stop and undo it; boxes
// say how it is with themselves.
func (c *judging) judgeUpdate(kind Action) error {
	next, err := rollout.Check(c.st, c.d)
	if err != nil {
		return wrong("%v", err)
	}
	e := next.Last
	switch {
	case kind == UpdateSite:
		head, err := release.ParseHead(written(c.d, rollout.DocBundle), UpdateKeys(c.st))
		if err != nil {
			return wrong("%v", err)
		}
		if head.ID() != next.Bundle || head.Version != next.Version {
			return wrong("it is about bundle %s, %s, and has the head of %s, %s", next.Bundle.Short(), next.Version, head.ID().Short(), head.Version)
		}
	case kind == UpdateStep && c.a.Box == nil:
		return errors.New("no box says so")
	case kind == UpdateStep && e.What.Own() && c.a.Box.ID != e.Box:
		return wrong("box %v speaks for box %v", c.a.Box.ID, e.Box)
	case kind == UpdateStep:
		return c.byItself(kind, c.a.Box.ID)
	}
	return c.byRight(kind, Site())
}

func written(d *coord.Decision, key string) []byte {
	for i := range d.Writes {
		if d.Writes[i].Key == key {
			return d.Writes[i].Value
		}
	}
	return nil
}

// judgeUpdateKey judges which keys sign firmware. One stays: without any, boxes would go by what each has in its configuration.
func (c *judging) judgeUpdateKey() error {
	var on []Resource
	for i := range c.d.Writes {
		w := &c.d.Writes[i]
		name, ok := strings.CutPrefix(w.Key, rollout.DocKey)
		if !ok || !plainName(name) || w.Seconds != 0 {
			return wrong("it writes %s", w.Key)
		}
		if old, exists := c.st.Doc(w.Key); w.Was != old.Version || w.Value == nil && !exists {
			return fmt.Errorf("%s is not as it was when this was made", w.Key)
		}
		if w.Value != nil {
			if _, err := release.ParseKey(string(w.Value)); err != nil {
				return wrong("%s: %v", w.Key, err)
			}
		}
		on = append(on, Document(w.Key))
	}
	if n := len((after{c.st, c.d.Writes}).Docs(rollout.DocKey)); len(on) == 0 || n == 0 || n > rollout.KeysMax {
		return wrong("it would leave %d keys; 1 to %d are possible", n, rollout.KeysMax)
	}
	return c.byRight(UpdateKey, on...)
}
