package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const progressPause = time.Second

// acked is what was acknowledged to writers: values, by revision and key; "" is a delete.
type acked struct {
	mu sync.Mutex
	at map[written]string
}

type written struct {
	rev int64
	key string
}

func newAcked() *acked { return &acked{at: map[written]string{}} }

func (a *acked) add(rev int64, key, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at[written{rev, key}] = value
}

func (a *acked) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

// eventLog is what one watcher saw. It judges each event by the last one of the same key: the previous value has to
// be the one seen last, so that neither a gap nor a repetition goes unnoticed.
type eventLog struct {
	name string
	from int64

	mu             sync.Mutex
	events         []event
	keys           map[string]*mvccpb.KeyValue // as after the last event; nil once deleted
	last, progress int64
}

type event struct {
	written
	value   string
	deleted bool
}

// follow watches until the context ends.
func (l *eventLog) follow(parent context.Context, prefix string, endpoints []string) error {
	c, err := connect(endpoints...)
	if err != nil {
		return err
	}
	defer c.Close()
	// RequestProgress goes to the streams that have the same context.
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	wg.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(progressPause):
				// What fails here fails the row, because it waits for progress.
				_ = c.RequestProgress(ctx)
			}
		}
	})
	for r := range c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(l.from), clientv3.WithPrevKV(), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify()) {
		if err := r.Err(); err != nil && parent.Err() == nil {
			return err
		}
		if err := l.take(r.Events, r.Header.Revision, r.IsProgressNotify()); err != nil {
			return err
		}
	}
	if parent.Err() == nil {
		return errors.New("the watch ended")
	}
	return nil
}

// take judges one message of a watch.
func (l *eventLog) take(events []*clientv3.Event, header int64, progress bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys = map[string]*mvccpb.KeyValue{}
	}
	if progress {
		if header < l.last {
			return fmt.Errorf("progress to revision %d after an event of %d", header, l.last)
		}
		l.progress = max(l.progress, header)
	}
	first := l.last
	for _, ev := range events {
		rev, key := ev.Kv.ModRevision, string(ev.Kv.Key)
		known, old := l.keys[key], ev.PrevKv
		switch {
		case rev <= first:
			return fmt.Errorf("%s %q of revision %d in a message of its own after revision %d", ev.Type, key, rev, first)
		case rev < l.last:
			return fmt.Errorf("%s %q of revision %d after revision %d", ev.Type, key, rev, l.last)
		case rev <= l.progress:
			return fmt.Errorf("%s %q of revision %d after progress to %d", ev.Type, key, rev, l.progress)
		case rev > header:
			return fmt.Errorf("%s %q of revision %d under a header of %d", ev.Type, key, rev, header)
		case rev < l.from:
			return fmt.Errorf("%s %q of revision %d to a watch from %d", ev.Type, key, rev, l.from)
		case (known == nil) != (old == nil):
			return fmt.Errorf("%s %q of revision %d after %v, but last seen was %v", ev.Type, key, rev, old, known)
		case known != nil && (old.ModRevision != known.ModRevision || old.Version != known.Version || string(old.Value) != string(known.Value)):
			return fmt.Errorf("%s %q of revision %d after %v, but last seen was %v", ev.Type, key, rev, old, known)
		case ev.Type == mvccpb.DELETE && known == nil:
			return fmt.Errorf("delete of %q, which was not there, at revision %d", key, rev)
		case ev.Type == mvccpb.PUT && known == nil && (ev.Kv.Version != 1 || ev.Kv.CreateRevision != rev):
			return fmt.Errorf("the first put is %v", ev.Kv)
		case ev.Type == mvccpb.PUT && known != nil && (ev.Kv.Version != known.Version+1 || ev.Kv.CreateRevision != known.CreateRevision):
			return fmt.Errorf("%v was put after %v", ev.Kv, known)
		}
		l.keys[key] = ev.Kv
		if ev.Type == mvccpb.DELETE {
			l.keys[key] = nil
		}
		l.last = rev
		l.events = append(l.events, event{written{rev, key}, string(ev.Kv.Value), ev.Type == mvccpb.DELETE})
	}
	return nil
}

func (l *eventLog) reached(rev int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last >= rev
}

func (l *eventLog) progressed(rev int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress >= rev
}

// complete says whether every acknowledged write was seen, as it was acknowledged, and none twice.
func (l *eventLog) complete(a *acked) error {
	seen := map[written]event{}
	for _, ev := range l.events {
		if _, twice := seen[ev.written]; twice {
			return fmt.Errorf("two events of %q at revision %d", ev.key, ev.rev)
		}
		seen[ev.written] = ev
	}
	for w, value := range a.at {
		if ev, ok := seen[w]; !ok || ev.value != value || ev.deleted != (value == "") {
			return fmt.Errorf("%q=%q was acknowledged at revision %d; seen: %v %+v", w.key, value, w.rev, ok, ev)
		}
	}
	return nil
}

// same says whether two watchers saw the same, in the same order.
func (l *eventLog) same(o *eventLog) error {
	for i := range min(len(l.events), len(o.events)) {
		if l.events[i] != o.events[i] {
			return fmt.Errorf("event %d is %+v, but %+v for the watcher of %s", i, l.events[i], o.events[i], o.name)
		}
	}
	if len(l.events) != len(o.events) {
		return fmt.Errorf("%d events, but %d for the watcher of %s", len(l.events), len(o.events), o.name)
	}
	return nil
}
