package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Kind is what an operation does.
type Kind string

// The kinds of operations.
const (
	Put       Kind = "put"
	Range     Kind = "range"
	Delete    Kind = "delete"
	Txn       Kind = "txn"
	Grant     Kind = "grant"
	Revoke    Kind = "revoke"
	KeepAlive Kind = "keepalive"
	Compact   Kind = "compact"
)

// Outcome is what the client knows of an operation at its end.
type Outcome string

// The outcomes of an operation.
const (
	OK      Outcome = "ok"
	Refused Outcome = "refused" // an error that says that nothing happened and why
	Unknown Outcome = "unknown" // it may have happened, or may happen yet
	Unsent  Outcome = "unsent"  // no connection: it never left
)

// KV is a key with all that etcd keeps of it.
type KV struct {
	Key     string `json:"k"`
	Value   string `json:"v,omitempty"`
	Create  int64  `json:"c,omitempty"`
	Mod     int64  `json:"m,omitempty"`
	Version int64  `json:"n,omitempty"`
	Lease   int64  `json:"l,omitempty"`
}

// Cmp is one comparison of a transaction; Target is one of value, version, create, mod, lease; Op of = != < >.
type Cmp struct {
	Key    string `json:"k"`
	End    string `json:"end,omitempty"`
	Target string `json:"target"`
	Op     string `json:"op"`
	Value  string `json:"v,omitempty"`
	N      int64  `json:"n,omitempty"`
}

// Req is what was asked.
type Req struct {
	Kind         Kind   `json:"kind"`
	Key          string `json:"k,omitempty"`
	End          string `json:"end,omitempty"`
	Value        string `json:"v,omitempty"`
	Lease        int64  `json:"lease,omitempty"`
	TTL          int64  `json:"ttl,omitempty"`
	Rev          int64  `json:"rev,omitempty"`
	Limit        int64  `json:"limit,omitempty"`
	PrevKV       bool   `json:"prev,omitempty"`
	IgnoreValue  bool   `json:"ignorevalue,omitempty"`
	IgnoreLease  bool   `json:"ignorelease,omitempty"`
	Serializable bool   `json:"serializable,omitempty"`
	CountOnly    bool   `json:"countonly,omitempty"`
	KeysOnly     bool   `json:"keysonly,omitempty"`
	Physical     bool   `json:"physical,omitempty"`
	If           []Cmp  `json:"if,omitempty"`
	Then         []Req  `json:"then,omitempty"`
	Else         []Req  `json:"else,omitempty"`
}

// Resp is what came back. Rev is the header's revision, of the outermost answer only.
type Resp struct {
	Rev     int64  `json:"rev,omitempty"`
	KVs     []KV   `json:"kvs,omitempty"`
	Count   int64  `json:"count,omitempty"`
	More    bool   `json:"more,omitempty"`
	Prev    []KV   `json:"prev,omitempty"`
	Deleted int64  `json:"deleted,omitempty"`
	Then    bool   `json:"then,omitempty"`
	Subs    []Resp `json:"subs,omitempty"`
	Lease   int64  `json:"lease,omitempty"`
	TTL     int64  `json:"ttl,omitempty"`
}

// Op is one operation of one client. Times are nanoseconds since the run began, by one monotonic clock.
type Op struct {
	ID       int     `json:"id"`
	Client   int     `json:"client"`
	Endpoint int     `json:"endpoint"`
	Conn     int     `json:"conn"` // numbers connections; 0 if it changed while the operation ran
	Call     int64   `json:"call"`
	Return   int64   `json:"return"`
	Outcome  Outcome `json:"outcome"`
	Err      string  `json:"err,omitempty"`
	Req      Req     `json:"req"`
	Resp     Resp    `json:"resp"`
}

// Event is one change as a watcher saw it.
type Event struct {
	Delete bool `json:"delete,omitempty"`
	KV     KV   `json:"kv"`
	Prev   *KV  `json:"prev,omitempty"`
}

// MsgKind is what a watcher was told.
type MsgKind string

// The kinds of messages of a watcher.
const (
	Opened    MsgKind = "opened" // asked for, from Start on
	Events    MsgKind = "events"
	Progress  MsgKind = "progress"
	Compacted MsgKind = "compacted"
	Closed    MsgKind = "closed"
	// Cancelling: it asked to be cancelled. What was on the way still comes, in etcd at times without prev_kv.
	Cancelling MsgKind = "cancelling"
)

// Msg is one message to a watcher, in the order of arrival. A session is one watch on one stream.
type Msg struct {
	Watcher  string  `json:"watcher"`
	Endpoint int     `json:"endpoint"`
	Session  int     `json:"session"`
	At       int64   `json:"at"`
	Kind     MsgKind `json:"kind"`
	Start    int64   `json:"start,omitempty"`
	Rev      int64   `json:"rev,omitempty"`
	Compact  int64   `json:"compact,omitempty"`
	Fragment bool    `json:"fragment,omitempty"` // more of the same answer follows
	Events   []Event `json:"events,omitempty"`
	Note     string  `json:"note,omitempty"`
}

// answer says whether a message came from the server.
func (m *Msg) answer() bool { return m.Kind == Events || m.Kind == Progress || m.Kind == Compacted }

// Fault is one run of the hook.
type Fault struct {
	At  int64  `json:"at"`
	End int64  `json:"end"`
	Arg string `json:"arg"`
}

// Meta is where a history begins and ends.
type Meta struct {
	Seed      uint64   `json:"seed"`
	Endpoints []string `json:"endpoints"`
	Base      int64    `json:"base"`  // the revision before the first operation
	Init      []KV     `json:"init"`  // what stood at Base
	Final     int64    `json:"final"` // every watcher that is done has seen it
	SlackNS   int64    `json:"slack"` // how much too early a lease may end
}

// History is all that was written down of a run.
type History struct {
	Meta   Meta
	Ops    []*Op
	Msgs   []*Msg
	Faults []Fault
	// Late are watchers that did not reach Final in the time they had.
	Late []string
}

type line struct {
	Meta  *Meta  `json:"meta,omitempty"`
	Op    *Op    `json:"op,omitempty"`
	Msg   *Msg   `json:"watch,omitempty"`
	Fault *Fault `json:"fault,omitempty"`
	Late  string `json:"late,omitempty"`
}

// Save writes h as JSON lines.
func (h *History) Save(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	lines := []line{{Meta: &h.Meta}}
	for _, o := range h.Ops {
		lines = append(lines, line{Op: o})
	}
	for _, m := range h.Msgs {
		lines = append(lines, line{Msg: m})
	}
	for i := range h.Faults {
		lines = append(lines, line{Fault: &h.Faults[i]})
	}
	for _, l := range h.Late {
		lines = append(lines, line{Late: l})
	}
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// Load reads what Save wrote.
func Load(path string) (*History, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, dec := &History{}, json.NewDecoder(bufio.NewReader(f))
	for n := 1; ; n++ {
		var l line
		if err := dec.Decode(&l); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: record %d: %w", path, n, err)
		}
		switch {
		case l.Meta != nil:
			h.Meta = *l.Meta
		case l.Op != nil:
			h.Ops = append(h.Ops, l.Op)
		case l.Msg != nil:
			h.Msgs = append(h.Msgs, l.Msg)
		case l.Fault != nil:
			h.Faults = append(h.Faults, *l.Fault)
		case l.Late != "":
			h.Late = append(h.Late, l.Late)
		}
	}
	if h.Meta.Base == 0 {
		return nil, fmt.Errorf("%s: no meta record", path)
	}
	return h, nil
}
