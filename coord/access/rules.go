package access

import (
	"crypto/ecdsa"
	"fmt"
	"slices"
	"strconv"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"

	"github.com/holdfast-edge/holdfast/coord"
)

// Rules are a site's documents about access, ready to answer. They are immutable and may be used by many goroutines; when a document changes
// (coord/state.Machine.DocsVersion), others are made.
type Rules struct {
	site       coord.SiteID
	statements []*statement
	prefixes   []cedar.EntityUID // that policies speak of
	graph      roleGraph
	roles      []RoleInfo
	grants     map[string][]string // as they stand in the documents, and what ships
	faults     []Fault
	// locked, if not empty, is the document that cannot be read and so might forbid anything.
	locked string

	principals map[string]*profile
	others     map[string]*profile // by kind, for those that no document names

	epoch    uint64
	revoked  map[TokenID]bool
	keys     map[string]*ecdsa.PublicKey // of operators and boxes, by principal
	settings map[string]string
}

// profile is what a principal may do.
type profile struct {
	roles []string
	// note, if not empty, says why the principal may do nothing at all, and deny which document says so.
	note, deny string
	tables     *[actions]*table
}

// Fault is a document that cannot be read.
type Fault struct {
	Doc string `json:"doc"`
	Err string `json:"error"`
}

// RoleInfo is a role, with its policies if it ships.
type RoleInfo struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	In      []string `json:"in,omitempty"`
	Builtin bool     `json:"builtin,omitempty"`
	Policy  string   `json:"policy,omitempty"`
}

// DocPrefixes are what the keys of all documents begin with that Compile looks at.
func DocPrefixes() []string {
	return []string{DocRole, DocPolicy, DocGrant, DocOperator, DocSetting, "token/"}
}

// State is what is read of a site; coord/state.Machine has it. Documents and members are not changed.
type State interface {
	Doc(key string) (coord.Doc, bool)
	Docs(prefix string) []coord.Doc
	Members() *coord.Members
	Seconds() uint64
}

// RulesOf are the rules that a site has now.
func RulesOf(st State) *Rules {
	var docs []coord.Doc
	for _, p := range DocPrefixes() {
		docs = append(docs, st.Docs(p)...)
	}
	return Compile(st.Members(), docs)
}

// Compile makes rules of documents; those about other things are passed over. members are the boxes, whose keys may sign tokens.
//
// It never fails, for a site must be able to mend its documents. What cannot be read is a Fault and counts against, not for: a
// principal whose grant cannot be read may do nothing, and while a policy or role cannot be read, nobody may do anything but see
// and change policies and roles.
func Compile(members *coord.Members, docs []coord.Doc) *Rules {
	if members == nil { // a site that has not told its box who is in it
		members = &coord.Members{}
	}
	r := &Rules{
		site: members.Site, graph: roleGraph{}, grants: map[string][]string{}, principals: map[string]*profile{},
		others: map[string]*profile{}, revoked: map[TokenID]bool{}, keys: map[string]*ecdsa.PublicKey{}, settings: map[string]string{},
	}
	for i := range builtin {
		b := &builtin[i]
		r.graph[b.name] = b.In
		r.roles = append(r.roles, RoleInfo{Name: b.name, About: b.About, In: b.In, Builtin: true, Policy: b.policy})
		// Their text is tested: it does parse.
		list, err := parsePolicy("builtin/"+b.name, b.policy, true)
		if err != nil {
			r.lock("builtin/"+b.name, err)
		}
		r.statements = append(r.statements, list...)
	}
	denied := map[string]string{} // principal: the document that cannot be read, or says no
	counts := map[string]int{}
	for i := range docs {
		r.read(&docs[i], denied, counts)
	}
	r.members(members)
	r.grants[Root] = []string{RoleAdmin}
	if r.settings[SettingClient] != ClientToken {
		r.grants[Anyone] = append(slices.Clone(r.grants[Anyone]), RoleProgram)
	}
	r.collectPrefixes()
	slices.SortFunc(r.roles, func(a, b RoleInfo) int { return strings.Compare(a.Name, b.Name) })
	r.profiles(denied)
	return r
}

func (r *Rules) fault(doc string, err error) {
	r.faults = append(r.faults, Fault{Doc: doc, Err: err.Error()})
}

func (r *Rules) lock(doc string, err error) {
	r.fault(doc, err)
	if r.locked == "" {
		r.locked = doc
	}
}

// read takes one document.
func (r *Rules) read(d *coord.Doc, denied map[string]string, counts map[string]int) {
	area, name, _ := strings.Cut(d.Key, "/")
	counts[area]++
	switch area + "/" {
	case DocPolicy:
		list, err := parsePolicy(d.Key, string(d.Value), false)
		if err == nil && counts[area] > PoliciesMax {
			err = fmt.Errorf("%w: more than %d", ErrPolicy, PoliciesMax)
		}
		if err != nil {
			r.lock(d.Key, err)
			return
		}
		r.statements = append(r.statements, list...)
	case DocRole:
		role, err := ReadRole(name, d.Value)
		if err == nil && counts[area] > RolesMax {
			err = fmt.Errorf("%w: more than %d", ErrRole, RolesMax)
		}
		if err != nil {
			r.lock(d.Key, err)
			return
		}
		r.graph[name] = role.In
		r.roles = append(r.roles, RoleInfo{Name: name, About: role.About, In: role.In})
	case DocGrant:
		g, err := ReadGrant(name, d.Value)
		if err == nil && counts[area] > GrantsMax {
			err = fmt.Errorf("%w: more than %d grants", ErrRole, GrantsMax)
		}
		if err != nil {
			r.fault(d.Key, err)
			denied[name] = d.Key
			return
		}
		r.grants[name] = g.Roles
	case DocOperator:
		r.readOperator(d, name, denied)
	case DocSetting:
		r.settings[d.Key] = settingValue(d)
	case "token/":
		r.readToken(d)
	}
}

func (r *Rules) readOperator(d *coord.Doc, name string, denied map[string]string) {
	who := Operator + ":" + name
	o, err := ReadOperator(name, d.Value)
	if err != nil {
		r.fault(d.Key, err)
		denied[who] = d.Key
		return
	}
	if o.Disabled {
		denied[who] = d.Key
		return
	}
	r.keys[who] = o.key
}

func (r *Rules) readToken(d *coord.Doc) {
	if d.Key == DocEpoch {
		n, err := strconv.ParseUint(string(d.Value), 10, 64)
		if err != nil {
			r.fault(d.Key, fmt.Errorf("not a number: %.40q", d.Value))
			n = ^uint64(0) // no token is of it
		}
		r.epoch = n
		return
	}
	if id, err := ParseTokenID(strings.TrimPrefix(d.Key, DocRevoked)); err == nil {
		r.revoked[id] = true
	}
}

func (r *Rules) members(m *coord.Members) {
	for i := range m.List {
		if key, err := parseKey(m.List[i].Key); err == nil {
			r.keys[Box+":"+m.List[i].ID.String()] = key
		}
	}
}

// profiles works out what everybody may do whom a document names, and what those may that none names.
func (r *Rules) profiles(denied map[string]string) {
	names := map[string]bool{}
	for p := range r.grants {
		names[p] = true
	}
	for p := range denied {
		names[p] = true
	}
	for p := range r.keys {
		names[p] = true
	}
	for _, s := range r.statements {
		for _, uid := range []cedar.EntityUID{s.principal.eq, s.principal.in} {
			if p, ok := principalOf(uid); ok {
				names[p] = true
			}
		}
	}
	c := compiler{rules: r, tables: map[string]*table{}, sets: map[string]*[actions]*table{}}
	for p := range names {
		pr := &profile{roles: r.graph.closure(r.grants[p]), deny: denied[p]}
		if pr.deny != "" {
			pr.note = p + " is disabled, or its document cannot be read"
		}
		pr.tables = c.tablesFor(p, pr.roles)
		r.principals[p] = pr
	}
	for _, t := range principalTypes {
		r.others[t.kind] = &profile{tables: c.tablesFor(t.kind+":", nil)}
	}
}

// Site is the site that the rules are of.
func (r *Rules) Site() coord.SiteID { return r.site }

// ClientOpen says whether a program need not say who it is (setting/client).
func (r *Rules) ClientOpen() bool { return r.settings[SettingClient] != ClientToken }

// TokenEpoch is the epoch that tokens must be of.
func (r *Rules) TokenEpoch() uint64 { return r.epoch }

// Faults are the documents that cannot be read. The caller must not change them.
func (r *Rules) Faults() []Fault { return r.faults }

// Roles are the roles that ship and the site's own, by name. The caller must not change them.
func (r *Rules) Roles() []RoleInfo { return r.roles }

// Grants are the roles that documents and what ships give, by principal. The caller must not change it.
func (r *Rules) Grants() map[string][]string { return r.grants }

// RolesOf are all roles that a principal has, those included that its roles are in. The caller must not change them.
func (r *Rules) RolesOf(principal string) []string {
	if p := r.principals[principal]; p != nil {
		return p.roles
	}
	return nil
}

// Key is the public key of an operator that is not disabled, or of a member, or nil.
func (r *Rules) Key(principal string) *ecdsa.PublicKey { return r.keys[principal] }

// hasOperators says whether the site has an operator, disabled or not.
func hasOperators(st State) bool { return len(st.Docs(DocOperator)) > 0 }
