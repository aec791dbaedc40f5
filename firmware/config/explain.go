package config

import (
	"bytes"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Section is a table of the configuration, explained.
type Section struct {
	// Name is as in the file, such as "alarms.webhook"; empty: what stands above all tables.
	Name   string  `json:"name"`
	About  string  `json:"about,omitempty"`
	Groups []Group `json:"groups"`
}

// Group are keys that share a comment.
type Group struct {
	About string `json:"about"`
	Keys  []Key  `json:"keys"`
}

// Key is a key with what it is on this box. Values are as TOML writes them, without what may be secret.
type Key struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Changed bool   `json:"changed"`
}

// Changed is how many keys of the section differ from their defaults.
func (s *Section) Changed() (n int) {
	for _, g := range s.Groups {
		for _, k := range g.Keys {
			if k.Changed {
				n++
			}
		}
	}
	return n
}

// Count is how many keys the section has.
func (s *Section) Count() (n int) {
	for _, g := range s.Groups {
		n += len(g.Keys)
	}
	return n
}

// Explain gives every key of c in the order of default.toml, with its comment there, its value, and whether that is another than the
// default. Of addresses it gives the scheme and the host alone: what follows may be secret, such as an ntfy topic or a webhook's path. Other
// secrets are in files, of which the configuration has the paths.
func Explain(c *Config) ([]Section, error) {
	usual, err := Default()
	if err != nil {
		return nil, err
	}
	if c.dir != "" {
		usual.resolve(c.dir, c.DataDir)
	}
	list := outline(string(defaultText))
	now, was := reflect.ValueOf(c).Elem(), reflect.ValueOf(usual).Elem()
	for i := range list {
		for j := range list[i].Groups {
			for n := range list[i].Groups[j].Keys {
				k := &list[i].Groups[j].Keys[n]
				path := append(tablesOf(list[i].Name), k.Name)
				a, b := field(now, path), field(was, path)
				if !a.IsValid() {
					return nil, fmt.Errorf("config: default: %w %q", ErrUnknownKey, strings.Join(path, "."))
				}
				if k.Value, err = valueText(a); err == nil {
					k.Default, err = valueText(b)
				}
				if err != nil {
					return nil, fmt.Errorf("config: %s: %w", strings.Join(path, "."), err)
				}
				k.Changed = !reflect.DeepEqual(a.Interface(), b.Interface())
			}
		}
	}
	return list, nil
}

// outline reads the sections, comments and keys of default.toml, whose form a test holds: a comment stands above the keys of its paragraph, and
// what stands before an empty comment line is about the section.
func outline(text string) []Section {
	list := []Section{{}}
	var comment []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		at := &list[len(list)-1]
		name, _, isKey := strings.Cut(line, "=")
		switch {
		case line == "#":
			at.About, comment = strings.Join(comment, " "), nil
		case strings.HasPrefix(line, "#"):
			comment = append(comment, strings.TrimSpace(strings.TrimPrefix(line, "#")))
		case strings.HasPrefix(line, "["):
			list = append(list, Section{Name: strings.Trim(line, "[]")})
			comment = nil
		case isKey:
			if comment != nil {
				at.Groups = append(at.Groups, Group{About: strings.Join(comment, " ")})
				comment = nil
			}
			g := &at.Groups[len(at.Groups)-1]
			g.Keys = append(g.Keys, Key{Name: strings.TrimSpace(name)})
		default: // the file's own comment, and the space between paragraphs
			comment = nil
		}
	}
	return list
}

func tablesOf(section string) []string {
	if section == "" {
		return nil
	}
	return strings.Split(section, ".")
}

// field is the field of a configuration that a key is read into.
func field(v reflect.Value, path []string) reflect.Value {
	for _, name := range path {
		i := slices.IndexFunc(reflect.VisibleFields(v.Type()), func(f reflect.StructField) bool { return f.Tag.Get("toml") == name })
		if i < 0 {
			return reflect.Value{}
		}
		v = v.Field(i)
	}
	return v
}

// valueText is a value as TOML writes it, without what may be secret.
func valueText(v reflect.Value) (string, error) {
	shown := v.Interface()
	switch x := shown.(type) {
	case Duration: // "4h", where time.Duration says "4h0m0s"
		text := time.Duration(x).String()
		if short, ok := strings.CutSuffix(text, "m0s"); ok {
			text = short + "m"
		}
		if short, ok := strings.CutSuffix(text, "h0m"); ok {
			text = short + "h"
		}
		shown = text
	case string:
		shown = withoutSecret(x)
	case []string:
		list := make([]string, len(x))
		for i, s := range x {
			list[i] = withoutSecret(s)
		}
		shown = list
	}
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(map[string]any{"v": shown}); err != nil {
		return "", err
	}
	_, text, _ := strings.Cut(strings.TrimSpace(b.String()), "= ")
	return text, nil
}

// withoutSecret leaves of an address where it is, and nothing else.
func withoutSecret(text string) string {
	scheme, rest, is := strings.Cut(text, "://")
	if !is {
		return text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "…"
	case u.Host == "": // a socket's path
		return scheme + "://" + u.Path
	case rest == u.Host || rest == u.Host+"/":
		return text
	}
	return scheme + "://" + u.Host + "/…"
}
