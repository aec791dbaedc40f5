package etcdapi

import (
	"context"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// small maps an enum to a byte; what does not fit becomes a number that nothing has.
func small[T ~int32](v T) uint8 {
	if v < 0 || v > math.MaxUint8 {
		return math.MaxUint8
	}
	return uint8(v)
}

// end maps etcd's range end; both spell all keys from one on as a zero byte.
func rangeOp(r *pb.RangeRequest) *kv.Range {
	return &kv.Range{
		Key: r.Key, End: r.RangeEnd, Limit: r.Limit, Revision: r.Revision, Order: kv.SortOrder(small(r.SortOrder)), Target: kv.SortTarget(small(r.SortTarget)),
		KeysOnly: r.KeysOnly, CountOnly: r.CountOnly,
		MinMod: r.MinModRevision, MaxMod: r.MaxModRevision, MinCreate: r.MinCreateRevision, MaxCreate: r.MaxCreateRevision,
	}
}

func putOp(r *pb.PutRequest) *kv.Put {
	return &kv.Put{Key: r.Key, Value: r.Value, Lease: r.Lease, PrevKV: r.PrevKv, IgnoreValue: r.IgnoreValue, IgnoreLease: r.IgnoreLease}
}

func deleteOp(r *pb.DeleteRangeRequest) *kv.Delete {
	return &kv.Delete{Key: r.Key, End: r.RangeEnd, PrevKV: r.PrevKv}
}

func txnOp(r *pb.TxnRequest) *kv.Txn {
	t := &kv.Txn{Compares: make([]kv.Compare, len(r.Compare)), Then: ops(r.Success), Else: ops(r.Failure)}
	for i, c := range r.Compare {
		t.Compares[i] = kv.Compare{Key: c.GetKey(), End: c.GetRangeEnd(), Target: kv.Target(small(c.GetTarget())), Relation: kv.Relation(small(c.GetResult()))}
		o := &t.Compares[i]
		switch o.Target { // etcd reads the field that the target names, and zero if another one is set
		case kv.TargetVersion:
			o.Number = c.GetVersion()
		case kv.TargetCreate:
			o.Number = c.GetCreateRevision()
		case kv.TargetMod:
			o.Number = c.GetModRevision()
		case kv.TargetValue:
			o.Value = c.GetValue()
		case kv.TargetLease:
			o.Number = c.GetLease()
		}
	}
	return t
}

func ops(list []*pb.RequestOp) []kv.Op {
	out := make([]kv.Op, len(list))
	for i, o := range list {
		switch r := o.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			out[i].Range = rangeOp(orEmpty(r.RequestRange))
		case *pb.RequestOp_RequestPut:
			out[i].Put = putOp(orEmpty(r.RequestPut))
		case *pb.RequestOp_RequestDeleteRange:
			out[i].Delete = deleteOp(orEmpty(r.RequestDeleteRange))
		case *pb.RequestOp_RequestTxn:
			out[i].Txn = txnOp(orEmpty(r.RequestTxn))
		}
	}
	return out
}

func orEmpty[T any](v *T) *T {
	if v == nil {
		return new(T)
	}
	return v
}

func keyValue(k *kv.KeyValue) *mvccpb.KeyValue {
	if k == nil {
		return nil
	}
	return &mvccpb.KeyValue{
		Key: k.Key, Value: k.Value, CreateRevision: int64(k.Create), ModRevision: int64(k.Mod), Version: int64(k.Version), Lease: k.Lease,
	}
}

func keyValues(list []kv.KeyValue) []*mvccpb.KeyValue {
	out := make([]*mvccpb.KeyValue, len(list))
	for i := range list {
		out[i] = keyValue(&list[i])
	}
	return out
}

func rangeAnswer(h *pb.ResponseHeader, a *kv.Answer) *pb.RangeResponse {
	return &pb.RangeResponse{Header: h, Kvs: keyValues(a.KVs), Count: a.Count, More: a.More}
}

func txnAnswer(h *pb.ResponseHeader, t *kv.Txn, a *kv.Answer) *pb.TxnResponse {
	out := &pb.TxnResponse{Header: h, Succeeded: a.Succeeded, Responses: make([]*pb.ResponseOp, len(a.Answers))}
	list := t.Then
	if !a.Succeeded {
		list = t.Else
	}
	for i := range a.Answers {
		o, x := &list[i], &a.Answers[i]
		in := &pb.ResponseHeader{Revision: int64(x.Revision)}
		r := new(pb.ResponseOp)
		switch {
		case o.Range != nil:
			r.Response = &pb.ResponseOp_ResponseRange{ResponseRange: rangeAnswer(in, x)}
		case o.Put != nil:
			r.Response = &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: in, PrevKv: keyValue(x.Prev)}}
		case o.Delete != nil:
			r.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Header: in, Deleted: x.Deleted, PrevKvs: keyValues(x.Prevs)}}
		case o.Txn != nil:
			r.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: txnAnswer(&pb.ResponseHeader{}, o.Txn, x)}
		}
		out.Responses[i] = r
	}
	return out
}

// write has an operation checked, ordered and executed.
func (s *Server) write(ctx context.Context, o *kv.Op) (*kv.Answer, error) {
	if err := o.Check(); err != nil {
		return nil, kvError(err)
	}
	var key []byte
	if o.Put != nil {
		key = o.Put.Key
	}
	r, err := s.order(ctx, coord.KindKV, key, o.Append(nil, o.Put != nil))
	if err != nil {
		return nil, err
	}
	return r.KV, nil
}

// Range implements etcdserverpb.KVServer.
func (s *Server) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	o := kv.Op{Range: rangeOp(r)}
	if err := o.Check(); err != nil {
		return nil, kvError(err)
	}
	if !r.Serializable {
		if err := s.fresh(ctx); err != nil {
			return nil, err
		}
	}
	a := s.cfg.Site.State().Range(o.Range)
	if a.Err != nil {
		return nil, kvError(a.Err)
	}
	if err := s.settled(ctx); err != nil {
		return nil, err
	}
	return rangeAnswer(s.header(a.Revision), &a), nil
}

// streamBytes is about how much of an answer RangeStream sends at a time.
const streamBytes = 1 << 20

// RangeStream implements etcdserverpb.KVServer: a Range whose answer comes in parts, all of one revision.
func (s *Server) RangeStream(r *pb.RangeRequest, out grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	if err := s.permit(out.Context(), callerOf(out.Context()), r); err != nil {
		return err
	}
	all, err := s.Range(out.Context(), r)
	if err != nil {
		return err
	}
	for first := true; first || len(all.Kvs) > 0; first = false {
		n, size := 0, 0
		for n < len(all.Kvs) && size < streamBytes {
			size += len(all.Kvs[n].Key) + len(all.Kvs[n].Value)
			n++
		}
		part := &pb.RangeResponse{Header: all.Header, Kvs: all.Kvs[:n]}
		if all.Kvs = all.Kvs[n:]; len(all.Kvs) == 0 {
			part.Count, part.More = all.Count, all.More
		}
		if err := out.Send(&pb.RangeStreamResponse{RangeResponse: part}); err != nil {
			return err
		}
	}
	return nil
}

// Put implements etcdserverpb.KVServer.
func (s *Server) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	a, err := s.write(ctx, &kv.Op{Put: putOp(r)})
	if err != nil {
		return nil, err
	}
	return &pb.PutResponse{Header: s.header(a.Revision), PrevKv: keyValue(a.Prev)}, nil
}

// DeleteRange implements etcdserverpb.KVServer.
func (s *Server) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	a, err := s.write(ctx, &kv.Op{Delete: deleteOp(r)})
	if err != nil {
		return nil, err
	}
	return &pb.DeleteRangeResponse{Header: s.header(a.Revision), Deleted: a.Deleted, PrevKvs: keyValues(a.Prevs)}, nil
}

// Txn implements etcdserverpb.KVServer. One that can change nothing is not ordered.
func (s *Server) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	o := kv.Op{Txn: txnOp(r)}
	if !o.Txn.ReadOnly() {
		a, err := s.write(ctx, &o)
		if err != nil {
			return nil, err
		}
		return txnAnswer(s.header(a.Revision), o.Txn, a), nil
	}
	if err := o.Check(); err != nil {
		return nil, kvError(err)
	}
	if !serializable(r) {
		if err := s.fresh(ctx); err != nil {
			return nil, err
		}
	}
	a := s.cfg.Site.State().Read(o.Txn)
	if a.Err != nil {
		return nil, kvError(a.Err)
	}
	if err := s.settled(ctx); err != nil {
		return nil, err
	}
	return txnAnswer(s.header(a.Revision), o.Txn, &a), nil
}

// serializable says whether all reads of a transaction may be stale (etcd's rule: those of nested ones are not asked).
func serializable(r *pb.TxnRequest) bool {
	for _, list := range [2][]*pb.RequestOp{r.Success, r.Failure} {
		for _, o := range list {
			if x := o.GetRequestRange(); x == nil || !x.Serializable {
				return false
			}
		}
	}
	return true
}

// Compact implements etcdserverpb.KVServer. Physical waits until the history is taken away on this box.
func (s *Server) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	if r.Revision < 0 {
		return nil, rpctypes.ErrGRPCCompacted
	}
	res, err := s.order(ctx, coord.KindCompact, nil, kv.AppendNumber(nil, uint64(r.Revision)))
	if err != nil {
		return nil, err
	}
	for r.Physical && s.cfg.Site.State().Cleaning() { // each block takes a part away
		if _, err := s.order(ctx, coord.KindBarrier, nil, nil); err != nil {
			return nil, err
		}
	}
	return &pb.CompactionResponse{Header: s.header(res.KV.Revision)}, nil
}
