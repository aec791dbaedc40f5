package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// leasesRow keeps leases alive while boxes are killed, lets one run out and revokes one.
func (e *env) leasesRow(ctx context.Context) (string, error) {
	const keys = 3
	prefix := e.prefix + "leases/"
	c, err := connect(e.endpoints...)
	if err != nil {
		return "", err
	}
	defer c.Close()
	grant := func(name string, seconds int64) (id clientv3.LeaseID, err error) {
		g, err := c.Grant(ctx, seconds)
		if err != nil {
			return 0, err
		}
		for k := range keys {
			if _, err := c.Put(ctx, fmt.Sprintf("%s%s/%d", prefix, name, k), name, clientv3.WithLease(g.ID)); err != nil {
				return 0, err
			}
		}
		return g.ID, nil
	}
	first, err := c.Get(ctx, prefix)
	if err != nil {
		return "", err
	}
	// 15 s outlive the change of a leader, and a box that is down for some seconds.
	names := []string{"kept", "stopped", "revoked"}
	ids := map[string]clientv3.LeaseID{}
	cancels := map[string]context.CancelFunc{}
	var mu sync.Mutex
	answers, ended := map[string]int{}, map[string]bool{}
	var wg sync.WaitGroup
	kctx, cancelAll := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancelAll()
	for _, name := range names {
		if ids[name], err = grant(name, 15); err != nil {
			return "", err
		}
		one, cancel := context.WithCancel(kctx)
		cancels[name] = cancel
		ch, err := c.KeepAlive(one, ids[name])
		if err != nil {
			return "", err
		}
		wg.Go(func() {
			for range ch {
				mu.Lock()
				answers[name]++
				mu.Unlock()
			}
			mu.Lock()
			ended[name] = true
			mu.Unlock()
		})
	}
	if _, err := grant("left", 2); err != nil {
		return "", err
	}
	chaos := e.chaos(ctx)
	select {
	case <-chaos.enough:
	case <-ctx.Done():
	}
	kills, err := chaos.stop()
	if err != nil {
		return "", err
	}
	mu.Lock()
	before := fmt.Sprint(answers)
	for _, name := range names {
		if ended[name] {
			err = errors.Join(err, fmt.Errorf("the keepalive of %q ended while boxes were killed", name))
		}
		answers[name] = 0
	}
	mu.Unlock()
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if err := poll(ctx, func() (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			return answers[name] > 0, nil
		}); err != nil {
			return "", fmt.Errorf("no keepalive of %q is answered after the kills: %w", name, err)
		}
		if err := retry(ctx, func(ctx context.Context) error {
			t, err := c.TimeToLive(ctx, ids[name], clientv3.WithAttachedKeys())
			if err == nil && (t.TTL <= 0 || len(t.Keys) != keys) {
				return fmt.Errorf("%q was kept alive, but has %d s and %d keys left", name, t.TTL, len(t.Keys))
			}
			return err
		}); err != nil {
			return "", err
		}
	}
	if err := retry(ctx, func(ctx context.Context) error {
		_, err := c.Revoke(ctx, ids["revoked"])
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil // by an attempt before
		}
		return err
	}); err != nil {
		return "", err
	}
	cancels["stopped"]()
	// Each lease takes its keys with it at one revision, once; the kept one has all of its.
	gone := map[string][]int64{}
	for r := range c.Watch(clientv3.WithRequireLeader(kctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision+1), clientv3.WithFilterPut(), clientv3.WithPrevKV()) {
		if err := r.Err(); err != nil {
			return "", err
		}
		for _, ev := range r.Events {
			if ev.PrevKv == nil {
				return "", fmt.Errorf("a delete of %q without what was there", ev.Kv.Key)
			}
			name := string(ev.PrevKv.Value)
			gone[name] = append(gone[name], ev.Kv.ModRevision)
		}
		if len(gone["left"]) == keys && len(gone["stopped"]) == keys && len(gone["revoked"]) == keys {
			break
		}
	}
	for name, revs := range gone {
		if len(revs) != keys || len(slices.Compact(revs)) != 1 || name == "kept" {
			return "", fmt.Errorf("keys of %q went at revisions %v", name, revs)
		}
	}
	if len(gone) != 3 {
		return "", fmt.Errorf("leases that ended: %v; %v", gone, ctx.Err())
	}
	if t, err := c.TimeToLive(ctx, ids["stopped"]); err != nil || t.TTL != -1 {
		return "", fmt.Errorf("time to live of a lease that ran out: %v %v", t, err)
	}
	return fmt.Sprintf("%s, keepalives answered: %s", killed(kills), before), nil
}

// poll waits for a condition that nothing announces.
func poll(ctx context.Context, f func() (bool, error)) error {
	for {
		if ok, err := f(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryPause):
		}
	}
}

// watchesRow writes while boxes are killed, and compares what watchers got that were there from the beginning, that
// hang on one box each, and that came late and asked for the past.
func (e *env) watchesRow(ctx context.Context) (string, error) {
	prefix := e.prefix + "watched/"
	c, err := connect(e.endpoints...)
	if err != nil {
		return "", err
	}
	defer c.Close()
	first, err := c.Get(ctx, prefix)
	if err != nil {
		return "", err
	}
	from := first.Header.Revision + 1
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var logs []*eventLog
	errs := make(chan error, 2*len(e.endpoints)+2)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	follow := func(name string, endpoints ...string) {
		l := &eventLog{name: name, from: from}
		logs = append(logs, l)
		wg.Go(func() {
			if err := l.follow(ctx, prefix, endpoints); err != nil {
				errs <- fmt.Errorf("watcher of %s: %w", name, err)
			}
		})
	}
	follow("all boxes", e.endpoints...)
	for _, ep := range e.endpoints {
		follow(ep, ep)
	}
	acked := newAcked()
	note, err := e.workers(ctx, contenders, func(ctx context.Context, i int, c *clientv3.Client, more func(int) bool) error {
		for n := 0; more(n); n++ {
			if err := write(ctx, c, prefix, i, n, acked); err != nil && !transient(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	follow("all boxes, from the past", e.rotated(1)...)
	var last *clientv3.PutResponse
	if err := retry(ctx, func(ctx context.Context) error {
		last, err = c.Put(ctx, prefix+"last", "")
		return err
	}); err != nil {
		return "", err
	}
	for _, l := range logs {
		if err := poll(ctx, func() (bool, error) {
			select {
			case err := <-errs:
				return false, err
			default:
			}
			// Progress is asked for, too: nobody can say when a member tells it by itself.
			return l.reached(last.Header.Revision) && l.progressed(last.Header.Revision), nil
		}); err != nil {
			return "", fmt.Errorf("watcher of %s is at revision %d, with progress to %d, of %d: %w", l.name, l.last, l.progress, last.Header.Revision, err)
		}
	}
	cancel()
	wg.Wait()
	for _, l := range logs {
		if err := errors.Join(l.complete(acked), l.same(logs[0])); err != nil {
			return "", fmt.Errorf("watcher of %s: %w", l.name, err)
		}
	}
	return fmt.Sprintf("%s, %d events to each of %d watchers, %d acknowledged writes", note, len(logs[0].events), len(logs), acked.count()), nil
}

// write puts, deletes, or does both in one transaction, on keys that writers share.
func write(ctx context.Context, c *clientv3.Client, prefix string, i, n int, acked *acked) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeMax)
	defer cancel()
	shared := fmt.Sprintf("%sshared/%d", prefix, n%3)
	own := fmt.Sprintf("%sown/%d", prefix, i)
	value := fmt.Sprintf("%d-%d", i, n)
	switch n % 5 {
	case 3:
		r, err := c.Delete(ctx, shared)
		if err == nil && r.Deleted > 0 {
			acked.add(r.Header.Revision, shared, "")
		}
		return err
	case 4:
		r, err := c.Txn(ctx).Then(clientv3.OpPut(shared, value), clientv3.OpPut(own, value)).Commit()
		if err == nil {
			acked.add(r.Header.Revision, shared, value)
			acked.add(r.Header.Revision, own, value)
		}
		return err
	default:
		r, err := c.Put(ctx, shared, value)
		if err == nil {
			acked.add(r.Header.Revision, shared, value)
		}
		return err
	}
}
