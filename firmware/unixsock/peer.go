package unixsock

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ours says whether the process at the other end of c runs as root or as this process's user: what the socket's mode says, asked of
// the kernel for the connection itself (SO_PEERCRED, unix(7)), because a mode can be changed and a socket be bound into a container.
func ours(c net.Conn) error {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("unixsock: a connection of type %T", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return fmt.Errorf("unixsock: %w", err)
	}
	var cred *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return fmt.Errorf("unixsock: %w", err)
	}
	if asked != nil {
		return fmt.Errorf("unixsock: who connects: %w", asked)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("unixsock: user %d is neither root nor the box's own", cred.Uid)
	}
	return nil
}
