package etcdapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/trust/limit"
)

const (
	// exporterLabel ties a holder's proof to the TLS connection that it comes over (RFC 9266 has the idea).
	exporterLabel = "EXPORTER-holdfast-proof"
	// ProofHeader is the metadata, or the header of a JSON request, that has a holder's proof beside its token.
	ProofHeader = "holdfast-proof"
	// cachedMax bounds the tokens whose verification is remembered beside each connection's own.
	cachedMax = 1024
	// holdCheck is how often streams that are open are judged again, beside each change of the rules: how long one of a token that has expired
	// may go on.
	holdCheck = time.Second
)

// Bad tokens and refused calls of one source: a program that is set up wrongly retries a few times a second; a signature costs 0.1 ms.
var strangers = limit.Rate{Every: 50 * time.Millisecond, Burst: 100}

// strangersMax bounds the sources that are told apart for that.
const strangersMax = 4096

// Password lets an operator in who gives name and password, and gives a capability token of the operator's. Errors: ErrWrong, ErrSlow.
type Password func(ctx context.Context, name, password, source string) (token string, err error)

// Errors of a Password.
var (
	ErrWrong = errors.New("etcdapi: wrong name or password")
	ErrSlow  = errors.New("etcdapi: too many tries")
)

// link is what is known of one connection.
type link struct {
	credentials.CommonAuthInfo
	tls *tls.Conn // nil: plain
	// gateway is the connection in memory of JSON requests: each is somebody else's.
	gateway bool
	cert    *x509.Certificate // that the client showed, if any
	trusted bool              // one of client.client_ca_file signed it

	last atomic.Pointer[cached] // the credentials of the newest call
}

// AuthType implements credentials.AuthInfo.
func (*link) AuthType() string { return "holdfast" }

// cached is who showed a token.
type cached struct {
	token string
	who   *access.Credentials
}

// greeter is grpc's credentials: the connection has greeted already (mux.go), and what that told is kept with it.
type greeter struct{}

func (greeter) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("etcdapi: not a client")
}

func (greeter) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	l := &link{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}
	l.gateway = c.LocalAddr().Network() == "bufconn"
	if n, ok := c.(*counted); ok {
		if t, ok := n.Conn.(*tls.Conn); ok {
			l.SecurityLevel, l.tls = credentials.PrivacyAndIntegrity, t
			s := t.ConnectionState()
			if len(s.PeerCertificates) > 0 {
				l.cert, l.trusted = s.PeerCertificates[0], len(s.VerifiedChains) > 0
			}
		}
	}
	return c, l, nil
}

func (greeter) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "holdfast"}
}
func (g greeter) Clone() credentials.TransportCredentials { return g }
func (greeter) OverrideServerName(string) error           { return nil }

// linkOf is the connection of a call, and where the call is from.
func linkOf(ctx context.Context) (l *link, source string) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, ""
	}
	source = p.Addr.String()
	l, _ = p.AuthInfo.(*link)
	if l != nil && l.gateway {
		if v := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for"); len(v) > 0 {
			// The last one is what the gateway itself saw.
			all := v[len(v)-1]
			source = strings.TrimSpace(all[strings.LastIndexByte(all, ',')+1:])
		}
	}
	return l, source
}

// nobody are the credentials of a program that shows none.
var nobody = &access.Credentials{}

// who finds out who calls. Errors are gRPC's, in etcd's words.
func (s *Server) who(ctx context.Context) (*access.Credentials, error) {
	if s.cfg.Access == nil {
		return nobody, nil
	}
	token := tokenOf(ctx)
	l, source := linkOf(ctx)
	if token == "" {
		if l != nil && l.trusted && !l.gateway {
			c := l.last.Load()
			if c == nil || c.token != "" {
				c = &cached{"", &access.Credentials{Principal: access.Program + ":" + l.cert.Subject.CommonName, Source: source}}
				l.last.Store(c)
			}
			return c.who, nil
		}
		return nobody, nil
	}
	if l != nil {
		if c := l.last.Load(); c != nil && c.token == token {
			return c.who, nil
		}
	}
	if c := s.tokens.get(token); c != nil {
		if l != nil && !l.gateway {
			l.last.Store(c)
		}
		return c.who, nil
	}
	if !s.patient(source) {
		return nil, rpctypes.ErrGRPCRequestTooManyRequests
	}
	g, err := s.grant(ctx, l, token)
	if err != nil {
		s.denied(ctx, audit.Record{Action: "auth.token", Resource: access.ResourceOfToken(token), Reason: err.Error(), Source: source})
		if errors.Is(err, access.ErrBusy) {
			return nil, rpctypes.ErrGRPCRequestTooManyRequests
		}
		return nil, detailed(rpctypes.ErrGRPCInvalidAuthToken, "TOKEN", map[string]string{"why": err.Error()})
	}
	c := &cached{token, &access.Credentials{Grant: g, Source: source}}
	if l != nil && !l.gateway {
		l.last.Store(c)
	}
	if !g.NeedsProof() { // what was proved for one connection is worth nothing on another
		s.tokens.put(c)
	}
	return c.who, nil
}

// tokenOf is the token that a call shows: as etcd's clients do, or as a bearer.
func tokenOf(ctx context.Context) string {
	for _, key := range [...]string{rpctypes.TokenFieldNameGRPC, "authorization"} {
		v := metadata.ValueFromIncomingContext(ctx, key)
		if len(v) == 0 || v[0] == "" {
			continue
		}
		if kind, rest, ok := strings.Cut(v[0], " "); ok && strings.EqualFold(kind, "bearer") {
			return strings.TrimSpace(rest)
		}
		return v[0]
	}
	return ""
}

// grant verifies a token, and that who shows it has its key: because that travels with it, because it is the key of the client's certificate, or
// by a proof.
func (s *Server) grant(ctx context.Context, l *link, token string) (*access.Grant, error) {
	if l != nil && !l.gateway && l.cert != nil {
		t, err := access.ParseToken(token)
		if err != nil {
			return nil, err
		}
		if key, ok := l.cert.PublicKey.(*ecdsa.PublicKey); ok && !t.Carries() {
			if k, err := access.PublicKeyOf(key); err == nil && k == t.Effective().Holder {
				return s.cfg.Access.Rules().Verify(t, uint64(time.Now().Unix()))
			}
		}
	}
	proof := ""
	if v := metadata.ValueFromIncomingContext(ctx, ProofHeader); len(v) > 0 {
		proof = v[0]
	}
	return s.cfg.Access.Token(token, proof, l.binding())
}

// binding is what a proof over this connection must be tied to; zero where there is no TLS of the client's own.
func (l *link) binding() (d coord.Digest) {
	if l == nil || l.tls == nil {
		return d
	}
	s := l.tls.ConnectionState()
	b, err := s.ExportKeyingMaterial(exporterLabel, nil, sha256.Size)
	if err == nil {
		copy(d[:], b)
	}
	return d
}

// tokens remembers what was verified, by the token's text.
type tokens struct {
	mu   sync.RWMutex
	list map[string]*cached
}

func (t *tokens) get(token string) *cached {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.list[token]
}

func (t *tokens) put(c *cached) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == nil || len(t.list) >= cachedMax { // a new beginning costs each token in use one verification
		t.list = map[string]*cached{}
	}
	t.list[c.token] = c
}

// allow is nil if a caller may do an action on a resource. Errors are gRPC's, in etcd's words, with what decided as a detail.
//
// While a site asks for no tokens, a caller without any may do what no policy forbids, as with etcd without auth; one with a token may do what
// that says.
func (s *Server) allow(ctx context.Context, c *access.Credentials, a access.Action, on access.Resource) error {
	v, ok := s.may(c, a, on)
	if ok {
		return nil
	}
	return s.refuse(ctx, c, &v)
}

// may is allow without a word or a record.
func (s *Server) may(c *access.Credentials, a access.Action, on access.Resource) (v access.Verdict, ok bool) {
	if s.cfg.Access == nil {
		return v, true
	}
	v = s.cfg.Access.Decide(c, a, on)
	return v, v.Allowed || c.Grant == nil && v.Policy == "" && s.cfg.Access.Rules().ClientOpen()
}

func (s *Server) refuse(ctx context.Context, c *access.Credentials, v *access.Verdict) error {
	l, source := linkOf(ctx)
	if l != nil && !s.patient(source) {
		return rpctypes.ErrGRPCRequestTooManyRequests
	}
	s.denied(ctx, audit.Record{
		Principal: v.Principal, Action: v.Action.String(), Resource: v.Resource.String(), Policy: v.Policy, Reason: v.Reason(), Source: source,
	})
	why := map[string]string{"action": v.Action.String(), "resource": v.Resource.String(), "policy": v.Policy, "why": v.Reason(), "principal": v.Principal}
	switch {
	case c == nobody:
		return detailed(rpctypes.ErrGRPCUserEmpty, "DENIED", why)
	case c.Grant != nil && s.cfg.Access.Rules().Still(c.Grant, uint64(time.Now().Unix())) != nil:
		return detailed(rpctypes.ErrGRPCInvalidAuthToken, "TOKEN", why)
	}
	return detailed(rpctypes.ErrGRPCPermissionDenied, "DENIED", why)
}

// detailed keeps the words of an error, which etcd's clients compare, and says more beside them.
func detailed(err error, reason string, more map[string]string) error {
	st, e := status.Convert(err).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "holdfast", Metadata: more})
	if e != nil {
		return err
	}
	return st.Err()
}

func (s *Server) denied(ctx context.Context, r audit.Record) {
	if s.cfg.Audit == nil {
		return
	}
	r.Outcome = audit.Denied
	r.Clip()
	// A refusal is a refusal, recorded or not: the log says for itself what it lost.
	_ = s.cfg.Audit(context.WithoutCancel(ctx), r)
}

// patient says whether a source may have one more token verified, or be refused something once more.
func (s *Server) patient(source string) bool {
	a, err := netip.ParseAddrPort(source)
	host := a.Addr()
	if err != nil {
		host, _ = netip.ParseAddr(source) // of the gateway; the zero address is one source, too
	}
	s.strangers.Lock()
	defer s.strangers.Unlock()
	ok, _ := s.strangers.buckets.Take(time.Since(s.began), limit.Host(host), 1)
	return ok
}

// key makes a resource of a key without copying it: the bytes are the request's, and nobody changes them.
func key(k []byte) access.Resource { return access.Key(unsafe.String(unsafe.SliceData(k), len(k))) }

// keys makes one of a range as etcd writes it.
func keys(k, end []byte) access.Resource {
	if len(end) == 0 {
		return key(k)
	}
	e := unsafe.String(unsafe.SliceData(end), len(end))
	if len(end) == 1 && end[0] == 0 {
		e = access.EndOfKeys
	}
	return access.Keys(unsafe.String(unsafe.SliceData(k), len(k)), e)
}

// permit says whether a caller may make a call.
func (s *Server) permit(ctx context.Context, c *access.Credentials, req any) error {
	if s.cfg.Access == nil {
		return nil
	}
	switch r := req.(type) {
	case *pb.RangeRequest:
		return s.allow(ctx, c, access.KVGet, keys(r.Key, r.RangeEnd))
	case *pb.PutRequest:
		return s.permitPut(ctx, c, r)
	case *pb.DeleteRangeRequest:
		return s.permitDelete(ctx, c, r)
	case *pb.TxnRequest:
		return s.permitTxn(ctx, c, r, 0)
	case *pb.CompactionRequest:
		return s.allow(ctx, c, access.KVCompact, access.Site())
	case *pb.LeaseGrantRequest:
		return s.allow(ctx, c, access.LeaseGrant, access.Site())
	case *pb.LeaseRevokeRequest:
		return s.permitRevoke(ctx, c, r.ID)
	case *pb.LeaseTimeToLiveRequest:
		if err := s.allow(ctx, c, access.LeaseRead, access.Site()); err != nil || !r.Keys {
			return err
		}
		return s.permitLeaseKeys(ctx, c, r.ID, access.KVGet)
	case *pb.LeaseLeasesRequest:
		return s.allow(ctx, c, access.LeaseRead, access.Site())
	case *pb.SnapshotRequest:
		return s.allow(ctx, c, access.KVSnapshot, access.Site())
	case *pb.MoveLeaderRequest:
		return s.allow(ctx, c, access.SiteMoveLeader, access.Site())
	case *pb.DowngradeRequest:
		return s.allow(ctx, c, access.SiteDowngrade, access.Site())
	case *pb.StatusRequest, *pb.AlarmRequest, *pb.HashRequest, *pb.HashKVRequest, *pb.DefragmentRequest:
		return s.allow(ctx, c, access.SiteRead, access.Site())
	case *pb.MemberListRequest:
		return s.allow(ctx, c, access.MemberList, access.Site())
	}
	return nil // it says by itself that there is no such thing here
}

func (s *Server) permitPut(ctx context.Context, c *access.Credentials, r *pb.PutRequest) error {
	err := s.allow(ctx, c, access.KVPut, key(r.Key))
	if err == nil && r.PrevKv { // etcd's rule: who wants to see what was there must be allowed to
		err = s.allow(ctx, c, access.KVGet, key(r.Key))
	}
	return err
}

func (s *Server) permitDelete(ctx context.Context, c *access.Credentials, r *pb.DeleteRangeRequest) error {
	err := s.allow(ctx, c, access.KVDelete, keys(r.Key, r.RangeEnd))
	if err == nil && r.PrevKv {
		err = s.allow(ctx, c, access.KVGet, keys(r.Key, r.RangeEnd))
	}
	return err
}

// txnDepthMax is deeper than any transaction that is executed (coord/kv).
const txnDepthMax = 64

// permitTxn asks for all that a transaction compares and may do, whichever way it goes.
func (s *Server) permitTxn(ctx context.Context, c *access.Credentials, r *pb.TxnRequest, depth int) error {
	if depth > txnDepthMax {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, x := range r.Compare {
		if err := s.allow(ctx, c, access.KVGet, keys(x.GetKey(), x.GetRangeEnd())); err != nil {
			return err
		}
	}
	for _, list := range [2][]*pb.RequestOp{r.Success, r.Failure} {
		for _, o := range list {
			var err error
			switch q := o.GetRequest().(type) {
			case *pb.RequestOp_RequestRange:
				err = s.allow(ctx, c, access.KVGet, keys(q.RequestRange.GetKey(), q.RequestRange.GetRangeEnd()))
			case *pb.RequestOp_RequestPut:
				err = s.permitPut(ctx, c, orEmpty(q.RequestPut))
			case *pb.RequestOp_RequestDeleteRange:
				err = s.permitDelete(ctx, c, orEmpty(q.RequestDeleteRange))
			case *pb.RequestOp_RequestTxn:
				err = s.permitTxn(ctx, c, orEmpty(q.RequestTxn), depth+1)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// permitRevoke: what hangs on a lease is deleted with it.
func (s *Server) permitRevoke(ctx context.Context, c *access.Credentials, id int64) error {
	if err := s.allow(ctx, c, access.LeaseRevoke, access.Site()); err != nil {
		return err
	}
	return s.permitLeaseKeys(ctx, c, id, access.KVDelete)
}

func (s *Server) permitLeaseKeys(ctx context.Context, c *access.Credentials, id int64, a access.Action) error {
	if _, ok := s.may(c, a, access.Prefix("")); ok { // on all keys: not worth a walk over them
		return nil
	}
	_, _, list, err := s.cfg.Site.State().Lease(id, true)
	if err != nil {
		return nil // there is none, which the call says itself
	}
	for _, k := range list {
		if err := s.allow(ctx, c, a, key(k)); err != nil {
			return err
		}
	}
	return nil
}

// held is a stream that goes on for as long as its caller may do what it does.
type held struct {
	check func() error
	end   context.CancelCauseFunc
}

// hold has check asked again when the rules change, and now and then, until release is called; end is given its error.
func (s *Server) hold(check func() error, end context.CancelCauseFunc) (release func()) {
	if s.cfg.Access == nil {
		return func() {}
	}
	h := &held{check, end}
	s.holding.Store(h, nil)
	return func() { s.holding.Delete(h) }
}

// watchHeld ends the streams of those who may not go on.
func (s *Server) watchHeld() {
	t := time.NewTicker(viewEvery)
	defer t.Stop()
	rules, last := s.cfg.Access.Rules(), time.Now()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
		now := s.cfg.Access.Rules()
		if now == rules && time.Since(last) < holdCheck {
			continue
		}
		rules, last = now, time.Now()
		s.holding.Range(func(k, _ any) bool {
			h := k.(*held)
			if err := h.check(); err != nil {
				h.end(err)
			}
			return true
		})
	}
}
