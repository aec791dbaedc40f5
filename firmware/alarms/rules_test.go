package alarms

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func anyQuery(string) error { return nil }

func TestEachRuleThatShipsSaysWhatItMeansAndWhatToDo(t *testing.T) {
	rules, err := ParseRules(BuiltinText(), "", anyQuery)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewEngine(rules, "s", "b"); err != nil {
		t.Error(err)
	}
	for _, r := range rules {
		if _, known := severities[r.Severity()]; !known || r.Labels[LabelScope] != ScopeSite && r.Labels[LabelScope] != ScopeBox {
			t.Errorf("%s: labels %v", r.Name, r.Labels)
		}
		for _, a := range []string{annotationSummary, annotationDescription, annotationAction, annotationConsole} {
			if r.Annotations[a] == "" {
				t.Errorf("%s has no %s", r.Name, a)
			}
		}
		if r.Annotations[annotationConsole] == "/" && r.Name != "HoldfastNotOrdering" { // whose reason is the first sentence there
			t.Errorf("%s leads to the page of all, and not to that of the matter", r.Name)
		}
		if !strings.HasPrefix(r.Annotations[annotationConsole], "/") || !strings.HasPrefix(r.Name, "Holdfast") || r.KeepFiring < time.Minute {
			t.Errorf("%s: page %q, keeps firing for %v", r.Name, r.Annotations[annotationConsole], r.KeepFiring)
		}
	}
}

func TestARuleOfTheSitesOwnTakesThePlaceOfOneThatShips(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "groups: [{name: own, labels: {team: shop}, rules: [{alert: HoldfastBoxAway, expr: x < 1, for: 1h30m}, {alert: Own, expr: y, labels: {severity: info}}]}]")
	write("notes.txt", "not rules")
	rules, err := LoadRules(dir, []string{"HoldfastMemory"}, anyQuery)
	if err != nil {
		t.Fatal(err)
	}
	named := func(name string) (list []*Rule) {
		for _, r := range rules {
			if r.Name == name {
				list = append(list, r)
			}
		}
		return list
	}
	away, own := named("HoldfastBoxAway"), named("Own")
	if len(away) != 1 || away[0].For != 90*time.Minute || away[0].Labels["team"] != "shop" || len(own) != 1 || own[0].Severity() != Info || len(named("HoldfastMemory")) != 0 || len(named("HoldfastQuorumLost")) != 1 {
		t.Errorf("%+v %+v", away, own)
	}
	if _, err := LoadRules(dir, []string{"HoldfastMemoy"}, anyQuery); !errors.Is(err, ErrRules) {
		t.Errorf("an unknown rule is switched off: %v", err)
	}
	if _, err := LoadRules(filepath.Join(dir, "none"), nil, anyQuery); err != nil {
		t.Errorf("no directory is no rules: %v", err)
	}
}

func TestARuleFileThatCannotBeUsedSaysWhereAndWhatToDo(t *testing.T) {
	noFunction := func(expr string) error {
		if strings.Contains(expr, "frobnicate") {
			return errors.New("unknown function with name \"frobnicate\"")
		}
		return nil
	}
	one := func(rule string) string { return "groups: [{name: g, rules: [{" + rule + "}]}]" }
	for _, tc := range []struct{ text, says string }{
		{one("alert: A, expr: frobnicate(x)"), "leave this rule to your Prometheus"},
		{one("record: a, expr: b"), "recording rule"},
		{one("alert: A"), "no expression"},
		{one("expr: b"), "no name"},
		{one("alert: A, expr: b, for: soon"), "promtool"},
		{one("alert: A, expr: b, colour: red"), "colour"},
		{one("alert: A, expr: b, for: 60d"), "at most"},
		{one("alert: A, expr: b, annotations: {summary: '{{ query \"x\" }}'}"), "humanizeDuration"},
		{one("alert: A, expr: b, labels: {alertname: c}"), "cannot be set"},
		{one("alert: A, expr: b, labels: {0a: c}"), "letters"},
		{"groups: {", "promtool"},
		{strings.Repeat(" ", ruleFileBytesMax+1), "bytes"},
	} {
		_, err := ParseRules([]byte(tc.text), "own.yaml", noFunction)
		if !errors.Is(err, ErrRules) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "own.yaml") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80s: %v", tc.text, err)
		}
	}
	twice, err := ParseRules([]byte("groups: [{name: g, rules: [{alert: A, expr: b}, {alert: A, expr: c}]}]"), "f", noFunction)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewEngine(twice, "s", "b"); !errors.Is(err, ErrRules) {
		t.Errorf("two rules that cannot be told apart: %v", err)
	}
}

func TestTextsAreFilledInAsPrometheusDoes(t *testing.T) {
	labels := map[string]string{"member": "box-2"}
	for text, want := range map[string]string{
		"plain":                            "plain",
		"{{ $labels.member }}":             "box-2",
		"{{ .Labels.member | toUpper }}":   "BOX-2",
		"{{ $labels.none }}.":              ".",
		"{{ $value }}":                     "12345.5",
		"{{ $value | humanize }}":          "12.35k",
		"{{ $value | humanize1024 }}":      "12.06Ki",
		"{{ $value | humanizeDuration }}":  "3h 25m 45s",
		"{{ printf \"%.1f\" $value }}":     "12345.5",
		"{{ $value | humanizeTimestamp }}": "1970-01-01T03:25:45Z",
		"{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}": "<",
	} {
		if got := expand(text, labels, 12345.5); got != want && (want != "<" || !strings.HasPrefix(got, "<")) {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0s", 0.25: "250ms", 59.5: "59.5s", 90061: "1d 1h 1m 1s", -75: "-1m 15s"} {
		if got := humanizeDuration(v); got != want {
			t.Errorf("%v s is %q, want %q", v, got, want)
		}
	}
	if !slices.Contains([]string{"0.25%", "25%"}, expand("{{ $value | humanizePercentage }}", nil, 0.25)) {
		t.Error("percentage")
	}
}
