// Command liarbox is a box that lies: the product as `holdfast run` runs it, with a liar (coord/liar) between it and its
// links. It is honest until SIGUSR1, then it lies as the first of -kind, at the next SIGUSR1 as the next one, and in
// the end it is honest again. tools/chaos builds it and runs it in sites of real boxes.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
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
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "liarbox:", err)
		cancel()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	words := flag.String("kind", string(liar.Chaos), "how to lie: `kinds` of coord/liar, with commas between them")
	file := flag.String("config", "holdfast.toml", "the configuration `file` of the box")
	flag.Parse()
	l := &liarbox{signals: make(chan os.Signal, 1), log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	for word := range strings.SplitSeq(*words, ",") {
		if !slices.Contains(liar.Kinds(), liar.Kind(word)) {
			return fmt.Errorf("-kind %s: there is no liar %q; there are %v", *words, word, liar.Kinds())
		}
		l.kinds = append(l.kinds, liar.Kind(word))
	}
	signal.Notify(l.signals, syscall.SIGUSR1)
	c, err := config.Load(*file)
	if err != nil {
		return err
	}
	l.timeout = time.Duration(c.Timeouts.Round)
	return box.Run(ctx, box.Options{Config: c, Version: "liarbox", Logger: l.log, Wrap: l.wrap})
}

// liarbox is what comes between a box and its links.
type liarbox struct {
	site.Links
	who     box.Wrapped
	kinds   []liar.Kind // still to come
	signals chan os.Signal
	timeout time.Duration
	log     *slog.Logger
	began   time.Time

	mu  sync.Mutex
	now *liar.Liar // nil: honest
}

func (l *liarbox) wrap(w box.Wrapped, connect box.Connect) box.Connect {
	return func(h site.Handlers) (site.Links, error) {
		l.who, l.began = w, time.Now()
		deliver := h.Message
		h.Message = func(from coord.BoxID, m *coord.PeerMsg) {
			l.lie(func(x *liar.Liar) []liar.Send { return x.In(w.Members.Index(from), m) })
			deliver(from, m)
		}
		var err error
		l.Links, err = connect(h)
		return l, err
	}
}

// Run lets the links run, and becomes another liar at every signal.
func (l *liarbox) Run(ctx context.Context) error {
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.signals:
				l.next()
			}
		}
	}()
	return l.Links.Run(ctx)
}

func (l *liarbox) next() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = nil
	if len(l.kinds) == 0 {
		l.log.Warn("honest again")
		return
	}
	l.now = liar.New(l.kinds[0], liar.Config{
		Self: l.who.Self, Members: l.who.Members, Keys: l.who.Keys, Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Timeout: l.timeout, TermRounds: site.TermRounds,
	})
	l.log.Warn("begins to lie", "kind", l.kinds[0])
	l.kinds = l.kinds[1:]
}

// Send sends what the liar makes of p.
func (l *liarbox) Send(p coord.Parcel) {
	o := coord.Out{To: coord.ToAll, Msg: p.Msg}
	if p.To != (coord.BoxID{}) {
		o.To = l.who.Members.Index(p.To)
	}
	if !l.lie(func(x *liar.Liar) []liar.Send { return x.Out(o, time.Since(l.began).Nanoseconds()) }) {
		l.Links.Send(p)
	}
}

// lie sends what fn gives, unless the box is honest; it says whether it lied.
func (l *liarbox) lie(fn func(*liar.Liar) []liar.Send) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		return false
	}
	for _, s := range fn(l.now) {
		p := coord.Parcel{To: l.who.Members.List[s.To].ID, Msg: s.Msg}
		if s.After == 0 {
			l.Links.Send(p)
		} else {
			time.AfterFunc(s.After, func() { l.Links.Send(p) })
		}
	}
	return true
}
