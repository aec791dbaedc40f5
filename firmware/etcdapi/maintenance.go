package etcdapi

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-edge/holdfast/coord"
)

// Status implements etcdserverpb.MaintenanceServer. What etcd calls raft's index is the height here, its term the
// ordering's.
func (s *Server) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	v, st := s.cfg.Site.View(), s.cfg.Site.State()
	s.view.Store(v)
	out := &pb.StatusResponse{
		Header: s.header(s.hub.visible()), Version: Version, StorageVersion: Version, DbSize: s.cfg.DiskBytes(), DbSizeInUse: int64(st.StateBytes()),
		RaftIndex: v.Height, RaftAppliedIndex: v.Height, RaftTerm: v.Term + 1,
	}
	if v.Serving {
		out.Leader = id64(v.Leader)
	} else {
		out.Errors = append(out.Errors, rpctypes.ErrNoLeader.Error())
	}
	if v.Full != "" {
		out.Errors = append(out.Errors, "memberID:"+v.ID.String()+" alarm:NOSPACE ")
	}
	if v.Fault != "" {
		out.Errors = append(out.Errors, v.Fault)
	}
	return out, nil
}

// Alarm implements etcdserverpb.MaintenanceServer. The only alarm is NOSPACE, of this box; it ends by itself when there is space.
func (s *Server) Alarm(_ context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	v := s.cfg.Site.View()
	out := &pb.AlarmResponse{Header: s.header(v.Revision)}
	if v.Full != "" && (r.Alarm == pb.AlarmType_NONE || r.Alarm == pb.AlarmType_NOSPACE) {
		out.Alarms = append(out.Alarms, &pb.AlarmMember{MemberID: id64(v.ID), Alarm: pb.AlarmType_NOSPACE})
	}
	if r.Action == pb.AlarmRequest_ACTIVATE {
		return nil, status.Error(codes.Unimplemented, "holdfast: alarms are raised by the box itself")
	}
	return out, nil
}

// Defragment implements etcdserverpb.MaintenanceServer: pages that compaction frees are used again, so there is nothing
// that must be done.
func (s *Server) Defragment(context.Context, *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	return &pb.DefragmentResponse{}, nil // etcd's has no header
}

// Hash implements etcdserverpb.MaintenanceServer: the hash of the newest revision.
func (s *Server) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	st := s.cfg.Site.State()
	sum, rev, err := st.Hash(0)
	if err != nil {
		return nil, kvError(err)
	}
	return &pb.HashResponse{Header: s.header(rev), Hash: sum}, s.settled(ctx)
}

// HashKV implements etcdserverpb.MaintenanceServer: the same on every box of the site at one revision.
func (s *Server) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	st := s.cfg.Site.State()
	sum, rev, err := st.Hash(r.Revision)
	if err != nil {
		return nil, kvError(err)
	}
	compact := int64(st.Compacted())
	if compact == 0 {
		compact = -1 // etcd's "never"
	}
	return &pb.HashKVResponse{Header: s.header(st.Revision()), Hash: sum, CompactRevision: compact, HashRevision: int64(rev)}, s.settled(ctx)
}

// moveTime is how long a change of leader may take: at most one term of each box is ended early.
const moveTime = 5 * time.Second

// MoveLeader implements etcdserverpb.MaintenanceServer.
func (s *Server) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	v := s.cfg.Site.View()
	if !v.Serving {
		return nil, rpctypes.ErrGRPCNoLeader
	}
	if v.Leader != s.cfg.Self {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	m, ok := s.member(r.TargetID)
	if !ok {
		return nil, rpctypes.ErrGRPCBadLeaderTransferee
	}
	if _, err := s.order(ctx, coord.KindLead, m.ID[:], nil); err != nil {
		return nil, err
	}
	for limit := time.Now().Add(moveTime); s.cfg.Site.View().Leader != m.ID; {
		select {
		case <-ctx.Done():
			return nil, ctxError(ctx)
		case <-time.After(viewEvery / 10):
		}
		if time.Now().After(limit) {
			return nil, rpctypes.ErrGRPCTimeoutDueToLeaderFail
		}
	}
	return &pb.MoveLeaderResponse{Header: s.header(s.hub.visible())}, nil
}

// Downgrade implements etcdserverpb.MaintenanceServer.
func (s *Server) Downgrade(context.Context, *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	return nil, status.Error(codes.Unimplemented, "holdfast: releases are changed with the site's own tools")
}
