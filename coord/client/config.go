package client

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Errors. Those of a context are wrapped beside them.
var (
	// ErrConfig says that Dial was given something it cannot work with.
	ErrConfig = errors.New("client: configuration")
	// ErrClosed says that the client is closed or closing; nothing was sent.
	ErrClosed = errors.New("client: closed")
	// ErrNotSent says that a call ended before anything was sent: it has no effect.
	ErrNotSent = errors.New("client: gave up before sending")
	// ErrUnknown says that a call ended without an answer: it took effect once or not at all.
	ErrUnknown = errors.New("client: outcome unknown")
	// ErrSessionLost says that the site dropped the session, idle for too long, while
	// the call was being repeated: it took effect once or not at all. Later calls use a new session.
	ErrSessionLost = errors.New("client: session lost, outcome unknown")
	// ErrMalformed says that the site found the message malformed; it has no effect.
	ErrMalformed = errors.New("client: malformed message")
	// ErrTooLarge says that a limit of coord/limits.go, or of the box, is exceeded; no effect.
	ErrTooLarge = errors.New("client: too large")
	// ErrIdentity says that whoever answers at an address is not the box expected there.
	ErrIdentity = errors.New("client: not the expected box")
	// ErrDenied says that the token does not allow it, or that one is needed; no effect. The box's audit log says which policy decided.
	ErrDenied = errors.New("client: denied")
	// ErrProtocol says that a box said something that the protocol does not allow.
	ErrProtocol = errors.New("client: protocol violation")
)

// Limits and defaults.
const (
	// tryTimeoutDefault: a write takes milliseconds, and a few hundred under a change of leader.
	tryTimeoutDefault = time.Second
	// inFlightDefault requests keep a site of 4 boxes busy at a round trip of 10 ms.
	inFlightDefault = 64
	// inFlightMax stays below the 512 holes that the site allows in a session's numbers: each
	// request in flight leaves at most one.
	inFlightMax = 256
	// windowMessages is how far numbers run ahead of the oldest unanswered one: half of the
	// 65,536 that the site allows (state.SessionAheadMax).
	windowMessages = 32 << 10

	// Waits between tries: nothing while there are boxes not yet tried, then doubling with jitter.
	backoffMin = 10 * time.Millisecond
	backoffMax = time.Second
	// retryAfterMax bounds what a box may ask a client to wait.
	retryAfterMax = 5 * time.Second
	// A box that failed is passed over for a while, doubling with each failure in a row,
	// as long as there is another.
	coolMin = 100 * time.Millisecond
	coolMax = 5 * time.Second

	// outBytesMax bounds what waits to be written to one box: the largest requests of a full
	// window that is repeated once.
	outBytesMax = 16 << 20
	// silentTriesMax: a connection on which nothing came for so many try timeouts while
	// requests wait is taken for dead (half-open TCP).
	silentTriesMax = 3
	// nameBytesMax bounds Config.Name and tokenBytesMax Config.Token.
	nameBytesMax  = 64
	tokenBytesMax = 4 << 10
)

// Endpoint is where one box serves the native stream.
type Endpoint struct {
	// Network and Address as for net.Dial: "unix" and a path, or "tcp" (with TLS 1.3) and host:port.
	Network, Address string
	// Box is who must answer: over TLS its key is checked, so it must be set; on a unix
	// socket it is compared with what the box says, unless it is zero.
	Box coord.BoxID
}

// ParseEndpoint reads "unix:///path" or "tls://host:port". box may be zero for the former.
func ParseEndpoint(url string, box coord.BoxID) (Endpoint, error) {
	if path, ok := strings.CutPrefix(url, "unix://"); ok && path != "" {
		return Endpoint{"unix", path, box}, nil
	}
	if addr, ok := strings.CutPrefix(url, "tls://"); ok {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return Endpoint{}, fmt.Errorf("client: endpoint %q: %w: %w", url, ErrConfig, err)
		}
		if box == (coord.BoxID{}) {
			return Endpoint{}, fmt.Errorf("client: endpoint %q: %w: the box's id is needed to know it", url, ErrConfig)
		}
		return Endpoint{"tcp", addr, box}, nil
	}
	return Endpoint{}, fmt.Errorf("client: endpoint %q: %w: want unix:///path or tls://host:port", url, ErrConfig)
}

// Config says whom to talk to and how.
type Config struct {
	// Endpoints are boxes of one site, at least one. The first is preferred until it fails.
	Endpoints []Endpoint
	// Spread sends each request to the next box in turn, instead of all to one.
	Spread bool
	// Name tells the boxes who this is, for people; at most 64 bytes.
	Name string
	// Token is shown to the boxes; at most 4 KiB. TokenFor, if not nil, gives it anew for each connection instead, to the box with this id
	// (zero on a unix socket whose box is not named): a proof of possession is good once.
	Token    []byte
	TokenFor func(box coord.BoxID) ([]byte, error)
	// TryTimeout is how long one box may take, 1 s by default; then the request is sent to another as well.
	TryTimeout time.Duration
	// InFlight bounds the requests under way, 64 by default, at most 256; further calls wait.
	InFlight int
	// Logger gets a line when a box fails or is back; slog.DiscardHandler by default.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Endpoints) == 0 || len(c.Endpoints) > coord.MembersMax {
		return c, fmt.Errorf("client: %w: %d endpoints, want 1 to %d", ErrConfig, len(c.Endpoints), coord.MembersMax)
	}
	for _, e := range c.Endpoints {
		if e.Network != "unix" && (e.Network != "tcp" || e.Box == (coord.BoxID{})) {
			return c, fmt.Errorf("client: %w: endpoint %s %q without a box's id", ErrConfig, e.Network, e.Address)
		}
	}
	if len(c.Name) > nameBytesMax || len(c.Token) > tokenBytesMax {
		return c, fmt.Errorf("client: %w: name or token is too long", ErrConfig)
	}
	if c.TokenFor == nil {
		c.TokenFor = func(coord.BoxID) ([]byte, error) { return c.Token, nil }
	}
	if c.TryTimeout <= 0 {
		c.TryTimeout = tryTimeoutDefault
	}
	if c.InFlight <= 0 {
		c.InFlight = inFlightDefault
	}
	c.InFlight = min(c.InFlight, inFlightMax)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
