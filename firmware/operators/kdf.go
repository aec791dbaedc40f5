package operators

import (
	"context"
	"sync"

	"golang.org/x/crypto/argon2"
)

// Params are those of argon2id. They stand in each document, so that a later release may use others.
type Params struct {
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
}

// ParamsDefault are OWASP's second choice of equal strength (Password Storage Cheat Sheet, argon2id: 19 MiB, 2 passes): the box may
// use 64 MiB in all, and RFC 9106's 64 MiB would be that. One thread: a box has other work.
func ParamsDefault() Params { return Params{Time: 2, MemoryKiB: 19 << 10, Threads: 1} }

// Bounds of parameters that a document may ask for: it cannot make a box use all of its memory or a minute.
const (
	timeMax      = 8
	memoryMaxKiB = 32 << 10
	memoryMinKiB = 8
	threadsMax   = 4
	saltBytes    = 16
	keyBytes     = 32
)

func (p Params) ok() bool {
	return p.Time >= 1 && p.Time <= timeMax && p.Threads >= 1 && p.Threads <= threadsMax && p.MemoryKiB >= memoryMinKiB*uint32(p.Threads) && p.MemoryKiB <= memoryMaxKiB
}

// Limits of the queue before the hash.
const (
	// waitingMax is how many strangers may wait for their turn: at some 50 to 500 ms a hash the last waits some seconds.
	waitingMax = 8
	// knownMax is how many of those may wait who have logged in here before, or stand at the box.
	knownMax = 8
)

// hasher does one hash at a time, so that guessing takes neither the box's memory nor more than one of its CPUs. Who waits is
// served in turn, those known before strangers, and one source waits once.
type hasher struct {
	mu             sync.Mutex
	busy           bool
	known, strange []*turn
	sources        map[string]bool // of those that wait or hash
	hash           func(password string, salt []byte, p Params) []byte
}

type turn struct{ now chan struct{} }

func newHasher() *hasher {
	return &hasher{sources: map[string]bool{}, hash: func(password string, salt []byte, p Params) []byte {
		return argon2.IDKey([]byte(password), salt, p.Time, p.MemoryKiB, p.Threads, keyBytes)
	}}
}

// do makes the key of a password. source is who asks; known says that it was here before. Errors: ErrBusy, ctx's.
func (h *hasher) do(ctx context.Context, source string, known bool, password string, salt []byte, p Params) ([]byte, error) {
	if err := h.enter(ctx, source, known); err != nil {
		return nil, err
	}
	defer h.leave(source)
	return h.hash(password, salt, p), nil
}

func (h *hasher) enter(ctx context.Context, source string, known bool) error {
	h.mu.Lock()
	queue, most := &h.strange, waitingMax
	if known {
		queue, most = &h.known, knownMax
	}
	if h.sources[source] || h.busy && len(*queue) >= most {
		h.mu.Unlock()
		return ErrBusy
	}
	h.sources[source] = true
	if !h.busy {
		h.busy = true
		h.mu.Unlock()
		return nil
	}
	t := &turn{make(chan struct{})}
	*queue = append(*queue, t)
	h.mu.Unlock()
	select {
	case <-t.now:
		return nil
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, x := range *queue {
		if x == t {
			*queue = append((*queue)[:i], (*queue)[i+1:]...)
			delete(h.sources, source)
			return ctx.Err()
		}
	}
	h.next() // its turn came at the same moment
	delete(h.sources, source)
	return ctx.Err()
}

func (h *hasher) leave(source string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sources, source)
	h.next()
}

// next gives the turn on; mu is held.
func (h *hasher) next() {
	for _, queue := range []*[]*turn{&h.known, &h.strange} {
		if len(*queue) > 0 {
			t := (*queue)[0]
			*queue = (*queue)[1:]
			close(t.now)
			return
		}
	}
	h.busy = false
}
