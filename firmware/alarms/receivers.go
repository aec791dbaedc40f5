package alarms

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// resendEvery is how often Alertmanager is told again of what still fires, as Prometheus does. It takes an alarm to be over of which it hears nothing for
// its resolve_timeout, 5 minutes by default. That is left to it: the clock of a box may be wrong.
const resendEvery = time.Minute

// clockSince is before any right clock: a time before it is not told.
var clockSince = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// alertmanager posts to Alertmanager's API v2 (its api/v2/openapi.yaml, postAlerts).
type alertmanager struct {
	p   *poster
	url string
}

type postableAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt,omitzero"`
	EndsAt       time.Time         `json:"endsAt,omitzero"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

func (r *alertmanager) send(ctx context.Context, list []Notice) error {
	at := map[string]int{} // the last word on each alarm counts
	var post []postableAlert
	for i := range list {
		n := &list[i]
		a := postableAlert{n.Alert.Labels, n.Alert.Annotations, n.Alert.Fired, n.Alert.Resolved, n.Alert.Annotations[annotationConsole]}
		if a.StartsAt.Before(clockSince) {
			a.StartsAt = time.Time{}
		}
		if n.Status == Firing {
			a.EndsAt = time.Time{}
		}
		if k, ok := at[n.Alert.Fingerprint]; ok {
			post[k] = a
			continue
		}
		at[n.Alert.Fingerprint] = len(post)
		post = append(post, a)
	}
	body, err := json.Marshal(post)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return r.p.post(ctx, r.url, body)
}

// webhook posts what Alertmanager posts to its webhook receivers, version 4 (prometheus.io, "Configuration", webhook_config), so that what
// was made for that takes it.
type webhook struct {
	p   *poster
	url string
}

type webhookMessage struct {
	Version           string            `json:"version"`
	GroupKey          string            `json:"groupKey"`
	TruncatedAlerts   int               `json:"truncatedAlerts"`
	Status            State             `json:"status"`
	Receiver          string            `json:"receiver"`
	GroupLabels       map[string]string `json:"groupLabels"`
	CommonLabels      map[string]string `json:"commonLabels"`
	CommonAnnotations map[string]string `json:"commonAnnotations"`
	ExternalURL       string            `json:"externalURL"`
	Alerts            []webhookAlert    `json:"alerts"`
}

type webhookAlert struct {
	Status       State             `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"` // the zero time while it fires
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}

// message is the webhook's body. All notices are of one group, their site.
func message(list []Notice) *webhookMessage {
	m := &webhookMessage{Version: "4", Status: Resolved, Receiver: "holdfast", GroupLabels: map[string]string{}}
	for i := range list {
		a := list[i].Alert
		w := webhookAlert{
			Status: list[i].Status, Labels: a.Labels, Annotations: a.Annotations, StartsAt: a.Fired, EndsAt: a.Resolved,
			GeneratorURL: a.Annotations[annotationConsole], Fingerprint: a.Fingerprint,
		}
		if w.Status == Firing {
			m.Status, w.EndsAt = Firing, time.Time{}
		}
		m.Alerts = append(m.Alerts, w)
		m.CommonLabels, m.CommonAnnotations = common(m.CommonLabels, a.Labels), common(m.CommonAnnotations, a.Annotations)
	}
	if s := m.CommonLabels[LabelSite]; s != "" {
		m.GroupLabels[LabelSite] = s
	}
	m.GroupKey = fmt.Sprintf("{}:{site=%q}", m.GroupLabels[LabelSite])
	if u, err := url.Parse(m.Alerts[0].GeneratorURL); err == nil && u.Host != "" {
		m.ExternalURL = u.Scheme + "://" + u.Host
	}
	return m
}

// common is what both maps have; nil stands for everything.
func common(a, b map[string]string) map[string]string {
	c := map[string]string{}
	for k, v := range b {
		if old, ok := a[k]; a == nil || ok && old == v {
			c[k] = v
		}
	}
	return c
}

func (r *webhook) send(ctx context.Context, list []Notice) error {
	body, err := json.Marshal(message(list))
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return r.p.post(ctx, r.url, body)
}

// ntfy publishes as JSON (docs.ntfy.sh, "Publish as JSON"), one message for each notice.
type ntfy struct {
	p          *poster
	url, topic string
}

func newNtfy(p *poster, u *url.URL) (*ntfy, error) {
	path := strings.Trim(u.Path, "/")
	i := strings.LastIndexByte(path, '/')
	n := &ntfy{p: p, topic: path[i+1:]}
	if n.topic == "" {
		return nil, fmt.Errorf("alarms: ntfy: %w: its address ends in no topic; write https://host/topic", ErrReceiver)
	}
	base := *u
	base.Path = "/" + path[:max(i, 0)]
	n.url = base.String()
	return n, nil
}

func (r *ntfy) send(ctx context.Context, list []Notice) error {
	for i := range list {
		n := &list[i]
		m := struct {
			Topic    string   `json:"topic"`
			Title    string   `json:"title"`
			Message  string   `json:"message"`
			Priority int      `json:"priority"`
			Tags     []string `json:"tags"`
			Click    string   `json:"click,omitempty"`
		}{
			Topic: r.topic, Title: headline(n), Message: body(n), Click: n.Alert.Annotations[annotationConsole],
			Priority: map[string]int{Critical: 5, Warning: 4, Info: 2}[n.Alert.Severity()],
			Tags:     []string{map[string]string{Critical: "rotating_light", Warning: "warning", Info: "information_source"}[n.Alert.Severity()]},
		}
		if n.Status == Resolved {
			m.Priority, m.Tags = 3, []string{"white_check_mark"}
		}
		text, err := json.Marshal(&m)
		if err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		if err := r.p.post(ctx, r.url, text); err != nil {
			return err
		}
	}
	return nil
}

// headline says in a line what a notice is about.
func headline(n *Notice) string {
	what := strings.ToUpper(n.Alert.Severity())
	if n.Status == Resolved {
		what = "RESOLVED"
	}
	return what + ": " + cmp.Or(n.Alert.Annotations[annotationSummary], n.Alert.Labels[LabelName])
}

// body says what it means and what to do.
func body(n *Notice) string {
	a := n.Alert
	parts := []string{}
	if n.Status == Firing {
		for _, p := range []string{a.Annotations[annotationDescription], a.Annotations[annotationAction]} {
			if p != "" {
				parts = append(parts, p)
			}
		}
	}
	where := "site " + a.Labels[LabelSite]
	if b := a.Labels[LabelBox]; b != "" {
		where += ", box " + b
	}
	return strings.Join(append(parts, a.Labels[LabelName]+", "+where), "\n")
}
