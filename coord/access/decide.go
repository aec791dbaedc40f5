package access

import (
	"fmt"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
)

// Verdict is the answer to whether somebody may do something. It holds what it was asked.
type Verdict struct {
	Allowed bool
	// Policy is the name of the policy, document or token that decided; empty if no policy permits it.
	Policy    string
	Principal string
	Action    Action
	Resource  Resource
	// Roles are those that the principal has. They are shared: the caller must not change them.
	Roles []string
	// Note says more, where there is more to say.
	Note string
}

// Denial is the error of a verdict; it is ErrDenied.
type Denial struct{ Verdict Verdict }

// Error says who may not do what, and why.
func (d *Denial) Error() string {
	v := &d.Verdict
	return fmt.Sprintf("denied: %s may not %s on %v: %s", v.Principal, v.Action, v.Resource, v.Reason())
}

// Is makes every Denial ErrDenied.
func (d *Denial) Is(target error) bool { return target == ErrDenied }

// Err is nil if the verdict is yes, and else a *Denial.
func (v Verdict) Err() error {
	if v.Allowed {
		return nil
	}
	return &Denial{v}
}

// Reason says which policy decided, or that none permits it and which roles the principal has.
func (v *Verdict) Reason() string {
	switch {
	case v.Note != "" && v.Policy != "":
		return v.Policy + ": " + v.Note
	case v.Note != "":
		return v.Note
	case v.Allowed:
		return "permitted by " + v.Policy
	case v.Policy != "":
		return "forbidden by " + v.Policy
	}
	return fmt.Sprintf("no policy permits it; %s has %s", v.Principal, rolesText(v.Roles))
}

// Decide says whether a principal may do an action on a resource. It allocates nothing unless policies with conditions apply.
//
// A range of keys may be done what one policy permits on all of it and none forbids on a part of it.
func (r *Rules) Decide(principal string, action Action, resource Resource) Verdict {
	p := r.profile(principal)
	v := Verdict{Principal: principal, Action: action, Resource: resource, Roles: p.roles}
	switch {
	case p.deny != "":
		v.Policy, v.Note = p.deny, p.note
		return v
	case r.locked != "" && !mends(action):
		v.Policy, v.Note = r.locked, "it cannot be read and might forbid this; until it is set again, one may only see things and change policies and roles"
		return v
	case action >= actions || resource.Kind >= resourceKinds:
		return v
	}
	t := &p.tables[action][resource.Kind]
	if len(t.cond) > 0 {
		r.decideAsking(t, &v)
		return v
	}
	if resource.End == "" {
		v.take(t.forbids.find(resource.Name), t.forbidAll, t.permits.find(resource.Name), t.permitAll)
	} else {
		v.take(t.forbids.touches(resource.Name, resource.End), t.forbidAll, t.permits.covers(resource.Name, resource.End), t.permitAll)
	}
	return v
}

// take lets the first forbid decide, or else the first permit.
func (v *Verdict) take(forbid, forbidAll, permit, permitAll *statement) {
	switch {
	case forbid != nil:
		v.Policy = forbid.name
	case forbidAll != nil:
		v.Policy = forbidAll.name
	case permitAll != nil:
		v.Allowed, v.Policy = true, permitAll.name
	case permit != nil:
		v.Allowed, v.Policy = true, permit.name
	}
}

// decideAsking is Decide where statements with conditions apply: Cedar judges these. A forbid that cannot be evaluated forbids. Conditions
// about the resource say nothing of a range: a permit does not count then, and a forbid does.
func (r *Rules) decideAsking(t *kindTable, v *Verdict) {
	q := &request{rules: r, principal: principalUID(v.Principal), roles: v.Roles, resource: v.Resource}
	isRange := v.Resource.End != ""
	var permit *statement
	for _, s := range t.cond {
		if !s.forbid && (permit != nil || isRange && !s.coversRange(v.Resource)) || s.forbid && isRange && !s.touchesRange(v.Resource) {
			continue
		}
		if s.forbid && isRange && s.onResource {
			v.Policy, v.Note = s.name, "its condition cannot be judged for a range of keys"
			return
		}
		applies, failed := q.about(s, v.Resource).holds(s, v.Action)
		switch {
		case s.forbid && failed:
			v.Policy, v.Note = s.name, "it cannot be evaluated, so it forbids"
			return
		case s.forbid && applies:
			v.Policy = s.name
			return
		case applies:
			permit = s
		}
	}
	res := v.Resource
	if isRange {
		v.take(t.forbids.touches(res.Name, res.End), t.forbidAll, t.permits.covers(res.Name, res.End), t.permitAll)
	} else {
		v.take(t.forbids.find(res.Name), t.forbidAll, t.permits.find(res.Name), t.permitAll)
	}
	if v.Policy == "" && permit != nil {
		v.Allowed, v.Policy = true, permit.name
	}
}

// about makes it a question about a key that the scope of s is about, where r is a range that touches it.
func (q *request) about(s *statement, r Resource) *request {
	q.resource = r
	for _, uid := range []cedar.EntityUID{s.resource.eq, s.resource.in} {
		if r.End != "" && !strings.HasPrefix(r.Name, string(uid.ID)) {
			q.resource = Key(string(uid.ID))
		}
	}
	return q
}

// coversRange says whether a permit with conditions can be about all of a range.
func (s *statement) coversRange(r Resource) bool {
	if s.onResource || !s.resource.eq.IsZero() {
		return false
	}
	return s.resource.in.IsZero() || s.resource.in.Type == typePrefix && strings.HasPrefix(r.Name, string(s.resource.in.ID)) && within(string(s.resource.in.ID), r.End)
}

// touchesRange says whether a forbid with conditions can be about a key of a range.
func (s *statement) touchesRange(r Resource) bool {
	one := func(name string) bool { return name >= r.Name && below(name, r.End) }
	switch {
	case !s.resource.eq.IsZero():
		return one(string(s.resource.eq.ID))
	case s.resource.in.IsZero():
		return true
	case s.resource.in.Type == typePrefix:
		return strings.HasPrefix(r.Name, string(s.resource.in.ID)) || one(string(s.resource.in.ID))
	}
	return one(string(s.resource.in.ID))
}

// mends are the actions that stay while a document cannot be read: what is needed to see that and to mend it.
func mends(a Action) bool {
	switch a {
	case PolicyPut, PolicyRemove, RolePut, RoleRemove, DecisionApprove:
		return true
	}
	return a.Class() == ClassView
}

func (r *Rules) profile(principal string) *profile {
	if p := r.principals[principal]; p != nil {
		return p
	}
	if i := strings.IndexByte(principal, ':'); i > 0 {
		if p := r.others[principal[:i]]; p != nil {
			return p
		}
	}
	return &nobody
}

var nobody = profile{tables: emptyTables()}

func emptyTables() *[actions]*table {
	t := new([actions]*table)
	none := new(table)
	for a := range t {
		t[a] = none
	}
	return t
}

// Explanation is a verdict with all that Cedar says about the question.
type Explanation struct {
	Allowed   bool     `json:"allowed"`
	Principal string   `json:"principal"`
	Action    string   `json:"action"`
	Resource  string   `json:"resource"`
	Policy    string   `json:"policy,omitempty"`
	Reason    string   `json:"reason"`
	Roles     []string `json:"roles"`
	// Permits and Forbids are the names of all statements that apply, Errors those that could not be evaluated. Of a range they are about
	// its first key.
	Permits []string `json:"permits"`
	Forbids []string `json:"forbids"`
	Errors  []string `json:"errors,omitempty"`
}

// Explain is Decide for people: it asks Cedar about every policy.
func (r *Rules) Explain(principal string, action Action, resource Resource) *Explanation {
	v := r.Decide(principal, action, resource)
	e := &Explanation{
		Allowed: v.Allowed, Principal: principal, Action: action.String(), Resource: resource.String(), Policy: v.Policy, Reason: v.Reason(),
		Roles: append([]string{}, v.Roles...), Permits: []string{}, Forbids: []string{},
	}
	q := &request{rules: r, principal: principalUID(principal), roles: v.Roles, resource: resource}
	for _, s := range r.statements {
		_, diag := cedar.Authorize(one{cedar.PolicyID(s.name), s.policy}, q, q.cedar(action))
		switch {
		case len(diag.Errors) > 0:
			e.Errors = append(e.Errors, s.name+": "+diag.Errors[0].Message)
		case len(diag.Reasons) == 0:
		case s.forbid:
			e.Forbids = append(e.Forbids, s.name)
		default:
			e.Permits = append(e.Permits, s.name)
		}
	}
	slices.Sort(e.Permits)
	slices.Sort(e.Forbids)
	return e
}
