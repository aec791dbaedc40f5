package etcdapi

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

func (s *Server) lease(ctx context.Context, a kv.LeaseAction, id, ttl int64) (*kv.Answer, error) {
	r, err := s.order(ctx, coord.KindLease, nil, kv.AppendLease(nil, a, id, ttl))
	if err != nil {
		return nil, err
	}
	return r.KV, nil
}

// LeaseGrant implements etcdserverpb.LeaseServer.
func (s *Server) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if r.TTL > kv.LeaseTTLMax {
		return nil, rpctypes.ErrGRPCLeaseTTLTooLarge
	}
	for {
		id := r.ID
		for id == 0 {
			id = rand.Int64()
		}
		a, err := s.lease(ctx, kv.LeaseGrant, id, r.TTL)
		if errors.Is(err, rpctypes.ErrGRPCLeaseExist) && r.ID == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &pb.LeaseGrantResponse{Header: s.header(a.Revision), ID: id, TTL: a.TTL}, nil
	}
}

// LeaseRevoke implements etcdserverpb.LeaseServer.
func (s *Server) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if r.ID == 0 {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	a, err := s.lease(ctx, kv.LeaseRevoke, r.ID, 0)
	if err != nil {
		return nil, err
	}
	return &pb.LeaseRevokeResponse{Header: s.header(a.Revision)}, nil
}

// keptMax is how many keep-alives of a stream are ordered at a time.
const keptMax = 256

// kept is a keep-alive under way; done is nil for one of no lease.
type kept struct {
	id   int64
	done chan coord.Reply
}

// LeaseKeepAlive implements etcdserverpb.LeaseServer. TTL 0 says that there is no such lease. A client renews all its leases over one
// stream: they are ordered together, and answered in turn.
func (s *Server) LeaseKeepAlive(out grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	asked, ended := make(chan kept, keptMax), make(chan error, 1)
	go func() {
		defer close(asked)
		ended <- s.takeKeepAlives(ctx, out, asked)
	}()
	for {
		var k kept
		select {
		case <-s.ctx.Done():
			return rpctypes.ErrGRPCStopped
		case next, more := <-asked:
			if !more {
				return <-ended
			}
			k = next
		}
		ans := &pb.LeaseKeepAliveResponse{ID: k.id}
		if k.done != nil {
			r, err := s.ordered(ctx, k.done)
			if err != nil {
				return err
			}
			ans.TTL, ans.Header = r.KV.TTL, s.header(r.KV.Revision)
		} else {
			ans.Header = s.header(s.hub.visible())
		}
		if err := out.Send(ans); err != nil {
			return err
		}
	}
}

func (s *Server) takeKeepAlives(ctx context.Context, in grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse], asked chan<- kept) error {
	for {
		r, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.allow(ctx, callerOf(in.Context()), access.LeaseKeepAlive, access.Site()); err != nil {
			return err
		}
		k := kept{id: r.ID}
		if r.ID != 0 {
			if k.done, err = s.submit(in.Context(), coord.KindLease, nil, kv.AppendLease(nil, kv.LeaseKeepAlive, r.ID, 0)); err != nil {
				return err
			}
		}
		select {
		case asked <- k:
		case <-ctx.Done():
			return nil
		}
	}
}

// LeaseTimeToLive implements etcdserverpb.LeaseServer. TTL -1 says that there is no such lease.
func (s *Server) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if err := s.fresh(ctx); err != nil {
		return nil, err
	}
	st := s.cfg.Site.State()
	granted, left, keys, err := st.Lease(r.ID, r.Keys)
	out := &pb.LeaseTimeToLiveResponse{Header: s.header(st.Revision()), ID: r.ID, TTL: left, GrantedTTL: granted, Keys: keys}
	if errors.Is(err, kv.ErrLeaseNotFound) {
		out.TTL, err = -1, nil
	}
	if err != nil {
		return nil, kvError(err)
	}
	return out, s.settled(ctx)
}

// LeaseLeases implements etcdserverpb.LeaseServer.
func (s *Server) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	if err := s.fresh(ctx); err != nil {
		return nil, err
	}
	st := s.cfg.Site.State()
	out := &pb.LeaseLeasesResponse{Header: s.header(st.Revision())}
	for _, id := range st.Leases() {
		out.Leases = append(out.Leases, &pb.LeaseStatus{ID: id})
	}
	return out, s.settled(ctx)
}
