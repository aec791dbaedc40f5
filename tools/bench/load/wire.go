package load

import (
	"net"
	"sync"
	"time"
)

const (
	chunkBytes = 64 << 10
	// chunksQueued bounds what is on its way in one direction: 64 MiB, more than a link of the site has under way.
	chunksQueued = 1024
)

// wire carries the connections that one box makes to another, and takes its time.
type wire struct {
	listener net.Listener
	target   string
	delay    time.Duration
	running  sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

func newWire(listen, target string, delay time.Duration) (*wire, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, target: target, delay: delay, conns: map[net.Conn]bool{}}
	w.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			w.running.Go(func() { w.carry(c) })
		}
	})
	return w, nil
}

// carry joins c with the target until either ends.
func (w *wire) carry(c net.Conn) {
	defer w.drop(c)
	to, err := net.Dial("tcp", w.target)
	if err != nil {
		return // the dialler sees its connection close
	}
	defer w.drop(to)
	if !w.keep(c) || !w.keep(to) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.pump(c, to) })
	both.Go(func() { w.pump(to, c) })
	both.Wait()
}

func (w *wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c] = true
	return !w.closed
}

func (w *wire) drop(c net.Conn) {
	w.mu.Lock()
	delete(w.conns, c)
	w.mu.Unlock()
	_ = c.Close() // its end is what ends the other
}

type chunk struct {
	bytes []byte
	due   time.Time
}

// pump moves bytes in one direction, each chunk after the delay.
func (w *wire) pump(from, to net.Conn) {
	queue := make(chan chunk, chunksQueued)
	var writing sync.WaitGroup
	writing.Go(func() {
		for c := range queue {
			time.Sleep(time.Until(c.due))
			if _, err := to.Write(c.bytes); err != nil {
				break
			}
		}
		_, _ = from.Close(), to.Close() // both ways end together
		for range queue {               // wakes the reader
		}
	})
	for {
		buf := make([]byte, chunkBytes)
		n, err := from.Read(buf)
		if n > 0 {
			queue <- chunk{buf[:n], time.Now().Add(w.delay)}
		}
		if err != nil {
			break
		}
	}
	close(queue)
	writing.Wait()
}

func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	for c := range w.conns {
		_ = c.Close() // ends its pumps
	}
	w.mu.Unlock()
	_ = w.listener.Close()
	w.running.Wait()
}
