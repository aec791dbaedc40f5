package history

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/store"
)

// BenchmarkSample takes a sample of series like a box's; the metric is what a sample takes in full resolution on the disk.
func BenchmarkSample(b *testing.B) {
	reg, change := many(600)
	dir := b.TempDir()
	d, err := store.OpenSeries(dir, store.SeriesOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	h, err := New(Config{Gatherer: reg, Store: d, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	i := int64(0)
	for b.Loop() {
		b.StopTimer()
		change()
		b.StartTimer()
		h.sampleAt(5000*i, time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC).UnixMilli()+5000*i)
		i++
	}
	bytes, times := int64(0), 0
	for _, x := range h.blocks[0] {
		if n := len(x.at()); x.saved == n && n == segmentTimes {
			bytes += x.bytes
			times += n
		}
	}
	if times > 0 {
		b.ReportMetric(float64(bytes)/float64(times*600), "B/sample")
	}
	if info, err := os.Stat(filepath.Join(dir, "series.db")); err == nil {
		b.ReportMetric(float64(info.Size())/1e6, "MB")
	}
}
