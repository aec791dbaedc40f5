package box

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/traces"
	"github.com/holdfast-edge/holdfast/store"
)

// tracing is where the time of batches went: the ring that the ordering writes to, what is kept of it, and where that is sent.
type tracing struct {
	ring   *trace.Ring
	keeper *traces.Keeper
	export *traces.Exporter // nil: nowhere
	disk   *store.Traces
}

func openTracing(c *config.Config, who *identity, version string, log *slog.Logger) (*tracing, error) {
	t := &tracing{ring: trace.NewRing(trace.RingDefault, c.Traces.Sample)}
	keep := traces.Config{Ring: t.ring, Logger: log}
	var err error
	if c.Traces.OTLP != "" {
		t.export, err = traces.NewExporter(traces.ExportConfig{
			URL: c.Traces.OTLP, HeadersFile: c.Traces.HeadersFile, CAFile: c.Traces.CAFile, Logger: log,
			Resource: traces.Resource{Box: who.key.ID(), Name: who.member.Name, Site: who.members.Site, Version: version},
		})
		if err != nil {
			return nil, fmt.Errorf("box: open traces: %w", err)
		}
		keep.Export = t.export.Export
	}
	t.disk, err = store.OpenTraces(c.DataDir, store.TracesOptions{
		Site: who.members.Site, Box: who.key.ID(), BytesMax: int64(c.Traces.KeepBytes), Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("box: open traces: %w", err)
	}
	keep.Disk = t.disk
	t.keeper = traces.New(keep)
	return t, nil
}

// run keeps and exports until ctx ends.
func (t *tracing) run(ctx context.Context) error {
	var export part
	if t.export != nil {
		ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
		export.cancel = stop
		export.done.Go(func() { export.err = t.export.Run(ctx) })
	}
	err := t.keeper.Run(ctx)
	if t.export == nil {
		return err
	}
	if e := export.stop(); err == nil { // after the keeper, whose last traces it sends
		err = e
	}
	return err
}

// traced is a state that is not ahead of what says which batches made it.
type traced struct {
	*base
	keeper *traces.Keeper
}

func (t *traced) Commit(c *coord.Commit) error {
	t.keeper.Durable()
	return t.base.Commit(c)
}
