package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	contenders = 5
	// sessionSeconds is longer than any time without a leader, so that no session may end in these rows.
	sessionSeconds = 30
	// turnTimeMax bounds one wait for a lock that others hold.
	turnTimeMax = time.Minute
	roundsMin   = 20 // of each row, however soon every box was killed
)

func concSuite(ctx context.Context, e *env, r *report) {
	r.row(ctx, "conc/mutex", e.mutexRow)
	r.row(ctx, "conc/fence", e.fenceRow)
	r.row(ctx, "conc/election", e.electionRow)
	r.row(ctx, "conc/stm-serializable", func(ctx context.Context) (string, error) { return e.stmRow(ctx, concurrency.Serializable) })
	r.row(ctx, "conc/stm-snapshot", func(ctx context.Context) (string, error) {
		return e.stmRow(ctx, concurrency.SerializableSnapshot)
	})
	r.row(ctx, "conc/stm-repeatable", func(ctx context.Context) (string, error) { return e.stmRow(ctx, concurrency.RepeatableReads) })
	r.row(ctx, "conc/lease", e.leasesRow)
	r.row(ctx, "conc/watch", e.watchesRow)
}

// workers runs f so often at once, each with a client of its own that begins at another endpoint, while boxes are
// killed. The first error ends all. f ends when more says so.
func (e *env) workers(ctx context.Context, n int, f func(ctx context.Context, i int, c *clientv3.Client, more func(done int) bool) error) (note string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chaos := e.chaos(ctx)
	var wg sync.WaitGroup
	var rounds atomic.Int64
	for i := range n {
		wg.Go(func() {
			c, err := connect(e.rotated(i)...)
			if err == nil {
				defer c.Close()
				err = f(ctx, i, c, func(done int) bool {
					rounds.Add(1)
					select {
					case <-ctx.Done():
						return false
					case <-chaos.enough:
						return done < roundsMin
					default:
						return true
					}
				})
			}
			if err != nil {
				cancel(fmt.Errorf("client %d: %w", i, err))
			}
		})
	}
	wg.Wait()
	kills, errChaos := chaos.stop()
	if err := context.Cause(ctx); err != nil || errChaos != nil {
		return "", errors.Join(err, errChaos)
	}
	return fmt.Sprintf("%d rounds, %s", rounds.Load(), killed(kills)), nil
}

func (e *env) rotated(i int) []string {
	i %= len(e.endpoints)
	return append(append([]string{}, e.endpoints[i:]...), e.endpoints[:i]...)
}

// session makes a session; retrying leaves a lease behind, which runs out.
func session(ctx context.Context, c *clientv3.Client) (s *concurrency.Session, err error) {
	err = retry(ctx, func(ctx context.Context) error {
		g, err := c.Grant(ctx, sessionSeconds)
		if err != nil {
			return err
		}
		s, err = concurrency.NewSession(c, concurrency.WithLease(g.ID))
		return err
	})
	return s, err
}

// mutexRow counts under a lock. Every increment carries the creation revision of the lock's key, which has to grow
// from holder to holder, and is refused unless the key still exists.
func (e *env) mutexRow(ctx context.Context) (string, error) {
	lock, counter := e.prefix+"mutex", e.prefix+"mutex-counter"
	var inside atomic.Int32
	var counted atomic.Int64
	note, err := e.workers(ctx, contenders, func(ctx context.Context, i int, c *clientv3.Client, more func(int) bool) error {
		s, err := session(ctx, c)
		if err != nil {
			return err
		}
		defer s.Close()
		for n := 0; more(n); n++ {
			m := concurrency.NewMutex(s, lock)
			if err := retryEach(ctx, turnTimeMax, m.Lock); err != nil {
				return ended(ctx, fmt.Errorf("lock: %w", err))
			}
			if inside.Add(1) != 1 {
				return errors.New("two hold the lock at the same time")
			}
			if err := increment(ctx, c, m, counter, i); err != nil {
				return ended(ctx, fmt.Errorf("increment: %w", err))
			}
			counted.Add(1)
			inside.Add(-1)
			if err := retry(ctx, m.Unlock); err != nil {
				return ended(ctx, fmt.Errorf("unlock: %w", err))
			}
			select {
			case <-s.Done():
				return errors.New("the session ended although it was kept alive")
			default:
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	c, err := connect(e.endpoints...)
	if err != nil {
		return "", err
	}
	defer c.Close()
	last, err := read(ctx, c, counter)
	if err != nil {
		return "", err
	}
	if got := strings.Fields(last.value)[0]; got != strconv.FormatInt(counted.Load(), 10) {
		return "", fmt.Errorf("the counter is %s after %d increments", got, counted.Load())
	}
	return note, nil
}

// ended hides what goes wrong in a worker because another one has failed already.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return nil
	}
	return err
}

type versioned struct {
	value string
	mod   int64
}

func read(ctx context.Context, c *clientv3.Client, key string) (v versioned, err error) {
	err = retry(ctx, func(ctx context.Context) error {
		r, err := c.Get(ctx, key)
		if err == nil && len(r.Kvs) > 0 {
			v = versioned{string(r.Kvs[0].Value), r.Kvs[0].ModRevision}
		}
		return err
	})
	return v, err
}

// increment adds one to the counter. An attempt whose outcome is not known is looked up before it is made again.
func increment(ctx context.Context, c *clientv3.Client, m *concurrency.Mutex, counter string, who int) error {
	var fence int64
	if err := retry(ctx, func(ctx context.Context) error {
		r, err := c.Get(ctx, m.Key())
		if err == nil && len(r.Kvs) != 1 {
			return errors.New("the lock's key is gone while the lock is held")
		}
		if err == nil {
			fence = r.Kvs[0].CreateRevision
		}
		return err
	}); err != nil {
		return err
	}
	old, err := read(ctx, c, counter)
	if err != nil {
		return err
	}
	var n, oldFence int64
	if old.value != "" {
		if _, err := fmt.Sscan(old.value, &n, &oldFence); err != nil {
			return err
		}
	}
	if fence <= oldFence {
		return fmt.Errorf("the lock's revision is %d after a holder with %d", fence, oldFence)
	}
	mine := fmt.Sprint(n+1, fence, who)
	return retry(ctx, func(ctx context.Context) error {
		now, err := read(ctx, c, counter)
		if err != nil || now.value == mine {
			return err
		}
		if now != old {
			return fmt.Errorf("the counter went from %q to %q while the lock was held for %q", old.value, now.value, mine)
		}
		r, err := c.Txn(ctx).If(m.IsOwner(), clientv3.Compare(clientv3.ModRevision(counter), "=", old.mod)).Then(clientv3.OpPut(counter, mine)).Commit()
		if err != nil {
			return err
		}
		if !r.Succeeded {
			// An earlier attempt may have arrived late.
			if now, err = read(ctx, c, counter); err != nil || now.value == mine {
				return err
			}
			return fmt.Errorf("the lock is held, but a write under it was refused; the counter is %q", now.value)
		}
		return nil
	})
}

// fenceRow takes the lock away from a holder that does not notice.
func (e *env) fenceRow(ctx context.Context) (string, error) {
	c, err := connect(e.endpoints...)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var ms [2]*concurrency.Mutex
	var ss [2]*concurrency.Session
	for i := range ms {
		if ss[i], err = session(ctx, c); err != nil {
			return "", err
		}
		defer ss[i].Close()
		ms[i] = concurrency.NewMutex(ss[i], e.prefix+"fence")
	}
	if err := ms[0].Lock(ctx); err != nil {
		return "", err
	}
	if err := ms[1].TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		return "", fmt.Errorf("TryLock of a lock that is held: %v", err)
	}
	if _, err := c.Revoke(ctx, ss[0].Lease()); err != nil {
		return "", err
	}
	if err := ms[1].Lock(ctx); err != nil {
		return "", err
	}
	for i, want := range []bool{false, true} {
		r, err := c.Txn(ctx).If(ms[i].IsOwner()).Then(clientv3.OpPut(e.prefix+"fenced", strconv.Itoa(i))).Commit()
		if err != nil || r.Succeeded != want {
			return "", fmt.Errorf("write of holder %d: %v %v, want %v", i, r, err, want)
		}
	}
	select {
	case <-ss[0].Done():
	case <-ctx.Done():
		return "", errors.New("the session whose lease was revoked does not end")
	}
	return "", nil
}

// electionRow has candidates lead in turn, and somebody who observes them.
func (e *env) electionRow(ctx context.Context) (string, error) {
	name := e.prefix + "election"
	var leading, lastRev atomic.Int64
	var proclaimed sync.Map
	octx, stop := context.WithCancel(ctx)
	observed := make(chan error, 1)
	seen := 0
	go func() {
		var err error
		seen, err = e.observe(octx, name, &proclaimed)
		observed <- err
	}()
	note, err := e.workers(ctx, contenders, func(ctx context.Context, i int, c *clientv3.Client, more func(int) bool) error {
		s, err := session(ctx, c)
		if err != nil {
			return err
		}
		defer s.Close()
		for n := 0; more(n); n++ {
			el := concurrency.NewElection(s, name)
			value := fmt.Sprintf("%d-%d", i, n)
			proclaimed.Store(value, true)
			proclaimed.Store(value+" again", true)
			if err := retryEach(ctx, turnTimeMax, func(ctx context.Context) error { return el.Campaign(ctx, value) }); err != nil {
				return ended(ctx, fmt.Errorf("campaign: %w", err))
			}
			if leading.Add(1) != 1 {
				return errors.New("two lead at the same time")
			}
			if last := lastRev.Swap(el.Rev()); el.Rev() < last {
				return fmt.Errorf("a term of revision %d after one of %d", el.Rev(), last)
			}
			if err := retry(ctx, func(ctx context.Context) error { return el.Proclaim(ctx, value+" again") }); err != nil {
				return ended(ctx, fmt.Errorf("proclaim: %w", err))
			}
			if err := retry(ctx, func(ctx context.Context) error {
				r, err := el.Leader(ctx)
				if err == nil && string(r.Kvs[0].Value) != value+" again" {
					return fmt.Errorf("the leader's value is %q, want %q", r.Kvs[0].Value, value+" again")
				}
				return err
			}); err != nil {
				return ended(ctx, err)
			}
			leading.Add(-1)
			key := el.Key()
			if err := el.Resign(ctx); err != nil {
				// Resign forgets the key even when nobody knows whether it is gone.
				if err := retry(ctx, func(ctx context.Context) error { _, err := c.Delete(ctx, key); return err }); err != nil {
					return ended(ctx, err)
				}
			}
			select {
			case <-s.Done():
				return errors.New("the session ended although it was kept alive")
			default:
			}
		}
		return nil
	})
	stop()
	if errObserve := <-observed; err != nil || errObserve != nil {
		return "", errors.Join(err, errObserve)
	}
	if seen == 0 {
		return "", errors.New("the observer saw nobody")
	}
	return fmt.Sprintf("%s, %d proclamations observed", note, seen), nil
}

// observe follows the leaders. It may miss some, but may not see one that never was, nor go back in time.
func (e *env) observe(ctx context.Context, name string, proclaimed *sync.Map) (seen int, err error) {
	c, err := connect(e.endpoints...)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := session(ctx, c)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	var lastTerm, last int64
	for ctx.Err() == nil {
		// Observe gives up when a box is lost, by closing its channel.
		for r := range concurrency.NewElection(s, name).Observe(ctx) {
			kv := r.Kvs[0]
			if _, ok := proclaimed.Load(string(kv.Value)); !ok {
				return seen, fmt.Errorf("observed %q, which nobody proclaimed", kv.Value)
			}
			// A candidate's first value is older than what the leaders before it proclaimed.
			if kv.CreateRevision < lastTerm || kv.CreateRevision == lastTerm && kv.ModRevision < last {
				return seen, fmt.Errorf("observed %q of revision %d of the term of %d, after %d of the term of %d", kv.Value, kv.ModRevision, kv.CreateRevision, last, lastTerm)
			}
			lastTerm, last = kv.CreateRevision, kv.ModRevision
			seen++
		}
	}
	return seen, nil
}

const (
	accounts = 6
	funds    = 100 // of each account at the beginning
)

// stmRow moves money between accounts. Nothing may get lost, and whoever adds up all accounts in a transaction has to
// find the whole sum.
func (e *env) stmRow(ctx context.Context, isolation concurrency.Isolation) (string, error) {
	account := func(i int) string { return fmt.Sprintf("%sstm-%d/%d", e.prefix, isolation, i) }
	c, err := connect(e.endpoints...)
	if err != nil {
		return "", err
	}
	defer c.Close()
	for i := range accounts {
		if _, err := c.Put(ctx, account(i), strconv.Itoa(funds)); err != nil {
			return "", err
		}
	}
	// audit fails if somebody has less than nothing, too: a transfer looks before it takes.
	audit := func(get func(key string) string) error {
		sum := 0
		for i := range accounts {
			n, err := strconv.Atoi(get(account(i)))
			if sum += n; err != nil || n < 0 {
				return fmt.Errorf("account %d has %d: %v", i, n, err)
			}
		}
		if sum != accounts*funds {
			return fmt.Errorf("the sum is %d of %d", sum, accounts*funds)
		}
		return nil
	}
	var moved, audits, behind atomic.Int64
	note, err := e.workers(ctx, contenders, func(ctx context.Context, i int, c *clientv3.Client, more func(int) bool) error {
		random := rand.New(rand.NewSource(e.seed + int64(i)))
		for n := 0; more(n); n++ {
			from, to := random.Intn(accounts), random.Intn(accounts)
			amount, audited := random.Intn(funds), error(nil)
			apply := func(s concurrency.STM) error {
				a, errA := strconv.Atoi(s.Get(account(from)))
				b, errB := strconv.Atoi(s.Get(account(to)))
				if errA != nil || errB != nil {
					return errors.Join(errA, errB)
				}
				if from == to || a < amount {
					return nil
				}
				s.Put(account(from), strconv.Itoa(a-amount))
				s.Put(account(to), strconv.Itoa(b+amount))
				return nil
			}
			if n%4 == 0 { // What a transaction sees counts only once it commits; the last try is what is left in audited.
				apply = func(s concurrency.STM) error {
					audited = audit(func(key string) string { return s.Get(key) })
					return nil
				}
			}
			// Whether a transfer whose outcome is not known was made does not matter: it keeps the sum.
			r, err := concurrency.NewSTM(c, apply, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(ctx))
			switch {
			case errors.Is(err, rpctypes.ErrFutureRev):
				// After its first read, which is linearizable, a transaction reads that revision from any member. A
				// member that is behind refuses, and clientv3 passes that on.
				behind.Add(1)
			case err != nil && !transient(err):
				return err
			case err == nil && audited != nil:
				return fmt.Errorf("at revision %d: %w", r.Header.Revision, audited)
			case err == nil && n%4 == 0:
				audits.Add(1)
			case err == nil && r.Responses != nil:
				moved.Add(1)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if moved.Load() == 0 || audits.Load() == 0 {
		return "", fmt.Errorf("%d transfers and %d audits", moved.Load(), audits.Load())
	}
	return fmt.Sprintf("%s, %d transfers, %d audits, %d refused by members that were behind", note, moved.Load(), audits.Load(), behind.Load()), audit(func(key string) string {
		v, err := read(ctx, c, key)
		if err != nil {
			return err.Error()
		}
		return v.value
	})
}
