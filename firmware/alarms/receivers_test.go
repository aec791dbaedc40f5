package alarms

import (
	"bufio"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// got is a request that a receiver of the test got.
type got struct {
	path, auth string
	body       map[string]any
	list       []map[string]any
}

// hear is a receiver that answers with code; what it got is in the channel.
func hear(t *testing.T, code int, header ...string) (*httptest.Server, chan got) {
	t.Helper()
	ch := make(chan got, 16)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		g := got{path: r.URL.Path, auth: r.Header.Get("Authorization")}
		if json.Unmarshal(text, &g.body) != nil {
			_ = json.Unmarshal(text, &g.list)
		}
		ch <- g
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(s.Close)
	return s, ch
}

func secret(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func notices() []Notice {
	a := &Alert{
		State: Firing, Fired: t0, Labels: map[string]string{LabelName: "HoldfastBoxAway", LabelSeverity: Critical, LabelSite: "cafe", "member": `box"2]`},
		Annotations: map[string]string{annotationSummary: "box-2 is away", annotationDescription: "It says nothing.", annotationAction: "Look.", annotationConsole: "http://10.0.0.1:8080/boxes"},
	}
	a.Fingerprint = fingerprint(a.Labels)
	over := a.clone()
	over.Labels["member"], over.State, over.Resolved = "box-3", Resolved, t0.Add(time.Hour)
	over.Fingerprint = fingerprint(over.Labels)
	return []Notice{{At: t0, Status: Firing, Alert: a}, {At: t0.Add(time.Hour), Status: Resolved, Alert: over}}
}

func open(t *testing.T, target Target) receiver {
	t.Helper()
	r, err := target.open()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAlertmanagerGetsWhatItsAPITakes(t *testing.T) {
	s, ch := hear(t, http.StatusOK)
	r := open(t, Target{Kind: kindAlertmanager, URL: s.URL + "/prefix", TokenFile: secret(t, "the-token")})
	if err := r.send(t.Context(), notices()); err != nil {
		t.Fatal(err)
	}
	g := <-ch
	if g.path != "/prefix/api/v2/alerts" || g.auth != "Bearer the-token" || len(g.list) != 2 {
		t.Fatalf("%+v", g)
	}
	fires, over := g.list[0], g.list[1]
	if fires["startsAt"] != "2026-03-01T03:00:00Z" || fires["endsAt"] != nil || over["endsAt"] != "2026-03-01T04:00:00Z" {
		t.Errorf("%v\n%v", fires, over)
	}
	if l := fires["labels"].(map[string]any); l[LabelName] != "HoldfastBoxAway" || fires["generatorURL"] != "http://10.0.0.1:8080/boxes" {
		t.Errorf("%v", fires)
	}
}

func TestAClockThatBeginsIn1970IsNotTold(t *testing.T) {
	s, ch := hear(t, http.StatusOK)
	list := notices()[:1]
	list[0].Alert.Fired = time.Unix(60, 0)
	if err := open(t, Target{Kind: kindAlertmanager, URL: s.URL}).send(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if g := <-ch; g.list[0]["startsAt"] != nil {
		t.Errorf("%v", g.list[0])
	}
}

func TestAWebhookGetsAlertmanagersVersion4(t *testing.T) {
	s, ch := hear(t, http.StatusAccepted)
	r := open(t, Target{Kind: "webhook", URL: s.URL + "/hook?key=1", User: "u", PasswordFile: secret(t, "p")})
	if err := r.send(t.Context(), notices()); err != nil {
		t.Fatal(err)
	}
	g := <-ch
	for key, want := range map[string]any{"version": "4", "status": "firing", "receiver": "holdfast", "externalURL": "http://10.0.0.1:8080", "truncatedAlerts": 0.0} {
		if g.body[key] != want {
			t.Errorf("%s is %v, want %v", key, g.body[key], want)
		}
	}
	if c := g.body["commonLabels"].(map[string]any); len(c) != 3 || c["member"] != nil {
		t.Errorf("common labels %v", c)
	}
	alerts := g.body["alerts"].([]any)
	fires, over := alerts[0].(map[string]any), alerts[1].(map[string]any)
	if fires["status"] != "firing" || fires["endsAt"] != "0001-01-01T00:00:00Z" || over["status"] != "resolved" || over["endsAt"] != "2026-03-01T04:00:00Z" ||
		len(fires["fingerprint"].(string)) != 16 {
		t.Errorf("%v\n%v", fires, over)
	}
	if !strings.HasPrefix(g.auth, "Basic ") || g.path != "/hook" {
		t.Errorf("%+v", g)
	}
}

func TestNtfyGetsAMessageForEachNotice(t *testing.T) {
	s, ch := hear(t, http.StatusOK)
	r := open(t, Target{Kind: "ntfy", URL: s.URL + "/base/shop-17"})
	if err := r.send(t.Context(), notices()); err != nil {
		t.Fatal(err)
	}
	a, b := <-ch, <-ch
	if a.path != "/base" || a.body["topic"] != "shop-17" || a.body["title"] != "CRITICAL: box-2 is away" || a.body["priority"] != 5.0 ||
		a.body["click"] != "http://10.0.0.1:8080/boxes" || !strings.HasPrefix(a.body["message"].(string), "It says nothing.\nLook.\n") {
		t.Errorf("%+v", a)
	}
	if b.body["title"] != "RESOLVED: box-2 is away" || b.body["priority"] != 3.0 {
		t.Errorf("%+v", b)
	}
}

// RFC 5424, 6: the header, structured data with the three characters escaped, and the text.
var syslogLine = regexp.MustCompile(`^<114>1 2026-03-01T03:00:00\.000Z \S+ holdfast - alarm-firing \[alarm@32473 alertname="HoldfastBoxAway" fingerprint="[0-9a-f]{16}" member="box\\"2\\]" severity="critical" site="cafe" status="firing"\] \x{feff}CRITICAL: box-2 is away - `)

func TestSyslogIsRFC5424OverEachTransport(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	path := filepath.Join(t.TempDir(), "log")
	unix, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	for to, from := range map[string]net.PacketConn{"udp://" + udp.LocalAddr().String(): udp, "unix://" + path: unix} {
		if err := open(t, Target{Kind: "syslog", URL: to}).send(t.Context(), notices()[:1]); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, _, err := from.ReadFrom(b)
		if err != nil || !syslogLine.Match(b[:n]) {
			t.Errorf("%s: %v %q", to, err, b[:n])
		}
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	web := httptest.NewUnstartedServer(nil) // for its certificate
	web.StartTLS()
	defer web.Close()
	secure, ca := tlsListener(t, web)
	for to, l := range map[string]net.Listener{"tcp://" + plain.Addr().String(): plain, "tls://" + secure.Addr().String(): secure} {
		read := make(chan string, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				read <- err.Error()
				return
			}
			defer conn.Close()
			text, _ := io.ReadAll(bufio.NewReader(conn))
			read <- string(text)
		}()
		if err := open(t, Target{Kind: "syslog", URL: to, CAFile: ca}).send(t.Context(), notices()); err != nil {
			t.Fatal(to, err)
		}
		text := <-read
		frames := 0
		for text != "" { // RFC 6587, 3.4.1: MSG-LEN SP SYSLOG-MSG
			size, rest, ok := strings.Cut(text, " ")
			n := 0
			for _, c := range size {
				n = 10*n + int(c-'0')
			}
			if !ok || n > len(rest) || frames == 0 && !syslogLine.MatchString(rest[:n]) {
				t.Fatalf("%s: %q", to, text)
			}
			text = rest[n:]
			frames++
		}
		if frames != 2 {
			t.Errorf("%s: %d frames", to, frames)
		}
	}
}

// tlsListener listens with the certificate of a test server, which is in the file too.
func tlsListener(t *testing.T, web *httptest.Server) (net.Listener, string) {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure := wrapTLS(l, web)
	t.Cleanup(func() { secure.Close() })
	return secure, ca
}

func TestAReceiverIsKnownByItsCertificate(t *testing.T) {
	web := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer web.Close()
	if err := open(t, Target{Kind: "webhook", URL: web.URL}).send(t.Context(), notices()); err == nil {
		t.Error("a certificate that nobody knows was taken")
	}
	_, ca := tlsListener(t, web)
	if err := open(t, Target{Kind: "webhook", URL: web.URL, CAFile: ca}).send(t.Context(), notices()); err != nil {
		t.Error(err)
	}
}

func TestWhatAReceiverAnswersSaysWhetherToComeAgain(t *testing.T) {
	for _, tc := range []struct {
		code    int
		refused bool
		after   time.Duration
	}{
		{http.StatusBadRequest, true, 0},
		{http.StatusUnprocessableEntity, true, 0},
		{http.StatusUnauthorized, false, 30 * time.Second},
		{http.StatusTooManyRequests, false, 30 * time.Second},
		{http.StatusServiceUnavailable, false, 30 * time.Second},
		{http.StatusFound, false, 30 * time.Second}, // a token goes nowhere else
	} {
		s, _ := hear(t, tc.code, "Retry-After", "30", "Location", "http://127.0.0.1:1/")
		err := open(t, Target{Kind: "webhook", URL: s.URL}).send(t.Context(), notices())
		var later *laterError
		if after := errors.As(err, &later); err == nil || errors.Is(err, errRefused) != tc.refused || after != (tc.after > 0) || after && later.after != tc.after {
			t.Errorf("%d: %v", tc.code, err)
		}
	}
}

func TestNothingSecretIsInAnErrorOrAName(t *testing.T) {
	const hidden = "hidden-part"
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	target := Target{Kind: "webhook", URL: "http://" + gone.Addr().String() + "/" + hidden + "?key=" + hidden, TokenFile: secret(t, hidden)}
	err = open(t, target).send(t.Context(), notices())
	if err == nil {
		t.Fatal("somebody answers")
	}
	bad := Target{Kind: "webhook", URL: "http://u:" + hidden + "@host/"}
	_, refusal := bad.open()
	if !errors.Is(refusal, ErrReceiver) {
		t.Errorf("%v", refusal)
	}
	for _, text := range []string{err.Error(), refusal.Error(), target.shown(), target.id()} {
		if strings.Contains(text, hidden) {
			t.Errorf("%q", text)
		}
	}
}

func TestAReceiverThatCannotWorkIsAnErrorAtTheStart(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []Target{
		{Kind: "webhook", URL: "ftp://host/"},
		{Kind: "webhook", URL: "http://"},
		{Kind: "webhook", URL: "http://h/", TokenFile: "/nowhere/at/all"},
		{Kind: "webhook", URL: "http://h/", PasswordFile: empty},
		{Kind: "webhook", URL: "http://h/", CAFile: empty},
		{Kind: "ntfy", URL: "https://h/"},
		{Kind: "syslog", URL: "http://h/"},
		{Kind: "syslog", URL: "unix://"},
		{Kind: "pager", URL: "http://h/"},
	} {
		if _, err := target.open(); !errors.Is(err, ErrReceiver) {
			t.Errorf("%+v: %v", target, err)
		}
	}
}

func FuzzSyslogFormat(f *testing.F) {
	f.Add("box-1", "a summary", "a\x00b]\"\\")
	f.Fuzz(func(t *testing.T, host, text, value string) {
		s := &syslog{host: host}
		n := Notice{At: t0, Status: Firing, Alert: &Alert{Labels: map[string]string{"member": value}, Annotations: map[string]string{annotationSummary: text}}}
		line := s.format(&n)
		if len(line) > syslogBytesMax || strings.ContainsAny(line, "\n\r\x00") || !utf8.ValidString(line) {
			t.Fatalf("%q", line)
		}
	})
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestSyslogHasItsPorts(t *testing.T) {
	for text, want := range map[string]string{"udp://h": "h:514", "tcp://[::1]": "[::1]:514", "tls://h": "h:6514", "udp://h:99": "h:99"} {
		s, err := newSyslog(mustURL(t, text), tlsOf(t))
		if err != nil || s.address != want {
			t.Errorf("%s: %v, %v", text, s, err)
		}
	}
}
