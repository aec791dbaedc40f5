package access

import (
	"iter"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// What Cedar is told: entities are made when it asks for them.

func cedarType(kind string) types.EntityType {
	for i := range principalTypes {
		if principalTypes[i].kind == kind {
			return principalTypes[i].typ
		}
	}
	return ""
}

// principalOf is the principal that Cedar calls uid.
func principalOf(uid types.EntityUID) (string, bool) {
	for i := range principalTypes {
		if principalTypes[i].typ == uid.Type {
			return principalTypes[i].kind + ":" + string(uid.ID), true
		}
	}
	return "", false
}

func principalUID(principal string) types.EntityUID {
	kind, name, _ := strings.Cut(principal, ":")
	return types.NewEntityUID(cedarType(kind), types.String(name))
}

// uid is how Cedar names the resource; of a range it is its first key.
func (r Resource) uid() types.EntityUID {
	if r.Kind == KindSite || r.Kind >= resourceKinds {
		return types.NewEntityUID("Site", "site")
	}
	return types.NewEntityUID(types.EntityType(resourceNames[r.Kind].cedar), types.String(r.Name))
}

// request is one question to Cedar, and the entities that it is about.
type request struct {
	rules     *Rules
	principal types.EntityUID
	roles     []string
	resource  Resource
}

// Get gives the entities: principals are in their roles, roles in the roles that they are in, actions in their area and class, keys in the
// prefixes that policies speak of and documents in the areas. A principal, key, box or document has a name.
func (q *request) Get(uid types.EntityUID) (types.Entity, bool) {
	e := types.Entity{UID: uid}
	var parents []types.EntityUID
	named := types.NewRecord(types.RecordMap{"name": uid.ID})
	switch {
	case uid == q.principal:
		for _, r := range q.roles {
			parents = append(parents, types.NewEntityUID(typeRole, types.String(r)))
		}
		e.Attributes = named
	case uid.Type == typeAction:
		a, ok := ParseAction(string(uid.ID))
		if !ok {
			return e, false
		}
		parents = []types.EntityUID{
			types.NewEntityUID(typeAction, types.String(a.Area())), types.NewEntityUID(typeAction, types.String(a.Class().String())),
		}
	case uid.Type == typeRole && uid != q.resource.uid():
		for _, r := range q.rules.graph[string(uid.ID)] {
			parents = append(parents, types.NewEntityUID(typeRole, types.String(r)))
		}
	case uid == q.resource.uid():
		e.Attributes = named
		for _, p := range q.rules.prefixes {
			of := p.Type == typePrefix && q.resource.Kind == KindKey || p.Type == typeArea && q.resource.Kind == KindDoc
			if of && strings.HasPrefix(q.resource.Name, string(p.ID)) {
				parents = append(parents, p)
			}
		}
	case isPrincipalType(uid.Type) || isResourceType(uid.Type):
		e.Attributes = named
	default:
		return e, false
	}
	e.Parents = types.NewEntityUIDSet(parents...)
	return e, true
}

// one is a set of one policy.
type one struct {
	id     cedar.PolicyID
	policy *cedar.Policy
}

func (o one) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) { yield(o.id, o.policy) }
}

func (q *request) cedar(a Action) cedar.Request {
	return cedar.Request{
		Principal: q.principal, Action: types.NewEntityUID(typeAction, types.String(a.String())), Resource: q.resource.uid(),
		Context: types.NewRecord(nil),
	}
}

// holds asks Cedar whether a statement applies; failed says that it could not be evaluated.
func (q *request) holds(s *statement, a Action) (applies, failed bool) {
	_, diag := cedar.Authorize(one{cedar.PolicyID(s.name), s.policy}, q, q.cedar(a))
	return len(diag.Reasons) > 0, len(diag.Errors) > 0
}

// collectPrefixes finds the prefixes and areas that policies speak of, wherever in them.
func (r *Rules) collectPrefixes() {
	add := func(uid types.EntityUID) {
		if (uid.Type == typePrefix || uid.Type == typeArea) && !slices.Contains(r.prefixes, uid) {
			r.prefixes = append(r.prefixes, uid)
		}
	}
	for _, s := range r.statements {
		add(s.resource.in)
		for _, c := range (*ast.Policy)(s.policy.AST()).Conditions {
			ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
				if v, ok := n.(ast.NodeValue); ok {
					walkValue(v.Value, add)
				}
				return true
			})
		}
	}
}

func walkValue(v types.Value, visit func(types.EntityUID)) {
	switch t := v.(type) {
	case types.EntityUID:
		visit(t)
	case types.Set:
		for x := range t.All() {
			walkValue(x, visit)
		}
	case types.Record:
		for _, x := range t.All() {
			walkValue(x, visit)
		}
	}
}
