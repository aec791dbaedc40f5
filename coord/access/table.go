package access

import (
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
)

// table is what one principal's statements about one action say, by kind of resource. Tables are shared by all that have the same statements.
type table [resourceKinds]kindTable

// kindTable holds statements by number; none is -1. Statements with conditions stand in cond and are judged one by one.
type kindTable struct {
	permitAll, forbidAll *statement
	permits, forbids     names
	cond                 []*statement
}

// names finds the statement about a name: one that names it, or one of a prefix of it. Prefixes that begin with another one are left out:
// what is said of the shorter holds for them. So the only prefix that can fit stands right before the name.
type names struct {
	exact    []named
	prefixes []named
}

type named struct {
	name string
	s    *statement
}

func (n *names) add(s *statement, name string, prefix bool) {
	if prefix {
		n.prefixes = append(n.prefixes, named{name, s})
	} else {
		n.exact = append(n.exact, named{name, s})
	}
}

func (n *names) sort() {
	order := func(a, b named) int { return strings.Compare(a.name, b.name) }
	slices.SortStableFunc(n.exact, order)
	n.exact = slices.CompactFunc(n.exact, func(a, b named) bool { return a.name == b.name })
	slices.SortStableFunc(n.prefixes, order)
	kept := n.prefixes[:0]
	for _, p := range n.prefixes {
		if len(kept) == 0 || !strings.HasPrefix(p.name, kept[len(kept)-1].name) {
			kept = append(kept, p)
		}
	}
	n.prefixes = kept
}

// firstAbove is the place of the first that is above name.
func firstAbove(list []named, name string) int {
	lo, hi := 0, len(list)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if list[m].name <= name {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// find is the statement about one name, or nil.
func (n *names) find(name string) *statement {
	if len(n.exact) > 0 {
		if i := firstAbove(n.exact, name); i > 0 && n.exact[i-1].name == name {
			return n.exact[i-1].s
		}
	}
	if len(n.prefixes) > 0 {
		if i := firstAbove(n.prefixes, name); i > 0 && strings.HasPrefix(name, n.prefixes[i-1].name) {
			return n.prefixes[i-1].s
		}
	}
	return nil
}

// covers is the statement about all of a range, or nil.
func (n *names) covers(start, end string) *statement {
	if i := firstAbove(n.prefixes, start); i > 0 && strings.HasPrefix(start, n.prefixes[i-1].name) && within(n.prefixes[i-1].name, end) {
		return n.prefixes[i-1].s
	}
	return nil
}

// touches is a statement about something in a range, or nil.
func (n *names) touches(start, end string) *statement {
	if s := n.find(start); s != nil {
		return s
	}
	for _, list := range [][]named{n.exact, n.prefixes} {
		if i := firstAbove(list, start); i < len(list) && below(list[i].name, end) {
			return list[i].s
		}
	}
	return nil
}

// compiler makes tables and remembers those that it made.
type compiler struct {
	rules  *Rules
	tables map[string]*table           // by the numbers of their statements
	sets   map[string]*[actions]*table // by the numbers of the principal's statements
}

// tablesFor are the tables of a principal: kind:name, or kind: for those of that kind whom nothing names.
func (c *compiler) tablesFor(principal string, roles []string) *[actions]*table {
	kind, name, _ := strings.Cut(principal, ":")
	typ := cedarType(kind)
	var mine []int
	var id []byte
	for i, s := range c.rules.statements {
		if s.principal.fits(typ, name, roles) {
			mine = append(mine, i)
			id = append(id, byte(i), byte(i>>8))
		}
	}
	if t := c.sets[string(id)]; t != nil {
		return t
	}
	t := new([actions]*table)
	for a := range actions {
		t[a] = c.tableFor(a, mine)
	}
	c.sets[string(id)] = t
	return t
}

func (c *compiler) tableFor(a Action, among []int) *table {
	var id []byte
	var mine []*statement
	for _, i := range among {
		if s := c.rules.statements[i]; s.actions.has(a) && !s.resource.none {
			mine = append(mine, s)
			id = append(id, byte(i), byte(i>>8))
		}
	}
	if t := c.tables[string(id)]; t != nil {
		return t
	}
	t := new(table)
	for k := range t {
		for _, s := range mine {
			t[k].add(s, ResourceKind(k))
		}
		t[k].permits.sort()
		t[k].forbids.sort()
	}
	c.tables[string(id)] = t
	return t
}

// add takes a statement as far as it is about this kind of resource.
func (t *kindTable) add(s *statement, k ResourceKind) {
	typ := types.EntityType(resourceNames[k].cedar)
	r := &s.resource
	if r.is != "" && r.is != typ {
		return
	}
	name, prefix, all := "", false, false
	switch {
	case !r.eq.IsZero():
		if r.eq.Type != typ {
			return
		}
		name = string(r.eq.ID)
		if k == KindSite { // there is one, and it has no name to be found by
			if r.eq != Site().uid() {
				return
			}
			all = true
		}
	case r.in.IsZero():
		all = true
	case r.in.Type == typePrefix && k == KindKey, r.in.Type == typeArea && k == KindDoc:
		name, prefix = string(r.in.ID), true
		all = name == ""
	default:
		return
	}
	to, every := &t.permits, &t.permitAll
	if s.forbid {
		to, every = &t.forbids, &t.forbidAll
	}
	switch {
	case s.conditional:
		t.cond = append(t.cond, s)
	case !all:
		to.add(s, name, prefix)
	case *every == nil:
		*every = s
	}
}

// fits says whether a principal is in the scope.
func (s *scope) fits(typ types.EntityType, name string, roles []string) bool {
	if s.none || s.is != "" && s.is != typ {
		return false
	}
	itself := func(uid types.EntityUID) bool { return uid.Type == typ && string(uid.ID) == name && name != "" }
	if !s.eq.IsZero() && !itself(s.eq) {
		return false
	}
	if s.in.IsZero() || itself(s.in) {
		return true
	}
	_, has := slices.BinarySearch(roles, string(s.in.ID))
	return s.in.Type == typeRole && has
}
