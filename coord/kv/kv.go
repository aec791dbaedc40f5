// Package kv has the words of the etcd v3 data model as the ordered state knows them: operations, their answers,
// events, and how operations travel as the value of one ordered message (codec.go). The state (coord/state) executes them,
// the gateway (firmware/etcdapi) translates etcd's messages.
//
// Byte slices in a decoded operation belong to the bytes it was decoded from; those in answers and events are
// immutable and may be kept.
package kv

import "errors"

// Limits, as etcd's where it has one. They are part of the protocol.
const (
	// TxnOpsMax bounds the compares and the operations of each branch of a transaction, nested ones included
	// along each path.
	TxnOpsMax = 128
	// LeaseTTLMax is the longest lease in seconds (etcd's).
	LeaseTTLMax = 9_000_000_000
	// LeasesMax bounds the leases of a site: each costs about 200 bytes of memory on every box.
	LeasesMax = 16 << 10
)

// KeyValue is one key at one revision, as etcd's mvccpb.KeyValue.
type KeyValue struct {
	Key, Value []byte
	// Create is the revision that created the key, Mod that of this value, Version counts its puts since.
	Create, Mod, Version uint64
	// Lease is the lease it is attached to, 0 for none.
	Lease int64
}

// Event is one change of one key. For a delete KV has Key and Mod only.
type Event struct {
	Delete bool
	KV     KeyValue
	// Prev is the key before the change; nil when there was none, or when it is compacted.
	Prev *KeyValue
}

// Revision is the changes of one transaction, in the order of its operations.
type Revision struct {
	Revision uint64
	Events   []Event
}

// Op is one operation: exactly one field is set.
type Op struct {
	Put    *Put
	Delete *Delete
	Range  *Range
	Txn    *Txn
}

// Put sets a key.
type Put struct {
	Key, Value []byte
	// Lease attaches the key, 0 detaches it.
	Lease int64
	// PrevKV asks for the key as it was. IgnoreValue and IgnoreLease keep what it has; it must exist.
	PrevKV, IgnoreValue, IgnoreLease bool
}

// Delete removes the keys of a span.
type Delete struct {
	Key, End []byte
	PrevKV   bool
}

// A span is Key alone when End is empty, all keys from Key on when End is one zero byte, else Key <= k < End.

// SortTarget and the order in which a Range answers; the numbers are etcd's.
type (
	SortTarget uint8
	SortOrder  uint8
)

// The targets and orders.
const (
	SortKey     SortTarget = 0
	SortVersion SortTarget = 1
	SortCreate  SortTarget = 2
	SortMod     SortTarget = 3
	SortValue   SortTarget = 4

	SortNone       SortOrder = 0
	SortAscending  SortOrder = 1
	SortDescending SortOrder = 2
)

// Range reads the keys of a span.
type Range struct {
	Key, End []byte
	// Limit is the most keys in the answer, 0 or less: all.
	Limit int64
	// Revision to read at; 0 or less: the newest.
	Revision                             int64
	Order                                SortOrder
	Target                               SortTarget
	KeysOnly, CountOnly                  bool
	MinMod, MaxMod, MinCreate, MaxCreate int64
	// Uncounted ends the reading at Limit: Count is then of no use. It does not travel.
	Uncounted bool
}

// Target is what a Compare looks at, Relation how; the numbers are etcd's.
type (
	Target   uint8
	Relation uint8
)

// The targets and relations. Of any other number a target is equal to all, and a relation holds (as in etcd).
const (
	TargetVersion Target = 0
	TargetCreate  Target = 1
	TargetMod     Target = 2
	TargetValue   Target = 3
	TargetLease   Target = 4

	Equal    Relation = 0
	Greater  Relation = 1
	Less     Relation = 2
	NotEqual Relation = 3
)

// Compare is true when the relation holds for every key of a span; a key that does not exist counts as zeros, but
// a comparison with its value, or with the keys of an empty span, is as etcd has it (state/txn.go).
type Compare struct {
	Key, End []byte
	Target   Target
	Relation Relation
	// Number is compared, for TargetValue Value.
	Number int64
	Value  []byte
}

// Txn executes Then if all compares hold, else Else, as one revision.
type Txn struct {
	Compares   []Compare
	Then, Else []Op
}

// Answer is what one operation gave.
type Answer struct {
	// Err is why nothing happened; the rest is then zero but for Revision.
	Err error
	// Revision of the store as this operation saw it (etcd's header of this answer).
	Revision uint64
	// Prev of a Put, Prevs of a Delete.
	Prev    *KeyValue
	Prevs   []KeyValue
	Deleted int64
	// KVs, Count (of all keys in the span) and More (there are more than Limit) of a Range.
	KVs   []KeyValue
	Count int64
	More  bool
	// Succeeded and Answers of a Txn: which branch, and its answers.
	Succeeded bool
	Answers   []Answer
	// LeaseID and TTL (seconds, granted) of a lease's operation; TTL 0: there is no such lease.
	LeaseID int64
	TTL     int64
}

// Errors of operations; firmware/etcdapi gives each the words that etcd's clients look for.
var (
	ErrKeyNotFound    = errors.New("kv: key not found")
	ErrDuplicateKey   = errors.New("kv: duplicate key in a transaction")
	ErrEmptyKey       = errors.New("kv: key is not provided")
	ErrTooManyOps     = errors.New("kv: too many operations in a transaction")
	ErrCompacted      = errors.New("kv: revision has been compacted")
	ErrFutureRevision = errors.New("kv: revision is a future one")
	ErrLeaseNotFound  = errors.New("kv: lease not found")
	ErrLeaseExists    = errors.New("kv: lease exists")
	ErrLeaseTTL       = errors.New("kv: lease's time to live is too large")
	ErrTooManyLeases  = errors.New("kv: too many leases")
	ErrValueProvided  = errors.New("kv: value is provided and ignored")
	ErrLeaseProvided  = errors.New("kv: lease is provided and ignored")
	ErrSort           = errors.New("kv: invalid sort option")
	ErrKeyTooLarge    = errors.New("kv: key is too large")
	// ErrMalformed: the bytes are not an operation.
	ErrMalformed = errors.New("kv: malformed operation")
)

// OpenEnded is a span's End that means: all keys from Key on.
var OpenEnded = []byte{0}

// IsOpenEnded says whether a span has no upper bound.
func IsOpenEnded(end []byte) bool { return len(end) == 1 && end[0] == 0 }

// ReadOnly says whether a transaction can change nothing, whichever branch it takes.
func (t *Txn) ReadOnly() bool {
	for _, ops := range [2][]Op{t.Then, t.Else} {
		for i := range ops {
			if o := &ops[i]; o.Put != nil || o.Delete != nil || o.Txn != nil && !o.Txn.ReadOnly() {
				return false
			}
		}
	}
	return true
}
