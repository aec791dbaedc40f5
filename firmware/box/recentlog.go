package box

import (
	"io"
	"log/slog"
	"sync"
)

// recentBytes bounds the lines of the log that are kept in memory for `holdfast support-bundle`: some thousand.
const recentBytes = 512 << 10

// recentLog keeps the newest lines that were logged, for whoever has no other log at hand. It may be used by many goroutines.
type recentLog struct {
	mu    sync.Mutex
	lines [][]byte
	bytes int
}

// beside logs what log does, and keeps it.
func (r *recentLog) beside(log *slog.Logger) *slog.Logger {
	return slog.New(slog.NewMultiHandler(log.Handler(), slog.NewTextHandler(r, nil)))
}

// Write takes one line, as slog's handlers write them.
func (r *recentLog) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, append([]byte(nil), line[:min(len(line), recentBytes)]...))
	r.bytes += len(r.lines[len(r.lines)-1])
	for r.bytes > recentBytes {
		r.bytes -= len(r.lines[0])
		r.lines[0] = nil
		r.lines = r.lines[1:]
	}
	return len(line), nil
}

// writeTo writes what is kept, oldest first.
func (r *recentLog) writeTo(w io.Writer) error {
	r.mu.Lock()
	lines := append([][]byte(nil), r.lines...) // the lines themselves are never changed
	r.mu.Unlock()
	for _, l := range lines {
		if _, err := w.Write(l); err != nil {
			return err
		}
	}
	return nil
}
