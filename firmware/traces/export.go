package traces

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// ErrExport says that an Exporter cannot be made as it is configured.
var ErrExport = errors.New("traces: export")

const (
	// exportQueue bounds the traces that wait for the collector, of some 2 KiB each: a minute of the most that is kept.
	exportQueue = 1024
	// exportTraces bounds one request, exportEvery is how long it gathers.
	exportTraces = 64
	exportEvery  = 2 * time.Second
	// exportTime bounds one request, and exportAge how long one is tried again: what is older than the queue is of no use to anybody who
	// waits for the newer.
	exportTime = 10 * time.Second
	exportAge  = 5 * time.Minute
	// Between two tries the time doubles from backoffMin to backoffMax, half of it random.
	backoffMin = time.Second
	backoffMax = 30 * time.Second
	// answerBytesMax bounds what is read of a collector's answer.
	answerBytesMax = 64 << 10
	headersMax     = 32
)

// ExportConfig of NewExporter. URL, Resource and Logger are required.
type ExportConfig struct {
	// URL is the collector's; "/v1/traces" is added when it names no path (the OTLP exporter's specification).
	URL string
	// HeadersFile and CAFile may be empty.
	HeadersFile, CAFile string
	Resource            Resource
	Logger              *slog.Logger
}

// Exporter sends traces to a collector by OTLP over HTTP, in protobuf. What it has not room for is dropped and counted.
type Exporter struct {
	cfg     ExportConfig
	url     string
	headers http.Header
	client  *http.Client
	queue   chan []trace.Record

	sent, dropped, failed atomic.Uint64
}

// NewExporter reads the files that the configuration names; Run starts it. Errors: ErrExport.
func NewExporter(c ExportConfig) (*Exporter, error) {
	e := &Exporter{cfg: c, url: strings.TrimSuffix(c.URL, "/"), headers: http.Header{}, queue: make(chan []trace.Record, exportQueue)}
	if strings.Count(e.url, "/") == 2 {
		e.url += "/v1/traces"
	}
	if c.HeadersFile != "" {
		b, err := os.ReadFile(c.HeadersFile)
		if err != nil {
			return nil, fmt.Errorf("%w: headers: %w", ErrExport, err)
		}
		if e.headers, err = readHeaders(b); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrExport, c.HeadersFile, err)
		}
	}
	// No proxy of the environment's, and no redirect: headers are for this collector alone.
	t := &http.Transport{TLSHandshakeTimeout: exportTime, ResponseHeaderTimeout: exportTime, MaxIdleConns: 1, IdleConnTimeout: time.Minute}
	if c.CAFile != "" {
		b, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: CA: %w", ErrExport, err)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%w: %s has no certificate in PEM", ErrExport, c.CAFile)
		}
	}
	e.client = &http.Client{Transport: t, Timeout: exportTime, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return e, nil
}

// readHeaders reads "Name: value" lines; empty ones and those that begin with # say nothing.
func readHeaders(b []byte) (http.Header, error) {
	h := http.Header{}
	s := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
		if !ok || name == "" || strings.ContainsAny(name, " \t") || len(h) >= headersMax {
			return nil, fmt.Errorf("line %d is not a header, or there are more than %d", n, headersMax)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, s.Err()
}

// Export takes over the records of one trace. It does not block.
func (e *Exporter) Export(rs []trace.Record) {
	select {
	case e.queue <- rs:
	default:
		e.dropped.Add(1)
	}
}

// ExportStats count traces since the start.
type ExportStats struct {
	// Sent were taken by the collector. Dropped had no room, waited too long, or were refused. Failed counts requests that failed.
	Sent, Dropped, Failed uint64
}

// Stats is a copy of the counters.
func (e *Exporter) Stats() ExportStats {
	return ExportStats{Sent: e.sent.Load(), Dropped: e.dropped.Load(), Failed: e.failed.Load()}
}

// Run sends until ctx ends; what waits then is tried once.
func (e *Exporter) Run(ctx context.Context) error {
	defer e.client.CloseIdleConnections()
	for {
		group := e.group(ctx)
		if len(group) == 0 {
			return nil
		}
		e.deliver(ctx, group)
	}
}

// group gathers what goes out together; nothing: ctx has ended and the queue is empty.
func (e *Exporter) group(ctx context.Context) (group [][]trace.Record) {
	var full <-chan time.Time
	done := ctx.Done()
	for len(group) < exportTraces {
		select {
		case rs := <-e.queue:
			group = append(group, rs)
			continue
		default:
		}
		if ctx.Err() != nil {
			return group
		}
		select {
		case rs := <-e.queue:
			if group = append(group, rs); full == nil {
				full = time.After(exportEvery)
			}
		case <-full:
			return group
		case <-done:
		}
	}
	return group
}

// deliver tries until the collector has a group, refuses it, or it is too old.
func (e *Exporter) deliver(ctx context.Context, group [][]trace.Record) {
	var all []trace.Record
	for _, rs := range group {
		all = append(all, rs...)
	}
	body, err := proto.Marshal(request(&e.cfg.Resource, all))
	began, wait := time.Now(), backoffMin
	for err == nil {
		again, after, bad := e.post(ctx, body)
		if bad == nil {
			e.sent.Add(uint64(len(group)))
			return
		}
		e.failed.Add(1)
		pause := max(after, wait/2+rand.N(wait/2))
		if !again || ctx.Err() != nil || time.Since(began)+pause > exportAge {
			err = bad
			break
		}
		e.cfg.Logger.Debug("the collector did not take traces; they are tried again", "after", pause, "err", bad)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		wait = min(2*wait, backoffMax)
	}
	e.dropped.Add(uint64(len(group)))
	e.cfg.Logger.Warn("traces were not exported", "traces", len(group), "err", err)
}

// post sends one request, and says whether to try again and not before when (OTLP's specification, "Failures").
func (e *Exporter) post(ctx context.Context, body []byte) (again bool, after time.Duration, err error) {
	// What waits when the box stops may still leave.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return false, 0, err
	}
	maps.Copy(r.Header, e.headers)
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "holdfast/"+e.cfg.Resource.Version)
	a, err := e.client.Do(r)
	if err != nil {
		return true, 0, err
	}
	text, err := io.ReadAll(io.LimitReader(a.Body, answerBytesMax))
	if err = errors.Join(err, a.Body.Close()); err != nil {
		return true, 0, err
	}
	switch a.StatusCode {
	case http.StatusOK:
		var partial collector.ExportTraceServiceResponse
		if proto.Unmarshal(text, &partial) == nil && partial.GetPartialSuccess().GetRejectedSpans() > 0 {
			e.cfg.Logger.Warn("the collector rejected spans", "spans", partial.GetPartialSuccess().GetRejectedSpans(), "reason", partial.GetPartialSuccess().GetErrorMessage())
		}
		return false, 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if s, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil && s > 0 {
			after = min(time.Duration(s)*time.Second, exportAge)
		}
		return true, after, fmt.Errorf("%w: %s", ErrExport, a.Status)
	}
	return false, 0, fmt.Errorf("%w: %s", ErrExport, a.Status)
}
