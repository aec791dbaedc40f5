package kv

import (
	"bytes"
	"slices"
	"strings"
)

// Check says whether an operation is one that the state may execute: keys are there, options agree, a transaction
// has at most TxnOpsMax operations along a path and changes no key twice. The errors are in etcd's order of
// precedence, for a gateway to pass on.
func (o *Op) Check() error { return o.check(TxnOpsMax) }

func (o *Op) check(opsMax int) error {
	switch {
	case o.Put != nil:
		return o.Put.check()
	case o.Delete != nil:
		return checkSpan(o.Delete.Key, o.Delete.End)
	case o.Range != nil:
		return o.Range.check()
	case o.Txn != nil:
		if err := o.Txn.check(opsMax); err != nil {
			return err
		}
		if opsMax < TxnOpsMax {
			return nil // the outermost one looks at the spans of all
		}
		for _, ops := range [2][]Op{o.Txn.Then, o.Txn.Else} {
			if _, err := changesOf(ops); err != nil {
				return err
			}
		}
		return nil
	}
	return ErrKeyNotFound // etcd's answer to an empty operation
}

// KeyBytesMax bounds a key, wherever it stands: what keeps and sends keys relies on it.
const KeyBytesMax = 4 << 10

func checkSpan(key, end []byte) error {
	switch {
	case len(key) == 0:
		return ErrEmptyKey
	case len(key) > KeyBytesMax || len(end) > KeyBytesMax+1: // the end behind a key has one byte more
		return ErrKeyTooLarge
	}
	return nil
}

func (p *Put) check() error {
	if err := checkSpan(p.Key, nil); err != nil {
		return err
	}
	switch {
	case p.IgnoreValue && len(p.Value) != 0:
		return ErrValueProvided
	case p.IgnoreLease && p.Lease != 0:
		return ErrLeaseProvided
	}
	return nil
}

func (r *Range) check() error {
	if err := checkSpan(r.Key, r.End); err != nil {
		return err
	}
	switch {
	case r.Order > SortDescending || r.Target > SortValue:
		return ErrSort
	}
	return nil
}

func (t *Txn) check(opsMax int) error {
	n := max(len(t.Compares), len(t.Then), len(t.Else))
	if n > opsMax {
		return ErrTooManyOps
	}
	for i := range t.Compares {
		if err := checkSpan(t.Compares[i].Key, t.Compares[i].End); err != nil {
			return err
		}
	}
	for _, ops := range [2][]Op{t.Then, t.Else} {
		for i := range ops {
			if err := ops[i].checkNested(opsMax - n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Op) checkNested(opsMax int) error {
	if o.Txn != nil {
		return o.Txn.check(opsMax)
	}
	return o.check(opsMax)
}

// changes are the keys that a list of operations may put and the spans that it may delete.
type changes struct {
	puts map[string]bool
	dels []*Delete
}

func (c *changes) deletes(key string) bool {
	return slices.ContainsFunc(c.dels, func(d *Delete) bool { return Within([]byte(key), d.Key, d.End) })
}

// changesOf refuses operations that put a key twice, or put one and delete it. Both branches of a nested
// transaction may put the same key.
func changesOf(ops []Op) (*changes, error) {
	c := &changes{puts: map[string]bool{}}
	for i := range ops {
		if d := ops[i].Delete; d != nil {
			c.dels = append(c.dels, d)
		}
	}
	for i := range ops {
		if ops[i].Txn == nil {
			continue
		}
		var branches [2]*changes
		for j, b := range [2][]Op{ops[i].Txn.Then, ops[i].Txn.Else} {
			var err error
			if branches[j], err = changesOf(b); err != nil {
				return nil, err
			}
		}
		for k := range c.puts { // of nested transactions before this one; etcd overlooks these
			if branches[0].deletes(k) || branches[1].deletes(k) {
				return nil, ErrDuplicateKey
			}
		}
		for j, b := range branches {
			for k := range b.puts {
				if c.puts[k] && !(j == 1 && branches[0].puts[k]) || c.deletes(k) {
					return nil, ErrDuplicateKey
				}
			}
			if j == 0 {
				continue
			}
			for _, b := range branches {
				for k := range b.puts {
					c.puts[k] = true
				}
			}
		}
		c.dels = append(append(c.dels, branches[0].dels...), branches[1].dels...)
	}
	for i := range ops {
		p := ops[i].Put
		if p == nil {
			continue
		}
		k := string(p.Key)
		if c.puts[k] || c.deletes(k) {
			return nil, ErrDuplicateKey
		}
		c.puts[strings.Clone(k)] = true
	}
	return c, nil
}

// Within says whether a key is in a span.
func Within(key, from, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(key, from)
	case IsOpenEnded(end):
		return bytes.Compare(key, from) >= 0
	}
	return bytes.Compare(key, from) >= 0 && bytes.Compare(key, end) < 0
}
