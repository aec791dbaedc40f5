package link_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/link"
)

func TestAConfigurationThatCannotBeIsRefused(t *testing.T) {
	s := newSite(t, 2)
	good := link.Config{
		Members: s.members, Self: 1, Certificate: s.certs[1], Listener: s.listeners[1],
		OnMessage: func(coord.BoxID, *coord.PeerMsg, int) {},
	}
	if _, err := link.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*link.Config){
		"no members":            func(c *link.Config) { c.Members = nil },
		"too many members":      func(c *link.Config) { c.Members = &coord.Members{List: make([]coord.Member, 33)} },
		"not in the site":       func(c *link.Config) { c.Self = 2 },
		"before the site":       func(c *link.Config) { c.Self = -1 },
		"no listener":           func(c *link.Config) { c.Listener = nil },
		"nobody listens":        func(c *link.Config) { c.OnMessage = nil },
		"another's certificate": func(c *link.Config) { c.Certificate = s.certs[0] },
		"no certificate":        func(c *link.Config) { c.Certificate.Certificate = nil },
		"a damaged certificate": func(c *link.Config) { c.Certificate.Certificate = [][]byte{{1, 2}} },
		"a negative time":       func(c *link.Config) { c.Drain = -1 },
		"a negative size":       func(c *link.Config) { c.QueueBytes = -1 },
		"no loss bearable":      func(c *link.Config) { c.Dead, c.Heartbeat = time.Second, time.Second },
		"back-off upside down":  func(c *link.Config) { c.BackoffMin, c.BackoffMax = 2, 1 },
	} {
		c := good
		change(&c)
		if _, err := link.New(c); !errors.Is(err, link.ErrConfig) {
			t.Errorf("%s: error %v, want ErrConfig", name, err)
		}
	}
}

func TestALinkRunsOnce(t *testing.T) {
	s := newSite(t, 2)
	b := s.start(0)
	b.stop()
	if err := b.link.Run(context.Background()); !errors.Is(err, link.ErrRan) {
		t.Fatalf("error %v, want ErrRan", err)
	}
}

func TestAListenerThatFailsEndsRun(t *testing.T) {
	s := newSite(t, 2)
	l, err := link.New(link.Config{
		Members: s.members, Self: 0, Certificate: s.certs[0], Listener: s.listeners[0],
		OnMessage: func(coord.BoxID, *coord.PeerMsg, int) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.listeners[0].Close()
	if err := l.Run(context.Background()); !errors.Is(err, link.ErrListener) {
		t.Fatalf("error %v, want ErrListener", err)
	}
}
