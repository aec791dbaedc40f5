package box

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/anomalies"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/history"
	"github.com/holdfast-edge/holdfast/firmware/metrics"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// measures are what the box measures of itself, and what it remembers of that.
type measures struct {
	metrics *metrics.Metrics
	history *history.History
	disk    *store.Series
	unusual *anomalies.Watcher
	// of is the site; ready says whether writes are being ordered. Both are set before anything is asked.
	of    *site.Site
	ready func() bool
}

func newMeasures(c *config.Config, who *identity, key *crypt.Key, log *slog.Logger) (*measures, error) {
	m := new(measures)
	var err error
	m.disk, err = store.OpenSeries(c.DataDir, store.SeriesOptions{
		Site: who.members.Site, Box: who.member.ID, BytesMax: int64(c.Metrics.KeepBytes), Key: key, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("box: open history: %w", err)
	}
	m.metrics, err = metrics.New(metrics.Sources{
		View:  func() *site.View { return m.of.View() },
		Ready: func() bool { return m.ready() },
		Root:  "/", Data: c.DataDir,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("box: open metrics: %w", err), m.disk.Close())
	}
	m.unusual = anomalies.New(func(next time.Duration) { m.of.Unusual(next) })
	if err := m.metrics.Register(m.unusual); err != nil {
		return nil, errors.Join(fmt.Errorf("box: open metrics: %w", err), m.disk.Close())
	}
	m.history, err = history.New(history.Config{
		Gatherer: m.metrics, Observe: []history.Observer{m.unusual.Observe}, Interval: time.Duration(c.Metrics.Interval), Store: m.disk, Logger: log,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("box: open history: %w", err), m.disk.Close())
	}
	return m, nil
}

// keeping shows what is kept of traces and samples, and what is left out.
func (m *measures) keeping(t *tracing) error {
	err := m.metrics.Keeping(func() (k metrics.Kept) {
		k.Judged, k.Traces, k.Spared, k.Lost = t.keeper.Counts()
		if t.export != nil {
			x := t.export.Stats()
			k.Exported, k.Dropped, k.Failed = x.Sent, x.Dropped, x.Failed
		}
		k.Samples, k.Writes = m.history.Counts()
		return k
	})
	if err != nil {
		return fmt.Errorf("box: open metrics: %w", err)
	}
	return nil
}
