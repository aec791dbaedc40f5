package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Names of documents.
const (
	DocRole     = "role/"
	DocPolicy   = "policy/"
	DocGrant    = "grant/"
	DocOperator = "operator/"
	DocSetting  = "setting/"
	DocRevoked  = "token/revoked/"
	DocEpoch    = "token/epoch"

	SettingJoins     = DocSetting + "joins"
	SettingExpulsion = DocSetting + "expulsion"
	SettingClient    = DocSetting + "client"
)

// Limits of roles and grants.
const (
	RolesMax  = 128
	GrantsMax = 4096
	// roleBytesMax bounds one of their documents.
	roleBytesMax = 4 << 10
	// grantRolesMax bounds the roles of a principal, and those that a role is in.
	grantRolesMax = 16
)

// Names of the roles that ship.
const (
	RoleViewer   = "viewer"
	RoleOperator = "operator"
	RoleAdmin    = "admin"
	RoleProgram  = "program"
)

// RoleDoc is the document role/NAME: a role of the site's own. Which rights it has is what policies say of it and of the roles that it is in.
type RoleDoc struct {
	About string   `json:"about"`
	In    []string `json:"in,omitempty"`
}

// GrantDoc is the document grant/PRINCIPAL.
type GrantDoc struct {
	Roles []string `json:"roles"`
}

// builtin are the roles and policies that ship. They cannot be changed; a forbid of the site's own goes before them.
var builtin = []struct {
	name, policy string
	RoleDoc
}{
	{
		RoleAdmin, `permit (principal in Role::"admin", action, resource);`,
		RoleDoc{"everything, and say who may do what", []string{RoleOperator}},
	},
	{
		RoleOperator, `permit (principal in Role::"operator", action in [Action::"read", Action::"write", Action::"operate"], resource);`,
		RoleDoc{"run the site: members, boxes, keys, tokens; not who may do what", []string{RoleViewer}},
	},
	{
		RoleProgram, `permit (principal in Role::"program", action in [Action::"read", Action::"write"], resource);`,
		RoleDoc{"use keys and leases", nil},
	},
	{
		RoleViewer, `permit (principal in Role::"viewer", action in Action::"view", resource);`,
		RoleDoc{"see how the site is; not what programs keep in it", nil},
	},
}

func builtinRole(name string) bool {
	return slices.ContainsFunc(builtin, func(b struct {
		name, policy string
		RoleDoc
	},
	) bool {
		return b.name == name
	})
}

// strictJSON reads one JSON value with known fields only and nothing after it.
func strictJSON(b []byte, bytesMax int, into any) error {
	if len(b) > bytesMax {
		return fmt.Errorf("%d bytes where %d can be", len(b), bytesMax)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

// ReadRole reads role/NAME. The error is ErrRole.
func ReadRole(name string, value []byte) (*RoleDoc, error) {
	r := new(RoleDoc)
	if err := strictJSON(value, roleBytesMax, r); err != nil {
		return nil, fmt.Errorf("%w: %s%s: %w", ErrRole, DocRole, name, err)
	}
	switch {
	case !plainName(name):
		return nil, fmt.Errorf("%w: its name is %.100q; use letters, digits and . _ - @", ErrRole, name)
	case builtinRole(name):
		return nil, fmt.Errorf("%w: %s ships with the product and is not changed", ErrRole, name)
	case len(r.In) > grantRolesMax || !slices.IsSorted(r.In) || len(slices.Compact(slices.Clone(r.In))) != len(r.In):
		return nil, fmt.Errorf("%w: %s: the roles that it is in are at most %d, in order and each once", ErrRole, name, grantRolesMax)
	}
	return r, nil
}

// ReadGrant reads grant/PRINCIPAL. The error is ErrRole, or ErrPrincipal.
func ReadGrant(principal string, value []byte) (*GrantDoc, error) {
	if err := CheckPrincipal(principal); err != nil {
		return nil, err
	}
	g := new(GrantDoc)
	if err := strictJSON(value, roleBytesMax, g); err != nil {
		return nil, fmt.Errorf("%w: %s%s: %w", ErrRole, DocGrant, principal, err)
	}
	if n := len(g.Roles); n == 0 || n > grantRolesMax || !slices.IsSorted(g.Roles) || len(slices.Compact(slices.Clone(g.Roles))) != n {
		return nil, fmt.Errorf("%w: %s%s: 1 to %d roles, in order and each once", ErrRole, DocGrant, principal, grantRolesMax)
	}
	return g, nil
}

// roleGraph is which roles exist and which they are in.
type roleGraph map[string][]string

// closure are the roles that a principal with these has: they, and those that they are in, in order and each once. Names of roles that do
// not exist stay: policies may speak of them.
func (g roleGraph) closure(roles []string) []string {
	seen := map[string]bool{}
	for todo := slices.Clone(roles); len(todo) > 0; {
		r := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !seen[r] {
			seen[r] = true
			todo = append(todo, g[r]...)
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// circular says whether a role is in itself.
func (g roleGraph) circular(name string) bool { return slices.Contains(g.closure(g[name]), name) }

// rolesText is a list of roles for people.
func rolesText(roles []string) string {
	if len(roles) == 0 {
		return "no role"
	}
	return strings.Join(roles, ", ")
}
