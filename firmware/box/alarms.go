package box

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/history"
	"github.com/prometheus/client_golang/prometheus"
)

// openAlarms makes the box's alarms: the rules that ship and the site's own over the box's history, and who is told. A rule or receiver that
// cannot work keeps the box from starting, for nobody would notice later.
func openAlarms(c *config.Config, who *identity, known *measures, view func() *site.View, log *slog.Logger) (*alarms.Service, error) {
	rules, err := alarmRules(c)
	if err != nil {
		return nil, fmt.Errorf("box: %w", err)
	}
	conf := alarms.Config{
		Rules: rules, Every: time.Duration(c.Alarms.Every), Repeat: time.Duration(c.Alarms.Repeat), View: view,
		Query: func(ctx context.Context, expr string) ([]alarms.Sample, error) {
			answer, err := known.history.Instant(ctx, expr, time.Time{})
			list := make([]alarms.Sample, len(answer))
			for i := range answer {
				list[i] = alarms.Sample{Labels: answer[i].Labels, Value: answer[i].Value}
			}
			return list, err
		},
		Targets: targets(c), Site: who.members.Site.String(), Box: who.member.Name, Console: consoleURL(c, who),
		Dir: c.DataDir, Random: rand.Reader, Logger: log,
	}
	s, err := alarms.New(conf)
	if err != nil {
		return nil, fmt.Errorf("box: %w", err)
	}
	for _, m := range []prometheus.Collector{s.Collector(), newVitals(c, view)} {
		if err := known.metrics.Register(m); err != nil {
			return nil, fmt.Errorf("box: %w", err)
		}
	}
	return s, nil
}

func alarmRules(c *config.Config) ([]*alarms.Rule, error) {
	return alarms.LoadRules(c.Alarms.Rules, c.Alarms.Off, history.Check)
}

// CheckAlarms says whether the rules of a configuration can be evaluated and its receivers could be told; it asks nobody. Errors: ErrRules and
// ErrReceiver of package alarms.
func CheckAlarms(c *config.Config) error {
	_, err := alarmRules(c)
	for _, t := range targets(c) {
		err = errors.Join(err, t.Check())
	}
	return err
}

// targets are who is told, in the order of the configuration.
func targets(c *config.Config) (list []alarms.Target) {
	for _, kind := range []string{"alertmanager", "webhook", "ntfy", "syslog"} {
		r := c.Alarms.Receivers()[kind]
		for _, u := range r.URLs {
			list = append(list, alarms.Target{
				Kind: kind, URL: u, Severity: r.Severity, TokenFile: r.TokenFile, User: r.User, PasswordFile: r.PasswordFile,
				CAFile: r.CAFile, CertFile: r.CertFile, KeyFile: r.KeyFile,
			})
		}
	}
	return list
}

// consoleURL is where a person who is told finds the box's console; empty: nobody knows.
func consoleURL(c *config.Config, who *identity) string {
	if c.Alarms.ConsoleURL != "" {
		return strings.TrimSuffix(c.Alarms.ConsoleURL, "/")
	}
	at := who.member.Console
	if at == "" {
		at = c.Console.Listen
	}
	host, port, err := net.SplitHostPort(at)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		return ""
	}
	scheme := "http"
	if c.Console.Secure() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
