package sim

import (
	"encoding/binary"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// clientTry is how long a client waits for one box before it tries the next.
const clientTry = 1000 * ms

// op is one message of a client: observe(object) or a put.
type op struct {
	seq    uint64
	kind   coord.Kind
	object uint64
	done   bool
	tries  int
}

// client opens a session, numbers its messages, sends them to the boxes in turn and repeats each until it
// is acknowledged.
type client struct {
	s       *Sim
	session uint64
	ops     []*op
	next    int // the box to try next
	open    bool
}

func (s *Sim) newClient(id uint64) *client {
	c := &client{s: s, session: id, next: int(id)}
	o := &op{seq: 0, kind: coord.KindOpen}
	c.send(o)
	return c
}

// add makes one more message.
func (c *client) add() {
	o := &op{seq: uint64(len(c.ops) + 1), kind: coord.KindObserve, object: uint64(c.s.rng.IntN(40))}
	if c.s.rng.IntN(4) == 0 {
		o.kind = coord.KindPut
	}
	c.ops = append(c.ops, o)
	if c.open {
		c.send(o)
	}
}

func (c *client) send(o *op) {
	if o.done {
		return
	}
	o.tries++
	try := o.tries
	m := c.s.nodes[c.next%c.s.total]
	c.next++
	c.s.call(c.s.now+clientTry, func() {
		if !o.done && o.tries == try {
			c.send(o)
		}
	})
	if m.box == nil || m.liar == liar.Dead {
		return
	}
	var cols coord.Columns
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], o.object)
	switch o.kind {
	case coord.KindPut:
		cols.Add(o.kind, c.session, o.seq, 0, key[4:], binary.BigEndian.AppendUint64(nil, c.session<<32|o.seq))
	case coord.KindOpen:
		cols.Add(o.kind, c.session, 0, 0, []byte("sim"), nil)
	default:
		cols.Add(o.kind, c.session, o.seq, 0, key[:], nil)
	}
	r := &site.Request{Cols: &cols}
	r.Done = func(p coord.Reply) { c.answer(o, try, m, p) }
	c.s.call(c.s.now+c.s.rng.Int64N(ms), func() {
		if m.box != nil {
			c.s.step(m, site.Input{Request: r})
		}
	})
}

func (c *client) answer(o *op, try int, m *machine, p coord.Reply) {
	if o.done {
		return
	}
	if p.Code == coord.CodeOK {
		if m.liar != "" { // the word of a lying box is worth nothing: ask another one
			c.again(o, try, ms)
			return
		}
		o.done = true
		c.s.acked++
		if o.kind == coord.KindOpen {
			c.open = true
			for _, x := range c.ops {
				c.send(x)
			}
		}
		return
	}
	c.again(o, try, 50*ms)
}

func (c *client) again(o *op, try int, d int64) {
	c.s.call(c.s.now+d, func() {
		if !o.done && o.tries == try {
			c.send(o)
		}
	})
}

func (c *client) finished() bool {
	if !c.open {
		return false
	}
	for _, o := range c.ops {
		if !o.done {
			return false
		}
	}
	return true
}
