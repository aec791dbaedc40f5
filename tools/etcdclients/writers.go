package main

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/lib/pq"
)

const (
	writePause   = 10 * time.Millisecond  // between writes to the primary
	refusedPause = 100 * time.Millisecond // after a node that refused one
)

// writers tries to write to every node, all the time, and asks every node who it is. Only what a node acknowledged
// counts.
type writers struct {
	mu    sync.Mutex
	ids   []int64 // acknowledged
	acks  []sighting
	words []sighting // of the nodes about themselves
	next  int64

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// dialer bounds what lib/pq does not: how long a node may take to accept. There is no bound on a statement: a commit
// that is cancelled while it waits for the standby is acknowledged although only one node has it.
type dialer struct{}

func (dialer) Dial(network, address string) (net.Conn, error) {
	return net.DialTimeout(network, address, restTimeMax)
}

func (dialer) DialTimeout(network, address string, d time.Duration) (net.Conn, error) {
	return net.DialTimeout(network, address, d)
}

func (n *node) open(database string) (*sql.DB, error) {
	c, err := pq.NewConnector(fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=%s sslmode=disable connect_timeout=3", n.pg, database))
	if err != nil {
		return nil, err
	}
	c.Dialer(dialer{})
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	return db, nil
}

func startWriters(ctx context.Context, nodes []*node, primary int) (*writers, error) {
	db, err := nodes[primary].open("postgres")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE TABLE written (id bigint PRIMARY KEY, node int)"); err != nil {
		return nil, err
	}
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &writers{cancel: cancel}
	for _, n := range nodes {
		w.wg.Go(func() { w.write(wctx, n) })
		w.wg.Go(func() { w.ask(wctx, n) })
	}
	return w, nil
}

func (w *writers) stop() {
	w.cancel()
	w.wg.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// write inserts row after row. What fails, whatever the reason, was not acknowledged, and its number is not used again.
func (w *writers) write(ctx context.Context, n *node) {
	db, err := n.open("postgres")
	if err != nil {
		return // then nothing is ever acknowledged, and rows that wait for writes fail
	}
	defer db.Close()
	for ctx.Err() == nil {
		w.mu.Lock()
		w.next++
		id := w.next
		w.mu.Unlock()
		s := sighting{node: n.i, start: time.Now()}
		// Not with ctx: see dialer.
		err := db.QueryRow(`INSERT INTO written VALUES ($1, $2)
			RETURNING ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int`, id, n.i).Scan(&s.timeline)
		if err != nil {
			pause(ctx, refusedPause)
			continue
		}
		s.end = time.Now()
		w.mu.Lock()
		w.ids, w.acks = append(w.ids, id), append(w.acks, s)
		w.mu.Unlock()
		pause(ctx, writePause)
	}
}

// ask collects when a node calls itself primary.
func (w *writers) ask(ctx context.Context, n *node) {
	for ; ctx.Err() == nil; pause(ctx, refusedPause) {
		if s, err := n.status(ctx); err == nil && s.primary() {
			w.mu.Lock()
			w.words = append(w.words, sighting{n.i, s.Timeline, s.start, s.end})
			w.mu.Unlock()
		}
	}
}

func (w *writers) acknowledged() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]int64{}, w.ids...)
}

func (w *writers) sightings() (writes, words []sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]sighting{}, w.acks...), append([]sighting{}, w.words...)
}

// more waits for so many writes that began after now.
func (w *writers) more(ctx context.Context, n int) error {
	now := time.Now()
	count := 0
	if err := poll(ctx, func() (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		count = 0
		for i := len(w.acks) - 1; i >= 0 && w.acks[i].start.After(now); i-- {
			count++
		}
		return count >= n, nil
	}); err != nil {
		return fmt.Errorf("%d of %d writes: %w", count, n, err)
	}
	return nil
}

// gap is the longest time without an acknowledgement since then.
func (w *writers) gap(since time.Time) (longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := since
	for _, a := range w.acks {
		if a.end.After(since) {
			longest = max(longest, a.end.Sub(last))
			last = a.end
		}
	}
	return longest
}

// has waits until a node shows rows; a replica may lag behind, but one that misses a row for good fails.
func (w *writers) has(ctx context.Context, n *node, ids []int64) error {
	db, err := n.open("postgres")
	if err != nil {
		return err
	}
	defer db.Close()
	var missing []int64
	var last error
	err = poll(ctx, func() (bool, error) {
		missing = nil
		err := db.QueryRowContext(ctx, "SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM unnest($1::bigint[]) AS u(id) WHERE NOT EXISTS (SELECT FROM written w WHERE w.id = u.id)",
			pq.Array(ids)).Scan((*pq.Int64Array)(&missing))
		last = err // a node that only just started refuses
		return err == nil && len(missing) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("node%d misses %d of %d acknowledged rows: %v: %w; last: %v", n.i, len(missing), len(ids), missing[:min(8, len(missing))], err, last)
	}
	return nil
}
