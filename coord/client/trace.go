package client

import (
	"context"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// traceKey is a context's key for its *wire.TraceContext.
type traceKey struct{}

// WithTrace gives a context whose calls are a part of the program's own trace: the site's spans go below the span that traceparent, a
// header of W3C Trace Context, names, and when it says that it is sampled, the site keeps them. A box of a release before this does
// not learn it. Errors: trace.ErrContext; the context is then ctx, so that a program may go on without.
func WithTrace(ctx context.Context, traceparent string) (context.Context, error) {
	c, err := trace.ParseTraceparent(traceparent)
	if err != nil {
		return ctx, fmt.Errorf("client: %w", err)
	}
	b := wire.TraceContext(c.Bytes())
	return context.WithValue(ctx, traceKey{}, &b), nil
}

// traceOf is the trace of a call, nil: none.
func traceOf(ctx context.Context) *wire.TraceContext {
	t, _ := ctx.Value(traceKey{}).(*wire.TraceContext)
	return t
}
