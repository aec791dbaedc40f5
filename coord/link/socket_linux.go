package link

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// notSentBytes bounds what the kernel takes beyond what it can send (TCP_NOTSENT_LOWAT): the rest waits in our
// queue, where the least needed can be dropped and a ping can overtake.
const notSentBytes = 128 << 10

// tuneSocket sets what matters to us on a TCP socket; on anything else, or where the kernel refuses, the
// connection works without: heartbeats find what TCP_USER_TIMEOUT would.
func tuneSocket(conn net.Conn, dead time.Duration) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(dead.Milliseconds()))
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentBytes)
	})
}
