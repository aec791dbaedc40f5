package alarms

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// syslogFacility is "log alert" (RFC 5424, 6.2.1).
	syslogFacility = 14
	// syslogBytesMax is what receivers should take (RFC 5424, 6.1).
	syslogBytesMax = 2048
	// syslogID is the structured data's name; 32473 is the number for use in documents (RFC 5612), as long as the project has none.
	syslogID = "alarm@32473"
)

// syslog sends RFC 5424 messages: a datagram each over UDP (RFC 5426) and unix sockets, counted octets over TCP (RFC 6587, 3.4.1) and
// TLS (RFC 5425).
type syslog struct {
	network, address string
	tls              *tls.Config // nil: none
	stream           bool
	host             string
}

func newSyslog(u *url.URL, conf *tls.Config) (*syslog, error) {
	bad := func(text string) error { return fmt.Errorf("alarms: syslog: %w: %s", ErrReceiver, text) }
	s := &syslog{network: u.Scheme, address: u.Host}
	port := "514"
	switch u.Scheme {
	case "unix":
		if u.Path == "" {
			return nil, bad("its address has no path; write unix:///dev/log")
		}
		s.network, s.address = "unixgram", u.Path
	case "udp":
	case "tcp":
		s.stream = true
	case "tls":
		s.network, s.stream, s.tls, port = "tcp", true, conf.Clone(), "6514"
		s.tls.ServerName = u.Hostname()
	default:
		return nil, bad("its address is not udp://, tcp://, tls:// or unix://")
	}
	if s.network != "unixgram" {
		if u.Hostname() == "" {
			return nil, bad("its address has no host")
		}
		if u.Port() == "" {
			s.address = net.JoinHostPort(u.Hostname(), port)
		}
	}
	s.host, _ = os.Hostname() // "-" stands for none
	return s, nil
}

func (s *syslog) send(ctx context.Context, list []Notice) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeMax)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, s.network, s.address)
	if err != nil {
		return err
	}
	if s.tls != nil {
		conn = tls.Client(conn, s.tls)
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(deadline)
	}
	for i := 0; err == nil && i < len(list); i++ {
		text := s.format(&list[i])
		if s.stream {
			text = strconv.Itoa(len(text)) + " " + text
		}
		_, err = conn.Write([]byte(text))
	}
	return errors.Join(err, conn.Close())
}

// format is a message:
//
//	<PRI>1 TIMESTAMP HOSTNAME holdfast - MSGID [alarm@32473 name="value" ...] BOM MSG
func (s *syslog) format(n *Notice) string {
	level := map[string]int{Critical: 2, Warning: 4, Info: 6}[n.Alert.Severity()]
	if n.Status == Resolved {
		level = 5
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>1 %s %s holdfast - %s [%s", 8*syslogFacility+level, n.At.UTC().Format("2006-01-02T15:04:05.000Z"),
		printable(s.host, 255), printable("alarm-"+string(n.Status), 32), syslogID)
	params := map[string]string{"status": string(n.Status), "fingerprint": n.Alert.Fingerprint}
	maps.Copy(params, n.Alert.Labels)
	for _, k := range slices.Sorted(maps.Keys(params)) {
		p := " " + printable(k, 32) + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(oneLine(params[k])) + `"`
		if b.Len()+len(p) < syslogBytesMax/2 {
			b.WriteString(p)
		}
	}
	b.WriteString("] \ufeff" + oneLine(headline(n)+" - "+body(n)))
	text := b.String()
	if len(text) > syslogBytesMax {
		text = text[:syslogBytesMax]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	return text
}

// printable is a field of the header: visible ASCII, "-" for none.
func printable(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '=' || r == ']' || r == '"' {
			return '_'
		}
		return r
	}, s)
	return cmp.Or(s[:min(len(s), max)], "-")
}

// oneLine is a text without what a line of a log must not have.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
