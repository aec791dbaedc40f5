package box

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/anomaly"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/firmware/anomalies"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/history"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// TestTracesOfAnUnusualTimeAreKept tells a box's watcher of a day in which its decisions took as long as ever, and of a minute in which they took a
// hundred times as long. Before that no trace is kept, since nothing is by chance here; after it each write's is.
func TestTracesOfAnUnusualTimeAreKept(t *testing.T) {
	c := newBox(t)
	c.Traces.Sample = 0
	o := silent(c)
	var watch *anomalies.Watcher
	o.watched = func(w *anomalies.Watcher) { watch = w }
	serving(t, o)
	cl := dial(t, c, "unix://"+c.Native.Socket, coord.BoxID{})
	b, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	kept := func() []api.TraceHead {
		t.Helper()
		got, err := b.Traces(t.Context(), url.Values{"reason": {"anomaly"}})
		if err != nil {
			t.Fatal(err)
		}
		return got.Traces
	}
	put := func(i int) {
		t.Helper()
		if _, err := cl.Put(t.Context(), []byte("key"), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}

	// The box's own samples go on meanwhile: these are of a series that it does not have, and of a time that is to come.
	at, r := time.Now().Add(time.Hour), rand.New(rand.NewPCG(5, 6))
	took := &history.Info{ID: 1 << 30, Name: "coord_test_seconds"}
	run := func(steps int, usual float64) {
		for range steps {
			at = at.Add(anomaly.Step)
			watch.Observe(at, []history.Scraped{{Info: took, Value: usual * (1 + 0.1*r.NormFloat64())}})
		}
	}
	put(1)
	run(24*3600/int(anomaly.Step/time.Second), 0.005)
	put(2)
	usual := time.Now()
	run(4, 0.5)
	for i := 3; len(kept()) == 0; i++ { // until the keeper has written one
		put(i)
	}
	for _, tr := range kept() {
		if tr.Start.Before(usual) || !slices.Contains(tr.Reasons, "anomaly") {
			t.Errorf("%+v is kept, nothing was unusual before %v", tr, usual)
		}
	}
	if err := cl.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAProgramsTraceGoesOnInTheBox(t *testing.T) {
	c := newBox(t)
	c.Traces.Sample = 0
	runBox(t, c)
	cl := dial(t, c, "unix://"+c.Native.Socket, coord.BoxID{})
	const id, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	ctx, err := client.WithTrace(t.Context(), "00-"+id+"-"+span+"-01")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Put(ctx, []byte("key"), []byte("value")); err != nil {
		t.Fatal(err)
	}
	if err := cl.Close(t.Context()); err != nil {
		t.Error(err)
	}
	b, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	// It is shown when the box has gathered what there is, which it does at once for who asks.
	tr, err := b.Trace(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if m := tr.Spans[0]; m.Name != "message" || m.Parent.String() != span || tr.Messages != 1 {
		t.Errorf("%+v of %+v", m, tr.TraceHead)
	}
}
