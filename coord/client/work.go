package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// work is messages on their way to their outcomes.
type work struct {
	// cols are the messages without an outcome; place[i] is where the result of the i-th goes.
	cols  coord.Columns
	place []int
	reply coord.Reply
	body  []byte // cols encoded; nil when they changed
	trace *wire.TraceContext
	// tries counts how often something was sent.
	tries int
}

func newWork(n int) *work {
	w := &work{place: make([]int, n), reply: coord.Reply{Results: make([]coord.Result, n)}}
	for i := range w.place {
		w.place[i] = i
	}
	return w
}

// number gives the messages their session and numbers.
func (w *work) number(session, first uint64) {
	for i := range w.cols.Sessions {
		w.cols.Sessions[i], w.cols.Seqs[i] = session, first+uint64(i)
	}
	w.body = nil
}

// take keeps the outcomes that are final and drops their messages from what is to be
// sent. It gives the code that the others have in common, the gravest of them.
func (w *work) take(results []coord.Result) coord.Code {
	open := coord.CodeOK
	left := 0
	for i, r := range results {
		switch r.Code {
		case coord.CodeOK, coord.CodeBad:
			w.reply.Results[w.place[i]] = r
		case coord.CodeNoSession:
			open = r.Code
			left++
		default:
			if open != coord.CodeNoSession {
				open = r.Code
			}
			left++
		}
	}
	if left == len(results) {
		return open
	}
	var rest coord.Columns
	place := make([]int, 0, left)
	for i, r := range results {
		if r.Code != coord.CodeOK && r.Code != coord.CodeBad {
			rest.Add(w.cols.Kinds[i], w.cols.Sessions[i], w.cols.Seqs[i], w.cols.Times[i], w.cols.Key(i), w.cols.Value(i))
			place = append(place, w.place[i])
		}
	}
	w.cols, w.place, w.body = rest, place, nil
	return open
}

// toReads turns what is left into reads of nothing, under the same numbers: once they are
// answered, the messages that had these numbers can no longer take effect.
func (w *work) toReads() {
	var reads coord.Columns
	for i := range w.cols.Len() {
		reads.Add(coord.KindGet, w.cols.Sessions[i], w.cols.Seqs[i], w.cols.Times[i], nil, nil)
	}
	w.cols, w.body, w.trace = reads, nil, nil
}

// submit numbers the messages of m and drives them to their outcomes. When it gives up,
// their numbers are used up in the background, for a hole would hold the session back.
func (c *Client) submit(ctx context.Context, box int, m *Messages) (coord.Reply, error) {
	w := newWork(m.Len())
	w.cols.Append(&m.cols)
	w.trace = traceOf(ctx)
	now := time.Now().UnixMilli()
	for i := range w.cols.Times {
		w.cols.Times[i] = now
	}
	for {
		s, err := c.session(ctx)
		if err != nil {
			return coord.Reply{}, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		t, err := s.reserve(ctx, c.life, w.cols.Len())
		if err != nil {
			return coord.Reply{}, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		if t == nil {
			continue // lost meanwhile
		}
		w.number(s.id, t.first)
		w.tries = 0
		c.stats.sent.Add(uint64(w.cols.Len()))
		err = c.drive(ctx, w, box)
		switch {
		case err == nil:
			s.finish(t)
			c.stats.acknowledged.Add(uint64(m.Len()))
			return w.finished(), nil
		case errors.Is(err, errNoSession):
			s.lose()
			s.finish(t)
			if w.tries > 1 {
				return coord.Reply{}, ErrSessionLost
			}
			continue // the only try that was sent had no effect
		}
		sent := w.tries > 0
		c.useUp(s, t, w)
		switch {
		case errors.Is(err, ErrTooLarge), errors.Is(err, ErrDenied) && !(sent && errors.Is(err, errDoor)):
			return coord.Reply{}, err
		case !sent:
			return coord.Reply{}, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return coord.Reply{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
}

// finished is the reply when every message has its outcome.
func (w *work) finished() coord.Reply {
	for i := range w.reply.Results {
		if code := w.reply.Results[i].Code; code != coord.CodeOK {
			w.reply.Code = code
			break
		}
	}
	return w.reply
}

// useUp applies the numbers of a call that gave up, in the background, for as long as the
// client lives.
func (c *Client) useUp(s *session, t *ticket, w *work) {
	// The call itself is still counted, so this is before any Wait ends.
	c.calls.Go(func() {
		w.toReads()
		if err := c.drive(c.life, w, int(c.prefer.Load())); err != nil {
			s.lose() // it is gone, or keeps a hole for ever
		}
		s.finish(t)
	})
}

// drive sends w until every message has its outcome: to box first, then to the others in
// turn. It gives up when ctx ends, the session is unknown, a box refuses the size,
// or all boxes refuse the token.
func (c *Client) drive(ctx context.Context, w *work, box int) error {
	var last error // why it failed, for whoever gives up
	for failures, denials := 0, 0; ; {
		b := c.pick(box)
		reply, err := c.try(ctx, b, w)
		if err == nil {
			var done bool
			if done, err = w.judge(reply); done {
				b.good()
				if err == nil && failures > 0 && !c.cfg.Spread {
					c.prefer.Store(int64(b.index))
				}
				return err
			}
		}
		// One box's word on a token may be wrong; that of all, one after the other, is not asked for again.
		if denials++; !errors.Is(err, errDoor) {
			denials = 0
		}
		switch {
		case errors.Is(err, ErrTooLarge), denials >= len(c.boxes):
			return err
		case errors.Is(err, errLater):
			b.good()
		default:
			b.failed(err)
		}
		if last == nil || c.over(ctx) == nil { // else err may only say that the call is over
			last = err
		}
		failures++
		c.pause(ctx, failures, reply.RetryAfter)
		if over := c.over(ctx); over != nil {
			return fmt.Errorf("%w (last: %w)", over, last)
		}
		c.stats.retried.Add(uint64(w.cols.Len()))
		box = (b.index + 1) % len(c.boxes)
	}
}

// Why messages have no outcome yet although a box answered.
var (
	errNoSession = errors.New("client: unknown session")
	errLater     = errors.New("client: the box asks for patience")
	errStopping  = errors.New("client: the box is stopping")
	// errDoor says that a box does not let the client in. It says nothing of the messages: another may have had them before.
	errDoor = fmt.Errorf("%w: the box refuses the token", ErrDenied)
)

// judge takes what is final from a reply and says whether w is done with: all outcomes
// are known, or the session is not.
func (w *work) judge(reply coord.Reply) (done bool, err error) {
	w.reply.Height = max(w.reply.Height, reply.Height)
	code := reply.Code
	if reply.Results != nil {
		code = w.take(reply.Results)
	}
	switch code {
	case coord.CodeOK:
		return true, nil
	case coord.CodeNoSession:
		return true, errNoSession
	case coord.CodeBad, coord.CodeTooLarge: // of the request as a whole
		return true, fmt.Errorf("client: request refused: %s: %w", code, ErrTooLarge)
	case coord.CodeDenied: // the request as a whole
		return true, fmt.Errorf("client: request refused: %w", ErrDenied)
	case coord.CodeStopping, coord.CodeFull:
		return false, errStopping
	}
	return false, fmt.Errorf("%w: %s", errLater, code)
}

// pause waits between tries: not at all while there are boxes not yet tried (unless one
// asked for it), then for a random time up to a bound that doubles.
func (c *Client) pause(ctx context.Context, failures int, retryAfter time.Duration) {
	wait := min(retryAfter, retryAfterMax)
	if round := failures / len(c.boxes); round > 0 {
		bound := min(backoffMin<<min(round-1, 10), backoffMax)
		wait = max(wait, bound)
	}
	if wait <= 0 {
		return
	}
	wait = wait/2 + rand.N(wait/2+1)
	timer := c.timer(wait)
	defer c.stopTimer(timer)
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-c.life.Done():
	}
}

func (c *Client) timer(d time.Duration) *time.Timer {
	if t, ok := c.timers.Get().(*time.Timer); ok {
		t.Reset(d)
		return t
	}
	return time.NewTimer(d)
}

func (c *Client) stopTimer(t *time.Timer) {
	t.Stop() // after it nothing is in t.C (Go 1.23)
	c.timers.Put(t)
}

// try sends what is left of w to one box and waits for its answer, no longer than one try may take.
func (c *Client) try(ctx context.Context, b *endpoint, w *work) (coord.Reply, error) {
	n, err := b.connect(ctx, c.cfg.TryTimeout)
	if err != nil {
		return coord.Reply{}, err
	}
	if w.body == nil {
		w.body = c.encode(&w.cols)
	}
	id, answer, err := n.send(w.body, w.trace)
	if err != nil {
		return coord.Reply{}, err
	}
	w.tries++
	late := c.timer(c.cfg.TryTimeout)
	defer c.stopTimer(late)
	select {
	case r := <-answer:
		if r.Results != nil && len(r.Results) != w.cols.Len() || r.Results == nil && r.Code == coord.CodeOK {
			err := fmt.Errorf("client: %d results for %d messages: %w", len(r.Results), w.cols.Len(), ErrProtocol)
			n.close(err)
			return coord.Reply{}, err
		}
		return r, nil
	case <-n.closed:
		return coord.Reply{}, n.cause()
	case <-late.C:
		err = context.DeadlineExceeded
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.life.Done():
		err = c.life.Err()
	}
	n.forget(id)
	n.checkSilence(silentTriesMax * c.cfg.TryTimeout)
	return coord.Reply{}, fmt.Errorf("client: box %s: no answer in time: %w", b.name, err)
}

// encode gives the body of a request.
func (c *Client) encode(cols *coord.Columns) []byte {
	e := c.bodies.Get().(*wire.BodyEncoder)
	defer c.bodies.Put(e)
	return e.AppendBody(nil, cols)
}
