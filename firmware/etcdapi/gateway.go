package etcdapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
)

// gateway is the JSON form of the API: requests under /v3/ become calls to the gRPC server in memory, as in etcd.
type gateway struct {
	s    *Server
	conn *grpc.ClientConn
	pipe *bufconn.Listener
	http *http.Server
}

func newGateway(s *Server) (*gateway, error) {
	g := &gateway{s: s, pipe: bufconn.Listen(64 << 10)}
	go func() { _ = s.grpc.Serve(g.pipe) }()
	var err error
	g.conn, err = grpc.NewClient("passthrough:///box", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return g.pipe.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30))) // of our own answers
	if err != nil {
		return nil, err
	}
	mux := runtime.NewServeMux(runtime.WithIncomingHeaderMatcher(func(h string) (string, bool) {
		if strings.EqualFold(h, ProofHeader) {
			return ProofHeader, true
		}
		if strings.EqualFold(h, TraceHeader) {
			return TraceHeader, true
		}
		return runtime.DefaultHeaderMatcher(h)
	}), runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{
		Marshaler: &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
		},
	}))
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		gw.RegisterKVHandler, gw.RegisterWatchHandler, gw.RegisterLeaseHandler, gw.RegisterClusterHandler, gw.RegisterMaintenanceHandler, gw.RegisterAuthHandler,
	} {
		if err := register(s.ctx, mux, g.conn); err != nil {
			return nil, err
		}
	}
	h := http.NewServeMux()
	h.Handle("/v3/", programsOnly(http.MaxBytesHandler(promptly(mux), recvBytesMax*4/3+1024))) // in base64
	h.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"etcdserver": Version, "etcdcluster": Version, "storage": Version})
	})
	h.HandleFunc("GET /health", g.health)
	h.HandleFunc("GET /livez", g.live)
	h.HandleFunc("GET /readyz", g.ready)
	g.http = &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
	}
	return g, nil
}

// programsOnly turns away what a web page asks for: browsers name its origin with each POST. The port shows no pages, so there are none of its
// own; those of others must not use it because it listens on loopback, or has a name that they can point at it.
func programsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			reply(w, http.StatusForbidden, map[string]any{"error": "etcdserver: permission denied", "message": "this is for programs; web pages may not use it", "code": 7})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bodyTime is how long a request's body may take: 2.7 MiB at 100 KB/s.
const bodyTime = 30 * time.Second

// promptly cuts off whoever takes longer for a body. The two calls whose body goes on as long as their answer may take their time.
func promptly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v3/watch" || r.URL.Path == "/v3/lease/keepalive" || r.Body == nil {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		if err := control.SetReadDeadline(time.Now().Add(bodyTime)); err != nil {
			reply(w, http.StatusInternalServerError, map[string]string{"message": err.Error()})
			return
		}
		r.Body = &prompt{r.Body, control}
		next.ServeHTTP(w, r)
	})
}

// prompt takes the deadline away when the body has ended.
type prompt struct {
	io.ReadCloser
	control *http.ResponseController
}

func (p *prompt) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if errors.Is(err, io.EOF) {
		_ = p.control.SetReadDeadline(time.Time{}) // it was set before
	}
	return n, err
}

func (g *gateway) serve(l net.Listener) error {
	if err := g.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (g *gateway) shutdown(ctx context.Context) error {
	return errors.Join(g.http.Shutdown(ctx), g.conn.Close())
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

// health is etcd's: a linearizable read works, and there is space; ?serializable=true asks of this box alone.
func (g *gateway) health(w http.ResponseWriter, r *http.Request) {
	why := ""
	if v := g.s.cfg.Site.View(); v.Full != "" {
		why = "ALARM NOSPACE"
	} else if v.Fault != "" {
		why = v.Fault
	}
	if why == "" && r.URL.Query().Get("serializable") != "true" {
		if err := g.s.fresh(r.Context()); err != nil {
			why = "RANGE ERROR:" + err.Error()
		}
	}
	if why != "" {
		reply(w, http.StatusServiceUnavailable, map[string]string{"health": "false", "reason": why})
		return
	}
	reply(w, http.StatusOK, map[string]string{"health": "true", "reason": ""})
}

func (g *gateway) live(w http.ResponseWriter, _ *http.Request) {
	if v := g.s.cfg.Site.View(); v.Fault != "" {
		http.Error(w, "[-]box failed: "+v.Fault, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

func (g *gateway) ready(w http.ResponseWriter, r *http.Request) {
	_, err := g.s.Range(r.Context(), &pb.RangeRequest{Key: []byte("health"), Limit: 1})
	if err != nil {
		http.Error(w, "[-]linearizable_read failed: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
