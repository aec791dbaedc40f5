// Package unixsock listens on and dials unix sockets that lie in a box's data directory: for their owner and root only, by their mode
// and by what the kernel says of each connection, in paths of any length, and free again after a crash.
package unixsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// pathBytesMax is what fits into sun_path with its final zero (unix(7)).
const pathBytesMax = 107

// socketMode keeps everybody but the owner out: whoever can connect can do everything.
const socketMode = 0o600

// ErrInUse says that another process serves the socket.
var ErrInUse = errors.New("another process serves this socket")

// Listen serves path. A socket that a dead process left behind is replaced; one that somebody
// serves, or a file of another kind, is not. Closing the listener removes the socket. Two
// processes that start at the same moment are kept apart by the lock on the data directory, not here.
//
// Errors: ErrInUse, or what the system says.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := clear(ctx, path); err != nil {
		return nil, err
	}
	short, release, err := Short(path)
	if err != nil {
		return nil, fmt.Errorf("unixsock: listen: %w", err)
	}
	defer release()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", short)
	if err != nil {
		return nil, fmt.Errorf("unixsock: listen: %w", err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // it knows the short name only
	}
	ul := &listener{Listener: l, path: path}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("unixsock: listen: %w", err), ul.Close())
	}
	return ul, nil
}

// Dial connects to path.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	short, release, err := Short(path)
	if err != nil {
		return nil, fmt.Errorf("unixsock: dial: %w", err)
	}
	defer release()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", short)
	if err != nil {
		return nil, fmt.Errorf("unixsock: dial %s: %w", path, err)
	}
	return c, nil
}

type listener struct {
	net.Listener
	path string
}

// Accept gives connections of root and of the box's own user; others are closed without a word.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if ours(c) == nil {
			return c, nil
		}
		_ = c.Close()
	}
}

func (l *listener) Close() error {
	err := l.Listener.Close()
	if rm := os.Remove(l.path); rm != nil && !errors.Is(rm, fs.ErrNotExist) && err == nil {
		err = rm
	}
	return err
}

// clear makes room at path.
func clear(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unixsock: listen: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("unixsock: listen: %s is not a socket; move it away", path)
	}
	c, err := Dial(ctx, path)
	if err == nil {
		return errors.Join(fmt.Errorf("unixsock: listen: %w: %s", ErrInUse, path), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unixsock: listen: %w", err)
	}
	return nil
}

// Short gives a name for path that fits into a socket address, good in this process until release is called.
func Short(path string) (short string, release func(), err error) {
	if len(path) <= pathBytesMax {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	short = filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), filepath.Base(path))
	return short, func() { _ = dir.Close() }, nil // a directory opened for reading: nothing can be lost
}
