package etcdapi

import (
	"context"
	"testing"

	"google.golang.org/grpc/metadata"
)

func TestAClientBringsItsTraceInOneHeader(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	with := func(values ...string) bool {
		md := metadata.MD{TraceHeader: values}
		c := traceOf(metadata.NewIncomingContext(context.Background(), md))
		return c.Valid()
	}
	if !with(good) {
		t.Error("a good one is not taken")
	}
	if with() || with("") || with(good, good) || with(good[1:]) {
		t.Error("none, several or garbage is taken")
	}
	if c := traceOf(context.Background()); c.Valid() {
		t.Error("a call without metadata has a trace")
	}
}
