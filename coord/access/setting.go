package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// Values of the settings that this package knows. The first of each is what holds when nothing is set.
const (
	JoinsToken    = "token"    // a box with a good token joins
	JoinsOperator = "operator" // an operator must approve as well

	ExpulsionOperator  = "operator"  // a proof of a lie waits for an operator
	ExpulsionAutomatic = "automatic" // a proof of a lie expels

	ClientOpen  = "open"  // a program need not say who it is
	ClientToken = "token" // it shows a token
)

// settings are the fields of the settings that exist and the values that they may have.
var settings = []struct {
	key, field string
	values     []string
	about      string
}{
	{SettingJoins, "approve", []string{JoinsToken, JoinsOperator}, "who lets a new box in: a good token alone, or an operator as well"},
	{SettingExpulsion, "mode", []string{ExpulsionOperator, ExpulsionAutomatic}, "what a proof of a lie does: it waits for operators, or it expels"},
	{SettingClient, "access", []string{ClientOpen, ClientToken}, "whether programs on the client ports need a token"},
}

// SettingInfo is a setting that a site may have: the key of its document, the field in it, what that may be (the first is what ships), and
// what it is about.
type SettingInfo struct {
	Key, Field string
	Values     []string
	About      string
}

// Settings are all that exist.
func Settings() (list []SettingInfo) {
	for i := range settings {
		s := &settings[i]
		list = append(list, SettingInfo{s.key, s.field, slices.Clone(s.values), s.about})
	}
	return list
}

// readSetting reads a setting. ok is whether there is one of that name; an error says that its value cannot be.
func readSetting(key string, value []byte) (v string, ok bool, err error) {
	for i := range settings {
		s := &settings[i]
		if s.key != key {
			continue
		}
		m := map[string]string{}
		if err := json.Unmarshal(value, &m); err != nil {
			return s.values[0], true, fmt.Errorf("%s: %w", key, err)
		}
		for _, want := range s.values {
			if m[s.field] == want && len(m) == 1 {
				return want, true, nil
			}
		}
		return s.values[0], true, fmt.Errorf("%s: {%q: one of %q} is needed, not %.100q", key, s.field, s.values, value)
	}
	return "", false, nil
}

// ErrSetting says that a site has no such setting, that one cannot have that value, or that none is set.
var ErrSetting = errors.New("no such setting")

// CheckSetting says whether the setting with this key can be put, with a value, or removed, with nil, as the site is. Errors: ErrSetting.
func CheckSetting(st State, key string, value []byte) error {
	if value != nil {
		_, known, err := readSetting(key, value)
		if err == nil && !known {
			err = fmt.Errorf("%q is none of %s", strings.TrimPrefix(key, DocSetting), settingNames())
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSetting, err)
		}
		return nil
	}
	if _, ok := st.Doc(key); ok {
		return nil // also one that this release does not know: whoever wants it away may have it away
	}
	if !slices.ContainsFunc(Settings(), func(s SettingInfo) bool { return s.Key == key }) {
		return fmt.Errorf("%w: %q is none of %s", ErrSetting, strings.TrimPrefix(key, DocSetting), settingNames())
	}
	return fmt.Errorf("%w to remove: %s is as it ships: %s", ErrSetting, strings.TrimPrefix(key, DocSetting), Setting(st, key))
}

func settingNames() string {
	var names []string
	for i := range settings {
		names = append(names, strings.TrimPrefix(settings[i].key, DocSetting))
	}
	return strings.Join(names, ", ")
}

func settingValue(d *coord.Doc) string {
	v, _, err := readSetting(d.Key, d.Value)
	if err != nil && d.Key == SettingClient {
		return ClientToken // the stricter one
	}
	return v
}

// Setting is what a setting of the site is, and what ships if nothing is set.
func Setting(st State, key string) string {
	if d, ok := st.Doc(key); ok {
		return settingValue(&d)
	}
	for i := range settings {
		if settings[i].key == key {
			return settings[i].values[0]
		}
	}
	return ""
}
