package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// request is one call, made for either side: revisions and leases are that side's own.
type request struct {
	kind string
	call func(ctx context.Context, s *side) (proto.Message, error)
}

// generator makes requests from a seed. What it knows of the store is only roughly where the revision is.
type generator struct {
	r      *rand.Rand
	writes int64 // about how many revisions there are
	given  int64 // leases with an id of ours
	chosen int   // leases with ids of theirs
}

var keys = []string{"a", "aa", "aaa", "ab", "a\x00", "a/b", "a/b/c", "a0", "b", "ba", "bb", "c", "c\xff", "c\xff\xff", "d", "e/1", "e/2", "e/3", "\x00", "\xff"}

func (g *generator) key() []byte {
	if g.r.IntN(150) == 0 {
		return nil
	}
	return []byte(keys[g.r.IntN(len(keys))])
}

// span is a key and a range end: none, a prefix', everything from the key on, some other key, nothing.
func (g *generator) span() (key, end []byte) {
	key = g.key()
	switch g.r.IntN(6) {
	case 0, 1:
		return key, nil
	case 2:
		if len(key) > 0 && key[len(key)-1] < 0xff {
			end = append(append([]byte{}, key[:len(key)-1]...), key[len(key)-1]+1)
		}
		return key, end
	case 3:
		return key, []byte{0}
	case 4:
		return []byte{0}, []byte{0}
	}
	return key, g.key()
}

// rev is a revision from the store's point of view: mostly of the past, relative to the side's first.
func (g *generator) rev() func(s *side) int64 {
	if g.r.IntN(3) > 0 {
		return func(*side) int64 { return 0 }
	}
	if g.r.IntN(40) == 0 {
		n := g.r.Int64N(3) - 2
		return func(*side) int64 { return n }
	}
	n := g.r.Int64N(g.writes + 4)
	return func(s *side) int64 { return s.base + n }
}

func (g *generator) lease() func(s *side) int64 {
	switch g.r.IntN(8) {
	case 0, 1:
		id := g.r.Int64N(g.given + 3)
		return func(s *side) int64 {
			if id == 0 {
				return 0
			}
			return s.base<<20 + id
		}
	case 2:
		name := fmt.Sprint("chosen-", g.r.IntN(g.chosen+1))
		return func(s *side) int64 { return s.leases[name] }
	}
	return func(*side) int64 { return 0 }
}

func (g *generator) put() func(s *side) *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), PrevKv: g.r.IntN(3) == 0, IgnoreValue: g.r.IntN(12) == 0, IgnoreLease: g.r.IntN(12) == 0}
	if !r.IgnoreValue || g.r.IntN(10) == 0 {
		r.Value = fmt.Appendf(nil, "%d", g.r.IntN(50))
		if g.r.IntN(10) == 0 {
			r.Value = nil
		}
	}
	lease := g.lease()
	if r.IgnoreLease && g.r.IntN(10) > 0 {
		lease = func(*side) int64 { return 0 }
	}
	return func(s *side) *pb.PutRequest {
		c := proto.Clone(r).(*pb.PutRequest)
		c.Lease = lease(s)
		return c
	}
}

func (g *generator) rng() func(s *side) *pb.RangeRequest {
	r := &pb.RangeRequest{Serializable: g.r.IntN(4) == 0, KeysOnly: g.r.IntN(8) == 0, CountOnly: g.r.IntN(10) == 0}
	r.Key, r.RangeEnd = g.span()
	if g.r.IntN(3) == 0 {
		r.Limit = g.r.Int64N(6)
	}
	if g.r.IntN(3) == 0 {
		r.SortOrder = pb.RangeRequest_SortOrder(g.r.IntN(3))
		r.SortTarget = []pb.RangeRequest_SortTarget{pb.RangeRequest_KEY, pb.RangeRequest_MOD, pb.RangeRequest_CREATE, pb.RangeRequest_VERSION, pb.RangeRequest_VALUE}[g.r.IntN(5)]
	}
	if g.r.IntN(100) == 0 {
		r.SortOrder = 7
	}
	bounds := [4]func(s *side) int64{}
	for i := range bounds {
		bounds[i] = func(*side) int64 { return 0 }
		if g.r.IntN(10) == 0 {
			n := g.r.Int64N(g.writes + 2)
			bounds[i] = func(s *side) int64 { return s.base + n }
		}
	}
	rev := g.rev()
	return func(s *side) *pb.RangeRequest {
		c := proto.Clone(r).(*pb.RangeRequest)
		c.Revision, c.MinModRevision, c.MaxModRevision, c.MinCreateRevision, c.MaxCreateRevision = rev(s), bounds[0](s), bounds[1](s), bounds[2](s), bounds[3](s)
		return c
	}
}

func (g *generator) del() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.r.IntN(3) == 0}
	r.Key, r.RangeEnd = g.span()
	return r
}

func (g *generator) compare() func(s *side) *pb.Compare {
	r := &pb.Compare{Result: pb.Compare_CompareResult(g.r.IntN(4)), Target: pb.Compare_CompareTarget(g.r.IntN(5)), Key: g.key()}
	if g.r.IntN(5) == 0 {
		r.Key, r.RangeEnd = g.span()
	}
	if r.Target == pb.Compare_LEASE && r.Result != pb.Compare_EQUAL {
		r.Result = pb.Compare_NOT_EQUAL // ids that the sides choose have no order
	}
	n, rev, lease := g.r.Int64N(4), g.rev(), g.lease()
	return func(s *side) *pb.Compare {
		c := proto.Clone(r).(*pb.Compare)
		switch c.Target {
		case pb.Compare_VERSION:
			c.TargetUnion = &pb.Compare_Version{Version: n}
		case pb.Compare_CREATE:
			c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: rev(s)}
		case pb.Compare_MOD:
			c.TargetUnion = &pb.Compare_ModRevision{ModRevision: rev(s)}
		case pb.Compare_VALUE:
			c.TargetUnion = &pb.Compare_Value{Value: fmt.Appendf(nil, "%d", n)}
		case pb.Compare_LEASE:
			c.TargetUnion = &pb.Compare_Lease{Lease: lease(s)}
		}
		return c
	}
}

func (g *generator) txn(depth int) func(s *side) *pb.TxnRequest {
	var compares []func(s *side) *pb.Compare
	for range g.r.IntN(3) {
		compares = append(compares, g.compare())
	}
	branch := func() (list []func(s *side) *pb.RequestOp) {
		n := g.r.IntN(4)
		if g.r.IntN(120) == 0 {
			n = 129
		}
		for range n {
			list = append(list, g.op(depth))
		}
		return list
	}
	then, otherwise := branch(), branch()
	return func(s *side) *pb.TxnRequest {
		r := &pb.TxnRequest{}
		for _, c := range compares {
			r.Compare = append(r.Compare, c(s))
		}
		for _, o := range then {
			r.Success = append(r.Success, o(s))
		}
		for _, o := range otherwise {
			r.Failure = append(r.Failure, o(s))
		}
		return r
	}
}

func (g *generator) op(depth int) func(s *side) *pb.RequestOp {
	switch n := g.r.IntN(9); {
	case n < 3:
		r := g.rng()
		return func(s *side) *pb.RequestOp {
			return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r(s)}}
		}
	case n < 6:
		r := g.put()
		return func(s *side) *pb.RequestOp { return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r(s)}} }
	case n < 8 || depth > 2:
		r := g.del()
		if len(r.RangeEnd) == 1 && r.RangeEnd[0] == 0 {
			r.RangeEnd = nil // etcd does not see that such a span and a put overlap, Holdfast does and refuses (docs/etcd.md)
		}
		return func(*side) *pb.RequestOp {
			return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: proto.Clone(r).(*pb.DeleteRangeRequest)}}
		}
	}
	if g.r.IntN(20) == 0 {
		return func(*side) *pb.RequestOp { return &pb.RequestOp{} }
	}
	r := g.txn(depth + 1)
	return func(s *side) *pb.RequestOp { return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r(s)}} }
}

// next is the next request.
func (g *generator) next() request {
	switch n := g.r.IntN(100); {
	case n < 30:
		r := g.put()
		g.writes++
		return request{"put", func(ctx context.Context, s *side) (proto.Message, error) { return s.kv.Put(ctx, r(s)) }}
	case n < 55:
		r := g.rng()
		return request{"range", func(ctx context.Context, s *side) (proto.Message, error) { return s.kv.Range(ctx, r(s)) }}
	case n < 63:
		r := g.del()
		return request{"delete", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.kv.DeleteRange(ctx, proto.Clone(r).(*pb.DeleteRangeRequest))
		}}
	case n < 80:
		r := g.txn(0)
		g.writes++
		return request{"txn", func(ctx context.Context, s *side) (proto.Message, error) { return s.kv.Txn(ctx, r(s)) }}
	case n < 82:
		rev, physical := g.rev(), g.r.IntN(2) == 0
		return request{"compact", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.kv.Compact(ctx, &pb.CompactionRequest{Revision: rev(s), Physical: physical})
		}}
	case n < 97:
		return g.leaseRequest()
	}
	return g.other()
}

func (g *generator) leaseRequest() request {
	switch g.r.IntN(9) {
	case 0, 1: // an id of ours
		g.given++
		id, ttl := 1+g.r.Int64N(g.given+1), []int64{600, 900, 3600, 0, -5, math.MaxInt64, 9_000_000_000, 9_000_000_001}[g.r.IntN(8)]
		if ttl < 600 {
			ttl = 1000
		}
		return request{"grant", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: s.base<<20 + id, TTL: ttl})
		}}
	case 2:
		name := fmt.Sprint("chosen-", g.chosen)
		g.chosen++
		return request{"grant", func(ctx context.Context, s *side) (proto.Message, error) {
			r, err := s.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 700})
			if err == nil {
				s.leases[name], s.names[r.ID] = r.ID, name
			}
			return r, err
		}}
	case 3, 4:
		id := g.lease()
		return request{"revoke", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id(s)})
		}}
	case 5, 6:
		id, withKeys := g.lease(), g.r.IntN(2) == 0
		return request{"ttl", func(ctx context.Context, s *side) (proto.Message, error) {
			r, err := s.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id(s), Keys: withKeys})
			if err == nil && r.TTL > 0 {
				r.TTL = (r.TTL + 30) / 60 * 60 // what is left goes on
			}
			return r, err
		}}
	case 7:
		id := g.lease()
		return request{"keepalive", func(ctx context.Context, s *side) (proto.Message, error) {
			c, err := s.lease.LeaseKeepAlive(ctx)
			if err != nil {
				return nil, err
			}
			if err := c.Send(&pb.LeaseKeepAliveRequest{ID: id(s)}); err != nil {
				return nil, err
			}
			r, err := c.Recv()
			_ = c.CloseSend()
			return r, err
		}}
	}
	return request{"leases", func(ctx context.Context, s *side) (proto.Message, error) {
		return s.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	}}
}

func (g *generator) other() request {
	type call = func(ctx context.Context, s *side) (proto.Message, error)
	list := []request{
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "root", Password: "x"})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.AuthStatus(ctx, &pb.AuthStatusRequest{})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.AuthDisable(ctx, &pb.AuthDisableRequest{})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.UserList(ctx, &pb.AuthUserListRequest{})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.RoleList(ctx, &pb.AuthRoleListRequest{})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.UserGet(ctx, &pb.AuthUserGetRequest{Name: "u"})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: "r"})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: "root"})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: "u"})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.UserAdd(ctx, &pb.AuthUserAddRequest{})
		}},
		{"auth", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.auth.RoleDelete(ctx, &pb.AuthRoleDeleteRequest{Role: "r"})
		}},
		{"alarm", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.maint.Alarm(ctx, &pb.AlarmRequest{})
		}},
		{"defragment", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.maint.Defragment(ctx, &pb.DefragmentRequest{})
		}},
		{"hashkv", func(ctx context.Context, s *side) (proto.Message, error) {
			r, err := s.maint.HashKV(ctx, &pb.HashKVRequest{})
			if r != nil {
				r.Hash = 0 // of other bytes
			}
			return r, err
		}},
		{"move-leader", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.maint.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 5})
		}},
		{"promote", func(ctx context.Context, s *side) (proto.Message, error) {
			return s.clust.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: 5})
		}},
	}
	return list[g.r.IntN(len(list))]
}
