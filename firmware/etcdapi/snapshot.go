package etcdapi

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/store"
)

const (
	// snapshotPiece is what one answer of a Snapshot carries (etcd's).
	snapshotPiece = 32 << 10
	// snapshotPage is how many keys are read at a time: the box orders in between.
	snapshotPage = 500
	// snapshotDir begins the name of the directory in which one is made.
	snapshotDir = "snapshot-"
	// snapshotsMax is how many are made at a time: each reads all keys and fills a file.
	snapshotsMax = 2
)

// tidySnapshots removes what a crash left.
func (s *Server) tidySnapshots() {
	left, _ := filepath.Glob(filepath.Join(s.cfg.TempDir, snapshotDir+"*")) // the pattern is good
	for _, d := range left {
		if err := os.RemoveAll(d); err != nil {
			s.cfg.Logger.Warn("an unfinished snapshot could not be removed", "err", err)
		}
	}
}

// Snapshot implements etcdserverpb.MaintenanceServer: a database file of etcd 3.6 with the keys and leases of the newest revision,
// as if compacted there, which etcdutl restores to an etcd cluster. (A Holdfast site is not restored from it: a box that lost its
// disk fetches the state from the others.)
func (s *Server) Snapshot(_ *pb.SnapshotRequest, out grpc.ServerStreamingServer[pb.SnapshotResponse]) error {
	select {
	case s.snaps <- struct{}{}:
		defer func() { <-s.snaps }()
	default:
		return rpctypes.ErrGRPCRequestTooManyRequests
	}
	if err := s.fresh(out.Context()); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.cfg.TempDir, snapshotDir)
	if err != nil {
		return kvError(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "db")
	if err := s.export(out, name); err != nil {
		return kvError(err)
	}
	if err := s.settled(out.Context()); err != nil {
		return err
	}
	return send(name, out)
}

func send(name string, out grpc.ServerStreamingServer[pb.SnapshotResponse]) error {
	f, err := os.Open(name)
	if err != nil {
		return kvError(err)
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return kvError(err)
	}
	h := sha256.New()
	for left := i.Size(); left > 0; {
		b := make([]byte, min(left, snapshotPiece)) // Send keeps it
		if _, err := io.ReadFull(f, b); err != nil {
			return kvError(err)
		}
		left -= int64(len(b))
		_, _ = h.Write(b) // never fails
		if err := out.Send(&pb.SnapshotResponse{RemainingBytes: uint64(left), Blob: b, Version: Version}); err != nil {
			return err
		}
	}
	return out.Send(&pb.SnapshotResponse{Blob: h.Sum(nil), Version: Version})
}

// etcd's buckets and the keys of its meta bucket (server/storage/schema).
var etcdBuckets = []string{"key", "meta", "lease", "alarm", "auth", "authUsers", "authRoles", "cluster", "members", "members_removed"}

// etcdRevision is a revision as a key of etcd's bucket "key": main, an underscore, the place in the transaction.
func etcdRevision(main, sub uint64) []byte {
	b := append(binary.BigEndian.AppendUint64(make([]byte, 0, 17), main), '_')
	return binary.BigEndian.AppendUint64(b, sub)
}

func (s *Server) export(out grpc.ServerStreamingServer[pb.SnapshotResponse], name string) error {
	st := s.cfg.Site.State()
	rev := st.Revision()
	return store.Export(name, etcdBuckets, func(put func(bucket string, key, value []byte) error) error {
		n := uint64(0)
		from := []byte{0}
		for more := true; more; {
			if err := out.Context().Err(); err != nil {
				return err
			}
			a := st.Range(&kv.Range{Key: from, End: kv.OpenEnded, Limit: snapshotPage, Revision: int64(rev), Uncounted: true})
			if a.Err != nil {
				return a.Err
			}
			for i := range a.KVs {
				k := &a.KVs[i]
				v, err := proto.Marshal(keyValue(k))
				if err != nil {
					return err
				}
				if err := put("key", etcdRevision(k.Mod, n), v); err != nil {
					return err
				}
				n++
				from = append(append(from[:0:0], k.Key...), 0)
			}
			more = a.More
		}
		for _, id := range st.Leases() {
			granted, left, _, err := st.Lease(id, false)
			if errors.Is(err, kv.ErrLeaseNotFound) {
				continue // it ended meanwhile
			}
			if err != nil {
				return err
			}
			var v []byte // leasepb.Lease
			for f, x := range []int64{id, granted, left} {
				v = protowire.AppendVarint(protowire.AppendTag(v, protowire.Number(f+1), protowire.VarintType), uint64(x))
			}
			if err := put("lease", binary.BigEndian.AppendUint64(nil, uint64(id)), v); err != nil {
				return err
			}
		}
		index := binary.BigEndian.AppendUint64(nil, s.view.Load().Height)
		for _, m := range []struct {
			key   string
			value []byte
		}{
			{"consistent_index", index},
			{"term", binary.BigEndian.AppendUint64(nil, s.view.Load().Term+1)},
			{"scheduledCompactRev", etcdRevision(rev, 0)},
			{"finishedCompactRev", etcdRevision(rev, 0)},
			{"storageVersion", []byte(Version)},
		} {
			if err := put("meta", []byte(m.key), m.value); err != nil {
				return err
			}
		}
		return put("cluster", []byte("clusterVersion"), []byte(Version))
	})
}
