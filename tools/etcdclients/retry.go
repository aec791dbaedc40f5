package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	attemptTimeMax = 5 * time.Second
	retryPause     = 50 * time.Millisecond
)

// transient says whether an error is one that a client has to expect while a box is gone. Everything else is an
// answer, and a row takes it as one.
func transient(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	code := codes.Unknown
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		code = e.Code()
	} else if s, ok := status.FromError(err); ok {
		code = s.Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Canceled
}

// retry calls f until it succeeds, the context ends, or the error is not one of a lost box. What f does has to be
// harmless when done twice, because an attempt that failed may have been carried out.
func retry(ctx context.Context, f func(ctx context.Context) error) error {
	return retryEach(ctx, attemptTimeMax, f)
}

// retryEach is retry with the time of one attempt; what waits for others needs longer.
func retryEach(ctx context.Context, each time.Duration, f func(ctx context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, each)
		err := f(attempt)
		cancel()
		if err == nil || !transient(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		case <-time.After(retryPause):
		}
	}
}
