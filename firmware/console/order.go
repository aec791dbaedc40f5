package console

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// orderTimeMax is how long a change may take to be ordered, as etcd's clients are told (firmware/etcdapi).
const orderTimeMax = 7 * time.Second

// errOrder, wrapped, says that the site did not take or finish a change.
var errOrder = errors.New("the site did not do it")

// order has a message ordered and gives its answer.
func (c *Console) order(ctx context.Context, kind coord.Kind, key, value []byte) (*kv.Answer, error) {
	if len(value) > coord.ValueBytesMax {
		return nil, fmt.Errorf("%w: a message has at most %d bytes", ErrBad, coord.ValueBytesMax)
	}
	ctx, cancel := context.WithTimeout(ctx, orderTimeMax)
	defer cancel()
	cols := new(coord.Columns)
	cols.Add(kind, 0, 0, time.Now().UnixMilli(), key, value)
	done := make(chan coord.Reply, 1)
	c.cfg.Submit(&site.Request{Cols: cols, Done: func(r coord.Reply) { done <- r }})
	select {
	case r := <-done:
		code := r.Code
		if len(r.Results) == 1 {
			code = r.Results[0].Code
			if a := r.Results[0].KV; a != nil && a.Err != nil {
				return nil, fmt.Errorf("%w: %w", ErrBad, a.Err)
			} else if a != nil && code == coord.CodeOK {
				return a, nil
			}
		}
		return nil, fmt.Errorf("%w: %s; try again in a moment", errOrder, code)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w in %s, and may do it yet: see the overview for what it lacks, and look at the key before you repeat this", errOrder, orderTimeMax)
	}
}
