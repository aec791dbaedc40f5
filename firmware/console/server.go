package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits of the server. A console is for a few people and programs; whoever needs more
// than these is doing something else.
const (
	headerBytesMax    = 16 << 10         // browsers send about 1 KiB
	readHeaderTimeMax = 5 * time.Second  // a slow phone sends its header in one round trip
	writeTimeMax      = 30 * time.Second // for one page; longer answers extend it as they go on
	idleTimeMax       = 60 * time.Second // between a page and the next
)

// Serve answers on all listeners until ctx ends, then lets requests finish for at most drain.
// Together they hold at most connectionsMax connections; who comes then gets the place of one who keeps the box waiting
// (door). Serve closes the listeners. It returns nil after a stop that ctx asked for.
func (c *Console) Serve(ctx context.Context, drain time.Duration, connectionsMax int, listeners ...net.Listener) error {
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	srv := &http.Server{
		Handler:           hearOut(c.handler),
		ReadHeaderTimeout: readHeaderTimeMax,
		ReadTimeout:       readHeaderTimeMax,
		WriteTimeout:      writeTimeMax,
		IdleTimeout:       idleTimeMax,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(c.cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ConnContext:       withGuest,
	}
	places := newDoor(connectionsMax)
	srv.ConnState = places.state
	srv.RegisterOnShutdown(cancelRequests) // event streams end with it
	failed := make(chan error, len(listeners))
	var wg sync.WaitGroup
	for _, l := range listeners {
		wg.Go(func() {
			failed <- srv.Serve(&limited{Listener: l, door: places, closed: make(chan struct{})})
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("console: serve: %w", err)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if e := srv.Shutdown(stop); e != nil {
		c.cfg.Logger.Info("console requests were cut off", "err", e)
		err = errors.Join(err, srv.Close())
	}
	wg.Wait()
	return err
}

// limited accepts connections through a door.
type limited struct {
	net.Listener
	door   *door
	once   sync.Once
	closed chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g, ok := l.door.enter(conn, l.closed)
	if !ok {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	return g, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
