package access

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-edge/holdfast/coord"
)

// Kinds of principals: what stands before the colon.
const (
	Operator = "operator" // a person
	Program  = "program"  // something that uses the client API
	Box      = "box"      // a member, by its id
	TokenOf  = "token"    // who holds a capability token, by its id
)

const (
	// Anyone is a program that has not said who it is. It has the role program while setting/client is open.
	Anyone = "program:anyone"
	// Root is whoever may open a box's own socket: root of that box. It is an admin there; other boxes never take its word.
	Root = "operator:root"
	// Guest is somebody at a console who has not logged in. No role is granted to it but by a grant.
	Guest = "operator:guest"
)

// PrincipalBytesMax bounds a principal: "grant/" and it are a document's key.
const PrincipalBytesMax = 96

// CheckPrincipal says whether s is kind:name, of a kind that can be granted roles. The error is ErrPrincipal.
func CheckPrincipal(s string) error {
	kind, name, ok := strings.Cut(s, ":")
	switch {
	case !ok || kind != Operator && kind != Program && kind != Box:
		return fmt.Errorf("%w: %.100q; write operator:NAME, program:NAME or box:ID", ErrPrincipal, s)
	case len(s) > PrincipalBytesMax || !plainName(name):
		return fmt.Errorf("%w: name %.100q; use letters, digits and . _ - @", ErrPrincipal, name)
	}
	if kind == Box {
		var id coord.BoxID
		if err := id.UnmarshalText([]byte(name)); err != nil || id.String() != name {
			return fmt.Errorf("%w: box %q is not named by 16 hexadecimal digits", ErrPrincipal, name)
		}
	}
	return nil
}

// plainName is what roles, policies and principals may be called: what needs no quotes anywhere.
func plainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && (c == '.' || c == '_' || c == '-' || c == '@')) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// ResourceKind is what sort of thing an action is done to.
type ResourceKind uint8

// The kinds of resources.
const (
	KindSite     ResourceKind = iota // the site as a whole
	KindKey                          // a key, or a range of keys
	KindBox                          // a box, by its id
	KindRole                         // a role, by its name
	KindOperator                     // an operator, by name
	KindDoc                          // a document of the site, by its key: policy/NAME, setting/NAME
	KindToken                        // a token, by its id
	KindDecision                     // a decision, by its id
	KindSession                      // a session of an operator, by its id
	resourceKinds
)

var resourceNames = [resourceKinds]struct{ text, cedar string }{
	{"site", "Site"},
	{"key", "Key"},
	{"box", "Box"},
	{"role", "Role"},
	{"operator", "Operator"},
	{"doc", "Doc"},
	{"token", "Token"},
	{"decision", "Decision"},
	{"session", "Session"},
}

// Resource is what an action is done to. The zero Resource is the site.
type Resource struct {
	Kind ResourceKind
	Name string
	// End, if not empty, makes it the keys in [Name, End), and with EndOfKeys all from Name on, as etcd writes ranges.
	End string
}

// EndOfKeys is the End of ranges that have none.
const EndOfKeys = "\x00"

// Site is the site as a whole.
func Site() Resource { return Resource{} }

// Key is one key.
func Key(name string) Resource { return Resource{Kind: KindKey, Name: name} }

// Keys are the keys of a range as etcd writes it: an empty end is one key.
func Keys(start, end string) Resource { return Resource{Kind: KindKey, Name: start, End: end} }

// Prefix are the keys that begin with p.
func Prefix(p string) Resource { return Resource{Kind: KindKey, Name: p, End: prefixEnd(p)} }

// BoxOf is a box.
func BoxOf(id coord.BoxID) Resource { return Resource{Kind: KindBox, Name: id.String()} }

// Document is a document of the site.
func Document(key string) Resource { return Resource{Kind: KindDoc, Name: key} }

// prefixEnd is the first key after those that begin with p.
func prefixEnd(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			return p[:i] + string([]byte{p[i] + 1})
		}
	}
	return EndOfKeys
}

// within says whether [start, end) has only keys that begin with p, which start does: whether end is not above prefixEnd(p).
func within(p, end string) bool {
	i := len(p) - 1
	for i >= 0 && p[i] == 0xff {
		i--
	}
	if i < 0 {
		return true // nothing comes after those that begin with p
	}
	if end == EndOfKeys {
		return false
	}
	n := min(len(end), i)
	if end[:n] != p[:n] || len(end) <= i {
		return end[:n] <= p[:n]
	}
	return end[i] <= p[i] || end[i] == p[i]+1 && len(end) == i+1
}

// below says whether key comes before the end of a range.
func below(key, end string) bool { return end == EndOfKeys || key < end }

// String is the resource as people write it: "site", "key:a/b", "keys:a/..b", "prefix:a/", "box:ID", "doc:policy/x".
func (r Resource) String() string {
	switch {
	case r.Kind == KindSite || r.Kind >= resourceKinds:
		return "site"
	case r.End == "":
		return resourceNames[r.Kind].text + ":" + r.Name
	case r.End == prefixEnd(r.Name):
		return "prefix:" + r.Name
	case r.End == EndOfKeys:
		return "keys:" + r.Name + ".."
	}
	return "keys:" + r.Name + ".." + r.End
}

// ParseResource reads what String wrote; a key that has ".." in it cannot be in a range. The error is ErrResource.
func ParseResource(s string) (Resource, error) {
	if s == "site" {
		return Resource{}, nil
	}
	if len(s) > coord.KeyBytesMax+16 || !utf8.ValidString(s) {
		return Resource{}, fmt.Errorf("%w: %d bytes, or not UTF-8", ErrResource, len(s))
	}
	kind, name, _ := strings.Cut(s, ":")
	switch kind {
	case "prefix":
		return Prefix(name), nil
	case "keys":
		start, end, ok := strings.Cut(name, "..")
		if !ok {
			return Resource{}, fmt.Errorf("%w: %.100q; write keys:FIRST..END", ErrResource, s)
		}
		if end == "" {
			end = EndOfKeys
		}
		return Keys(start, end), nil
	}
	for k := KindKey; k < resourceKinds; k++ {
		if resourceNames[k].text == kind && (name != "" || k == KindKey) {
			return Resource{Kind: k, Name: name}, nil
		}
	}
	return Resource{}, fmt.Errorf("%w: %.100q; write site, key:K, prefix:P, keys:FIRST..END, box:ID, role:NAME, operator:NAME, doc:KEY, token:ID, decision:ID or session:ID", ErrResource, s)
}

// MarshalText makes JSON show a resource as its String.
func (r Resource) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
