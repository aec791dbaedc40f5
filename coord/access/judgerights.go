package access

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// adminGrant is the grant of an operator that a site begins with.
const adminGrant = `{"roles":["` + RoleAdmin + `"]}`

// FirstGrant is the document that a decision writes beside the first operator of a site.
func FirstGrant(name string) coord.DocWrite {
	return coord.DocWrite{Key: DocGrant + Operator + ":" + name, Value: []byte(adminGrant)}
}

// foundingOperator reads the document of the operator that a site was founded with.
func foundingOperator(value []byte) (name string, doc []byte, ok bool) {
	var o OperatorDoc
	if json.Unmarshal(value, &o) != nil {
		return "", nil, false
	}
	_, err := ReadOperator(o.Name, value)
	return o.Name, value, err == nil
}

// judgeRights judges what says who may do what: operators, roles, grants, policies, tokens and settings.
func (c *judging) judgeRights(kind Action) error {
	for i := range c.d.Writes {
		if w := &c.d.Writes[i]; w.Seconds != 0 && kind != TokenRevoke {
			return wrong("%s is to go away by itself", w.Key)
		}
	}
	switch kind {
	case OperatorAdd, OperatorRemove, OperatorPassword, OperatorReset, OperatorDisable, OperatorEnable, OperatorPasskey:
		return c.judgeOperator(kind)
	}
	if n := len(c.d.Writes); n != 1 {
		return wrong("it writes %d documents where one is to be", n)
	}
	w := &c.d.Writes[0]
	old, exists := c.st.Doc(w.Key)
	if w.Value == nil && w.Was == 0 && kind != RoleRevoke { // a grant may be the founding operator's, which not every box has
		return wrong("there was no %s to remove when this was made", w.Key)
	}
	if w.Was != old.Version || w.Value == nil && !exists {
		return fmt.Errorf("%s is not as it was when this was made", w.Key)
	}
	switch kind {
	case RoleGrant, RoleRevoke:
		return c.judgeGrant(kind, w, &old)
	case RolePut, RoleRemove, PolicyPut, PolicyRemove:
		return c.judgeRule(kind, w)
	case TokenEpoch:
		return c.judgeEpoch(w, &old)
	case TokenRevoke:
		return c.judgeRevoke(w)
	case SettingPut, SettingRemove:
		return c.judgeSetting(kind, w)
	}
	return fmt.Errorf("nobody decides on %s by words", kind)
}

// above is nil if somebody with these roles may give them to others, or act in the place of somebody who has them.
func (c *judging) above(who *actor, what string, roles []string) error {
	if slices.Contains(who.roles, RoleAdmin) {
		return nil
	}
	for _, r := range roles {
		if !slices.Contains(who.roles, r) {
			return &Denial{Verdict{
				Principal: who.principal, Action: must(c.d.Kind), Resource: Resource{Kind: KindRole, Name: r}, Roles: who.roles,
				Note: fmt.Sprintf("%s has the role %s, and %s has not: nobody gives or takes more than they have", what, r, who.principal),
			}}
		}
	}
	return nil
}

func must(kind string) Action {
	a, _ := ParseAction(kind)
	return a
}

// judgeOperator judges the kinds about operators. Each writes the operator's document and nothing else, but: adding and removing also write the
// operator's grant, and the first decision of a site with a founding operator writes that one's documents as they are.
func (c *judging) judgeOperator(kind Action) error {
	name, ok := strings.CutPrefix(c.d.Subject, Operator+":")
	if !ok {
		return wrong("its subject is %q, not an operator", c.d.Subject)
	}
	who := Operator + ":" + name
	var doc, grant *coord.DocWrite
	for i := range c.d.Writes {
		w := &c.d.Writes[i]
		old, exists := c.st.Doc(w.Key)
		switch {
		case w.Was != old.Version || w.Value == nil && !exists:
			return fmt.Errorf("%s is not as it was when this was made", w.Key)
		case w.Key == DocOperator+name:
			doc = w
		case w.Key == DocGrant+who:
			grant = w
		case exists && old.Version == 0 && bytes.Equal(old.Value, w.Value): // the founding operator's, as this box knows it
		default:
			return wrong("it writes %s", w.Key)
		}
	}
	if doc == nil {
		return wrong("it does not write %s", DocOperator+name)
	}
	old, exists := c.st.Doc(doc.Key)
	if err := changesOnly(kind, name, &old, exists, doc); err != nil {
		return err
	}
	roles, err := c.grantBeside(kind, who, grant, old.Version == 0 && exists)
	if err != nil {
		return err
	}
	return c.judgeOperatorRight(kind, name, roles)
}

// grantBeside are the roles that a decision about an operator is about: those given with a new one, those that another has.
func (c *judging) grantBeside(kind Action, who string, grant *coord.DocWrite, founding bool) ([]string, error) {
	switch {
	case grant == nil:
		if _, has := c.st.Doc(DocGrant + who); has && kind == OperatorRemove {
			return nil, wrong("it leaves the grant of %s", who)
		}
		return c.rules.RolesOf(who), nil
	case kind == OperatorRemove && grant.Value == nil:
		return c.rules.RolesOf(who), nil
	case kind == OperatorAdd && grant.Value != nil || founding && string(grant.Value) == adminGrant:
		g, err := ReadGrant(who, grant.Value)
		if err != nil {
			return nil, wrong("%v", err)
		}
		return c.rules.graph.closure(g.Roles), nil
	}
	return nil, wrong("it writes the grant of %s", who)
}

func (c *judging) judgeOperatorRight(kind Action, name string, roles []string) error {
	if kind == OperatorAdd && !hasOperators(c.st) {
		return c.judgeFirst(roles)
	}
	who, err := c.who()
	if err != nil {
		return err
	}
	self := who.principal == Operator+":"+name
	if self && (kind == OperatorPassword || kind == OperatorPasskey) {
		c.why = "the operator itself asks for it"
		return nil
	}
	if err := c.may(who, kind, Resource{Kind: KindOperator, Name: name}); err != nil {
		return err
	}
	return c.above(who, Operator+":"+name, roles)
}

// judgeFirst judges the first operator of a site that was founded without one: a member's word is enough, once. The box that asks has
// checked its setup code.
func (c *judging) judgeFirst(roles []string) error {
	if !slices.Contains(roles, RoleAdmin) {
		return wrong("the first operator of a site is an admin")
	}
	if c.a.Box == nil {
		return errNobody
	}
	if _, err := c.who(); err != nil {
		return err
	}
	c.why = "the first operator of the site, by the setup code of " + c.d.Principal
	return nil
}

// operatorFields are the fields of an operator's document that each kind may change.
var operatorFields = map[Action][]string{
	OperatorPassword: {"sealed", "must_change"},
	OperatorReset:    {"key", "sealed", "must_change", "passkeys"},
	OperatorDisable:  {"disabled"},
	OperatorEnable:   {"disabled"},
	OperatorPasskey:  {"passkeys"},
}

// changesOnly says whether a kind does to an operator's document what it says.
func changesOnly(kind Action, name string, old *coord.Doc, exists bool, w *coord.DocWrite) error {
	if kind == OperatorRemove {
		if w.Value != nil {
			return wrong("it does not remove %s", w.Key)
		}
		return nil
	}
	if exists != (kind != OperatorAdd) {
		return fmt.Errorf("%s is not as it was when this was made", w.Key)
	}
	next, err := ReadOperator(name, w.Value)
	if err != nil {
		return wrong("%v", err)
	}
	if (kind == OperatorAdd || kind == OperatorEnable) && next.Disabled || kind == OperatorDisable && !next.Disabled {
		return wrong("it leaves %s disabled, or does not disable it", w.Key)
	}
	if kind == OperatorAdd {
		return nil
	}
	was, is := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(old.Value, &was); err != nil {
		was = map[string]json.RawMessage{} // then all must be given anew, and only a reset may
	}
	if err := json.Unmarshal(w.Value, &is); err != nil {
		return wrong("%v", err)
	}
	for field := range both(was, is) {
		if !sameJSON(was[field], is[field]) && !slices.Contains(operatorFields[kind], field) {
			return wrong("it changes %q of %s", field, w.Key)
		}
	}
	return nil
}

func both(a, b map[string]json.RawMessage) map[string]bool {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return all
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return len(a) == 0 && len(b) == 0 || len(a) > 0 && len(b) > 0 && json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// judgeGrant judges roles given and taken.
func (c *judging) judgeGrant(kind Action, w *coord.DocWrite, old *coord.Doc) error {
	who, ok := strings.CutPrefix(w.Key, DocGrant)
	if !ok || c.d.Subject != who {
		return wrong("it writes %s and is about %q", w.Key, c.d.Subject)
	}
	var was, is []string
	if old.Value != nil {
		if g, err := ReadGrant(who, old.Value); err == nil {
			was = g.Roles
		}
	}
	if w.Value != nil {
		g, err := ReadGrant(who, w.Value)
		if err != nil {
			return wrong("%v", err)
		}
		is = g.Roles
	}
	more := slices.DeleteFunc(slices.Clone(is), func(r string) bool { return slices.Contains(was, r) })
	less := slices.DeleteFunc(slices.Clone(was), func(r string) bool { return slices.Contains(is, r) })
	changed := more
	switch {
	case kind == RoleGrant && (len(less) > 0 || len(more) == 0):
		return wrong("it takes %s and gives %s", rolesText(less), rolesText(more))
	case kind == RoleRevoke && (len(more) > 0 || len(less) == 0 && (was != nil || w.Value != nil)):
		return wrong("it takes %s and gives %s", rolesText(less), rolesText(more))
	case kind == RoleRevoke:
		changed = less
	}
	for _, r := range more {
		if _, known := c.rules.graph[r]; !known {
			return wrong("there is no role %s", r)
		}
	}
	by, err := c.who()
	if err != nil {
		return err
	}
	for _, r := range changed {
		if err := c.may(by, kind, Resource{Kind: KindRole, Name: r}); err != nil {
			return err
		}
	}
	if len(changed) == 0 { // a grant that cannot be read is removed
		if err := c.may(by, kind, Site()); err != nil {
			return err
		}
	}
	return c.above(by, who, c.rules.graph.closure(changed))
}

// judgeRule judges roles and policies. They give rights, so only an admin writes them, whatever policies permit.
func (c *judging) judgeRule(kind Action, w *coord.DocWrite) error {
	prefix, on := DocPolicy, Document(w.Key)
	if kind == RolePut || kind == RoleRemove {
		prefix = DocRole
	}
	name, ok := strings.CutPrefix(w.Key, prefix)
	if prefix == DocRole {
		on = Resource{Kind: KindRole, Name: name}
	}
	if removes := kind == RoleRemove || kind == PolicyRemove; !ok || c.d.Subject != w.Key || removes != (w.Value == nil) {
		return wrong("it writes %s and is about %q", w.Key, c.d.Subject)
	}
	count, most := len(c.st.Docs(prefix)), PoliciesMax
	switch kind {
	case PolicyPut:
		if err := CheckPolicy(name, string(w.Value)); err != nil {
			return wrong("%v", err)
		}
	case RolePut:
		most = RolesMax
		role, err := ReadRole(name, w.Value)
		if err != nil {
			return wrong("%v", err)
		}
		graph := roleGraph{}
		maps.Copy(graph, c.rules.graph)
		graph[name] = role.In
		if graph.circular(name) {
			return wrong("role %s would be in itself", name)
		}
	case RoleRemove:
		if err := c.unused(name); err != nil {
			return err
		}
	}
	if _, exists := c.st.Doc(w.Key); w.Value != nil && !exists && count >= most {
		return wrong("there are %d of %s already", count, prefix)
	}
	by, err := c.who()
	if err != nil {
		return err
	}
	if err := c.may(by, kind, on); err != nil {
		return err
	}
	return c.above(by, w.Key, []string{RoleAdmin})
}

// unused says who has a role yet: what is gone must not come back to life with a new meaning.
func (c *judging) unused(name string) error {
	for who, roles := range c.rules.grants {
		if slices.Contains(roles, name) {
			return wrong("%s has the role %s", who, name)
		}
	}
	for role, in := range c.rules.graph {
		if slices.Contains(in, name) {
			return wrong("the role %s is in %s", role, name)
		}
	}
	return nil
}

func (c *judging) judgeEpoch(w *coord.DocWrite, old *coord.Doc) error {
	if c.d.Subject != "site" {
		return wrong("it ends all tokens of the site and is about %q", c.d.Subject)
	}
	was, _ := strconv.ParseUint(string(old.Value), 10, 64)
	if want := strconv.FormatUint(was+1, 10); w.Key != DocEpoch || string(w.Value) != want {
		return wrong("it writes %.40q to %s, not %s to %s", w.Value, w.Key, want, DocEpoch)
	}
	return c.byRight(TokenEpoch, Site())
}

// revokedBytesMax bounds what is noted with a revoked token.
const revokedBytesMax = 512

func (c *judging) judgeRevoke(w *coord.DocWrite) error {
	text, ok := strings.CutPrefix(w.Key, DocRevoked)
	id, err := ParseTokenID(text)
	if !ok || err != nil || id.String() != text || c.d.Subject != TokenOf+":"+text || w.Value == nil || len(w.Value) > revokedBytesMax {
		return wrong("it writes %s and is about %q", w.Key, c.d.Subject)
	}
	if w.Seconds != 0 && w.Was != 0 { // it could make a token good again that was revoked for longer
		return wrong("%s is revoked already", c.d.Subject)
	}
	if w.Seconds != 0 && w.Seconds < revokedSecondsMin {
		return wrong("the token would be forgotten after %d s", w.Seconds)
	}
	return c.byRight(TokenRevoke, Resource{Kind: KindToken, Name: text})
}

// revokedSecondsMin is how long a revoked token is remembered at least: clocks of boxes and of the site differ.
const revokedSecondsMin = 3600

func (c *judging) judgeSetting(kind Action, w *coord.DocWrite) error {
	if !strings.HasPrefix(w.Key, DocSetting) || c.d.Subject != w.Key || (kind == SettingRemove) != (w.Value == nil) {
		return wrong("it writes %s and is about %q", w.Key, c.d.Subject)
	}
	if kind == SettingPut {
		_, known, err := readSetting(w.Key, w.Value)
		if err != nil {
			return wrong("%v", err)
		}
		if !known {
			return fmt.Errorf("this release does not know %s", w.Key)
		}
	}
	return c.byRight(kind, Document(w.Key))
}

// admins counts the operators who could mend anything: admins whom no policy keeps from changing policies and grants.
func admins(r *Rules) int {
	n := 0
	for who := range r.keys {
		if !strings.HasPrefix(who, Operator+":") || !slices.Contains(r.RolesOf(who), RoleAdmin) {
			continue
		}
		put := r.Decide(who, PolicyPut, Document(DocPolicy+"x"))
		remove := r.Decide(who, PolicyRemove, Document(DocPolicy+"x"))
		grant := r.Decide(who, RoleGrant, Resource{Kind: KindRole, Name: RoleAdmin})
		if put.Allowed && remove.Allowed && grant.Allowed {
			n++
		}
	}
	return n
}

// leavesAdmins refuses what would leave a site without an admin that had one.
func (c *judging) leavesAdmins() error {
	if admins(c.rules) > 0 && admins(RulesOf(WithFounding(after{c.bare, c.d.Writes}, c.Founding))) == 0 {
		return errLocksOut
	}
	return nil
}
