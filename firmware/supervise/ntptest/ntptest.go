// Package ntptest answers as a time server does, for tests.
package ntptest

import (
	"encoding/binary"
	"net"
	"time"
)

// Server is a time server (RFC 5905). Stratum 0 is a kiss of death; Dispersion is how wrong it says that it may be.
type Server struct {
	Now        func() time.Time
	Stratum    byte
	Dispersion time.Duration
}

// Serve answers until l is closed.
func (s Server) Serve(l net.PacketConn) {
	var q [1024]byte
	for {
		n, from, err := l.ReadFrom(q[:])
		if err != nil {
			return
		}
		if n < 48 || q[0]&7 != 3 { // mode 3, client
			continue
		}
		var a [48]byte
		a[0] = 4<<3 | 4 // version 4, mode 4, server; no leap second
		a[1], a[2], a[3] = s.Stratum, 6, 0xec
		binary.BigEndian.PutUint32(a[8:], uint32(s.Dispersion.Seconds()*65536))
		copy(a[12:], "GPS\x00")
		if s.Stratum == 0 {
			copy(a[12:], "DENY")
		}
		at := s.Now()
		stamp(a[16:], at.Add(-time.Minute))
		copy(a[24:32], q[40:48]) // when the client sent, as it wrote it
		stamp(a[32:], at)
		stamp(a[40:], at)
		if _, err := l.WriteTo(a[:], from); err != nil {
			return
		}
	}
}

// stamp writes seconds since 1900 and 2^-32 of one (figure 3); in 2036 the era begins anew.
func stamp(b []byte, at time.Time) {
	const era = 2208988800
	binary.BigEndian.PutUint32(b, uint32(at.Unix()+era))
	binary.BigEndian.PutUint32(b[4:], uint32(uint64(at.Nanosecond())<<32/1e9))
}
