package box

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

const (
	// headEvery is how often the audit log's head is ordered when there is something new, and headRecords are reason enough to do
	// it at once: what no head covers a thief of the box can still change.
	headEvery   = time.Minute
	headRecords = 256
	// headLook is how often that is looked at.
	headLook = time.Second
	// headsWaiting bounds the signed heads on their way to the disk.
	headsWaiting = 64
)

// ledger is the box's audit log at work: records of all parts go to the disk in groups, and the site signs its head.
type ledger struct {
	disk  *store.Audit
	queue *store.AuditQueue
	box   coord.BoxID
	log   *slog.Logger
	heads chan *audit.SignedHead
	now   func() time.Time

	mu       sync.Mutex
	refusals refusals
	lost     int // signed heads that did not fit into heads
}

func openLedger(c *config.Config, who *identity, key *crypt.Key, log *slog.Logger) (*ledger, error) {
	o := store.AuditOptions{
		Site: who.members.Site, Box: who.key.ID(), BytesMax: int64(c.Audit.KeepBytes), Loop: true, Key: key, Logger: log,
	}
	a, err := store.OpenAudit(c.DataDir, o)
	if errors.Is(err, store.ErrIdentity) {
		if aside := setAsideAudit(c.DataDir, who.was); aside == nil {
			a, err = store.OpenAudit(c.DataDir, o)
		} else {
			err = errors.Join(err, aside)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("box: open the audit log: %w", err)
	}
	return &ledger{
		disk: a, queue: store.NewAuditQueue(a, log), box: who.key.ID(), log: log,
		heads: make(chan *audit.SignedHead, headsWaiting), now: time.Now,
	}, nil
}

// Record takes what was done or refused; box and time are filled in. It returns when what was done is durable; an error says that it is
// not recorded: what stopped the log, or ctx's. Refusals are durable a moment later; those that are alike are put together (refusals), and
// never an error.
func (l *ledger) Record(ctx context.Context, r audit.Record) error {
	r.Box, r.TimeMs = l.box, l.now().UnixMilli()
	if r.Outcome != audit.Denied {
		if err := l.queue.Put(ctx, r); err != nil {
			return err
		}
		return l.queue.Flush(ctx)
	}
	l.mu.Lock()
	now := l.refusals.take(&r, l.now())
	l.mu.Unlock()
	if now {
		l.refused(r)
	}
	return nil
}

func (l *ledger) refused(r audit.Record) {
	if err := l.queue.Offer(r); err != nil {
		l.log.Warn("a refusal was not recorded", "action", r.Action, "principal", r.Principal, "err", err)
	}
}

// settle records how many refusals were like one that was recorded, when no further one comes that could say so.
func (l *ledger) settle(ctx context.Context) {
	t := time.NewTicker(refusalsEvery)
	defer t.Stop()
	for {
		last := false
		select {
		case <-t.C:
		case <-ctx.Done():
			last = true
		}
		l.mu.Lock()
		rest := l.refusals.settle(l.now(), last)
		l.mu.Unlock()
		for _, r := range rest {
			l.refused(r)
		}
		if last {
			return
		}
	}
}

// signed takes a head that a quorum signed; it does not block.
func (l *ledger) signed(h *audit.SignedHead) {
	select {
	case l.heads <- h:
	default:
		l.mu.Lock()
		l.lost++ // other boxes have it too, and the next one covers it
		l.mu.Unlock()
	}
}

// run works until ctx ends and everything that was taken is on the disk.
func (l *ledger) run(ctx context.Context, s *site.Site) error {
	writing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var parts sync.WaitGroup
	var failed error
	parts.Go(func() { failed = l.queue.Run(writing) })
	var settled sync.WaitGroup
	settled.Go(func() { l.settle(ctx) })
	parts.Go(func() { l.keep(ctx) })
	parts.Go(func() { l.order(ctx, s) })
	parts.Go(func() { l.watch(ctx, s) })
	<-ctx.Done()
	settled.Wait()
	stop() // after it the queue takes nothing and writes what it has
	parts.Wait()
	return failed
}

func (l *ledger) keep(ctx context.Context) {
	for {
		select {
		case h := <-l.heads:
			if err := l.disk.KeepHead(h); err != nil {
				l.log.Error("a signed head of an audit log was not kept", "of", h.Box, "size", h.Size, "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// order has the site sign how long the log is and what is in it.
func (l *ledger) order(ctx context.Context, s *site.Site) {
	look := time.NewTicker(headLook)
	defer look.Stop()
	var last time.Time
	told := false
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		_, size, _ := l.disk.Span()
		if size-s.AuditTop().Size < headRecords && time.Since(last) < headEvery {
			continue
		}
		last = time.Now()
		err := l.orderOne(ctx, s)
		switch {
		case err == nil:
			told = false
		case ctx.Err() != nil:
			return
		case !told:
			told = true
			l.log.Error("the site does not sign this box's audit log", "records", size, "err", err)
		}
	}
}

// orderOne orders the next head, if something is new. Before that a barrier takes effect: what this box ordered in an earlier start either
// did by then or never will. An error is also that the log on the disk is not the one that the site signed.
func (l *ledger) orderOne(ctx context.Context, s *site.Site) error {
	if h, err := l.disk.NextHead(s.AuditTop()); err != nil || h == nil {
		return err
	}
	if err := barrier(ctx, s); err != nil {
		return err
	}
	h, err := l.disk.NextHead(s.AuditTop())
	if err != nil || h == nil {
		return err
	}
	return s.OrderAudit(ctx, h)
}

func barrier(ctx context.Context, s *site.Site) error {
	cols := new(coord.Columns)
	cols.Add(coord.KindBarrier, 0, 0, 0, nil, nil)
	done := make(chan coord.Reply, 1)
	s.Submit(&site.Request{Cols: cols, Done: func(r coord.Reply) { done <- r }})
	select {
	case r := <-done:
		if r.Code != coord.CodeOK {
			return fmt.Errorf("box: the site does not order: %v", r.Code)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
