package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord/audit"
)

const (
	// AuditQueueMax bounds the records that wait for the disk: some seconds of a busy box, at most 10 MB.
	AuditQueueMax = 4096
	// auditRetry is how long a queue waits before it tries a full log again.
	auditRetry = time.Second
)

// AuditSink takes groups of records; Audit is one.
type AuditSink interface {
	Append(rs []audit.Record) (int64, error)
}

// AuditQueue brings records to the disk behind those who act: what gathers while one group is being synced is the next group. It never
// drops a record that it took. When it is full, because the disk is slow or the log has no room, Put waits and Offer refuses, and so
// does the action.
type AuditQueue struct {
	sink AuditSink
	log  *slog.Logger

	mu      sync.Mutex
	waiting []audit.Record // in order; the first taken are in the sink's hands
	put     uint64         // records ever taken
	done    uint64         // records ever durable
	err     error          // why nothing is taken any more
	wake    chan struct{}  // tells Run; capacity 1
	moved   chan struct{}  // closed and made anew when records got durable or err is set
}

// NewAuditQueue makes a queue; nothing is written before Run.
func NewAuditQueue(sink AuditSink, log *slog.Logger) *AuditQueue {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &AuditQueue{sink: sink, log: log, wake: make(chan struct{}, 1), moved: make(chan struct{})}
}

// Offer takes a record, or refuses at once: ErrFull when there is no room, ErrClosed or ErrFailed when there will be none. The record's texts
// are clipped; what Check refuses then is ErrFormat. That it is taken does not say that it is durable: see Flush.
func (q *AuditQueue) Offer(r audit.Record) error {
	r.Clip()
	if err := r.Check(); err != nil {
		return fmt.Errorf("store: audit queue: %w: %w", ErrFormat, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.err != nil:
		return q.err
	case len(q.waiting) >= AuditQueueMax:
		return fmt.Errorf("store: audit queue: %d records wait: %w", len(q.waiting), ErrFull)
	}
	q.waiting = append(q.waiting, r)
	q.put++
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// Put takes a record and waits for room until ctx is over: then it is Offer's ErrFull and ctx's error.
func (q *AuditQueue) Put(ctx context.Context, r audit.Record) error {
	for {
		q.mu.Lock()
		moved := q.moved
		q.mu.Unlock()
		err := q.Offer(r)
		if !errors.Is(err, ErrFull) {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// Flush waits until all that was taken before is durable. Errors: ctx's, ErrClosed, ErrFailed.
func (q *AuditQueue) Flush(ctx context.Context) error {
	q.mu.Lock()
	want := q.put
	for q.done < want {
		if q.err != nil {
			defer q.mu.Unlock()
			return q.err
		}
		moved := q.moved
		q.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("store: audit queue: flush: %w", ctx.Err())
		}
		q.mu.Lock()
	}
	q.mu.Unlock()
	return nil
}

// Run writes until ctx is over, then what is left, and takes nothing more. The error says that records could not be written, and how many.
func (q *AuditQueue) Run(ctx context.Context) error {
	full := false
	for {
		q.mu.Lock()
		group := q.waiting[:min(len(q.waiting), AuditGroupMax)]
		if len(group) == 0 && ctx.Err() != nil {
			defer q.mu.Unlock()
			q.stop(fmt.Errorf("store: audit queue: %w", ErrClosed))
			return nil
		}
		q.mu.Unlock()
		if len(group) == 0 {
			select {
			case <-q.wake:
			case <-ctx.Done():
			}
			continue
		}
		_, err := q.sink.Append(group)
		switch {
		case err == nil:
			full = false
			q.taken(len(group))
		case errors.Is(err, ErrFull) && ctx.Err() == nil:
			if !full {
				q.log.Error("the audit log is full: actions wait until records are exported", "waiting", len(group), "err", err)
			}
			full = true
			select {
			case <-time.After(auditRetry):
			case <-ctx.Done():
			}
		default:
			q.mu.Lock()
			defer q.mu.Unlock()
			q.stop(fmt.Errorf("store: audit queue: %w", err))
			return fmt.Errorf("store: audit queue: %d records were not written: %w", len(q.waiting), err)
		}
	}
}

// taken forgets the first n, which are durable.
func (q *AuditQueue) taken(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	q.done += uint64(n)
	close(q.moved)
	q.moved = make(chan struct{})
}

// stop refuses what comes from now on; mu is held.
func (q *AuditQueue) stop(err error) {
	q.err = err
	close(q.moved)
	q.moved = make(chan struct{})
}
