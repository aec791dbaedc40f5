package console

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

const (
	pageOfSettings = "/settings"
	actionRoles    = "role.list"
	actionTokens   = "token.list"
	// issuedMax is how many tokens the page lists of those that this box issued, and issuedWindow among how many of the newest records of the
	// audit log it looks for them first; from then on it reads only what is new.
	issuedMax    = 50
	issuedWindow = 16384
	// revokedMax is how many revoked tokens it lists.
	revokedMax = 100
)

// settingsPage is what the page of settings shows; what the viewer may not see is empty.
type settingsPage struct {
	Config []config.Section
	// Changed are the keys that differ from their defaults.
	Changed    []changedKey
	Site       []siteSetting
	Roles      []access.RoleInfo
	Grants     []grantRow
	Policies   []policyRow
	Faults     []access.Fault
	Principals []string
	TokenEpoch uint64
	Issued     []issuedToken
	// Revoked are some of RevokedCount tokens.
	Revoked      []string
	RevokedCount int
	Lifetimes    []lifetime
}

type changedKey struct {
	Section string
	config.Key
}

// siteSetting is something that the site decides about itself.
type siteSetting struct {
	Name, About, Value string
	// Set says that it was decided; else it is what ships.
	Set     bool
	Choices []settingChoice
}

// settingChoice is a value, and the document that says so.
type settingChoice struct {
	Value, Document string
	Here            bool
}

type grantRow struct {
	Principal string
	Roles     []grantedRole
}

// grantedRole can be taken if a document gives it.
type grantedRole struct {
	Name   string
	Ships  bool
	Absent bool // there is no such role
}

type policyRow struct {
	Name, Text string
	Version    uint64
}

type lifetime struct{ Value, Name string }

func lifetimes() []lifetime {
	return []lifetime{{"1h", "1 hour"}, {"24h", "1 day"}, {"168h", "1 week"}, {"720h", "30 days"}, {"8760h", "1 year"}}
}

func (c *Console) settingsData(l *look) (any, error) {
	d := &settingsPage{Lifetimes: lifetimes()}
	if l.hidden["config"] && l.hidden["site"] && l.hidden["tokens"] && l.hidden["issued"] {
		if err := c.may(l.ctx, l.caller, actionRoles, ""); err != nil {
			return nil, err
		}
		return nil, &refused{actionRoles, "none permits it"}
	}
	if !l.hidden["config"] {
		d.Config = c.cfg.Settings
		for i := range d.Config {
			for _, g := range d.Config[i].Groups {
				for _, k := range g.Keys {
					if k.Changed {
						d.Changed = append(d.Changed, changedKey{d.Config[i].Name, k})
					}
				}
			}
		}
	}
	st := c.documents()
	rules := access.RulesOf(st)
	if !l.hidden["site"] {
		d.rules(st, rules)
	}
	revoked := st.Docs(access.DocRevoked)
	if !l.hidden["tokens"] {
		d.TokenEpoch, d.RevokedCount = rules.TokenEpoch(), len(revoked)
		for _, doc := range revoked[:min(len(revoked), revokedMax)] {
			d.Revoked = append(d.Revoked, strings.TrimPrefix(doc.Key, access.DocRevoked))
		}
	}
	if !l.hidden["issued"] {
		var err error
		if d.Issued, err = c.issued.read(c.cfg.Audit); err != nil {
			return nil, err
		}
		for i := range d.Issued {
			t := &d.Issued[i]
			t.Revoked = slices.ContainsFunc(revoked, func(doc coord.Doc) bool { return doc.Key == access.DocRevoked+t.ID })
		}
	}
	return d, nil
}

// documents are those of the site, of which rules are made.
func (c *Console) documents() access.State {
	if c.cfg.State != nil {
		return c.cfg.State()
	}
	return c.cfg.Site.State()
}

// rules has what says who may do what.
func (d *settingsPage) rules(st access.State, rules *access.Rules) {
	for _, x := range access.Settings() {
		_, set := st.Doc(x.Key)
		s := siteSetting{Name: strings.TrimPrefix(x.Key, access.DocSetting), About: x.About, Value: access.Setting(st, x.Key), Set: set}
		for _, v := range x.Values {
			doc, _ := json.Marshal(map[string]string{x.Field: v}) // of texts: it never fails
			s.Choices = append(s.Choices, settingChoice{v, string(doc), v == s.Value})
		}
		d.Site = append(d.Site, s)
	}
	d.Roles, d.Faults = rules.Roles(), rules.Faults()
	grants := rules.Grants()
	for _, who := range slices.Sorted(maps.Keys(grants)) {
		row := grantRow{Principal: who}
		given := map[string]bool{}
		if doc, ok := st.Doc(access.DocGrant + who); ok {
			if g, err := access.ReadGrant(who, doc.Value); err == nil {
				for _, r := range g.Roles {
					given[r] = true
				}
			}
		}
		for _, r := range grants[who] {
			known := slices.ContainsFunc(d.Roles, func(x access.RoleInfo) bool { return x.Name == r })
			row.Roles = append(row.Roles, grantedRole{r, !given[r], !known})
		}
		d.Grants = append(d.Grants, row)
		d.Principals = append(d.Principals, who)
	}
	for _, doc := range st.Docs(access.DocPolicy) {
		d.Policies = append(d.Policies, policyRow{strings.TrimPrefix(doc.Key, access.DocPolicy), string(doc.Value), doc.Version})
	}
	for _, doc := range st.Docs(access.DocOperator) {
		if who := access.Operator + ":" + strings.TrimPrefix(doc.Key, access.DocOperator); !slices.Contains(d.Principals, who) {
			d.Principals = append(d.Principals, who)
		}
	}
}

// apiConfig answers with the box's configuration, explained.
func (c *Console) apiConfig(w http.ResponseWriter, _ *http.Request) {
	list := c.cfg.Settings
	if list == nil {
		list = []config.Section{}
	}
	writeJSON(w, map[string]any{"sections": list})
}

// issuedToken is a token that this box issued, as its audit log has it.
type issuedToken struct {
	ID, By, Scope string
	At            time.Time
	Revoked       bool
}

// issuedTokens remembers which tokens this box issued: the audit log can only be read forward, and the page is rendered each second.
type issuedTokens struct {
	mu   sync.Mutex
	next int64         // the first record that was not read
	list []issuedToken // the newest last
}

// read gives the newest tokens, the newest first; the caller owns the list.
func (t *issuedTokens) read(log Audit) ([]issuedToken, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	oldest, size, _ := log.Span()
	from := max(t.next, oldest, size-issuedWindow)
	err := log.Read(from, size, audit.Filter{Action: access.TokenIssue.String()}, func(e *audit.Entry) bool {
		if id, ok := strings.CutPrefix(e.Resource, access.TokenOf+":"); ok && e.Outcome == audit.Allowed {
			t.list = append(t.list, issuedToken{ID: id, By: e.Principal, Scope: e.Reason, At: time.UnixMilli(e.TimeMs)})
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	t.next = size
	t.list = slices.Clone(t.list[max(0, len(t.list)-issuedMax):])
	list := slices.Clone(t.list)
	slices.Reverse(list)
	return list, nil
}
