package link

import (
	"log/slog"
	"sync"
	"time"
)

// The keys of what this package logs.
const (
	keyPeer    = "peer"
	keyName    = "name"
	keyUp      = "up"
	keyError   = "error"
	keySkipped = "skipped"
	keyFrom    = "from"
)

// quietEvery is how often one kind of trouble with one peer is logged while it goes on: a dead box is
// dialled thousands of times a day.
const quietEvery = time.Minute

// quietLog logs each kind of trouble at most once in quietEvery, with how often it was kept silent.
// Kinds are constants of this package, so there are few.
type quietLog struct {
	logger *slog.Logger

	mu    sync.Mutex
	kinds map[string]*quietKind
}

type quietKind struct {
	next    time.Time
	skipped int
}

func newQuietLog(logger *slog.Logger) *quietLog {
	return &quietLog{logger: logger, kinds: make(map[string]*quietKind)}
}

func (q *quietLog) warn(kind, msg string, attrs ...any) {
	now := time.Now()
	q.mu.Lock()
	k := q.kinds[kind]
	if k == nil {
		k = new(quietKind)
		q.kinds[kind] = k
	}
	if now.Before(k.next) {
		k.skipped++
		q.mu.Unlock()
		return
	}
	skipped := k.skipped
	k.skipped, k.next = 0, now.Add(quietEvery)
	q.mu.Unlock()
	if skipped > 0 {
		attrs = append(attrs, slog.Int(keySkipped, skipped))
	}
	q.logger.Warn(msg, attrs...)
}
