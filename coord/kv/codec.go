package kv

import (
	"encoding/binary"
	"fmt"
	"math"
)

// An operation as the value of one message:
//
//	op      = tag fields
//	put     = 1 flags key value varint(lease)      without its key when that is the message's key: tag 5
//	delete  = 2 flags key end
//	range   = 3 flags key end order target varint(limit, revision, min mod, max mod, min create, max create)
//	txn     = 4 n compare* n op* n op*
//	compare = target relation key end varint(number) value
//
// key, end, value are a uvarint length and the bytes; flags is one byte, its bits in the order of the fields.
// docs/state.md draws the messages of leases, compaction and ticks, which are plain numbers.
const (
	tagPut      = 1
	tagDelete   = 2
	tagRange    = 3
	tagTxn      = 4
	tagPutValue = 5
)

// Append appends an operation. The key of a Put is left out when outside says that it travels as the message's key.
func (o *Op) Append(b []byte, outside bool) []byte {
	switch {
	case o.Put != nil:
		p := o.Put
		if outside {
			b = append(b, tagPutValue, bits(p.PrevKV, p.IgnoreValue, p.IgnoreLease))
		} else {
			b = append(b, tagPut, bits(p.PrevKV, p.IgnoreValue, p.IgnoreLease))
			b = appendBytes(b, p.Key)
		}
		b = appendBytes(b, p.Value)
		return binary.AppendVarint(b, p.Lease)
	case o.Delete != nil:
		b = append(b, tagDelete, bits(o.Delete.PrevKV))
		return appendBytes(appendBytes(b, o.Delete.Key), o.Delete.End)
	case o.Range != nil:
		r := o.Range
		b = append(b, tagRange, bits(r.KeysOnly, r.CountOnly))
		b = appendBytes(appendBytes(b, r.Key), r.End)
		b = append(b, byte(r.Order), byte(r.Target))
		for _, v := range [...]int64{r.Limit, r.Revision, r.MinMod, r.MaxMod, r.MinCreate, r.MaxCreate} {
			b = binary.AppendVarint(b, v)
		}
		return b
	case o.Txn != nil:
		b = append(b, tagTxn)
		b = binary.AppendUvarint(b, uint64(len(o.Txn.Compares)))
		for i := range o.Txn.Compares {
			c := &o.Txn.Compares[i]
			b = append(b, byte(c.Target), byte(c.Relation))
			b = appendBytes(appendBytes(b, c.Key), c.End)
			b = appendBytes(binary.AppendVarint(b, c.Number), c.Value)
		}
		for _, ops := range [2][]Op{o.Txn.Then, o.Txn.Else} {
			b = binary.AppendUvarint(b, uint64(len(ops)))
			for i := range ops {
				b = ops[i].Append(b, false)
			}
		}
	}
	return b
}

func bits(flags ...bool) (b byte) {
	for i, f := range flags {
		if f {
			b |= 1 << i
		}
	}
	return b
}

func appendBytes(b, v []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(v))), v...) }

// Decode reads an operation and checks it (Op.Check). key is the message's key. The operation refers to value and
// key. Errors: ErrMalformed, Check's.
func Decode(key, value []byte) (Op, error) {
	d := decoder{b: value, key: key}
	o := d.op(0)
	if d.bad || len(d.b) != 0 {
		return Op{}, fmt.Errorf("%w: at %d of %d bytes", ErrMalformed, len(value)-len(d.b), len(value))
	}
	return o, o.Check()
}

// decoder takes things from the front of b; the first that is wrong makes all that follows zero.
type decoder struct {
	b, key []byte
	bad    bool
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) flags(into ...*bool) {
	v := d.byte()
	for i, f := range into {
		*f = v&(1<<i) != 0
	}
	d.bad = d.bad || v>>len(into) != 0
}

func (d *decoder) bytes() []byte {
	n, w := binary.Uvarint(d.b)
	if w <= 0 || n > uint64(len(d.b)-w) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[w : w+int(n) : w+int(n)]
	d.b = d.b[w+int(n):]
	return v
}

func (d *decoder) varint() int64 {
	v, w := binary.Varint(d.b)
	if w <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[w:]
	return v
}

// count reads how many things of at least two bytes follow.
func (d *decoder) count() int {
	n, w := binary.Uvarint(d.b)
	if w <= 0 || n > TxnOpsMax || n > uint64(len(d.b)-w) {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[w:]
	return int(n)
}

// op reads an operation that is depth transactions deep.
func (d *decoder) op(depth int) (o Op) {
	switch tag := d.byte(); tag {
	case tagPut, tagPutValue:
		p := new(Put)
		o.Put = p
		d.flags(&p.PrevKV, &p.IgnoreValue, &p.IgnoreLease)
		if tag == tagPut {
			p.Key = d.bytes()
		} else {
			d.bad = d.bad || depth > 0
			p.Key = d.key
		}
		p.Value, p.Lease = d.bytes(), d.varint()
	case tagDelete:
		o.Delete = new(Delete)
		d.flags(&o.Delete.PrevKV)
		o.Delete.Key, o.Delete.End = d.bytes(), d.bytes()
	case tagRange:
		r := new(Range)
		o.Range = r
		d.flags(&r.KeysOnly, &r.CountOnly)
		r.Key, r.End = d.bytes(), d.bytes()
		r.Order, r.Target = SortOrder(d.byte()), SortTarget(d.byte())
		for _, v := range [...]*int64{&r.Limit, &r.Revision, &r.MinMod, &r.MaxMod, &r.MinCreate, &r.MaxCreate} {
			*v = d.varint()
		}
	case tagTxn:
		if d.bad = d.bad || depth >= TxnOpsMax; d.bad {
			return o
		}
		t := new(Txn)
		o.Txn = t
		if n := d.count(); n > 0 {
			t.Compares = make([]Compare, n)
		}
		for i := range t.Compares {
			c := &t.Compares[i]
			c.Target, c.Relation = Target(d.byte()), Relation(d.byte())
			c.Key, c.End = d.bytes(), d.bytes()
			c.Number, c.Value = d.varint(), d.bytes()
		}
		for _, ops := range [2]*[]Op{&t.Then, &t.Else} {
			n := d.count()
			for i := 0; i < n && !d.bad; i++ {
				*ops = append(*ops, d.op(depth+1))
			}
		}
	default:
		d.bad = true
	}
	return o
}

// LeaseAction is what a message asks of a lease.
type LeaseAction uint8

// The actions.
const (
	LeaseGrant     LeaseAction = 1
	LeaseRevoke    LeaseAction = 2
	LeaseKeepAlive LeaseAction = 3
)

// AppendLease appends a lease's message: action varint(id) varint(TTL, seconds; 0 but for a grant).
func AppendLease(b []byte, a LeaseAction, id, ttl int64) []byte {
	return binary.AppendVarint(binary.AppendVarint(append(b, byte(a)), id), ttl)
}

// DecodeLease reads what AppendLease wrote. Errors: ErrMalformed, ErrLeaseTTL.
func DecodeLease(b []byte) (a LeaseAction, id, ttl int64, err error) {
	d := decoder{b: b}
	a, id, ttl = LeaseAction(d.byte()), d.varint(), d.varint()
	switch {
	case d.bad || len(d.b) != 0 || a < LeaseGrant || a > LeaseKeepAlive || id == 0:
		return 0, 0, 0, ErrMalformed
	case ttl > LeaseTTLMax:
		return 0, 0, 0, ErrLeaseTTL
	}
	return a, id, ttl, nil
}

// AppendNumber appends the message of a compaction (its revision) or of a tick (its number).
func AppendNumber(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// DecodeNumber reads what AppendNumber wrote. Error: ErrMalformed.
func DecodeNumber(b []byte) (uint64, error) {
	v, n := binary.Uvarint(b)
	if n != len(b) || n == 0 || v > math.MaxInt64 {
		return 0, ErrMalformed
	}
	return v, nil
}
