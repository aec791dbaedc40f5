package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
	"golang.org/x/sys/unix"
)

// receiveCPUsMax bounds the sockets of a port: a filter has a word or two for each.
const receiveCPUsMax = 128

// Sockets says how sockets are made. The zero value makes ordinary ones.
type Sockets struct {
	// CPUs gives a listening port one socket for each of these CPUs (SO_REUSEPORT): the kernel hands a
	// connection to the socket of the CPU on which its first packet came in, or by its hash to any if that is none of
	// these. Each has an accept queue of its own. One CPU or none is one ordinary socket.
	CPUs hal.CPUs
	// BusyPoll is how long a receive may look at the device's queue itself instead of waiting for the interrupt
	// (SO_BUSY_POLL, man 7 socket); more than net.core.busy_read takes CAP_NET_ADMIN. Accepted
	// connections inherit it.
	BusyPoll time.Duration
}

// Try says whether the kernel takes what every socket gets.
func (s *Sockets) Try() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("linux: socket: %w", err)
	}
	return errors.Join(s.set(fd), unix.Close(fd))
}

// Control sets what every socket gets; it is for net.Dialer and net.ListenConfig.
func (s *Sockets) Control(_, _ string, c syscall.RawConn) error {
	return control(c, s.set)
}

func (s *Sockets) set(fd int) error {
	if s.BusyPoll <= 0 {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUSY_POLL, int(s.BusyPoll.Microseconds())); err != nil {
		return fmt.Errorf("linux: SO_BUSY_POLL of %v: %w; more than net.core.busy_read takes CAP_NET_ADMIN", s.BusyPoll, err)
	}
	return nil
}

func control(c syscall.RawConn, do func(fd int) error) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = do(int(fd)) }), err)
}

// Listen listens at a TCP address.
func (s *Sockets) Listen(ctx context.Context, address string) (net.Listener, error) {
	// A listener of Go speaks multipath TCP unless told otherwise, and that has neither steering nor busy polling
	// that is inherited.
	lc := net.ListenConfig{Control: s.Control}
	lc.SetMultipathTCP(false)
	if len(s.CPUs) < 2 {
		return lc.Listen(ctx, "tcp", address)
	}
	if len(s.CPUs) > receiveCPUsMax {
		return nil, fmt.Errorf("linux: %d receive sockets, at most %d: %w", len(s.CPUs), receiveCPUsMax, errors.ErrUnsupported)
	}
	// SO_REUSEPORT lets another process of the same user listen here too, and take half of the connections: an
	// ordinary socket finds out first whether the port is free.
	first, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	address = first.Addr().String() // the port, if the kernel chose it
	if err := first.Close(); err != nil {
		return nil, fmt.Errorf("linux: listen: %w", err)
	}
	lc.Control = func(network, address string, c syscall.RawConn) error {
		return errors.Join(s.Control(network, address, c), control(c, func(fd int) error {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				return fmt.Errorf("linux: SO_REUSEPORT: %w", err)
			}
			return nil
		}))
	}
	r := &Receivers{conns: make(chan net.Conn), done: make(chan struct{})}
	for _, cpu := range s.CPUs {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.each = append(r.each, &receiver{Listener: l, cpu: cpu})
	}
	if err := r.steer(s.CPUs); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	for _, l := range r.each {
		r.running.Go(func() { r.accept(l) })
	}
	return r, nil
}

// Receivers are the listening sockets of one port, as one listener.
type Receivers struct {
	each    []*receiver
	conns   chan net.Conn
	done    chan struct{}
	close   sync.Once
	running sync.WaitGroup
	failed  atomic.Pointer[error]
}

type receiver struct {
	net.Listener
	cpu         int
	taken, home atomic.Int64
}

// steer attaches a classic BPF program (Documentation/networking/filter.rst, SO_ATTACH_REUSEPORT_CBPF of man 7
// socket) that gives the place of the socket for the CPU that it runs on, and for others a place that there is not: then
// the kernel chooses by hash. SO_INCOMING_CPU on the sockets does the same only since Linux 6.2.
func (r *Receivers) steer(cpus hal.CPUs) error {
	const none = 1 << 16
	// The extension SKF_AD_CPU at offset SKF_AD_OFF loads the current CPU's number.
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfADOff + skfADCPU}}
	for place, cpu := range cpus {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(cpu), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(place)})
	}
	prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: none})
	sc, ok := r.each[0].Listener.(syscall.Conn)
	if !ok {
		return fmt.Errorf("linux: steer: %w", errors.ErrUnsupported)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return fmt.Errorf("linux: steer: %w", err)
	}
	return control(raw, func(fd int) error {
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
			return fmt.Errorf("linux: SO_ATTACH_REUSEPORT_CBPF: %w", err)
		}
		return nil
	})
}

// Of linux/filter.h; not in x/sys.
const (
	skfADOff = 0xfffff000 // -0x1000
	skfADCPU = 36
)

func (r *Receivers) accept(l *receiver) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
				select {
				case <-time.After(acceptPause): // as net/http waits: descriptors come back
					continue
				case <-r.done:
					return
				}
			}
			r.failed.CompareAndSwap(nil, &err)
			_ = r.Close() // the error is said by Accept
			return
		}
		l.taken.Add(1)
		if cpu, err := incomingCPU(conn); err == nil && cpu == l.cpu {
			l.home.Add(1)
		}
		select {
		case r.conns <- conn:
		case <-r.done:
			_ = conn.Close() // nobody will serve it
			return
		}
	}
}

const acceptPause = 50 * time.Millisecond

func incomingCPU(conn net.Conn) (cpu int, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	return cpu, control(raw, func(fd int) (err error) {
		cpu, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_INCOMING_CPU)
		return err
	})
}

// Accept waits for a connection of any of the sockets.
func (r *Receivers) Accept() (net.Conn, error) {
	select {
	case c := <-r.conns:
		return c, nil
	case <-r.done:
		if err := r.failed.Load(); err != nil {
			return nil, *err
		}
		return nil, net.ErrClosed
	}
}

// Close closes all sockets; a waiting Accept returns.
func (r *Receivers) Close() (err error) {
	r.close.Do(func() {
		close(r.done)
		for _, l := range r.each {
			err = errors.Join(err, l.Listener.Close())
		}
	})
	return err
}

// Addr is the port's address.
func (r *Receivers) Addr() net.Addr { return r.each[0].Addr() }

// Taken is what the sockets have accepted so far.
func (r *Receivers) Taken() []Taken {
	all := make([]Taken, len(r.each))
	for i, l := range r.each {
		all[i] = Taken{l.cpu, int(l.taken.Load()), int(l.home.Load())}
	}
	return all
}

// Taken is what one receive socket has accepted.
type Taken struct {
	CPU         int // whose connections it is for
	Connections int
	// Home are those of them whose packets came in on that CPU (SO_INCOMING_CPU), seen right after they were accepted:
	// the proof that steering has its effect.
	Home int
}

// Polled says whether the device that a connection's packets come in on has a queue that can be polled: its NAPI
// ID (SO_INCOMING_NAPI_ID). Loopback has none, and takes SO_BUSY_POLL all the same.
func Polled(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	id := 0
	err = control(raw, func(fd int) (err error) {
		id, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_INCOMING_NAPI_ID)
		return err
	})
	return err == nil && id > 0
}
