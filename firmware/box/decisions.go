package box

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// outcomesMax bounds the outcomes on their way to the audit log: a box that comes back after long is told of all that the state remembers at
// once.
const outcomesMax = 2 * coord.DecisionSeenMax

// clerk records how the site's decisions ended, and the words that this box gave by itself. What operators do is recorded where they do it.
type clerk struct {
	record func(context.Context, audit.Record) error
	self   coord.BoxID
	log    *slog.Logger
	ended  chan *site.Outcome
}

func newClerk(record func(context.Context, audit.Record) error, self coord.BoxID, log *slog.Logger) *clerk {
	return &clerk{record: record, self: self, log: log, ended: make(chan *site.Outcome, outcomesMax)}
}

// take takes how a decision ended; it does not block.
func (c *clerk) take(o *site.Outcome) {
	select {
	case c.ended <- o:
	default:
		c.log.Warn("the end of a decision was not recorded: too many at once", "id", o.ID.Short(), "outcome", o.Outcome.String())
	}
}

// run records until ctx ends.
func (c *clerk) run(ctx context.Context) {
	for {
		select {
		case o := <-c.ended:
			c.note(ctx, ended(o))
		case <-ctx.Done():
			return
		}
	}
}

// ended is the record of how a decision ended: who asked for it, and what became of it.
func ended(o *site.Outcome) audit.Record {
	r := audit.Record{
		Principal: o.Principal, Action: "decision.end", Resource: "decision:" + o.ID.String(), Outcome: audit.Failed,
		Reason: fmt.Sprintf("%s %s: %v at height %d, %d said yes and %d no", o.Kind, o.Subject, o.Outcome, o.Height, len(o.Yes), len(o.No)),
	}
	if o.Outcome == state.TookEffect {
		r.Action, r.Outcome = "decision.effect", audit.Allowed
	}
	return r
}

// judged makes a judge whose words are recorded; nil stays nil.
func (c *clerk) judged(judge func(*state.Machine, *coord.Decision) site.Judgement, id coord.SiteID) func(*state.Machine, *coord.Decision) site.Judgement {
	if judge == nil {
		return nil
	}
	return func(st *state.Machine, d *coord.Decision) site.Judgement {
		j := judge(st, d)
		if j.Word == site.Wait {
			return j
		}
		r := audit.Record{
			Principal: "box:" + c.self.String(), Action: "decision.approve", Resource: "decision:" + d.Digest(id).String(), Outcome: audit.Allowed,
			Reason: fmt.Sprintf("%s %s, for %s: %s", d.Kind, d.Subject, d.Principal, j.Why),
		}
		if j.Word == site.No {
			r.Action = "decision.refuse"
		}
		c.note(context.Background(), r)
		return j
	}
}

func (c *clerk) note(ctx context.Context, r audit.Record) {
	ctx, cancel := context.WithTimeout(ctx, noteMax)
	defer cancel()
	r.Clip()
	if err := c.record(ctx, r); err != nil && ctx.Err() == nil {
		c.log.Error("a decision was not recorded", "action", r.Action, "on", r.Resource, "err", err)
	}
}
