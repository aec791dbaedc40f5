// Command liarbox runs a real box that lies: `holdfast run` in all but what it says to the other boxes, which goes
// through coord/liar. It is for tools/chaos; a site with more than f of them has no promises.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "liarbox:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	kind := flag.String("kind", "", "how it lies: one of coord/liar's `kinds`")
	file := flag.String("config", "", "the box's configuration `file`")
	flag.Parse()
	if !slices.Contains(liar.Kinds(), liar.Kind(*kind)) {
		return fmt.Errorf("-kind %q; it is one of %v", *kind, liar.Kinds())
	}
	if *file == "" {
		return errors.New("-config is missing")
	}
	c, err := config.Load(*file)
	if err != nil {
		return err
	}
	return box.Run(ctx, box.Options{
		Config: c, Version: "liar", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Wrap: func(w box.Wrapped, connect box.Connect) box.Connect {
			x := &lies{start: time.Now(), l: liar.New(liar.Kind(*kind), liar.Config{
				Self: w.Self, Members: w.Members, Keys: w.Keys, Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
				Timeout: time.Duration(c.Timeouts.Round), TermRounds: site.TermRounds,
			})}
			return func(h site.Handlers) (site.Links, error) {
				hear := h.Message
				h.Message = func(from int, m *coord.PeerMsg) {
					x.in(from, m)
					hear(from, m)
				}
				links, err := connect(h)
				if err != nil {
					return nil, err
				}
				x.mu.Lock()
				defer x.mu.Unlock()
				x.Links = links
				return x, nil
			}
		},
	})
}

// lies are links behind which a liar stands.
type lies struct {
	site.Links
	start time.Time
	mu    sync.Mutex
	l     *liar.Liar
}

// Send says something else than o, perhaps.
func (x *lies) Send(o coord.Out) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.say(x.l.Out(o, int64(time.Since(x.start))))
}

func (x *lies) in(from int, m *coord.PeerMsg) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.Links != nil {
		x.say(x.l.In(from, m))
	}
}

func (x *lies) say(sends []liar.Send) {
	for _, s := range sends {
		o := coord.Out{To: s.To, Msg: s.Msg}
		if s.After == 0 {
			x.Links.Send(o)
		} else {
			time.AfterFunc(s.After, func() { x.Links.Send(o) })
		}
	}
}
