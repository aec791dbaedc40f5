package box

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/history"
)

// shipped is the expression of a rule that ships.
func shipped(t *testing.T, name string) string {
	t.Helper()
	rules, err := alarms.ParseRules(alarms.BuiltinText(), "", history.Check)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if r.Name == name {
			return r.Expr
		}
	}
	t.Fatalf("no rule %s ships", name)
	return ""
}

func TestABoxThatIsAwayIsNotToldOfAsASlowLinkToo(t *testing.T) {
	expr := shipped(t, "HoldfastPeerDrops")
	for name, tt := range map[string]struct {
		up   float64 // of the member to whose queue messages do not fit
		want int
	}{
		"a link that is slow": {1, 1},
		"a box that is away":  {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewRegistry()
				up := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "coord_member_up"}, []string{"member"})
				dropped := prometheus.NewCounter(prometheus.CounterOpts{Name: "coord_peer_messages_dropped_total"})
				reg.MustRegister(up, dropped)
				up.WithLabelValues("box-0").Set(1)
				up.WithLabelValues("box-1").Set(tt.up)
				h, err := history.New(history.Config{Gatherer: reg, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- h.Run(ctx) }()
				for range 600 {
					dropped.Add(50)
					time.Sleep(time.Second)
				}
				answer, err := h.Instant(ctx, expr, time.Time{})
				if err != nil || len(answer) != tt.want {
					t.Errorf("%v, %v: %d are to be told of", answer, err, tt.want)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
