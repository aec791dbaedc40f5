package native_test

import (
	"context"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// What client, socket and server cost together: the site answers at once.
func BenchmarkStream(b *testing.B) {
	instant := func(r *site.Request) { r.Done(coord.Reply{Height: 1, Results: make([]coord.Result, r.Cols.Len())}) }
	for name, c := range map[string]struct {
		box      func(testing.TB, int, func(*site.Request)) *box
		parallel int
		messages int
	}{
		"unix, one call":             {unixBox, 0, 1},
		"unix, 64 calls":             {unixBox, 32, 1},
		"unix, 64 calls of 100 each": {unixBox, 32, 100},
		"tls, one call":              {tlsBox, 0, 1},
		"tls, 64 calls":              {tlsBox, 32, 1},
	} {
		b.Run(name, func(b *testing.B) {
			x := c.box(b, 0, instant)
			x.start()
			cl := dial(b, client.Config{Endpoints: endpoints(x)})
			one := func() {
				var m client.Messages
				for i := range c.messages {
					m.Observe(uint64(i), 1)
				}
				if _, err := cl.Submit(context.Background(), &m); err != nil {
					b.Error(err)
				}
			}
			b.ReportAllocs()
			if c.parallel == 0 {
				for b.Loop() {
					one()
				}
				return
			}
			b.SetParallelism(c.parallel)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					one()
				}
			})
		})
	}
}
