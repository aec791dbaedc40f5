package main

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

const (
	redialMax      = 300 * time.Millisecond // a box that is back must not wait for its clients
	answerBytesMax = 64 << 20
)

// conns numbers the connections of all clients, so that what is promised for one connection is judged for one.
var connSeq atomic.Int64

// conn is one client connection to one endpoint, without retries: what is sent is sent once.
type conn struct {
	*grpc.ClientConn
	number atomic.Int64
}

func dial(endpoint string) (*conn, error) {
	c := &conn{}
	g, err := grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithStatsHandler(c),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerBytesMax)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redialMax / 3, Multiplier: 1.5, MaxDelay: redialMax},
			MinConnectTimeout: time.Second,
		}))
	c.ClientConn = g
	return c, err
}

// HandleConn counts connections as grpc makes them.
func (c *conn) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnBegin); ok {
		c.number.Store(connSeq.Add(1))
	}
}

// TagConn is part of stats.Handler.
func (c *conn) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC is part of stats.Handler.
func (c *conn) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC is part of stats.Handler.
func (c *conn) HandleRPC(context.Context, stats.RPCStats) {}

// do sends one request and waits for its answer.
func (c *conn) do(ctx context.Context, q Req) (Resp, error) {
	kv, lease := pb.NewKVClient(c.ClientConn), pb.NewLeaseClient(c.ClientConn)
	switch q.Kind {
	case Put:
		r, err := kv.Put(ctx, putPB(q))
		if err != nil {
			return Resp{}, err
		}
		return headed(putResp(r), r.Header), nil
	case Range:
		r, err := kv.Range(ctx, rangePB(q))
		if err != nil {
			return Resp{}, err
		}
		return headed(rangeResp(r), r.Header), nil
	case Delete:
		r, err := kv.DeleteRange(ctx, deletePB(q))
		if err != nil {
			return Resp{}, err
		}
		return headed(deleteResp(r), r.Header), nil
	case Txn:
		r, err := kv.Txn(ctx, txnPB(q))
		if err != nil {
			return Resp{}, err
		}
		return headed(txnResp(r), r.Header), nil
	case Compact:
		r, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: q.Rev, Physical: q.Physical})
		if err != nil {
			return Resp{}, err
		}
		return headed(Resp{}, r.Header), nil
	case Grant:
		r, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: q.Lease, TTL: q.TTL})
		if err != nil {
			return Resp{}, err
		}
		return headed(Resp{Lease: r.ID, TTL: r.TTL}, r.Header), nil
	case Revoke:
		r, err := lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: q.Lease})
		if err != nil {
			return Resp{}, err
		}
		return headed(Resp{}, r.Header), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := lease.LeaseKeepAlive(ctx)
	if err != nil {
		return Resp{}, err
	}
	if err := s.Send(&pb.LeaseKeepAliveRequest{ID: q.Lease}); err != nil {
		// The reason stands in the answer, not in the error of Send.
		_, err = s.Recv()
		return Resp{}, err
	}
	r, err := s.Recv()
	if err != nil {
		return Resp{}, err
	}
	return headed(Resp{Lease: r.ID, TTL: r.TTL}, r.Header), nil
}

// outcome says what an error leaves open. Only errors by which a server says that it did nothing count as that.
func outcome(err error) Outcome {
	if err == nil {
		return OK
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange:
		return Refused
	case codes.ResourceExhausted:
		if strings.HasPrefix(s.Message(), "etcdserver: ") {
			return Refused
		}
	case codes.Unavailable:
		if strings.Contains(s.Message(), "error while dialing") || strings.Contains(s.Message(), "Error while dialing") {
			return Unsent
		}
	}
	return Unknown
}

func headed(r Resp, h *pb.ResponseHeader) Resp {
	r.Rev = h.GetRevision()
	return r
}

func putPB(q Req) *pb.PutRequest {
	return &pb.PutRequest{
		Key: []byte(q.Key), Value: []byte(q.Value), Lease: q.Lease, PrevKv: q.PrevKV,
		IgnoreValue: q.IgnoreValue, IgnoreLease: q.IgnoreLease,
	}
}

func rangePB(q Req) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: []byte(q.Key), RangeEnd: []byte(q.End), Limit: q.Limit, Revision: q.Rev, Serializable: q.Serializable,
		CountOnly: q.CountOnly, KeysOnly: q.KeysOnly,
	}
}

func deletePB(q Req) *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: []byte(q.Key), RangeEnd: []byte(q.End), PrevKv: q.PrevKV}
}

var cmpOps = map[string]pb.Compare_CompareResult{
	"=": pb.Compare_EQUAL, "!=": pb.Compare_NOT_EQUAL, "<": pb.Compare_LESS, ">": pb.Compare_GREATER,
}

func txnPB(q Req) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for _, c := range q.If {
		p := &pb.Compare{Key: []byte(c.Key), RangeEnd: []byte(c.End), Result: cmpOps[c.Op]}
		switch c.Target {
		case "value":
			p.Target, p.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: []byte(c.Value)}
		case "version":
			p.Target, p.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: c.N}
		case "create":
			p.Target, p.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: c.N}
		case "mod":
			p.Target, p.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: c.N}
		case "lease":
			p.Target, p.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: c.N}
		}
		t.Compare = append(t.Compare, p)
	}
	t.Success, t.Failure = opsPB(q.Then), opsPB(q.Else)
	return t
}

func opsPB(qs []Req) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for _, q := range qs {
		o := &pb.RequestOp{}
		switch q.Kind {
		case Put:
			o.Request = &pb.RequestOp_RequestPut{RequestPut: putPB(q)}
		case Range:
			o.Request = &pb.RequestOp_RequestRange{RequestRange: rangePB(q)}
		case Delete:
			o.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: deletePB(q)}
		case Txn:
			o.Request = &pb.RequestOp_RequestTxn{RequestTxn: txnPB(q)}
		}
		ops = append(ops, o)
	}
	return ops
}

func kvOf(p *mvccpb.KeyValue) KV {
	return KV{
		Key: string(p.Key), Value: string(p.Value), Create: p.CreateRevision, Mod: p.ModRevision, Version: p.Version,
		Lease: p.Lease,
	}
}

func kvsOf(ps []*mvccpb.KeyValue) []KV {
	var kvs []KV
	for _, p := range ps {
		kvs = append(kvs, kvOf(p))
	}
	return kvs
}

func putResp(r *pb.PutResponse) Resp {
	if r.PrevKv == nil {
		return Resp{}
	}
	return Resp{Prev: []KV{kvOf(r.PrevKv)}}
}

func rangeResp(r *pb.RangeResponse) Resp {
	return Resp{KVs: kvsOf(r.Kvs), Count: r.Count, More: r.More}
}

func deleteResp(r *pb.DeleteRangeResponse) Resp {
	return Resp{Deleted: r.Deleted, Prev: kvsOf(r.PrevKvs)}
}

func txnResp(r *pb.TxnResponse) Resp {
	out := Resp{Then: r.Succeeded}
	for _, s := range r.Responses {
		var sub Resp
		switch v := s.Response.(type) {
		case *pb.ResponseOp_ResponsePut:
			sub = putResp(v.ResponsePut)
		case *pb.ResponseOp_ResponseRange:
			sub = rangeResp(v.ResponseRange)
		case *pb.ResponseOp_ResponseDeleteRange:
			sub = deleteResp(v.ResponseDeleteRange)
		case *pb.ResponseOp_ResponseTxn:
			sub = txnResp(v.ResponseTxn)
		}
		out.Subs = append(out.Subs, sub)
	}
	return out
}
