package etcdapi

import (
	"context"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// audited are the calls that are recorded: what changes the site, forgets history or copies everything. What programs do with keys and leases is
// in the ordered log already.
var audited = map[string]string{
	pb.KV_Compact_FullMethodName:             "kv.compact",
	pb.Maintenance_Snapshot_FullMethodName:   "kv.snapshot",
	pb.Maintenance_MoveLeader_FullMethodName: "site.move_leader",
	pb.Maintenance_Downgrade_FullMethodName:  "site.downgrade",
	pb.Cluster_MemberAdd_FullMethodName:      "member.add",
	pb.Cluster_MemberRemove_FullMethodName:   "member.remove",
	pb.Cluster_MemberUpdate_FullMethodName:   "member.update",
	pb.Cluster_MemberPromote_FullMethodName:  "member.promote",
}

const authService = "/etcdserverpb.Auth/"

func actionOf(method string) string {
	if verb, ok := strings.CutPrefix(method, authService); ok && method != pb.Auth_AuthStatus_FullMethodName {
		return "auth." + strings.ToLower(strings.TrimPrefix(verb, "Auth"))
	}
	return audited[method]
}

// record writes down what became of a call. An error is of the record: then the caller is told of that, whatever the call did.
func (s *Server) record(ctx context.Context, c *access.Credentials, method string, req any, err error) error {
	action := actionOf(method)
	if action == "" || s.cfg.Audit == nil {
		return err
	}
	r := audit.Record{Action: action, Outcome: audit.Allowed}
	switch status.Code(err) {
	case codes.OK:
	case codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		r.Outcome, r.Reason = audit.Denied, status.Convert(err).Message()
	default:
		r.Outcome, r.Reason = audit.Failed, status.Convert(err).Message()
	}
	_, r.Source = linkOf(ctx)
	if c != nobody {
		r.Principal = c.Who()
	}
	switch q := req.(type) {
	case *pb.CompactionRequest:
		r.Revision = uint64(max(q.Revision, 0))
	case *pb.MoveLeaderRequest:
		if m, ok := s.member(q.TargetID); ok {
			r.Resource = "box:" + m.ID.String()
		}
	}
	if e := s.cfg.Audit(context.WithoutCancel(ctx), r); e != nil && err == nil {
		s.cfg.Logger.Error("an action was not recorded", "action", action, "err", e)
		return status.Error(codes.Unavailable, "holdfast: it took effect and could not be recorded: "+e.Error())
	}
	return err
}
