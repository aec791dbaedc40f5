package box

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/update"
)

// openUpdates makes what changes the box's firmware.
func openUpdates(c *config.Config, who *identity, version string, s *site.Site, power *authority, l *ledger, log *slog.Logger) (*update.Runner, error) {
	keys := make([]release.Key, 0, len(c.Update.Keys))
	for _, text := range c.Update.Keys {
		k, err := release.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("box: update.keys: %w", err)
		}
		keys = append(keys, k)
	}
	return update.New(update.Config{
		Dir: c.DataDir, Version: version, Keys: keys, Logger: log, Record: l.Record,
		Machine: update.Look(update.Place{ESP: c.Update.ESP, Slot: c.Update.Slot, Board: c.Update.Board, Reboot: c.Update.Reboot}),
		Self:    func() coord.BoxID { return who.member.ID }, State: func() update.Docs { return s.State() }, View: s.View, Submit: s.Submit,
		Decide: func(ctx context.Context, d *coord.Decision, by operators.By) error { return power.decide(ctx, d, by) },
		AsBox:  power.asBox,
	}), nil
}
