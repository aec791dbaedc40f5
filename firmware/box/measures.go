package box

import (
	"fmt"
	"log/slog"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/history"
	"github.com/holdfast-edge/holdfast/firmware/metrics"
)

// measures are what the box measures of itself, and what it remembers of that.
type measures struct {
	metrics *metrics.Metrics
	history *history.History
	// of is the site; ready says whether writes are being ordered. Both are set before anything is asked.
	of    *site.Site
	ready func() bool
}

func newMeasures(log *slog.Logger) (*measures, error) {
	m := new(measures)
	var err error
	m.metrics, err = metrics.New(metrics.Sources{
		View:  func() *site.View { return m.of.View() },
		Ready: func() bool { return m.ready() },
	})
	if err != nil {
		return nil, fmt.Errorf("box: open metrics: %w", err)
	}
	m.history, err = history.New(history.Config{Gatherer: m.metrics, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("box: open history: %w", err)
	}
	return m, nil
}
