package alarms

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func matchers(t *testing.T, texts ...string) (list []Matcher) {
	t.Helper()
	for _, x := range texts {
		m, err := ParseMatcher(x)
		if err != nil {
			t.Fatalf("%q: %v", x, err)
		}
		list = append(list, m)
	}
	return list
}

func TestHowLongASilenceIsIsWrittenAsPeopleDo(t *testing.T) {
	for text, want := range map[string]time.Duration{"30m": 30 * time.Minute, "2h": 2 * time.Hour, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "7d": 168 * time.Hour, "2w": 336 * time.Hour} {
		if d, err := ParseLength(text); err != nil || d != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "0s", "-1h", "2", "soon", "2 days"} {
		if d, err := ParseLength(text); !errors.Is(err, ErrSilence) {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
}

func TestASilenceOfARuleThatThereIsNotIsRefused(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.start()
		defer r.stop()
		until := time.Now().Add(time.Hour)
		if _, err := r.service.Silence(matchers(t, "Hott"), "operator:ann", "a slip", until); !errors.Is(err, ErrSilence) || !strings.Contains(err.Error(), `no rule of this box is called "Hott"`) {
			t.Errorf("%v", err)
		}
		if _, err := r.service.Silence(matchers(t, "alertname=~Hot.*"), "operator:ann", "a pattern", until); err != nil {
			t.Error(err)
		}
	})
}

func TestMatchersChooseAsAlertmanagersDo(t *testing.T) {
	labels := map[string]string{LabelName: "HoldfastBoxAway", "member": "box-2", LabelSeverity: Warning}
	for text, want := range map[string]bool{
		"HoldfastBoxAway":            true,
		"member=box-2":               true,
		`member = "box-2"`:           true,
		"member!=box-2":              false,
		"member=~box-[0-9]":          true,
		"member=~box":                false, // the whole value
		"alertname!~Holdfast(A|B).*": false,
		"other=":                     true, // a label that is not there is empty
		"other!=x":                   true,
	} {
		if m := matchers(t, text); m[0].matches(labels) != want {
			t.Errorf("%s: not %v", text, want)
		} else if again := matchers(t, m[0].String()); again[0].matches(labels) != want {
			t.Errorf("%s is written as %s and means something else", text, m[0])
		}
	}
	for _, text := range []string{"", "a b", "=x", "a=~(", `a="x`, "9=x", strings.Repeat("a", 600)} {
		if _, err := ParseMatcher(text); !errors.Is(err, ErrSilence) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestASilenceSaysWhyAndEndsAndDoesNotCoverAllByMistake(t *testing.T) {
	var s Silences
	ask := func(why string, d time.Duration, texts ...string) error {
		return s.Add(Silence{ID: strings.Repeat("a", len(s.list)+1), Matchers: matchers(t, texts...), Why: why, From: t0, Until: t0.Add(d)}, t0)
	}
	for _, tc := range []struct {
		why  string
		d    time.Duration
		on   []string
		says string
	}{
		{"", time.Hour, []string{"Hot"}, "say why"},
		{"x", -time.Hour, []string{"Hot"}, "end before"},
		{"x", 91 * 24 * time.Hour, []string{"Hot"}, "alarms.off"},
		{"x", time.Hour, nil, "matchers"},
		{"x", time.Hour, []string{"a=~.*"}, "cover all"},
		{"x", time.Hour, []string{"a!=b", "c="}, "cover all"},
	} {
		if err := ask(tc.why, tc.d, tc.on...); !errors.Is(err, ErrSilence) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v for %v: %v", tc.on, tc.d, err)
		}
	}
	if err := ask("work", time.Hour, "Hot", "member!=b"); err != nil {
		t.Fatal(err)
	}
	hot := map[string]string{LabelName: "Hot"}
	if s.Of(hot, t0) == nil || s.Of(hot, t0.Add(time.Hour)) != nil || s.Of(map[string]string{LabelName: "Hot", "member": "b"}, t0) != nil {
		t.Error("it does not cover what it says while it says")
	}
	if _, err := s.End("b"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	if x, err := s.End("a"); err != nil || x.Why != "work" || s.Of(hot, t0) != nil {
		t.Errorf("%v %v", x, err)
	}
	for range silencesMax {
		if err := ask("work", time.Hour, "Hot"); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask("work", time.Hour, "Hot"); !errors.Is(err, ErrSilence) {
		t.Errorf("more than %d: %v", silencesMax, err)
	}
	if _, err := s.End("aa"); !errors.Is(err, ErrUnknown) {
		t.Errorf("digits of several silences ended one: %v", err)
	}
}

func FuzzParseMatcher(f *testing.F) {
	for _, s := range []string{"a=b", `a=~"x|y"`, "a!~z", "Name", `a="\n"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMatcher(text)
		if err != nil {
			return
		}
		m.matches(map[string]string{m.Name: m.Value})
		if again, err := ParseMatcher(m.String()); err == nil && (again.Name != m.Name || again.Op != m.Op || again.Value != m.Value) {
			t.Fatalf("%q is %v and then %v", text, m, again)
		}
	})
}
