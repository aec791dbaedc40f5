// Package remote asks a running box's console on behalf of the command line: over the box's
// unix socket or over HTTP. Every error is one line that says what to do.
package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/members"
	"github.com/holdfast-edge/holdfast/firmware/rights"
	"github.com/holdfast-edge/holdfast/firmware/unixsock"
)

const (
	// answerBytesMax bounds an answer that is read whole: api.TopMax objects of at most 60 bytes.
	answerBytesMax = 64 << 20
	// errorBytesMax bounds what is shown of an answer that is an error.
	errorBytesMax = 1 << 10
	// answerTimeMax is how long a box may take to begin its answer.
	answerTimeMax = 10 * time.Second
	// actTimeMax is the same where it acts: it may have to decide with its site, several rounds in a row, which is slow where boxes have no
	// processor to themselves.
	actTimeMax = 2 * time.Minute
	// defaultURL is where a box's console is when nobody has said otherwise.
	defaultURL = "http://127.0.0.1:8080"
	// defaultSocket is the same for the box's own machine (config's data_dir and console.socket).
	defaultSocket = "/var/lib/holdfast/holdfast.sock"
	unixScheme    = "unix://"
)

// Errors of this package.
var (
	// ErrAddress says that an address is not one of a console.
	ErrAddress = errors.New("not a console address")
	// ErrUnreachable says that no console answers there.
	ErrUnreachable = errors.New("no box answers")
	// ErrRefused says that the box answered with an error.
	ErrRefused = errors.New("the box refused")
	// ErrAnswer says that the answer is not a console's, or broke off.
	ErrAnswer = errors.New("bad answer")
	// ErrStranger says that the box there is another than the address names.
	ErrStranger = errors.New("another box answers")
	// ErrNotFound says that what was asked for does not exist.
	ErrNotFound = errors.New("not found")
)

// Box is one box's console. It may be used by many goroutines.
type Box struct {
	address string
	base    string
	token   *Token      // shown over the network; nil on the box's own socket
	id      coord.BoxID // as the address names it, zero if it does not
	http    *http.Client
}

// Default is the address used when none is given: this machine's own box if its socket is
// there, else the default port.
func Default() string {
	if info, err := os.Stat(defaultSocket); err == nil && info.Mode().Type() == os.ModeSocket {
		return unixScheme + defaultSocket
	}
	return defaultURL
}

// loopback says whether a host is this machine by its name or address.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// New prepares to ask the console at address: http://host:port, https://host:port, https://ID@host:port, host:port or
// unix:///path/to/holdfast.sock. It connects to nothing yet. With an ID, the box's or more digits of the SHA-256 of its public key, the
// certificate must be of that key, whatever else it says; without one it must be issued by somebody the system or HOLDFAST_CA knows.
//
// Errors: ErrAddress, ErrToken.
func New(address string) (*Box, error) {
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: answerTimeMax}).DialContext,
		ResponseHeaderTimeout: answerTimeMax,
		MaxIdleConnsPerHost:   2,
	}
	b := &Box{address: address, http: &http.Client{Transport: transport}}
	if path, ok := strings.CutPrefix(address, unixScheme); ok {
		if !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("remote: %w: %q; write unix:///path/to/holdfast.sock", ErrAddress, address)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return unixsock.Dial(ctx, path) }
		b.base = "http://localhost"
		return b, nil
	}
	text := address
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil && u.Scheme != "https" || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("remote: %w: %q; write http://host:port, https://host:port, https://ID@host:port or unix:///path/to/holdfast.sock", ErrAddress, address)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("remote: %w: %q; a port is from 1 to 65535", ErrAddress, address)
		}
	}
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS13}
	if u.User != nil {
		if err := pin(transport.TLSClientConfig, u.User.String()); err != nil {
			return nil, fmt.Errorf("remote: %w: %q; %w", ErrAddress, address, err)
		}
		if err := b.id.UnmarshalText([]byte(strings.ToLower(u.User.String()[:2*len(b.id)]))); err != nil {
			return nil, fmt.Errorf("remote: %w: %q; %w", ErrAddress, address, err)
		}
	} else if file := os.Getenv(CAEnv); u.Scheme == "https" && file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("remote: %w: %s: %w", ErrAddress, CAEnv, err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("remote: %w: %s: %s has no certificate in PEM form", ErrAddress, CAEnv, file)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	b.base = u.Scheme + "://" + u.Host
	if b.token, err = FromEnv(); err != nil {
		return nil, err
	}
	if b.token.text != "" && u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("remote: %w: over http:// all between here and %s could read it and act with it; write https://ID@%s (holdfast members shows the box's ID), or unset %s", ErrToken, u.Hostname(), u.Host, TokenEnv)
	}
	return b, nil
}

// pin accepts the certificates of one key: a box issues its own, and no name or date in them means anything. want are digits of the key's
// SHA-256: the box's id is the first 16.
func pin(c *tls.Config, want string) error {
	want = strings.ToLower(want)
	if len(want) < 2*len(coord.BoxID{}) || len(want) > 2*sha256.Size || strings.Trim(want, "0123456789abcdef") != "" {
		return errors.New("before the @ stands a box's id, 16 to 64 hexadecimal digits of its public key's SHA-256")
	}
	c.InsecureSkipVerify = true // VerifyConnection does it
	c.VerifyConnection = func(s tls.ConnectionState) error {
		sum := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
		if got := hex.EncodeToString(sum[:]); !strings.HasPrefix(got, want) {
			return fmt.Errorf("%w: the key there is that of %s, not of %s", ErrStranger, got[:2*len(coord.BoxID{})], want)
		}
		return nil
	}
	return nil
}

// Close lets go of idle connections.
func (b *Box) Close() { b.http.CloseIdleConnections() }

// Status is the box's view of its site, to be read.
func (b *Box) Status(ctx context.Context) (s api.Status, err error) {
	return s, b.get(ctx, "/api/v1/status", &s)
}

// Members lists the boxes of the site.
func (b *Box) Members(ctx context.Context) (m api.Members, err error) {
	return m, b.get(ctx, "/api/v1/members", &m)
}

// MembersOf is the member set of an epoch. Errors: those of a request; the box may not know that epoch.
func (b *Box) MembersOf(ctx context.Context, epoch uint64) (*coord.Members, error) {
	m := new(coord.Members)
	return m, b.get(ctx, "/api/v1/members?epoch="+strconv.FormatUint(epoch, 10), m)
}

// MembersHistory is how the site's boxes became those of now, as far back as the box knows. It is not checked.
func (b *Box) MembersHistory(ctx context.Context) (*join.Chain, error) {
	c := new(join.Chain)
	return c, b.get(ctx, "/api/v1/members/history", c)
}

// Top lists the n most observed objects.
func (b *Box) Top(ctx context.Context, n int) (t site.Top, err error) {
	return t, b.get(ctx, "/api/v1/top?n="+strconv.Itoa(n), &t)
}

// Get reads one key as the box has applied it; ErrNotFound says that there is none.
func (b *Box) Get(ctx context.Context, key string) (kv api.KV, err error) {
	return kv, b.get(ctx, "/api/v1/kv/"+url.PathEscape(key), &kv)
}

// Proof is a key with the signatures of a quorum of the site's boxes over it and the nonce. Whoever gets it verifies it
// (trust.Verifier.VerifyReadProof): the box that is asked may lie.
func (b *Box) Proof(ctx context.Context, key string, nonce []byte) (*coord.ReadProof, error) {
	body, err := b.open(ctx, "/api/v1/proof/"+url.PathEscape(key)+"?nonce="+hex.EncodeToString(nonce))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	p, err := coord.ReadReadProof(body)
	if err != nil {
		return nil, fmt.Errorf("remote: %w: %s: %w", ErrAnswer, b.address, err)
	}
	return p, nil
}

// Trust is what the box thinks of the members.
func (b *Box) Trust(ctx context.Context) (t api.Trust, err error) {
	return t, b.get(ctx, "/api/v1/trust", &t)
}

// Evidence is what the box has kept of others' lies.
func (b *Box) Evidence(ctx context.Context) (*coord.Exhibit, error) {
	body, err := b.open(ctx, "/api/v1/evidence")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	x, err := coord.ReadExhibit(body)
	if err != nil {
		return nil, fmt.Errorf("remote: %w: %s: %w", ErrAnswer, b.address, err)
	}
	return x, nil
}

// Audit calls fn with each entry of the audit log that the query chooses (firmware/console, /api/v1/audit).
func (b *Box) Audit(ctx context.Context, q url.Values, fn func(*audit.Entry) error) error {
	body, err := b.open(ctx, "/api/v1/audit?"+q.Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	d := json.NewDecoder(body)
	for {
		var e audit.Entry
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("remote: %w: %s broke off: %w", ErrAnswer, b.address, err)
		}
		if err := fn(&e); err != nil {
			return err
		}
	}
}

// AuditLog is the box's whole audit log, to be verified.
func (b *Box) AuditLog(ctx context.Context) (l *audit.Log, err error) {
	return l, b.read(ctx, "/api/v1/audit/log", func(r io.Reader) (err error) {
		l, err = audit.ReadArchive(r, api.AuditLogMax)
		return err
	})
}

// AuditHeads are the heads of a box's audit log that the box has; the zero id is the box itself.
func (b *Box) AuditHeads(ctx context.Context, of coord.BoxID) (heads []audit.SignedHead, err error) {
	path := "/api/v1/audit/heads"
	if of != (coord.BoxID{}) {
		path += "?box=" + of.String()
	}
	return heads, b.read(ctx, path, func(r io.Reader) (err error) {
		heads, err = api.ReadAuditHeads(r)
		return err
	})
}

// AuditProof proves an entry of the box's audit log. Whoever gets it checks it: the box that is asked may lie.
func (b *Box) AuditProof(ctx context.Context, index int64) (p *audit.Proof, err error) {
	return p, b.read(ctx, "/api/v1/audit/proof/"+strconv.FormatInt(index, 10), func(r io.Reader) (err error) {
		p, err = audit.ReadProof(r)
		return err
	})
}

func (b *Box) read(ctx context.Context, path string, fn func(io.Reader) error) error {
	body, err := b.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := fn(body); err != nil {
		return fmt.Errorf("remote: %w: %s: %w", ErrAnswer, b.address, err)
	}
	return nil
}

// Decisions are the site's decisions about itself, as the box has them.
func (b *Box) Decisions(ctx context.Context) (d api.Decisions, err error) {
	return d, b.get(ctx, "/api/v1/decisions", &d)
}

// Decision is one of them; id may be its first digits.
func (b *Box) Decision(ctx context.Context, id string) (d api.Decision, err error) {
	return d, b.get(ctx, "/api/v1/decisions/"+url.PathEscape(id), &d)
}

// Said is what became of a word or a proposal. Waits, if not empty, says for whose words the decision waits.
type Said struct {
	ID      string `json:"id"`
	Outcome string `json:"outcome,omitempty"`
	Waits   string `json:"waits,omitempty"`
}

// Word gives the box's word on a decision, by its id or the first digits of it.
func (b *Box) Word(ctx context.Context, id string, yes bool) (*Said, error) {
	act := "/refuse"
	if yes {
		act = "/approve"
	}
	return b.say(ctx, "/api/v1/decisions/"+url.PathEscape(id)+act, nil)
}

// Propose has the box propose a decision.
func (b *Box) Propose(ctx context.Context, p *api.Proposal) (*Said, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("remote: %w", err)
	}
	return b.say(ctx, "/api/v1/decisions/propose", map[string]string{"proposal": string(text)})
}

func (b *Box) say(ctx context.Context, path string, fields map[string]string) (*Said, error) {
	var got struct {
		Said
		Answer *Said `json:"answer"` // where it waits
	}
	if err := b.Post(ctx, path, fields, &got); err != nil {
		return nil, err
	}
	if got.Answer != nil {
		got.ID = got.Answer.ID
	}
	return &got.Said, nil
}

// Ready asks whether the box serves; the error says why not.
func (b *Box) Ready(ctx context.Context) error {
	resp, err := b.open(ctx, "/readyz")
	if err != nil {
		return err
	}
	return resp.Close()
}

// Raw copies the JSON answer of path to w as the box gave it, line by line if it is a stream.
func (b *Box) Raw(ctx context.Context, path string, w io.Writer) error {
	body, err := b.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("remote: %w: %s broke off: %w", ErrAnswer, b.address, err)
	}
	return nil
}

// Log calls fn with each committed block from height from to height to; 0 means the oldest and
// the newest.
func (b *Box) Log(ctx context.Context, from, to uint64, fn func(*api.LogLine) error) error {
	body, err := b.open(ctx, LogPath(from, to))
	if err != nil {
		return err
	}
	defer body.Close()
	d := json.NewDecoder(body)
	for {
		var line api.LogLine
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("remote: %w: %s broke off: %w", ErrAnswer, b.address, err)
		}
		if err := fn(&line); err != nil {
			return err
		}
	}
}

// LogPath is the path of the log between two heights, 0 for the ends.
func LogPath(from, to uint64) string {
	q := url.Values{}
	if from > 0 {
		q.Set("from", strconv.FormatUint(from, 10))
	}
	if to > 0 {
		q.Set("to", strconv.FormatUint(to, 10))
	}
	return strings.TrimSuffix("/api/v1/log?"+q.Encode(), "?")
}

func (b *Box) get(ctx context.Context, path string, into any) error {
	body, err := b.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, answerBytesMax)).Decode(into); err != nil {
		return fmt.Errorf("remote: %w: %s: %w; is it a Holdfast console?", ErrAnswer, b.address, err)
	}
	return nil
}

// Traces asks for the traces that the box keeps; q is api.TraceQuery's fields as the query of /api/v1/traces.
func (b *Box) Traces(ctx context.Context, q url.Values) (t api.Traces, err error) {
	err = b.get(ctx, "/api/v1/traces?"+q.Encode(), &t)
	return t, err
}

// Trace asks for one trace.
func (b *Box) Trace(ctx context.Context, id string) (t api.Trace, err error) {
	err = b.get(ctx, "/api/v1/traces/"+url.PathEscape(id), &t)
	return t, err
}

// Why asks what a revision depends on.
func (b *Box) Why(ctx context.Context, revision uint64, depth int) (w api.Why, err error) {
	err = b.get(ctx, fmt.Sprintf("/api/v1/why/%d?depth=%d", revision, depth), &w)
	return w, err
}

func (b *Box) open(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("remote: %w: %w", ErrAddress, err)
	}
	return b.do(ctx, req)
}

// continueWait is how long a box may take to say whether it wants what is sent.
const continueWait = 10 * time.Second

// waiting is the same box, with more time to begin its answers. The caller closes it.
func (b *Box) waiting(most time.Duration) *Box {
	w := *b
	if t, ok := b.http.Transport.(*http.Transport); ok {
		t = t.Clone()
		t.ResponseHeaderTimeout, t.ExpectContinueTimeout = most, continueWait
		w.http = &http.Client{Transport: t}
	}
	return &w
}

// Post asks the box to act: path is that of an action under /api/v1, fields are its texts. The JSON answer goes into answer, unless that
// is nil.
func (b *Box) Post(ctx context.Context, path string, fields map[string]string, answer any) error {
	body, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("remote: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("remote: %w: %w", ErrAddress, err)
	}
	req.Header.Set("Content-Type", "application/json")
	patient := b.waiting(actTimeMax)
	defer patient.Close()
	got, err := patient.do(ctx, req)
	if err != nil {
		return err
	}
	defer got.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(got, answerBytesMax)).Decode(answer); err != nil {
		return fmt.Errorf("remote: %w: %s: %w; is it a Holdfast console?", ErrAnswer, b.address, err)
	}
	return nil
}

// Operators are those who may log in.
func (b *Box) Operators(ctx context.Context) (o api.Operators, err error) {
	return o, b.get(ctx, "/api/v1/operators", &o)
}

// Site is the site's boxes, and what is open about them.
func (b *Box) Site(ctx context.Context) (*members.Overview, error) {
	o := new(members.Overview)
	return o, b.get(ctx, "/api/v1/site", o)
}

// Changed is what became of a change of the site's boxes. Waits, if not empty, says that it waits for other boxes.
type Changed struct {
	members.Answer
	Waits string `json:"waits,omitempty"`
}

// ChangeSite asks for a change of the site's boxes: path is that of one of members' acts.
func (b *Box) ChangeSite(ctx context.Context, path string, fields map[string]string) (*Changed, error) {
	var got struct {
		Changed
		Answer *members.Answer `json:"answer"` // where it waits
	}
	if err := b.Post(ctx, "/api/v1"+path, fields, &got); err != nil {
		return nil, err
	}
	if got.Answer != nil {
		got.Changed.Answer = *got.Answer
	}
	return &got.Changed, nil
}

// do gives the body of an answer that is none of an error.
func (b *Box) do(ctx context.Context, req *http.Request) (io.ReadCloser, error) {
	if b.token != nil && !b.token.None() {
		text, proof, err := b.token.Show(b.id)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+text)
		if proof != "" {
			req.Header.Set("Holdfast-Proof", proof)
		}
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, b.unreachable(ctx, err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusAccepted {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, errorBytesMax))
	if err != nil {
		return nil, fmt.Errorf("remote: %w: %s: %w", ErrAnswer, b.address, err)
	}
	why := oneLine(text)
	var e api.Error
	if json.Unmarshal(text, &e) == nil && e.Error != "" {
		why = e.Error
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return nil, fmt.Errorf("remote: %w: %s: %s; put a token into %s (Settings in the console makes one), or ask on the box itself over its socket", ErrRefused, resp.Status, why, TokenEnv)
	}
	if resp.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("remote: %w: %s", ErrNotFound, why)
	}
	return nil, fmt.Errorf("remote: %w: %s: %s", ErrRefused, resp.Status, why)
}

func (b *Box) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("remote: %s: %w", b.address, context.Cause(ctx))
	}
	why := err
	var ue *url.Error
	if errors.As(err, &ue) {
		why = ue.Err
	}
	what := "start one with `holdfast run` or `holdfast dev`, or name another with --addr"
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		what = "the socket is for the box's own user; run this as that user, or use --addr http://host:port"
	}
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() && !errors.Is(err, syscall.ETIMEDOUT) {
		what = "if the machine is on, the box there hangs or has too much to do: look at its own console; another box says how the site is, with --addr"
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		what = "a box issues its own certificate: name its key, https://ID@host:port, or put what `holdfast members --pem` prints into " + CAEnv
	}
	if errors.Is(err, ErrStranger) {
		return fmt.Errorf("remote: %s: %w", b.address, why)
	}
	return fmt.Errorf("remote: %w at %s (%w); %s", ErrUnreachable, b.address, why, what)
}

func oneLine(text []byte) string { return strings.Join(strings.Fields(string(text)), " ") }

// Access is all that answers about access depend on.
func (b *Box) Access(ctx context.Context) (*rights.Overview, error) {
	o := new(rights.Overview)
	return o, b.get(ctx, "/api/v1/access", o)
}

// RightsChanged is what became of a change of rights. Waits, if not empty, says that it waits for other boxes.
type RightsChanged struct {
	rights.Answer
	Waits string `json:"waits,omitempty"`
}

// ChangeAccess asks for a change of who may do what: path is that of one of rights' acts.
func (b *Box) ChangeAccess(ctx context.Context, path string, fields map[string]string) (*RightsChanged, error) {
	var got struct {
		RightsChanged
		Answer *rights.Answer `json:"answer"` // where it waits
	}
	if err := b.Post(ctx, "/api/v1"+path, fields, &got); err != nil {
		return nil, err
	}
	if got.Answer != nil {
		got.RightsChanged.Answer = *got.Answer
	}
	return &got.RightsChanged, nil
}
