package cause

import (
	"bytes"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

// match is the message of a batch that made a revision; -1: it is not known which. The revisions of a batch ascend with its messages, so each
// is given to the first message that can have made what changed and comes after the one before. A batch in which every
// message that may change something made one revision needs no history.
func match(cols *coord.Columns, events []kv.Revision, at trace.Revised, revision uint64) int {
	var may []int
	for i := range cols.Kinds {
		if writes(cols, i) {
			may = append(may, i)
		}
	}
	if uint64(len(may)) == at.To-at.From {
		return may[revision-at.From-1]
	}
	k := 0
	for i := range events {
		for k < len(may) && !made(cols, may[k], events[i].Events) {
			k++
		}
		switch {
		case k == len(may):
			return -1
		case events[i].Revision == revision:
			return may[k]
		}
		k++
	}
	return -1
}

// writes says whether a message may change keys.
func writes(cols *coord.Columns, i int) bool {
	switch cols.Kinds[i] {
	case coord.KindPut, coord.KindDelete, coord.KindLease, coord.KindTick:
		return true
	case coord.KindKV:
		op, err := kv.Decode(cols.Key(i), cols.Value(i))
		return err == nil && (op.Put != nil || op.Delete != nil || op.Txn != nil && !op.Txn.ReadOnly())
	}
	return false
}

// made says whether a message can have made what changed.
func made(cols *coord.Columns, i int, events []kv.Event) bool {
	if len(events) == 0 {
		return false
	}
	switch cols.Kinds[i] {
	case coord.KindPut, coord.KindDelete:
		return len(events) == 1 && events[0].Delete == (cols.Kinds[i] == coord.KindDelete) && bytes.Equal(events[0].KV.Key, cols.Key(i))
	case coord.KindLease, coord.KindTick: // a lease that ends takes its keys with it
		for j := range events {
			if !events[j].Delete {
				return false
			}
		}
		return true
	}
	op, err := kv.Decode(cols.Key(i), cols.Value(i))
	if err != nil {
		return false
	}
	for j := range events {
		if !touches(&op, &events[j]) {
			return false
		}
	}
	return true
}

// touches says whether an operation can have made a change.
func touches(o *kv.Op, e *kv.Event) bool {
	switch {
	case o.Put != nil:
		return !e.Delete && bytes.Equal(o.Put.Key, e.KV.Key)
	case o.Delete != nil:
		return e.Delete && within(e.KV.Key, o.Delete.Key, o.Delete.End)
	case o.Txn != nil:
		for _, ops := range [2][]kv.Op{o.Txn.Then, o.Txn.Else} {
			for i := range ops {
				if touches(&ops[i], e) {
					return true
				}
			}
		}
	}
	return false
}

func within(key, from, end []byte) bool {
	if len(end) == 0 {
		return bytes.Equal(key, from)
	}
	return bytes.Compare(key, from) >= 0 && (kv.IsOpenEnded(end) || bytes.Compare(key, end) < 0)
}

// describe fills in what the message asks for, in a word, and its keys.
func (n *Node) describe(cols *coord.Columns) {
	if n.Index < 0 || cols == nil {
		return
	}
	key := cols.Key(n.Index)
	switch k := cols.Kinds[n.Index]; k {
	case coord.KindKV:
		if op, err := kv.Decode(key, cols.Value(n.Index)); err == nil {
			n.Op, n.Keys = describe(&op)
		}
	default:
		n.Op = ops[k]
		if len(key) > 0 && (k == coord.KindPut || k == coord.KindDelete || k == coord.KindGet) {
			n.Keys = [][]byte{key}
		}
	}
}

var ops = map[coord.Kind]string{
	coord.KindOpen: "open session", coord.KindPut: "put", coord.KindDelete: "delete", coord.KindGet: "get", coord.KindObserve: "observe",
	coord.KindLease: "lease", coord.KindCompact: "compact", coord.KindTick: "tick", coord.KindBarrier: "barrier", coord.KindLead: "lead",
	coord.KindProve: "prove", coord.KindDecide: "decide", coord.KindAudit: "audit head", coord.KindOpinion: "opinion", coord.KindTrace: "trace",
}

func describe(o *kv.Op) (string, [][]byte) {
	switch {
	case o.Put != nil:
		return "put", [][]byte{o.Put.Key}
	case o.Delete != nil:
		return "delete", [][]byte{o.Delete.Key}
	case o.Range != nil:
		return "get", [][]byte{o.Range.Key}
	}
	var keys [][]byte
	for _, ops := range [2][]kv.Op{o.Txn.Then, o.Txn.Else} {
		for i := range ops {
			if ops[i].Range == nil {
				_, ks := describe(&ops[i])
				keys = append(keys, ks...)
			}
		}
	}
	return "txn", keys
}
