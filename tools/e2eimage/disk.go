package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
)

// disk is a file that QEMU has as a block device over NBD (its protocol document, fixed newstyle). It has a cache as disks have one: what was
// written is on the medium when it was flushed, and a power cut leaves of the rest any part, sector by sector, in any order.
type disk struct {
	file *os.File
	size int64

	mu    sync.Mutex
	dirty map[int64][]byte // by sector: not flushed yet
	off   bool             // the power is off: nothing is taken any more
	fails chan struct{}    // closed when the power fails in the middle of a write; nil: it does not
	left  int              // how many writes are taken before that
	cut   int              // cuts so far, and how many sectors they lost
	lost  int
	wait  sync.WaitGroup
}

const (
	sector      = 512
	nbdMagic    = 0x4e42444d41474943
	nbdOption   = 0x49484156454f5054
	nbdReply    = 0x3e889045565a9
	nbdRequest  = 0x25609513
	nbdAnswer   = 0x67446698
	nbdFlags    = 1 | 1<<2 | 1<<3 // has flags, flush, FUA
	requestMax  = 64 << 20
	dirtyMax    = 64 << 20 / sector // what a drive remembers; more is written through
	errorNBD    = 22
	unsupported = 1<<31 | 1
)

func openDisk(name string) (*disk, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &disk{file: f, size: st.Size(), dirty: map[int64][]byte{}}, nil
}

// serve takes one connection after the other on a unix socket until the listener is closed.
func (d *disk) serve(socket string) (net.Listener, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	d.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.wait.Go(func() {
				_ = d.talk(c) // it ends when QEMU does
				c.Close()
			})
		}
	})
	return l, nil
}

func (d *disk) talk(c net.Conn) error {
	be := binary.BigEndian
	hello := be.AppendUint64(nil, nbdMagic)
	hello = be.AppendUint64(hello, nbdOption)
	hello = be.AppendUint16(hello, 3) // fixed newstyle, no zeroes
	if _, err := c.Write(hello); err != nil {
		return err
	}
	var b [16]byte
	if _, err := io.ReadFull(c, b[:4]); err != nil {
		return err
	}
	for {
		if _, err := io.ReadFull(c, b[:16]); err != nil {
			return err
		}
		option, n := be.Uint32(b[8:]), be.Uint32(b[12:])
		if n > 4096 {
			return errors.New("option too long")
		}
		if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
			return err
		}
		if option == 1 { // NBD_OPT_EXPORT_NAME
			a := be.AppendUint64(nil, uint64(d.size))
			if _, err := c.Write(be.AppendUint16(a, nbdFlags)); err != nil {
				return err
			}
			break
		}
		a := be.AppendUint64(nil, nbdReply)
		a = be.AppendUint32(a, option)
		a = be.AppendUint32(a, unsupported)
		if _, err := c.Write(be.AppendUint32(a, 0)); err != nil {
			return err
		}
	}
	return d.transmit(c)
}

func (d *disk) transmit(c net.Conn) error {
	be := binary.BigEndian
	var h [28]byte
	for {
		if _, err := io.ReadFull(c, h[:]); err != nil {
			return err
		}
		flags, kind, handle := be.Uint16(h[4:]), be.Uint16(h[6:]), h[8:16]
		at, n := int64(be.Uint64(h[16:])), int64(be.Uint32(h[24:]))
		if be.Uint32(h[:]) != nbdRequest || n > requestMax {
			return errors.New("bad request")
		}
		var data []byte
		if kind == 1 {
			data = make([]byte, n)
			if _, err := io.ReadFull(c, data); err != nil {
				return err
			}
		}
		if kind == 2 {
			return nil
		}
		answer, err := d.do(kind, at, n, data)
		if err == nil && flags&1 != 0 {
			_, err = d.do(3, 0, 0, nil)
		}
		code := uint32(0)
		if err != nil {
			code, answer = errorNBD, nil
		}
		a := be.AppendUint32(nil, nbdAnswer)
		a = be.AppendUint32(a, code)
		a = append(a, handle...)
		if _, err := c.Write(append(a, answer...)); err != nil {
			return err
		}
	}
}

func (d *disk) do(kind uint16, at, n int64, data []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil, errors.New("no power")
	}
	if at < 0 || at+n > d.size || at%sector != 0 || n%sector != 0 {
		return nil, fmt.Errorf("%d bytes at %d", n, at)
	}
	switch kind {
	case 0:
		b := make([]byte, n)
		if _, err := d.file.ReadAt(b, at); err != nil {
			return nil, err
		}
		for i := range n / sector {
			if s := d.dirty[at/sector+i]; s != nil {
				copy(b[i*sector:], s)
			}
		}
		return b, nil
	case 1:
		for i := range n / sector {
			d.dirty[at/sector+i] = data[i*sector : (i+1)*sector]
		}
		if d.fails != nil {
			if d.left--; d.left < 0 {
				d.off = true
				close(d.fails)
				d.fails = nil
				return nil, errors.New("no power")
			}
		}
		if len(d.dirty) > dirtyMax {
			return nil, d.flush()
		}
		return nil, nil
	case 3:
		return nil, d.flush()
	}
	return nil, errors.New("unknown request")
}

func (d *disk) flush() error {
	for _, s := range slices.Sorted(maps.Keys(d.dirty)) {
		if _, err := d.file.WriteAt(d.dirty[s], s*sector); err != nil {
			return err
		}
		delete(d.dirty, s)
	}
	return nil
}

// failWriting has the power fail in a write, after some others; the channel is closed then.
func (d *disk) failWriting(after int) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails, d.left = make(chan struct{}), after
	return d.fails
}

// powerOff ends the medium's power: of what was not flushed each sector is there or not, as r says.
func (d *disk) powerOff(r *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	d.fails = nil
	d.cut++
	share := r.Float64()
	for _, s := range slices.Sorted(maps.Keys(d.dirty)) {
		if r.Float64() < share {
			if _, err := d.file.WriteAt(d.dirty[s], s*sector); err != nil {
				return err
			}
		} else {
			d.lost++
		}
		delete(d.dirty, s)
	}
	return nil
}

func (d *disk) powerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = false
}
