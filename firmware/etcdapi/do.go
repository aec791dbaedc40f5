package etcdapi

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// order has a message ordered and gives its result. Errors are gRPC's, as etcd has them; after one that is
// codes.Unavailable or codes.DeadlineExceeded the message may still take effect.
func (s *Server) order(ctx context.Context, kind coord.Kind, key, value []byte) (coord.Result, error) {
	done, err := s.submit(ctx, kind, key, value)
	if err != nil {
		return coord.Result{}, err
	}
	return s.ordered(ctx, done)
}

// submit has a message ordered, below the trace that ctx's client brought; its reply comes over done.
func (s *Server) submit(ctx context.Context, kind coord.Kind, key, value []byte) (done chan coord.Reply, err error) {
	if len(key) > coord.KeyBytesMax || len(value) > coord.ValueBytesMax {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	cols := new(coord.Columns)
	cols.Add(kind, 0, 0, time.Now().UnixMilli(), key, value)
	done = make(chan coord.Reply, 1)
	s.cfg.Site.Submit(&site.Request{Cols: cols, Trace: traceOf(ctx), Done: func(r coord.Reply) { done <- r }})
	return done, nil
}

// ordered waits for what was submitted.
func (s *Server) ordered(ctx context.Context, done chan coord.Reply) (coord.Result, error) {
	select {
	case r := <-done:
		return answered(r)
	default:
	}
	t := time.NewTimer(s.cfg.Limits.NoQuorumTime)
	defer t.Stop()
	began := time.Now()
	for {
		select {
		case r := <-done:
			return answered(r)
		case <-ctx.Done():
			return coord.Result{}, ctxError(ctx)
		case <-t.C:
			if time.Since(began) >= s.cfg.Limits.RequestTime || !s.view.Load().Serving {
				return coord.Result{}, rpctypes.ErrGRPCTimeout
			}
			t.Reset(s.cfg.Limits.NoQuorumTime / 4)
		}
	}
}

func answered(r coord.Reply) (coord.Result, error) {
	code := r.Code
	if len(r.Results) == 1 {
		code = r.Results[0].Code
		if a := r.Results[0].KV; a != nil && a.Err != nil {
			return r.Results[0], kvError(a.Err)
		}
	}
	switch code {
	case coord.CodeOK:
		return r.Results[0], nil
	case coord.CodeBusy:
		return coord.Result{}, rpctypes.ErrGRPCRequestTooManyRequests
	case coord.CodeFull:
		return coord.Result{}, rpctypes.ErrGRPCNoSpace
	case coord.CodeTooLarge:
		return coord.Result{}, rpctypes.ErrGRPCRequestTooLarge
	case coord.CodeStopping:
		return coord.Result{}, rpctypes.ErrGRPCStopped
	}
	return coord.Result{}, status.Error(codes.InvalidArgument, "etcdserver: "+code.String())
}

func ctxError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return rpctypes.ErrGRPCCanceled
	}
	return rpctypes.ErrGRPCDeadlineExceeded
}

// kvErrors are the words that etcd's clients look for.
var kvErrors = map[error]error{
	kv.ErrKeyNotFound:    rpctypes.ErrGRPCKeyNotFound,
	kv.ErrDuplicateKey:   rpctypes.ErrGRPCDuplicateKey,
	kv.ErrEmptyKey:       rpctypes.ErrGRPCEmptyKey,
	kv.ErrTooManyOps:     rpctypes.ErrGRPCTooManyOps,
	kv.ErrCompacted:      rpctypes.ErrGRPCCompacted,
	kv.ErrFutureRevision: rpctypes.ErrGRPCFutureRev,
	kv.ErrLeaseNotFound:  rpctypes.ErrGRPCLeaseNotFound,
	kv.ErrLeaseExists:    rpctypes.ErrGRPCLeaseExist,
	kv.ErrLeaseTTL:       rpctypes.ErrGRPCLeaseTTLTooLarge,
	kv.ErrTooManyLeases:  rpctypes.ErrGRPCRequestTooManyRequests,
	kv.ErrValueProvided:  rpctypes.ErrGRPCValueProvided,
	kv.ErrLeaseProvided:  rpctypes.ErrGRPCLeaseProvided,
	kv.ErrSort:           rpctypes.ErrGRPCInvalidSortOption,
	kv.ErrKeyTooLarge:    rpctypes.ErrGRPCRequestTooLarge,
}

func kvError(err error) error {
	if err == nil {
		return nil
	}
	for e, g := range kvErrors {
		if errors.Is(err, e) {
			return g
		}
	}
	return status.Error(codes.Internal, err.Error())
}

// freshTime is how long a read waits for what others claim before it is ordered like a write.
const freshTime = 100 * time.Millisecond

// barriers lets reads wait until this box has all that anybody was told before they came.
type barriers struct{ waiting chan chan uint64 }

// runBarriers asks the other boxes once for all reads that came before; a read for which that fails gets noRound.
func (s *Server) runBarriers() {
	var wait []chan uint64
	for {
		wait = wait[:0]
		select {
		case <-s.ctx.Done():
			return
		case c := <-s.barriers.waiting:
			wait = append(wait, c)
		}
		for more := true; more; {
			select {
			case c := <-s.barriers.waiting:
				wait = append(wait, c)
			default:
				more = false
			}
		}
		ctx, cancel := context.WithTimeout(s.ctx, freshTime)
		round, err := s.cfg.Site.Index(ctx)
		cancel()
		if err != nil {
			round = noRound
		}
		for _, c := range wait {
			c <- round
		}
	}
}

const noRound = math.MaxUint64

// fresh waits until what this box has is not older than the call.
func (s *Server) fresh(ctx context.Context) error {
	c := make(chan uint64, 1)
	select {
	case s.barriers.waiting <- c:
	case <-ctx.Done():
		return ctxError(ctx)
	case <-s.ctx.Done():
		return rpctypes.ErrGRPCStopped
	}
	var round uint64
	select {
	case round = <-c:
	case <-ctx.Done():
		return ctxError(ctx)
	case <-s.ctx.Done():
		return rpctypes.ErrGRPCStopped
	}
	if round != noRound {
		soon, cancel := context.WithTimeout(ctx, freshTime)
		err := s.cfg.Site.Reached(soon, round)
		cancel()
		if err == nil {
			return nil
		}
	}
	// Too few answer, or one claims what does not come.
	_, err := s.order(ctx, coord.KindBarrier, nil, nil)
	if err == nil && round != noRound {
		s.cfg.Site.Doubt()
	}
	return err
}

// settled waits until what was read of the state cannot be lost any more.
func (s *Server) settled(ctx context.Context) error {
	err := s.cfg.Site.Settled(ctx, s.cfg.Limits.RequestTime)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctxError(ctx)
	case errors.Is(err, site.ErrStopped):
		return rpctypes.ErrGRPCStopped
	case errors.Is(err, context.DeadlineExceeded):
		return rpctypes.ErrGRPCTimeout
	}
	return status.Error(codes.Unavailable, err.Error())
}

// requiresLeader: the client wants an error rather than to wait on a box that is cut off (clientv3.WithRequireLeader).
func requiresLeader(ctx context.Context) bool {
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
}

// open are the calls that need no permission: to say who one is, and whether the box lives.
func open(method string) bool {
	return method == pb.Auth_Authenticate_FullMethodName || method == pb.Auth_AuthStatus_FullMethodName || !strings.HasPrefix(method, "/etcdserverpb.")
}

// admit finds out who calls and whether it may.
func (s *Server) admit(ctx context.Context, method string, req any) (*access.Credentials, error) {
	if open(method) {
		return nobody, nil
	}
	c, err := s.who(ctx)
	if err != nil {
		return nil, err
	}
	return c, s.permit(ctx, c, req)
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (res any, err error) {
	if s.cfg.Answered != nil {
		start := time.Now()
		defer func() { s.cfg.Answered(info.FullMethod, status.Code(err).String(), time.Since(start)) }()
	}
	if requiresLeader(ctx) && !s.view.Load().Serving {
		return nil, rpctypes.ErrGRPCNoLeader
	}
	c, err := s.admit(ctx, info.FullMethod, req)
	if err != nil {
		return nil, err
	}
	res, err = next(ctx, req)
	return res, s.record(ctx, c, info.FullMethod, req, err)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	var req any // of the others each message is asked about (watch.go, lease.go, kv.go)
	if info.FullMethod == pb.Maintenance_Snapshot_FullMethodName {
		req = &pb.SnapshotRequest{}
	}
	c, err := s.admit(ss.Context(), info.FullMethod, req)
	if err != nil {
		return err
	}
	ctx := context.WithValue(ss.Context(), callerKey{}, c)
	if !requiresLeader(ctx) {
		return s.record(ctx, c, info.FullMethod, nil, next(srv, &withContext{ss, ctx}))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.hub.onLoss(func() { cancel(rpctypes.ErrGRPCNoLeader) })()
	if !s.view.Load().Serving { // after onLoss, which is told of a change only
		return rpctypes.ErrGRPCNoLeader
	}
	err = s.record(ctx, c, info.FullMethod, nil, next(srv, &withContext{ss, ctx}))
	if cause := context.Cause(ctx); errors.Is(cause, rpctypes.ErrGRPCNoLeader) {
		return cause
	}
	return err
}

// callerKey is the context key of a stream's *access.Credentials.
type callerKey struct{}

// callerOf is who opened a stream.
func callerOf(ctx context.Context) *access.Credentials {
	if c, ok := ctx.Value(callerKey{}).(*access.Credentials); ok {
		return c
	}
	return nobody
}

type withContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (w *withContext) Context() context.Context { return w.ctx }
