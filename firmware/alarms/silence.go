package alarms

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// Bounds of silences.
const (
	silencesMax     = 128
	matchersMax     = 16
	matcherBytesMax = 512
	commentBytesMax = 1024
	// silenceMax is the longest: what is silent for longer is a rule to be switched off.
	silenceMax = 90 * 24 * time.Hour
)

// Matcher chooses alarms by one label, as Alertmanager's do: name=value, name!=value, name=~regex, name!~regex. A label that
// an alarm does not have is empty; a regex is of the whole value.
type Matcher struct {
	Name  string `json:"name"`
	Op    string `json:"op"` // =, !=, =~, !~
	Value string `json:"value"`

	regex *regexp.Regexp
}

var matcherText = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*$`)

// ParseMatcher reads a matcher; the value may be in double quotes. A text without an operator is the name of a rule. Errors: ErrSilence.
func ParseMatcher(text string) (Matcher, error) {
	if len(text) > matcherBytesMax || !utf8.ValidString(text) {
		return Matcher{}, fmt.Errorf("alarms: %w: a matcher has at most %d bytes", ErrSilence, matcherBytesMax)
	}
	if name := strings.TrimSpace(text); labelName.MatchString(name) {
		return Matcher{Name: LabelName, Op: "=", Value: name}, nil
	}
	p := matcherText.FindStringSubmatch(text)
	if p == nil {
		return Matcher{}, fmt.Errorf("alarms: %w: %q is no matcher; write a rule's name, label=value, label!=value, label=~regex or label!~regex", ErrSilence, text)
	}
	m := Matcher{Name: p[1], Op: p[2], Value: p[3]}
	if strings.HasPrefix(m.Value, `"`) {
		v, err := strconv.Unquote(m.Value)
		if err != nil {
			return Matcher{}, fmt.Errorf("alarms: %w: %q: the quotes do not match", ErrSilence, text)
		}
		m.Value = v
	}
	return m, m.compile()
}

// compile prepares the regex; it is needed after decoding.
func (m *Matcher) compile() error {
	switch m.Op {
	case "=", "!=":
		return nil
	case "=~", "!~":
		r, err := regexp.Compile("^(?:" + m.Value + ")$")
		if err != nil {
			return fmt.Errorf("alarms: %w: %w", ErrSilence, err)
		}
		m.regex = r
		return nil
	}
	return fmt.Errorf("alarms: %w: %q is no operator", ErrSilence, m.Op)
}

// String is the matcher as ParseMatcher reads it.
func (m Matcher) String() string { return m.Name + m.Op + strconv.Quote(m.Value) }

func (m *Matcher) matches(labels map[string]string) bool {
	v := labels[m.Name]
	switch m.Op {
	case "=":
		return v == m.Value
	case "!=":
		return v != m.Value
	case "=~":
		return m.regex.MatchString(v)
	}
	return !m.regex.MatchString(v)
}

// ParseLength reads how long a silence is to be: 90s, 30m, 2h, 7d, 2w and sums of them, such as 1h30m. Errors: ErrSilence.
func ParseLength(text string) (time.Duration, error) {
	if d, err := model.ParseDuration(text); err == nil && d > 0 {
		return time.Duration(d), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, fmt.Errorf("alarms: %w: %q is not how long; write 30m, 2h, 7d or the like", ErrSilence, text)
}

// Silence keeps alarms from being told. They go on being evaluated and shown.
type Silence struct {
	ID       string    `json:"id"`
	Matchers []Matcher `json:"matchers"`
	By       string    `json:"by"`
	Why      string    `json:"why"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
}

func (s *Silence) covers(labels map[string]string) bool {
	for i := range s.Matchers {
		if !s.Matchers[i].matches(labels) {
			return false
		}
	}
	return true
}

// check is of a silence that a person asks for, or that was kept.
func (s *Silence) check(now time.Time) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("alarms: %w: "+format, append([]any{ErrSilence}, args...)...)
	}
	switch {
	case len(s.Matchers) == 0 || len(s.Matchers) > matchersMax:
		return bad("it takes 1 to %d matchers; alertname=~\".+\" is all alarms", matchersMax)
	case s.Why == "":
		return bad("say why, for whoever is on duty next")
	case len(s.Why) > commentBytesMax || !utf8.ValidString(s.Why):
		return bad("the reason has more than %d bytes", commentBytesMax)
	case !s.Until.After(now):
		return bad("it would end before it begins; until is a time to come")
	case s.Until.Sub(now) > silenceMax:
		return bad("it is for %d days at most; alarms.off in the configuration switches a rule off", silenceMax/(24*time.Hour))
	}
	// One that every alarm without labels matches would be all alarms by mistake: =~".*", or != alone.
	for i := range s.Matchers {
		if !s.Matchers[i].matches(nil) {
			return nil
		}
	}
	return bad("no matcher asks for a label that must be there, so that it would cover all alarms; alertname=~\".+\" says so")
}

// Silences are those in force, the newest first. They are pure, and used by one goroutine at a time.
type Silences struct{ list []Silence }

// Add takes a silence. Errors: ErrSilence.
func (s *Silences) Add(x Silence, now time.Time) error {
	s.Prune(now)
	if err := x.check(now); err != nil {
		return err
	}
	if len(s.list) >= silencesMax {
		return fmt.Errorf("alarms: %w: there are %d already; end one", ErrSilence, silencesMax)
	}
	s.list = slices.Insert(s.list, 0, x)
	return nil
}

// End takes a silence away by its id or the first digits of it, if they are of one only. Errors: ErrUnknown.
func (s *Silences) End(id string) (Silence, error) {
	at := -1
	for i := range s.list {
		if id != "" && strings.HasPrefix(s.list[i].ID, id) {
			if at >= 0 {
				return Silence{}, fmt.Errorf("alarms: silence %q: %w that these digits name alone; give more of them", id, ErrUnknown)
			}
			at = i
		}
	}
	if at < 0 {
		return Silence{}, fmt.Errorf("alarms: silence %q: %w; `holdfast alarm list` shows those in force", id, ErrUnknown)
	}
	x := s.list[at]
	s.list = slices.Delete(s.list, at, at+1)
	return x, nil
}

// Prune forgets those that are over, and says whether there were any.
func (s *Silences) Prune(now time.Time) bool {
	n := len(s.list)
	s.list = slices.DeleteFunc(s.list, func(x Silence) bool { return !x.Until.After(now) })
	return len(s.list) < n
}

// Of is the silence that covers an alarm, nil for none.
func (s *Silences) Of(labels map[string]string, now time.Time) *Silence {
	for i := range s.list {
		if x := &s.list[i]; x.Until.After(now) && x.covers(labels) {
			return x
		}
	}
	return nil
}
