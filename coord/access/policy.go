package access

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Limits of policies. They bound what a box spends on compiling and judging whatever operators write.
const (
	// PolicyBytesMax bounds the text of one document; a policy of a few lines is 300 bytes.
	PolicyBytesMax = 8 << 10
	// StatementsMax bounds the statements of one document.
	StatementsMax = 16
	// PoliciesMax bounds the documents.
	PoliciesMax = 128
	// policyDepthMax bounds how deep brackets nest and how many signs stand in a row: the parser recurses.
	policyDepthMax = 32
)

// statement is one permit or forbid, with its scope taken apart.
type statement struct {
	name   string
	forbid bool
	policy *cedar.Policy

	principal scope
	actions   actionSet
	resource  scope

	// conditional: it has when or unless, which only Cedar can judge; onResource: they look at the resource.
	conditional, onResource bool
}

// scope is what a statement says about its principal or resource. Zero fields do not matter; all given must hold.
type scope struct {
	none bool // it can match nothing that exists here
	is   types.EntityType
	eq   types.EntityUID // the entity itself
	in   types.EntityUID // the entity itself, or one that it belongs to
}

// The types of entities in policies.
const (
	typeAction = types.EntityType("Action")
	typeRole   = types.EntityType("Role")
	typePrefix = types.EntityType("Prefix")
	typeArea   = types.EntityType("Docs")
)

var principalTypes = [...]struct {
	kind string
	typ  types.EntityType
}{{Operator, "Operator"}, {Program, "Program"}, {Box, "Box"}, {TokenOf, "Token"}}

func isPrincipalType(t types.EntityType) bool {
	for i := range principalTypes {
		if principalTypes[i].typ == t {
			return true
		}
	}
	return false
}

func isResourceType(t types.EntityType) bool {
	for i := range resourceNames {
		if types.EntityType(resourceNames[i].cedar) == t {
			return true
		}
	}
	return false
}

// CheckPolicy says whether text may be stored as policy/NAME: Cedar, within the limits, and about things that exist here. The error is
// ErrPolicy and says where.
func CheckPolicy(name, text string) error {
	if !plainName(name) {
		return fmt.Errorf("%w: its name is %.100q; use letters, digits and . _ - @", ErrPolicy, name)
	}
	_, err := parsePolicy("policy/"+name, text, true)
	return err
}

// parsePolicy reads the statements of a document. With strict, what can match nothing here is an error, because it is a typing error;
// without, a permit for it permits nothing: a newer release may know more. What forbids must be understood.
func parsePolicy(name, text string, strict bool) ([]*statement, error) {
	if err := bounded(text); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPolicy, name, err)
	}
	list, err := cedar.NewPolicyListFromBytes("", []byte(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPolicy, name, err)
	}
	if len(list) == 0 || len(list) > StatementsMax {
		return nil, fmt.Errorf("%w: %s: %d statements where 1 to %d can be", ErrPolicy, name, len(list), StatementsMax)
	}
	out := make([]*statement, len(list))
	for i, p := range list {
		s := &statement{name: name, forbid: p.Effect() == cedar.Forbid, policy: p}
		if len(list) > 1 {
			s.name = fmt.Sprintf("%s#%d", name, i+1)
		}
		if err := s.take((*ast.Policy)(p.AST()), strict); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPolicy, s.name, err)
		}
		out[i] = s
	}
	return out, nil
}

// bounded looks at what the parser would spend before it is called.
func bounded(text string) error {
	if len(text) > PolicyBytesMax {
		return fmt.Errorf("%d bytes where %d can be", len(text), PolicyBytesMax)
	}
	if !utf8.ValidString(text) {
		return errors.New("it is not UTF-8")
	}
	// Brackets in texts and comments count, too: better too strict than a second scanner.
	depth, deepest, signs := 0, 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(', '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ')', ']', '}':
			depth--
		case '!', '-':
			signs++
			if signs > policyDepthMax {
				return fmt.Errorf("more than %d signs in a row", policyDepthMax)
			}
			continue
		case ' ', '\t', '\n', '\r':
			continue
		}
		signs = 0
	}
	if ifs := strings.Count(text, "if"); deepest > policyDepthMax || ifs > 8*policyDepthMax {
		return fmt.Errorf("it nests deeper than %d, or has too many conditions", policyDepthMax)
	}
	return nil
}

// take reads scope and conditions.
func (s *statement) take(p *ast.Policy, strict bool) error {
	s.principal = scopeOf(p.Principal)
	s.resource = scopeOf(p.Resource)
	var unknown []string
	if sc := &s.principal; sc.is != "" && !isPrincipalType(sc.is) || !sc.eq.IsZero() && !isPrincipalType(sc.eq.Type) ||
		!sc.in.IsZero() && sc.in.Type != typeRole && !isPrincipalType(sc.in.Type) {
		sc.none = true
		unknown = append(unknown, "principals are Operator, Program, Box and Token, and they are in Role")
	}
	if sc := &s.resource; sc.is != "" && !isResourceType(sc.is) || !sc.eq.IsZero() && !isResourceType(sc.eq.Type) ||
		!sc.in.IsZero() && sc.in.Type != typePrefix && sc.in.Type != typeArea {
		sc.none = true
		unknown = append(unknown, "resources are Site, Key, Box, Role, Operator, Doc, Token, Decision and Session; keys are in a Prefix and documents in Docs")
	}
	for _, uid := range actionsIn(p.Action) {
		set, ok := namedActions(string(uid.ID))
		if in := isGroup(string(uid.ID)); uid.Type != typeAction || !ok || in && isEq(p.Action) {
			unknown = append(unknown, fmt.Sprintf("there is no action %v", uid))
			continue
		}
		for i := range set {
			s.actions[i] |= set[i]
		}
	}
	if _, all := p.Action.(ast.ScopeTypeAll); all {
		for a := noAction + 1; a < actions; a++ {
			s.actions.add(a)
		}
	}
	if len(unknown) > 0 && (strict || s.forbid) {
		return errors.New(strings.Join(unknown, "; "))
	}
	s.conditional = len(p.Conditions) > 0
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeTypeVariable); ok && v.Name == "resource" {
				s.onResource = true
			}
			return true
		})
	}
	return nil
}

func isGroup(name string) bool { return !strings.Contains(name, ".") }

func isEq(a ast.IsActionScopeNode) bool {
	_, eq := a.(ast.ScopeTypeEq)
	return eq
}

func actionsIn(a ast.IsActionScopeNode) []types.EntityUID {
	switch t := a.(type) {
	case ast.ScopeTypeEq:
		return []types.EntityUID{t.Entity}
	case ast.ScopeTypeIn:
		return []types.EntityUID{t.Entity}
	case ast.ScopeTypeInSet:
		return t.Entities
	}
	return nil
}

func scopeOf(n ast.IsScopeNode) scope {
	switch t := n.(type) {
	case ast.ScopeTypeEq:
		return scope{eq: t.Entity}
	case ast.ScopeTypeIn:
		return scope{in: t.Entity}
	case ast.ScopeTypeIs:
		return scope{is: t.Type}
	case ast.ScopeTypeIsIn:
		return scope{is: t.Type, in: t.Entity}
	}
	return scope{}
}
