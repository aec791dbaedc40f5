package etcdapi

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// errMembership is the answer to changes of the member set.
var errMembership = status.Error(codes.Unimplemented, "holdfast: the boxes of a site are changed with the site's own tools, not through the etcd API")

// MemberList implements etcdserverpb.ClusterServer.
func (s *Server) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if r.Linearizable {
		if err := s.fresh(ctx); err != nil {
			return nil, err
		}
	}
	out := &pb.MemberListResponse{Header: s.header(s.hub.visible())}
	scheme := "http://"
	if s.cfg.TLS {
		scheme = "https://"
	}
	for _, m := range s.cfg.Members() {
		p := &pb.Member{ID: id64(m.ID), Name: m.Name, PeerURLs: []string{"https://" + m.Peer}}
		if m.Client != "" {
			p.ClientURLs = []string{scheme + m.Client}
		}
		out.Members = append(out.Members, p)
	}
	return out, nil
}

// MemberAdd implements etcdserverpb.ClusterServer.
func (s *Server) MemberAdd(context.Context, *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	return nil, errMembership
}

// MemberRemove implements etcdserverpb.ClusterServer.
func (s *Server) MemberRemove(context.Context, *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return nil, errMembership
}

// MemberUpdate implements etcdserverpb.ClusterServer.
func (s *Server) MemberUpdate(context.Context, *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	return nil, errMembership
}

// MemberPromote implements etcdserverpb.ClusterServer: there are no learners.
func (s *Server) MemberPromote(_ context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	for _, m := range s.cfg.Members() {
		if id64(m.ID) == r.ID {
			return nil, rpctypes.ErrGRPCMemberNotLearner
		}
	}
	return nil, rpctypes.ErrGRPCMemberNotFound
}

func (s *Server) member(id uint64) (coord.Member, bool) {
	for _, m := range s.cfg.Members() {
		if id64(m.ID) == id {
			return m, true
		}
	}
	return coord.Member{}, false
}

// Who may do what is the site's to say (access.go), so to etcd's own administration of users and roles there are none.

var errUsers = status.Error(codes.Unimplemented, "holdfast: who may do what is the site's to say, not the etcd API's")

// AuthStatus implements etcdserverpb.AuthServer: enabled while the site asks programs for a token.
func (s *Server) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return &pb.AuthStatusResponse{Header: s.header(s.hub.visible()), AuthRevision: 1, Enabled: s.closed()}, nil
}

// closed says that programs must say who they are.
func (s *Server) closed() bool { return s.cfg.Access != nil && !s.cfg.Access.Rules().ClientOpen() }

// tokenUser is the name with which a capability token is given as a password.
const tokenUser = "token"

// AuthEnable implements etcdserverpb.AuthServer.
func (s *Server) AuthEnable(context.Context, *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	return nil, rpctypes.ErrGRPCRootUserNotExist
}

// AuthDisable implements etcdserverpb.AuthServer.
func (s *Server) AuthDisable(context.Context, *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	return &pb.AuthDisableResponse{Header: s.header(s.hub.visible())}, nil
}

// Authenticate implements etcdserverpb.AuthServer: the user is "token" and the password a capability token, which is given back; or they are
// an operator's, and the answer is a token of the operator's for the client API. Any box takes it; nothing is kept.
func (s *Server) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	if !s.closed() {
		return nil, rpctypes.ErrGRPCAuthNotEnabled
	}
	token := r.Password
	l, source := linkOf(ctx)
	if r.Name != tokenUser {
		if s.cfg.Password == nil {
			return nil, rpctypes.ErrGRPCAuthFailed
		}
		var err error
		token, err = s.cfg.Password(ctx, r.Name, r.Password, source)
		switch {
		case errors.Is(err, ErrSlow):
			return nil, rpctypes.ErrGRPCRequestTooManyRequests
		case errors.Is(err, ErrWrong):
			return nil, rpctypes.ErrGRPCAuthFailed
		case err != nil:
			return nil, status.Error(codes.Unavailable, err.Error())
		}
	} else {
		if !s.patient(source) {
			return nil, rpctypes.ErrGRPCRequestTooManyRequests
		}
		// One that is bound to a key is shown again on each connection; that is when its holder proves it.
		if _, err := s.grant(ctx, l, token); err != nil && !errors.Is(err, access.ErrHolder) {
			s.denied(ctx, audit.Record{Action: "auth.token", Resource: access.ResourceOfToken(token), Reason: err.Error(), Source: source})
			return nil, rpctypes.ErrGRPCAuthFailed
		}
	}
	return &pb.AuthenticateResponse{Header: s.header(s.hub.visible()), Token: token}, nil
}

// UserAdd implements etcdserverpb.AuthServer.
func (s *Server) UserAdd(_ context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	if r.Name == "" {
		return nil, rpctypes.ErrGRPCUserEmpty
	}
	return nil, errUsers
}

// UserGet implements etcdserverpb.AuthServer.
func (s *Server) UserGet(context.Context, *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	return nil, rpctypes.ErrGRPCUserNotFound
}

// UserList implements etcdserverpb.AuthServer.
func (s *Server) UserList(context.Context, *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	return &pb.AuthUserListResponse{Header: s.header(s.hub.visible())}, nil
}

// UserDelete implements etcdserverpb.AuthServer.
func (s *Server) UserDelete(context.Context, *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	return nil, rpctypes.ErrGRPCUserNotFound
}

// UserChangePassword implements etcdserverpb.AuthServer.
func (s *Server) UserChangePassword(context.Context, *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	return nil, rpctypes.ErrGRPCUserNotFound
}

// UserGrantRole implements etcdserverpb.AuthServer.
func (s *Server) UserGrantRole(context.Context, *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	return nil, rpctypes.ErrGRPCUserNotFound
}

// UserRevokeRole implements etcdserverpb.AuthServer.
func (s *Server) UserRevokeRole(context.Context, *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	return nil, rpctypes.ErrGRPCUserNotFound
}

// RoleAdd implements etcdserverpb.AuthServer.
func (s *Server) RoleAdd(_ context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	if r.Name == "" {
		return nil, rpctypes.ErrGRPCRoleEmpty
	}
	return nil, errUsers
}

// RoleGet implements etcdserverpb.AuthServer.
func (s *Server) RoleGet(context.Context, *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	return nil, rpctypes.ErrGRPCRoleNotFound
}

// RoleList implements etcdserverpb.AuthServer.
func (s *Server) RoleList(context.Context, *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	return &pb.AuthRoleListResponse{Header: s.header(s.hub.visible())}, nil
}

// RoleDelete implements etcdserverpb.AuthServer.
func (s *Server) RoleDelete(context.Context, *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	return nil, rpctypes.ErrGRPCRoleNotFound
}

// RoleGrantPermission implements etcdserverpb.AuthServer.
func (s *Server) RoleGrantPermission(context.Context, *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	return nil, rpctypes.ErrGRPCRoleNotFound
}

// RoleRevokePermission implements etcdserverpb.AuthServer.
func (s *Server) RoleRevokePermission(context.Context, *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	return nil, rpctypes.ErrGRPCRoleNotFound
}
