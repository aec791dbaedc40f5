//go:build !linux

package link

import (
	"net"
	"time"
)

// tuneSocket: the product runs on Linux; elsewhere, for development, the heartbeats do.
func tuneSocket(conn net.Conn, _ time.Duration) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
	}
}
