package alarms

import (
	"bytes"
	"cmp"
	_ "embed" // builtin.yaml
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// Bounds of rules, which people write: beyond them something is wrong.
const (
	ruleFileBytesMax = 1 << 20 // a thousand rules
	ruleFilesMax     = 64
	rulesMax         = 1000
	exprBytesMax     = 8 << 10
	ruleLabelsMax    = 32
	forMax           = 31 * 24 * time.Hour // the history is not longer
)

// Errors of this package.
var (
	// ErrRules says that a rule file cannot be used. It names file and rule, and what to do.
	ErrRules = errors.New("alarm rules cannot be used")
	// ErrSilence says that a silence cannot be as it was asked for.
	ErrSilence = errors.New("cannot be silenced so")
	// ErrUnknown says that there is no alarm, rule or silence of that name.
	ErrUnknown = errors.New("there is none")
	// ErrReceiver says that a receiver is not configured in a way that works.
	ErrReceiver = errors.New("alarm receiver cannot be used")
)

// Names of labels and annotations that have a meaning here.
const (
	LabelName     = "alertname"
	LabelSeverity = "severity"
	LabelScope    = "scope" // ScopeSite: all boxes see it alike; anything else is about the box that says it
	LabelSite     = "site"
	LabelBox      = "box"

	ScopeSite = "site"
	ScopeBox  = "box"

	Critical = "critical"
	Warning  = "warning"
	Info     = "info"
)

//go:embed builtin.yaml
var builtin []byte

// BuiltinText is the rule file that ships, as Prometheus reads it; the caller owns the copy.
func BuiltinText() []byte { return bytes.Clone(builtin) }

// Rule is an alerting rule.
type Rule struct {
	Name  string `json:"name"`
	Group string `json:"group"`
	// File is where the rule is from; empty: it ships.
	File string `json:"file,omitempty"`
	Expr string `json:"expr"`
	// For is how long the expression must hold before the alarm fires, KeepFiring how long it must be away before the alarm is resolved.
	For         time.Duration     `json:"for"`
	KeepFiring  time.Duration     `json:"keep_firing_for"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Severity is the rule's severity as it is written.
func (r *Rule) Severity() string { return r.Labels[LabelSeverity] }

// ofSite says whether all boxes of a site see the rule's alarms alike.
func (r *Rule) ofSite() bool { return r.Labels[LabelScope] == ScopeSite }

// ruleFile is a rule file as Prometheus has it (prometheus.io, "Defining recording rules", "Alerting rules").
type ruleFile struct {
	Groups []struct {
		Name        string            `yaml:"name"`
		Interval    duration          `yaml:"interval"`
		Limit       int               `yaml:"limit"`
		QueryOffset duration          `yaml:"query_offset"`
		Labels      map[string]string `yaml:"labels"`
		Rules       []struct {
			Record      string            `yaml:"record"`
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         duration          `yaml:"for"`
			KeepFiring  duration          `yaml:"keep_firing_for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

type duration time.Duration

// UnmarshalText reads Prometheus's durations: 5m, 1h30m, 1d.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := model.ParseDuration(string(text))
	*d = duration(v)
	return err
}

// ParseRules reads a rule file; file names it in errors and rules. query says what is wrong with an expression, or nil. Errors: ErrRules.
func ParseRules(data []byte, file string, query func(expr string) error) ([]*Rule, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("alarms: %s: %w: "+format, append([]any{cmp.Or(file, "the rules that ship"), ErrRules}, args...)...)
	}
	if len(data) > ruleFileBytesMax {
		return nil, bad("it has more than %d bytes", ruleFileBytesMax)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	var f ruleFile
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, bad("%s; `promtool check rules` may say more", strings.Join(strings.Fields(err.Error()), " "))
	}
	var list []*Rule
	for i := range f.Groups {
		g := &f.Groups[i]
		for k := range g.Rules {
			y := &g.Rules[k]
			if y.Record != "" {
				return nil, bad("group %q: %q is a recording rule, which a box does not have; write its expression into the alarm", g.Name, y.Record)
			}
			r := &Rule{
				Name: y.Alert, Group: g.Name, File: file, Expr: strings.TrimSpace(y.Expr),
				For: time.Duration(y.For), KeepFiring: time.Duration(y.KeepFiring), Labels: map[string]string{}, Annotations: y.Annotations,
			}
			for _, labels := range []map[string]string{g.Labels, y.Labels} {
				maps.Copy(r.Labels, labels)
			}
			if err := r.check(query); err != nil {
				return nil, bad("group %q: rule %q: %v", g.Name, r.Name, err)
			}
			if list = append(list, r); len(list) > rulesMax {
				return nil, bad("it has more than %d rules", rulesMax)
			}
		}
	}
	return list, nil
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func (r *Rule) check(query func(string) error) error {
	switch {
	case r.Name == "":
		return errors.New("it has no name; write alert: NAME")
	case r.Expr == "":
		return errors.New("it has no expression; write expr: EXPRESSION")
	case len(r.Expr) > exprBytesMax:
		return fmt.Errorf("its expression has more than %d bytes", exprBytesMax)
	case r.For > forMax || r.KeepFiring > forMax:
		return fmt.Errorf("for and keep_firing_for are at most %v", forMax)
	case len(r.Labels) > ruleLabelsMax || len(r.Annotations) > ruleLabelsMax:
		return fmt.Errorf("it has more than %d labels or annotations", ruleLabelsMax)
	}
	for n, v := range r.Labels {
		if !labelName.MatchString(n) || strings.HasPrefix(n, "__") || n == LabelName {
			return fmt.Errorf("label %q cannot be set; a name has letters, digits and _", n)
		}
		if err := checkTemplate(v); err != nil {
			return fmt.Errorf("label %q: %w", n, err)
		}
	}
	for n, v := range r.Annotations {
		if !labelName.MatchString(n) {
			return fmt.Errorf("annotation %q: a name has letters, digits and _", n)
		}
		if err := checkTemplate(v); err != nil {
			return fmt.Errorf("annotation %q: %w", n, err)
		}
	}
	if err := query(r.Expr); err != nil {
		return fmt.Errorf("its expression cannot be evaluated here: %s; correct it, or leave this rule to your Prometheus", strings.Join(strings.Fields(err.Error()), " "))
	}
	return nil
}

// LoadRules reads the rules that ship and those of the site's own in dir (*.yaml, *.yml; there may be no such directory). One of the site's own
// takes the place of the one that ships under the same name; names in off are left out. Errors: ErrRules, or what the file system says.
func LoadRules(dir string, off []string, query func(expr string) error) ([]*Rule, error) {
	ours, err := ParseRules(builtin, "", query)
	if err != nil {
		return nil, err
	}
	own, err := ownRules(dir, query)
	if err != nil {
		return nil, err
	}
	for _, name := range off {
		if !slices.ContainsFunc(ours, func(r *Rule) bool { return r.Name == name }) {
			return nil, fmt.Errorf("alarms: %w: alarms.off names %q, and no rule that ships is called so; `holdfast alarm rules` lists them", ErrRules, name)
		}
	}
	ours = slices.DeleteFunc(ours, func(r *Rule) bool {
		return slices.Contains(off, r.Name) || slices.ContainsFunc(own, func(o *Rule) bool { return o.Name == r.Name })
	})
	return append(ours, own...), nil
}

func ownRules(dir string, query func(string) error) (list []*Rule, err error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("alarms: %w", err)
	}
	files := 0
	for _, e := range entries { // in the order of names
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".yaml" && ext != ".yml" {
			continue
		}
		if files++; files > ruleFilesMax {
			return nil, fmt.Errorf("alarms: %w: %s has more than %d files", ErrRules, dir, ruleFilesMax)
		}
		path := filepath.Join(dir, e.Name())
		data, err := readBounded(path, ruleFileBytesMax)
		if err != nil {
			return nil, fmt.Errorf("alarms: %w", err)
		}
		rules, err := ParseRules(data, path, query)
		if err != nil {
			return nil, err
		}
		if list = append(list, rules...); len(list) > rulesMax {
			return nil, fmt.Errorf("alarms: %w: %s has more than %d rules", ErrRules, dir, rulesMax)
		}
	}
	return list, nil
}

// readBounded reads a file up to one byte more than max.
func readBounded(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	return data, errors.Join(err, f.Close())
}
