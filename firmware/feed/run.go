package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// requestObjectsMax is how many accesses travel in one request to one box. Each stays a
	// message of its own; together they cost one signature. 64 keeps an answer below 2 KiB.
	requestObjectsMax = 64
	// inFlightDefault is how many requests wait for their answers at one time: 32 x 64 keep a
	// site of four boxes busy and stay far below a session's window of 65,536.
	inFlightDefault = 32
	// requestsPerSecond is how often a limited rate is spread over a second.
	requestsPerSecond = 20
	// progressEvery is how often Options.Progress is called.
	progressEvery = 200 * time.Millisecond
	// GiveUpDefault is how long a site may acknowledge nothing: it covers the restart of all boxes.
	GiveUpDefault = 60 * time.Second
)

// Sink is where observations go: a site's boxes, by a session that makes retries harmless.
type Sink interface {
	// Boxes is how many boxes take turns; at least 1.
	Boxes() int
	// Observe has the site count one access of each object, trying the given box first and
	// others as long as ctx allows. It returns nil only when all are ordered and applied, and
	// takes each at most once however often it tries. Many calls may be under way.
	Observe(ctx context.Context, box int, objects []uint32) error
	// Retried counts messages that were sent again, each time counted.
	Retried() uint64
}

// Options say how to feed. The zero value feeds everything as fast as the site takes it.
type Options struct {
	// Limit, if not 0, ends the feed after this many accesses.
	Limit uint64
	// Rate, if not 0, is how many accesses a second are sent at most.
	Rate float64
	// InFlight is how many requests may wait for answers; 0 means inFlightDefault.
	InFlight int
	// GiveUp is how long nothing may be acknowledged while something waits; 0 means GiveUpDefault.
	GiveUp time.Duration
	// Progress, if not nil, is called now and then, from one goroutine, and not after Run.
	Progress func(Summary)
}

// Summary is how far a feed has come.
type Summary struct {
	Sent         uint64  `json:"sent"`
	Acknowledged uint64  `json:"acknowledged"`
	Retried      uint64  `json:"retried"`
	Seconds      float64 `json:"seconds"`
	// Total is what there was to send.
	Total uint64 `json:"-"`
}

// Run feeds the trace and returns when all is acknowledged, or ctx ends, or the site gives no sign
// of life. The Summary is right in every case; the error is nil only if everything was acknowledged.
//
// Errors: ErrUnacknowledged around ErrGaveUp, the sink's or ctx's error; ErrTrace if the file
// changed since Open.
func Run(ctx context.Context, t *Trace, sink Sink, o Options) (Summary, error) {
	r := newRun(t, sink, o)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var workers, watchers sync.WaitGroup
	for range r.inFlight {
		workers.Go(func() {
			for q := range r.requests {
				if err := r.send(ctx, q); err != nil {
					stop(err)
				}
			}
		})
	}
	watching, watched := context.WithCancel(ctx)
	watchers.Go(func() { r.watch(watching, stop) })
	err := r.deal(ctx)
	if err != nil {
		stop(err) // nobody waits for what is under way
	}
	close(r.requests)
	workers.Wait()
	watched()
	watchers.Wait()
	s := r.summary()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if s.Acknowledged < s.Total || err != nil {
		if err == nil {
			err = errors.New("the trace is shorter than it was")
		}
		return s, fmt.Errorf("feed: %w: %d of %d: %w", ErrUnacknowledged, s.Acknowledged, s.Total, err)
	}
	return s, nil
}

type request struct {
	box     int
	objects []uint32
}

type run struct {
	trace    *Trace
	sink     Sink
	o        Options
	inFlight int
	size     int // objects of one request
	total    uint64
	started  time.Time
	requests chan request
	handed   int // accesses put into requests; deal's own

	sent, acknowledged atomic.Uint64
}

func newRun(t *Trace, sink Sink, o Options) *run {
	r := &run{trace: t, sink: sink, o: o, total: t.Accesses(), started: time.Now(), requests: make(chan request)}
	if o.Limit > 0 {
		r.total = min(r.total, o.Limit)
	}
	r.inFlight = o.InFlight
	if r.inFlight <= 0 {
		r.inFlight = inFlightDefault
	}
	if r.o.GiveUp <= 0 {
		r.o.GiveUp = GiveUpDefault
	}
	r.size = requestObjectsMax
	if o.Rate > 0 {
		r.size = min(max(int(o.Rate/float64(requestsPerSecond*sink.Boxes())), 1), requestObjectsMax)
	}
	return r
}

// errEnough ends the reading of the trace at Options.Limit.
var errEnough = errors.New("enough")

// deal gives access i to box i mod n, a request at a time, at the rate that was asked for.
func (r *run) deal(ctx context.Context) error {
	lanes, dealt := make([][]uint32, r.sink.Boxes()), uint64(0)
	flush := func(box int) error {
		if len(lanes[box]) == 0 {
			return nil
		}
		q := request{box, lanes[box]}
		lanes[box] = nil
		return r.hand(ctx, q)
	}
	err := r.trace.Each(func(objects []uint32) error {
		for _, object := range objects {
			if dealt == r.total {
				return errEnough
			}
			box := int(dealt % uint64(len(lanes)))
			dealt++
			lanes[box] = append(lanes[box], object)
			if len(lanes[box]) == r.size {
				if err := flush(box); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	for box := range lanes {
		if err := flush(box); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) hand(ctx context.Context, q request) error {
	if err := r.pace(ctx); err != nil {
		return err
	}
	select {
	case r.requests <- q:
		r.handed += len(q.objects)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pace waits until the next access is due at the rate that was asked for.
func (r *run) pace(ctx context.Context) error {
	if r.o.Rate <= 0 {
		return nil
	}
	due := r.started.Add(time.Duration(float64(r.handed) / r.o.Rate * float64(time.Second)))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *run) send(ctx context.Context, q request) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.sent.Add(uint64(len(q.objects)))
	if err := r.sink.Observe(ctx, q.box, q.objects); err != nil {
		return err
	}
	r.acknowledged.Add(uint64(len(q.objects)))
	return nil
}

// watch reports progress and stops the run when there is none for too long.
func (r *run) watch(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	last, lastAt := uint64(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := r.summary()
		if s.Acknowledged != last || s.Sent == s.Acknowledged {
			last, lastAt = s.Acknowledged, time.Now()
		}
		if quiet := time.Since(lastAt); quiet >= r.o.GiveUp {
			stop(fmt.Errorf("%w for %v; look at `holdfast status`", ErrGaveUp, r.o.GiveUp))
			return
		}
		if r.o.Progress != nil {
			r.o.Progress(s)
		}
	}
}

func (r *run) summary() Summary {
	// Acknowledged is read first: what is acknowledged was sent.
	a := r.acknowledged.Load()
	return Summary{
		Sent: r.sent.Load(), Acknowledged: a, Retried: r.sink.Retried(),
		Seconds: time.Since(r.started).Seconds(), Total: r.total,
	}
}
