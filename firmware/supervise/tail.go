package supervise

import (
	"bytes"
	"slices"
	"sync"

	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
)

const (
	// tailBytesMax is what is kept of the last lines, and dumpBytesMax of what follows a panic: the first goroutines of a dump say why.
	tailBytesMax = 16 << 10
	dumpBytesMax = 112 << 10
)

// What is kept fits into a report: a line that is not complete yet comes on top.
var _ = [crash.TextBytesMax - 2*tailBytesMax - dumpBytesMax]byte{}

// marks are how Go's runtime begins to say why a program ends.
func marks() [][]byte {
	return [][]byte{[]byte("panic: "), []byte("fatal error: "), []byte("SIGABRT: "), []byte("SIGQUIT: "), []byte("SIGSEGV: "), []byte("unexpected fault address"), []byte("runtime: ")}
}

// tail keeps the end of what a program prints, and of a panic the beginning. Writes come from one goroutine, reads from any.
type tail struct {
	mu   sync.Mutex
	last []byte // at most 2*tailBytesMax
	line []byte // the one that is not complete yet
	dump []byte
	in   bool
}

func newTail() *tail { return &tail{} }

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := b; len(rest) > 0; {
		line := rest
		whole := false
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line, whole = rest[:i+1], true
		}
		rest = rest[len(line):]
		if t.line = append(t.line, line...); !whole && len(t.line) < tailBytesMax {
			continue
		}
		t.take(t.line)
		t.line = t.line[:0]
	}
	return len(b), nil
}

func (t *tail) take(line []byte) {
	if !t.in {
		for _, m := range marks() {
			if bytes.HasPrefix(line, m) {
				t.in = true
			}
		}
	}
	if t.in {
		t.dump = append(t.dump, line[:min(len(line), dumpBytesMax-len(t.dump))]...)
		return
	}
	if t.last = append(t.last, line...); len(t.last) > 2*tailBytesMax {
		t.last = append(t.last[:0], t.last[len(t.last)-tailBytesMax:]...)
	}
}

// text is what is kept; the caller owns it.
func (t *tail) text() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last[max(0, len(t.last)-tailBytesMax):]
	return slices.Concat(last, t.dump, t.line)
}

// dumpAt is where in a kept text the reason of its end begins: at a panic, or else some lines before the end.
func dumpAt(text []byte) int {
	for at := 0; at < len(text); {
		line := text[at:]
		for _, m := range marks() {
			if bytes.HasPrefix(line, m) {
				return at
			}
		}
		i := bytes.IndexByte(line, '\n')
		if i < 0 {
			break
		}
		at += i + 1
	}
	return max(0, len(text)-crashShown/2)
}
