package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/alarms"
)

// Alarms is what the console asks of a box's alarms; *alarms.Service is one.
type Alarms interface {
	View() *alarms.View
	Rules() []alarms.RuleView
	Silences() *alarms.SilenceList
	Silence(matchers []alarms.Matcher, by, why string, until time.Time) (alarms.Silence, error)
	Unsilence(id string) (alarms.Silence, error)
	Test(by string) (receivers int)
}

// silenceDefault is how long a silence is when nobody says: a shift is over then, and nobody forgets it for good.
const silenceDefault = 2 * time.Hour

func (c *Console) apiAlarms(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, c.cfg.Alarms.View())
}

func (c *Console) apiAlarmRules(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string][]alarms.RuleView{"rules": c.cfg.Alarms.Rules()})
}

func (c *Console) apiSilences(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, c.cfg.Alarms.Silences())
}

// alarmActs are what is done about alarms. They are of this box: one that was stolen must not make others silent.
func (c *Console) alarmActs() []*Act {
	if c.cfg.Alarms == nil {
		return nil
	}
	box := func(Params) string { return "box:" + c.cfg.Site.View().ID.String() }
	bad := func(err error) error {
		if errors.Is(err, alarms.ErrSilence) || errors.Is(err, alarms.ErrUnknown) {
			return fmt.Errorf("%w: %w", ErrBad, err)
		}
		return err
	}
	return []*Act{
		{Path: "/alarms/silence", Action: "alarm.silence", Resource: box, Back: "/alarms", Run: func(_ context.Context, x *Caller, p Params) (any, error) {
			matchers, until, err := silenceOf(p, time.Now())
			if err != nil {
				return nil, bad(err)
			}
			s, err := c.cfg.Alarms.Silence(matchers, x.Principal, p["why"], until)
			return &s, bad(err)
		}},
		{Path: "/alarms/unsilence", Action: "alarm.unsilence", Resource: box, Back: "/alarms", Run: func(_ context.Context, _ *Caller, p Params) (any, error) {
			s, err := c.cfg.Alarms.Unsilence(p["id"])
			return &s, bad(err)
		}},
		{Path: "/alarms/test", Action: "alarm.test", Resource: box, Back: "/alarms", Run: func(_ context.Context, x *Caller, _ Params) (any, error) {
			return map[string]int{"receivers": c.cfg.Alarms.Test(x.Principal)}, nil
		}},
	}
}

// silenceOf reads a silence: matchers one a line, and for, a duration, or until, a time in RFC 3339.
func silenceOf(p Params, now time.Time) (list []alarms.Matcher, until time.Time, err error) {
	for line := range strings.Lines(p["matchers"]) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		m, err := alarms.ParseMatcher(line)
		if err != nil {
			return nil, until, err
		}
		list = append(list, m)
	}
	until = now.Add(silenceDefault)
	switch {
	case p["until"] != "":
		if until, err = time.Parse(time.RFC3339, p["until"]); err != nil {
			return nil, until, fmt.Errorf("%w: until is a time such as 2026-12-24T18:00:00Z", alarms.ErrSilence)
		}
	case p["for"] != "":
		d, err := alarms.ParseLength(p["for"])
		if err != nil {
			return nil, until, err
		}
		until = now.Add(d)
	}
	return list, until, nil
}
