// Package etcdapi speaks the etcd v3 API: gRPC, and JSON under /v3/ on the same port. It translates; the ordered state
// (coord/state) executes. docs/etcd.md says, call by call and field by field, what is the same as in etcd and what is not.
//
// Writes are messages that ride the box's batches. A read is linearizable unless the client says otherwise: it waits until an
// empty message that was ordered after it came (one for all reads that wait) has taken effect on this box, so a
// box that was stopped or cut off answers nothing stale, but nothing at all until it is back. Watches are served from
// memory, and those that fall behind from the history that the state keeps (watch.go).
//
// An etcd client trusts the box it speaks to.
package etcdapi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trust/limit"
)

// ErrStopped says that the server was told to stop before it served.
var ErrStopped = errors.New("etcdapi: stopped")

// Version is the release of etcd whose API this is: what clients that look at it find.
const Version = "3.6.0"

// Site is what the API needs of the box's coordinator.
type Site interface {
	Submit(r *site.Request)
	State() *state.Machine
	View() *site.View
	// Index, Reached and Doubt are for reads that may not be stale (coord/site/index.go).
	Index(ctx context.Context) (round uint64, err error)
	Reached(ctx context.Context, round uint64) error
	Doubt()
	// Settled waits until what State showed is durable.
	Settled(ctx context.Context, limit time.Duration) error
}

// Limits bound what clients may use; zero: the default.
type Limits struct {
	// Connections at one time (1024), streams of one connection (1024) and watchers of the box (16384).
	Connections, Streams, Watchers int
	// RequestTime is how long a write or a linearizable read may take (7 s, as etcd's); on a site that
	// does not order it ends after NoQuorumTime (1.5 s).
	RequestTime, NoQuorumTime time.Duration
	// ProgressEvery is how often a watcher that asked for it hears that nothing happened (10 min, as etcd's).
	ProgressEvery time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	defTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Connections, 1024)
	def(&l.Streams, 1024)
	def(&l.Watchers, 16<<10)
	defTime(&l.RequestTime, 7*time.Second)
	defTime(&l.NoQuorumTime, 1500*time.Millisecond)
	defTime(&l.ProgressEvery, 10*time.Minute)
	return l
}

// Config of a Server. All but Limits and TLS are required.
type Config struct {
	Site    Site
	Self    coord.BoxID
	SiteID  coord.SiteID
	Members func() []coord.Member
	// DiskBytes is the size of the state's file.
	DiskBytes func() int64
	// TempDir is where a Snapshot is made before it is sent.
	TempDir string
	// TLS says whether the listeners speak TLS, for the URLs that clients are told.
	TLS bool
	// KeepRevisions, KeepTime and KeepBytes say when this box asks for a compaction (history.go).
	KeepRevisions uint64
	KeepBytes     uint64
	KeepTime      time.Duration
	// Audit, if not nil, records what was done or refused; it returns when that is durable.
	Audit func(ctx context.Context, r audit.Record) error
	// Access says who may do what (access.go); nil: everybody everything. Password, if not nil, lets operators in.
	Access   *access.Authorizer
	Password Password
	// Answered, if not nil, is told of each call: its method, the name of its status, and how long it took. It must not block.
	Answered func(method, code string, took time.Duration)
	Limits   Limits
	Logger   *slog.Logger
}

// Server serves the etcd API of one box. Make it with New, give Changes to the site, then Serve.
type Server struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedAuthServer

	cfg  Config
	grpc *grpc.Server
	hub  *hub
	gate *gateway

	view     atomic.Pointer[site.View]
	conns    sync.Map      // by the client's address: its net.Conn
	snaps    chan struct{} // places for snapshots
	barriers barriers

	tokens    tokens
	strangers struct {
		sync.Mutex
		buckets *limit.Buckets[netip.Addr]
	}
	holding sync.Map // *held: streams that end when their caller may not go on
	began   time.Time

	ctx  context.Context // ends when the server stops
	stop context.CancelFunc
	work sync.WaitGroup
}

const (
	// recvBytesMax is what etcd lets a message have: its request limit of 1.5 MiB and a half more for the frame.
	recvBytesMax = 2 << 20
	// streamWorkers answer calls; more calls at a time get goroutines of their own. With connBytes for a connection's
	// buffers a put costs a sixth less CPU and memory than with grpc's defaults.
	streamWorkers = 64
	connBytes     = 8 << 10
	// streamWindow and connWindow are how much a client may send before it is read; a large put is read in parts.
	streamWindow = 256 << 10
	connWindow   = 1 << 20
	// viewEvery is how often what clients are told of leader and quorum is looked at.
	viewEvery = 200 * time.Millisecond
)

// New makes a server on a site that does not run yet. Start it with Start when the site's options have its Changes.
func New(cfg Config) *Server {
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{cfg: cfg, hub: newHub(), began: time.Now()}
	s.strangers.buckets = limit.New[netip.Addr](strangers, strangersMax, time.Minute)
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.barriers.waiting = make(chan chan uint64)
	s.snaps = make(chan struct{}, snapshotsMax)
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(recvBytesMax),
		grpc.MaxConcurrentStreams(uint32(cfg.Limits.Streams)),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}), // etcd's
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Hour, Timeout: 20 * time.Second}),
		grpc.Creds(greeter{}), grpc.ConnectionTimeout(sniffTime), // for HTTP/2's own greetings
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream),
		// A goroutine for each call grows its stack each time; these keep theirs. Small buffers: there are many connections.
		grpc.NumStreamWorkers(streamWorkers), grpc.WriteBufferSize(connBytes), grpc.ReadBufferSize(connBytes),
		// Windows that do not grow: grpc would ask for the round trip with a ping per call to size them.
		grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connWindow),
	)
	pb.RegisterKVServer(s.grpc, s)
	pb.RegisterWatchServer(s.grpc, s)
	pb.RegisterLeaseServer(s.grpc, s)
	pb.RegisterClusterServer(s.grpc, s)
	pb.RegisterMaintenanceServer(s.grpc, s)
	pb.RegisterAuthServer(s.grpc, s)
	h := health.NewServer()
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s.grpc, h)
	return s
}

// Start begins to work on a site, whose Options.Changes is s.Changes.
func (s *Server) Start(on Site) error {
	s.cfg.Site = on
	s.tidySnapshots()
	s.hub.begin(on.State().Revision())
	s.view.Store(on.View())
	var err error
	if s.gate, err = newGateway(s); err != nil {
		return fmt.Errorf("etcdapi: JSON gateway: %w", err)
	}
	s.work.Go(s.watchView)
	s.work.Go(s.runBarriers)
	if s.cfg.Access != nil {
		s.work.Go(s.watchHeld)
	}
	if s.cfg.KeepRevisions > 0 {
		s.work.Go(s.keepHistory)
	}
	return nil
}

// Changes takes what became visible; it does not block.
func (s *Server) Changes(c *site.Changes) { s.hub.changes(c) }

// Serve serves gRPC and HTTP on a listener until Shutdown; then it returns nil, or ErrStopped if that was before.
// Listeners with TLS are made by TLSConfig.
func (s *Server) Serve(l net.Listener) error {
	if s.ctx.Err() != nil {
		return ErrStopped
	}
	m := newMux(l, s.cfg.Limits.Connections, s.cfg.Logger, &s.conns)
	defer m.close()
	errs := make(chan error, 3)
	go func() { errs <- s.grpc.Serve(m.grpc) }()
	go func() { errs <- s.gate.serve(m.http) }()
	go func() { errs <- m.run() }()
	err := <-errs
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}

// Shutdown ends streams, lets calls under way be answered until ctx ends, and closes. The site still runs.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.hub.close()
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	var err error
	if s.gate != nil {
		err = s.gate.shutdown(ctx)
	}
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		err = errors.Join(err, ctx.Err())
	}
	s.work.Wait()
	return err
}

// watchView keeps what is told of leader and quorum fresh: a look at the site for each call would queue behind its work.
func (s *Server) watchView() {
	t := time.NewTicker(viewEvery)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
			v := s.cfg.Site.View()
			s.view.Store(v)
			s.hub.serving(v.Serving)
		}
	}
}

func id64(b [8]byte) uint64 { return binary.BigEndian.Uint64(b[:]) }

// header is that of an answer at a revision.
func (s *Server) header(rev uint64) *pb.ResponseHeader {
	return &pb.ResponseHeader{
		ClusterId: id64(s.cfg.SiteID), MemberId: id64(s.cfg.Self), Revision: int64(rev), RaftTerm: s.view.Load().Term + 1,
	}
}
