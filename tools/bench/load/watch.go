package load

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// watcher writes through the etcd API and watches all that the loaders write: an operation is a put and its event on the client's own
// watch, and every client is told of every put.
type watcher struct {
	conn   *grpc.ClientConn
	kv     pb.KVClient
	cancel context.CancelFunc

	mu   sync.Mutex
	seen int64 // revision of the last event
	err  error
	more chan struct{} // closed, and replaced, when seen or err changes
}

// errGap says that a watch left something out.
var errGap = errors.New("load: a watch has a gap")

// OpenWatch connects a client of the operation "watch" to an etcd endpoint without TLS.
func OpenWatch(ctx context.Context, address string) (Client, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &watcher{conn: conn, kv: pb.NewKVClient(conn), cancel: cancel, more: make(chan struct{})}
	if err := w.watch(life); err != nil {
		_ = w.Close() // that one is why
		return nil, err
	}
	return w, nil
}

func (w *watcher) watch(life context.Context) error {
	s, err := pb.NewWatchClient(w.conn).Watch(life)
	if err != nil {
		return err
	}
	// The loaders' keys begin with b.
	err = s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("c")}}})
	if err != nil {
		return err
	}
	r, err := s.Recv()
	if err != nil {
		return err
	}
	if !r.Created || r.Canceled {
		return fmt.Errorf("load: a watch was refused: %s", r.CancelReason)
	}
	w.seen = r.Header.Revision
	go w.follow(s)
	return nil
}

// follow takes events until the client is closed. Each put is a revision of its own, and nothing else is written.
func (w *watcher) follow(s pb.Watch_WatchClient) {
	for {
		r, err := s.Recv()
		w.mu.Lock()
		if err == nil && r.Canceled {
			err = fmt.Errorf("load: the watch was ended: %s", r.CancelReason)
		}
		for i := range r.GetEvents() {
			rev := r.Events[i].Kv.ModRevision
			if rev != w.seen+1 && err == nil {
				err = fmt.Errorf("%w: %d after %d", errGap, rev, w.seen)
			}
			w.seen = rev
		}
		w.err = err
		close(w.more)
		w.more = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Do is Client's.
func (w *watcher) Do(ctx context.Context, keys, values [][]byte) error {
	for i := range keys {
		r, err := w.kv.Put(ctx, &pb.PutRequest{Key: keys[i], Value: values[i]})
		if err != nil {
			return err
		}
		if err := w.await(ctx, r.Header.Revision); err != nil {
			return err
		}
	}
	return nil
}

func (w *watcher) await(ctx context.Context, rev int64) error {
	for {
		w.mu.Lock()
		seen, err, more := w.seen, w.err, w.more
		w.mu.Unlock()
		switch {
		case err != nil:
			return err
		case seen >= rev:
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close is Client's.
func (w *watcher) Close() error {
	w.cancel()
	return w.conn.Close()
}
