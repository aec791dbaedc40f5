package link_test

import (
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/link"
)

func echoPair(b *testing.B) (client *box, answers chan struct{}) {
	s := newSite(b, 2)
	answers = make(chan struct{}, 1<<16)
	client = s.start(0, func(c *link.Config) {
		c.OnMessage = func(coord.BoxID, *coord.PeerMsg, int) { answers <- struct{}{} }
	})
	var server *box
	ready := make(chan struct{})
	server = s.start(1, func(c *link.Config) {
		c.OnMessage = func(_ coord.BoxID, m *coord.PeerMsg, _ int) {
			<-ready
			server.send(0, m)
		}
	})
	close(ready)
	client.waitChange(1, true)
	server.waitChange(0, true)
	return client, answers
}

// BenchmarkRoundTrip is a message of 200 bytes there and back: encode, TLS, TCP, decode, twice.
func BenchmarkRoundTrip(b *testing.B) {
	client, answers := echoPair(b)
	m := batch(1, 200)
	b.ReportAllocs()
	for b.Loop() {
		client.send(1, m)
		<-answers
	}
}

// BenchmarkThroughput is frames of 20 KiB one way, with at most 64 under way.
func BenchmarkThroughput(b *testing.B) {
	s := newSite(b, 2)
	window := make(chan struct{}, 64)
	a := s.start(0)
	c := s.start(1, func(c *link.Config) { c.OnMessage = func(coord.BoxID, *coord.PeerMsg, int) { <-window } })
	a.waitChange(1, true)
	c.waitChange(0, true)
	m := batch(1, 20<<10)
	b.SetBytes(20 << 10)
	b.ReportAllocs()
	for b.Loop() {
		window <- struct{}{}
		a.send(1, m)
	}
	a.until(1, "written", func(p link.PeerState) bool { return p.WaitingFrames == 0 })
}

// BenchmarkIdle is the CPU time that a box with three peers takes to keep its links: run it with -benchtime=20s
// four boxes run in the process.
func BenchmarkIdle(b *testing.B) {
	s := newSite(b, 4)
	boxes := []*box{s.start(0), s.start(1), s.start(2), s.start(3)}
	for i, b := range boxes {
		for p := range boxes {
			if p != i {
				b.until(p, "up", func(p link.PeerState) bool { return p.Up })
			}
		}
	}
	before, began := cpuTime(b), time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric(100*float64(cpuTime(b)-before)/float64(time.Since(began))/4, "%core/box")
}
