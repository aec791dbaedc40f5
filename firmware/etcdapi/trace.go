package etcdapi

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/holdfast-edge/holdfast/coord/trace"
)

// TraceHeader is the header, or gRPC metadata, by which a client brings its trace (W3C Trace Context).
const TraceHeader = "traceparent"

// traceOf is the trace that the client of a call brought. What is malformed is none, as W3C asks.
func traceOf(ctx context.Context) trace.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	v := md[TraceHeader]
	if len(v) != 1 { // several make none (section 3.2.1)
		return trace.Context{}
	}
	c, _ := trace.ParseTraceparent(v[0]) // zero if it is none
	return c
}
