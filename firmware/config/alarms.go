package config

import (
	"fmt"
	"net/url"
	"time"
)

// Bounds of alarms.
const (
	alarmsEveryMin = time.Second     // a round of rules takes some milliseconds
	alarmsEveryMax = 5 * time.Minute // later an alarm is no alarm
	receiversMax   = 8               // of one kind
	repeatMin      = 5 * time.Minute // more often wears people out
	repeatMax      = 31 * 24 * time.Hour
	severityHint   = "critical, warning or info"
)

// Alarms is about what is wrong, and who is told.
type Alarms struct {
	Every        Duration `toml:"every" json:"every"`
	Rules        string   `toml:"rules" json:"rules"`
	Off          []string `toml:"off" json:"off"`
	Repeat       Duration `toml:"repeat" json:"repeat"`
	ConsoleURL   string   `toml:"console_url" json:"console_url"`
	Alertmanager Receiver `toml:"alertmanager" json:"alertmanager"`
	Webhook      Receiver `toml:"webhook" json:"webhook"`
	Ntfy         Receiver `toml:"ntfy" json:"ntfy"`
	Syslog       Syslog   `toml:"syslog" json:"syslog"`
}

// Receiver is who is told over HTTP.
type Receiver struct {
	URLs         []string `toml:"urls" json:"urls"`
	Severity     string   `toml:"severity" json:"severity"`
	TokenFile    string   `toml:"token_file" json:"token_file"`
	User         string   `toml:"user" json:"user"`
	PasswordFile string   `toml:"password_file" json:"password_file"`
	CAFile       string   `toml:"ca_file" json:"ca_file"`
	CertFile     string   `toml:"cert_file" json:"cert_file"`
	KeyFile      string   `toml:"key_file" json:"key_file"`
}

// Syslog is where logs are gathered.
type Syslog struct {
	URLs     []string `toml:"urls" json:"urls"`
	Severity string   `toml:"severity" json:"severity"`
	CAFile   string   `toml:"ca_file" json:"ca_file"`
	CertFile string   `toml:"cert_file" json:"cert_file"`
	KeyFile  string   `toml:"key_file" json:"key_file"`
}

// Receivers are all kinds of receivers, by kind.
func (a *Alarms) Receivers() map[string]Receiver {
	s := &a.Syslog
	return map[string]Receiver{
		"alertmanager": a.Alertmanager, "webhook": a.Webhook, "ntfy": a.Ntfy,
		"syslog": {URLs: s.URLs, Severity: s.Severity, CAFile: s.CAFile, CertFile: s.CertFile, KeyFile: s.KeyFile},
	}
}

// under makes paths absolute from dir.
func (a *Alarms) under(dir string) {
	a.Rules = under(dir, a.Rules)
	for _, r := range []*Receiver{&a.Alertmanager, &a.Webhook, &a.Ntfy} {
		for _, f := range []*string{&r.TokenFile, &r.PasswordFile, &r.CAFile, &r.CertFile, &r.KeyFile} {
			*f = under(dir, *f)
		}
	}
	for _, f := range []*string{&a.Syslog.CAFile, &a.Syslog.CertFile, &a.Syslog.KeyFile} {
		*f = under(dir, *f)
	}
}

// check does not say what an address is: there may be something secret in it.
func (a *Alarms) check() error {
	for kind, r := range a.Receivers() {
		key := "alarms." + kind
		switch {
		case r.Severity != "critical" && r.Severity != "warning" && r.Severity != "info":
			return fmt.Errorf("%w: %s.severity = %q; it is %s", ErrValue, key, r.Severity, severityHint)
		case len(r.URLs) > receiversMax:
			return fmt.Errorf("%w: %s.urls has more than %d addresses", ErrValue, key, receiversMax)
		case (r.CertFile == "") != (r.KeyFile == ""):
			return fmt.Errorf("%w: %s.cert_file and key_file belong together; set both or none", ErrValue, key)
		case (r.User == "") != (r.PasswordFile == ""):
			return fmt.Errorf("%w: %s.user and password_file belong together; set both or none", ErrValue, key)
		case r.User != "" && r.TokenFile != "":
			return fmt.Errorf("%w: %s has a token_file and a user; set one", ErrValue, key)
		}
		for i, text := range r.URLs {
			u, err := url.Parse(text)
			if err != nil || u.Scheme == "" || u.Host == "" && u.Path == "" {
				return fmt.Errorf("%w: %s.urls: number %d is no address such as https://host/path", ErrValue, key, i+1)
			}
			if u.User != nil {
				return fmt.Errorf("%w: %s.urls: number %d has a user or password in it; put them into user and password_file", ErrValue, key, i+1)
			}
		}
	}
	if r := time.Duration(a.Repeat); r != 0 && (r < repeatMin || r > repeatMax) {
		return fmt.Errorf("%w: alarms.repeat = %v must be 0s or from %v to %v", ErrValue, r, repeatMin, repeatMax)
	}
	if u, err := url.Parse(a.ConsoleURL); a.ConsoleURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return fmt.Errorf("%w: alarms.console_url = %q is no address such as https://box-1.example:8080", ErrValue, a.ConsoleURL)
	}
	return nil
}
