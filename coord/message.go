package coord

// Kind says what a message asks of the state.
type Kind uint8

// The kinds of messages. The numbers are part of the wire and of the log: never reuse one.
const (
	// KindOpen opens the client session Session; Key is free text naming the client.
	KindOpen Kind = 1
	// KindPut sets Key to Value.
	KindPut Kind = 2
	// KindDelete removes Key.
	KindDelete Kind = 3
	// KindGet reads Key at its place in the order (a linearizable read).
	KindGet Kind = 4
	// KindObserve adds a count to an object's counter: Key is the object, 8 bytes
	// big-endian; Value is the count as an unsigned varint (absent: 1).
	KindObserve Kind = 5

	// 6 is coord/state's KindCheckpoint. The following belong to no session: a batch takes effect once,
	// and nobody repeats them in another.

	// KindKV is one operation of the etcd data model: Value is a kv.Op, Key the key of a put.
	KindKV Kind = 7
	// KindLease grants, revokes or renews a lease: Value is kv.AppendLease's.
	KindLease Kind = 8
	// KindCompact forgets history below a revision: Value is kv.AppendNumber's.
	KindCompact Kind = 9
	// KindTick is a box's word that a second has passed since the site's clock moved last; Value is the number of the next
	// second. Only boxes send it.
	KindTick Kind = 10
	// KindBarrier does nothing: what is read after it took effect is not stale.
	KindBarrier Kind = 11
	// KindLead asks the boxes to let the member Key (its id) lead: they end the terms of others early, for one round of all
	// members.
	KindLead Kind = 12
	// KindProve asks all boxes to sign what Key is at this place, for the client whose nonce Value is.
	KindProve Kind = 13
	// KindDecide proposes a Decision, or is the sender's word on one: Value is state.AppendWord's. Only boxes send it.
	KindDecide Kind = 14
	// KindAudit is the head of the sender's audit log: Value is audit.Head's. Only boxes send it.
	KindAudit Kind = 15
	// KindOpinion is whom the sender suspects: Value is state.AppendOpinion's. Only boxes send it.
	KindOpinion Kind = 16
	// KindTrace has the contexts of the traces of a batch's requests, as its last message: Value is trace.AppendContexts's. It is of
	// session 0, which nobody can open, so that it changes nothing, also on boxes of releases that do not know it.
	KindTrace Kind = 17
)

// Columns are messages as a struct of arrays, so that a loop over one field touches
// only that field: one array per field, keys and values in two slabs, no pointer per
// message. Message i has key Keys[KeyEnd[i-1]:KeyEnd[i]] and value
// Vals[ValEnd[i-1]:ValEnd[i]], with 0 before the first.
//
// All arrays have one length; KeyEnd and ValEnd do not decrease and end at the length
// of their slab. coord/wire checks that for everything that comes from outside.
type Columns struct {
	Kinds    []Kind
	Sessions []uint64 // the client session that numbers the message
	Seqs     []uint64 // the message's number in its session, from 1
	Times    []int64  // when the box took it in, Unix milliseconds; for people, never for decisions
	KeyEnd   []uint32
	ValEnd   []uint32
	Keys     []byte
	Vals     []byte
}

// Len is the number of messages.
func (c *Columns) Len() int { return len(c.Kinds) }

// Bytes is the size of keys and values.
func (c *Columns) Bytes() int { return len(c.Keys) + len(c.Vals) }

// Reset empties c and keeps its memory.
func (c *Columns) Reset() {
	c.Kinds, c.Sessions, c.Seqs, c.Times = c.Kinds[:0], c.Sessions[:0], c.Seqs[:0], c.Times[:0]
	c.KeyEnd, c.ValEnd, c.Keys, c.Vals = c.KeyEnd[:0], c.ValEnd[:0], c.Keys[:0], c.Vals[:0]
}

// Add appends one message; key and value are copied.
func (c *Columns) Add(k Kind, session, seq uint64, timeMs int64, key, value []byte) {
	c.Kinds = append(c.Kinds, k)
	c.Sessions = append(c.Sessions, session)
	c.Seqs = append(c.Seqs, seq)
	c.Times = append(c.Times, timeMs)
	c.Keys = append(c.Keys, key...)
	c.Vals = append(c.Vals, value...)
	c.KeyEnd = append(c.KeyEnd, uint32(len(c.Keys)))
	c.ValEnd = append(c.ValEnd, uint32(len(c.Vals)))
}

// Append copies all messages of o to the end of c.
func (c *Columns) Append(o *Columns) {
	k, v := uint32(len(c.Keys)), uint32(len(c.Vals))
	c.Kinds = append(c.Kinds, o.Kinds...)
	c.Sessions = append(c.Sessions, o.Sessions...)
	c.Seqs = append(c.Seqs, o.Seqs...)
	c.Times = append(c.Times, o.Times...)
	c.Keys = append(c.Keys, o.Keys...)
	c.Vals = append(c.Vals, o.Vals...)
	for _, e := range o.KeyEnd {
		c.KeyEnd = append(c.KeyEnd, k+e)
	}
	for _, e := range o.ValEnd {
		c.ValEnd = append(c.ValEnd, v+e)
	}
}

// Key is the key of message i; it belongs to c.
func (c *Columns) Key(i int) []byte { return span(c.Keys, c.KeyEnd, i) }

// Value is the value of message i; it belongs to c.
func (c *Columns) Value(i int) []byte { return span(c.Vals, c.ValEnd, i) }

func span(slab []byte, end []uint32, i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = end[i-1]
	}
	return slab[from:end[i]:end[i]]
}
