package box

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// kernelClock is the time of day, and whether the kernel says that it is synchronised, as chrony, ntpd and systemd-timesyncd tell it.
// A clock that nobody sets proves nothing against whom it differs from.
func kernelClock() (now time.Time, set bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return time.Now(), err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// alarmsMax bounds the alarms on their way to the audit log; there are a few for each member at most.
const alarmsMax = 256

// bell records what the box comes to think of other members.
type bell struct {
	record func(context.Context, audit.Record) error
	self   coord.BoxID
	log    *slog.Logger
	alarms chan *site.Alarm
	expel  *expeller
}

func newBell(record func(context.Context, audit.Record) error, self coord.BoxID, log *slog.Logger) *bell {
	return &bell{record: record, self: self, log: log, alarms: make(chan *site.Alarm, alarmsMax), expel: newExpeller(self, log)}
}

// ring takes an alarm; it does not block.
func (b *bell) ring(a *site.Alarm) {
	select {
	case b.alarms <- a:
	default:
		b.log.Warn("an alarm was not recorded: too many at once", "member", a.Box)
	}
}

// run records alarms, and sees to their consequences, until ctx ends.
func (b *bell) run(ctx context.Context, s *site.Site) {
	var expelling sync.WaitGroup
	defer expelling.Wait()
	expelling.Go(func() { b.expel.run(ctx, s) })
	for {
		select {
		case a := <-b.alarms:
			if a.Proof != nil {
				b.expel.found()
			}
			if err := b.note(ctx, a); err != nil && ctx.Err() == nil {
				b.log.Error("an alarm was not recorded", "member", a.Box, "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (b *bell) note(ctx context.Context, a *site.Alarm) error {
	ctx, cancel := context.WithTimeout(ctx, noteMax)
	defer cancel()
	r := audit.Record{Principal: "box:" + b.self.String(), Resource: "box:" + a.Box.String(), Outcome: audit.Allowed}
	switch {
	case a.Proof != nil:
		r.Action, r.Reason = "trust.evidence", "it is proved, and checked again, that it "
		rule, _, err := trust.CheckFinding(a.Proof)
		if err != nil {
			return err
		}
		r.Reason += rule.String()
	case a.Suspects():
		r.Action, r.Reason = "trust.suspect", a.Change.Why()
	default:
		r.Action = "trust.clear"
	}
	r.Clip()
	return b.record(ctx, r)
}
