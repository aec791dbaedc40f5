package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

const (
	// memoryGrowthMax is what a victim may use more while it is fed garbage: the frames in its buffers.
	memoryGrowthMax = 64 << 20
	garbageFrames   = 600
	garbageTimeMax  = 15 * time.Second
	frameHello      = 1
	frameMessage    = 4
)

// garbage stops a box and sends with its key what no box sends.
func garbage(ctx context.Context, t *trial) error {
	liar, victim := t.site.boxes[1], t.site.boxes[2]
	liar.kill()
	id, err := trust.LoadOrCreate(liar.dir)
	if err != nil {
		return err
	}
	members, err := trust.LoadMembers(liar.dir)
	if err != nil {
		return err
	}
	before, err := victim.memory()
	if err != nil {
		return err
	}
	since, peak, links, turnedAway := t.load.now(), before, 0, 0
	var conn *tls.Conn
	end, n := time.Now().Add(garbageTimeMax), 0
	for ; n < garbageFrames && time.Now().Before(end) && ctx.Err() == nil; n++ {
		if conn == nil {
			if conn, err = join(victim.peer, id, members); err != nil {
				turnedAway++ // it has had enough of us, for a while
				n--          // not sent
				sleep(ctx, 50*time.Millisecond)
				continue
			}
			links++
		}
		if _, err := conn.Write(badFrame(n)); err != nil || n%20 == 0 && refused(conn) {
			_ = conn.Close() // the victim has closed it
			conn = nil
		}
		if n%10 == 0 {
			if rss, err := victim.memory(); err == nil {
				peak = max(peak, rss)
			}
		}
	}
	if conn != nil {
		_ = conn.Close()
	}
	v, err := victim.view(ctx)
	if err != nil {
		return err
	}
	t.note("%d frames in %v; resident %d MiB before, at most %d MiB; %d bad messages, suspected %d times, %d links, %d turned away", n, garbageTimeMax, before>>20, peak>>20, v.Counters.BadMessages, v.Members[1].Suspect, links, turnedAway)
	if links == 0 {
		return errors.New("no link as box-1: nothing was tried")
	}
	if peak-before > memoryGrowthMax {
		err = errors.New("the victim's memory grew too much")
	}
	if v.Members[1].Suspect == 0 && v.Counters.BadMessages == 0 {
		err = errors.Join(err, errors.New("nobody counted the garbage"))
	}
	if p := t.load.pause(since, t.load.now()); p > backTime {
		err = errors.Join(err, fmt.Errorf("writes paused for %v", p))
	}
	_, back := t.back(ctx, liar, rejoin)
	return errors.Join(err, back)
}

// join links to a box as coord/link does (its doc.go has the bytes) and says hello.
func join(address string, id *trust.Identity, m *coord.Members) (*tls.Conn, error) {
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: askTimeMax}, Config: &tls.Config{
		Certificates: []tls.Certificate{id.Certificate()}, NextProtos: []string{"holdfast-peer/1"}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, // we are the one that is not to be trusted
	}}
	c, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	conn := c.(*tls.Conn)
	box := id.ID()
	body := append([]byte(nil), m.Site[:]...)
	body = binary.BigEndian.AppendUint64(body, m.Epoch)
	body = append(body, box[:]...)
	body = binary.BigEndian.AppendUint64(body, rand.Uint64())
	body = append(body, 0, 1, 0, 1)
	if _, err := conn.Write(frame(frameHello, body)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := conn.SetReadDeadline(time.Now().Add(askTimeMax)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil || head[4] != frameHello {
		return nil, errors.Join(fmt.Errorf("no hello: %w", err), conn.Close())
	}
	rest := make([]byte, min(binary.BigEndian.Uint32(head[:4]), 4096)-1)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func frame(kind byte, body []byte) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(len(body)+1))
	return append(append(f, kind), body...)
}

func badFrame(n int) []byte {
	switch n % 5 {
	case 0: // noise
		body := make([]byte, 1+rand.N(2000))
		for i := range body {
			body[i] = byte(rand.Uint32())
		}
		return frame(frameMessage, body)
	case 1: // a length beyond every limit, and nothing behind it
		return []byte{0xff, 0xff, 0xff, 0xff, frameMessage}
	case 2: // a bomb: a snappy block that says it becomes 4 GiB, in copies of 64 bytes for 3 each
		body := []byte{byte(1 + rand.N(12)), 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 'x'}
		for range 20000 {
			body = append(body, 63<<2|2, 1, 0)
		}
		return frame(frameMessage, body)
	case 3: // msgpack that announces 2^32-1 elements, for every kind of message
		return frame(frameMessage, []byte{byte(1 + rand.N(12)), 0xdd, 0xff, 0xff, 0xff, 0xff, 0xc6, 0xff, 0xff, 0xff, 0xff})
	default: // an unknown type
		return frame(200, []byte("?"))
	}
}

// refused says whether the other side has closed the connection.
func refused(conn *tls.Conn) bool {
	if conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)) != nil {
		return true
	}
	var one [1]byte
	_, err := conn.Read(one[:])
	var late net.Error
	return err != nil && (!errors.As(err, &late) || !late.Timeout())
}
