package alarms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// sendTimeMax is how long a receiver may take to answer.
	sendTimeMax = 10 * time.Second
	// answerBytesMax bounds what is read of its answer.
	answerBytesMax = 4 << 10
	// secretBytesMax bounds a file with a token or password.
	secretBytesMax = 4 << 10
	// retryAfterMax bounds how long a receiver may ask us to wait.
	retryAfterMax = 10 * time.Minute
)

// kindAlertmanager is the Kind whose receivers put together what all boxes say.
const kindAlertmanager = "alertmanager"

// errRefused says that the receiver will never take what it was sent; waiting does not help.
var errRefused = errors.New("the receiver refuses it")

// laterError says that a receiver asks us to come again after a time.
type laterError struct {
	after time.Duration
	err   error
}

func (e *laterError) Error() string { return e.err.Error() }
func (e *laterError) Unwrap() error { return e.err }

// receiver is somebody who is told.
type receiver interface {
	// send tells notices in order; all or none count as told. errRefused, wrapped, says that they never will be.
	send(ctx context.Context, list []Notice) error
}

// Target says where people are told, as the configuration has it.
type Target struct {
	// Kind is alertmanager, webhook, ntfy or syslog. URL is where: http, https, and for syslog udp, tcp, tls or unix.
	Kind, URL string
	// TokenFile has a bearer token; User and PasswordFile are for HTTP's basic authentication.
	TokenFile, User, PasswordFile string
	// CAFile has certificates, PEM, that the receiver is known by instead of the system's; CertFile and KeyFile are shown to it.
	CAFile, CertFile, KeyFile string
	// Severity is the least severe that is told: critical, warning or info.
	Severity string
}

// id names a target in what is kept over a restart, without showing its address, which may be secret.
func (t *Target) id() string {
	sum := sha256.Sum256([]byte(t.Kind + " " + t.URL))
	return t.Kind + "-" + hex.EncodeToString(sum[:4])
}

// shown is where the target is, without path and query, which may be secret.
func (t *Target) shown() string {
	u, err := url.Parse(t.URL)
	if err != nil {
		return t.Kind
	}
	if u.Scheme == "unix" {
		return t.Kind + " " + u.Scheme + "://" + u.Path
	}
	return t.Kind + " " + u.Scheme + "://" + u.Host
}

// Check says whether a receiver can work: its address, and the files with secrets. Errors: ErrReceiver.
func (t *Target) Check() error {
	_, err := t.open()
	return err
}

// open prepares the receiver; it connects to nothing. Errors: ErrReceiver; none has the URL's path or a secret.
func (t *Target) open() (receiver, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("alarms: %s: %w: "+format, append([]any{t.Kind, ErrReceiver}, args...)...)
	}
	u, err := url.Parse(t.URL)
	if err != nil {
		return nil, bad("its address is no URL")
	}
	if u.User != nil {
		return nil, bad("its address has a user or password in it; put them into user and password_file")
	}
	conf, err := t.tls()
	if err != nil {
		return nil, bad("%w", err)
	}
	if t.Kind == "syslog" {
		return newSyslog(u, conf)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, bad("its address is not http:// or https:// and a host")
	}
	p := &poster{user: t.User, client: &http.Client{
		Timeout: sendTimeMax,
		Transport: &http.Transport{
			TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute,
			DialContext: (&net.Dialer{Timeout: sendTimeMax}).DialContext,
		},
		// A receiver does not move, and a token is for no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for file, into := range map[string]*string{t.TokenFile: &p.token, t.PasswordFile: &p.password} {
		if file == "" {
			continue
		}
		b, err := readBounded(file, secretBytesMax)
		if *into = strings.TrimSpace(string(b)); err == nil && *into == "" {
			err = fmt.Errorf("%s is empty", file)
		}
		if err != nil {
			return nil, bad("%w", err)
		}
	}
	switch t.Kind {
	case kindAlertmanager:
		return &alertmanager{p: p, url: u.JoinPath("/api/v2/alerts").String()}, nil
	case "webhook":
		return &webhook{p: p, url: u.String()}, nil
	case "ntfy":
		return newNtfy(p, u)
	}
	return nil, bad("there is no such kind")
}

func (t *Target) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12} // receivers are others' programs
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// poster sends JSON over HTTP.
type poster struct {
	client                *http.Client
	token, user, password string
}

func (p *poster) post(ctx context.Context, to string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, bare(err))
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "holdfast")
	switch {
	case p.token != "":
		r.Header.Set("Authorization", "Bearer "+p.token)
	case p.user != "":
		r.SetBasicAuth(p.user, p.password)
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return bare(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err != nil {
		return bare(err)
	}
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("it answers %s: %.200s", resp.Status, strings.Join(strings.Fields(string(text)), " "))
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if s, e := strconv.Atoi(resp.Header.Get("Retry-After")); e == nil && s > 0 {
		return &laterError{min(time.Duration(s)*time.Second, retryAfterMax), err}
	}
	return err
}

// bare is an error of net/http without the URL, which may be secret.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
