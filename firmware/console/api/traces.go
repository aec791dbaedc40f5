package api

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

// What GET /api/v1/traces and /api/v1/why answer at most.
const (
	// TracesMax bounds the traces of one answer, TracesDefault is how many there are when not told.
	TracesMax     = 1000
	TracesDefault = 100
	// WhyDepthMax bounds how far back GET /api/v1/why goes, WhyDepthDefault is how far it goes when not told.
	WhyDepthMax     = 8
	WhyDepthDefault = 3
)

// TraceQuery says which traces are wanted; zero values: all.
type TraceQuery struct {
	Min    time.Duration // they took at least so long
	Reason trace.Reason  // kept for one of these
	Since  time.Time     // that began then or later
	Limit  int
}

// Traces answers /api/v1/traces, newest first.
type Traces struct {
	Traces []TraceHead `json:"traces"`
	// Judged counts the batches of this box since it started, Kept those whose traces are kept, Spared those whose traces would be, had
	// there not been too many at a time, Lost those that were not written.
	Judged uint64 `json:"judged"`
	Kept   uint64 `json:"kept"`
	Spared uint64 `json:"spared"`
	Lost   uint64 `json:"lost"`
	// OldestKept is the begin of the oldest trace on the disk, Bytes what they take there, of BytesMax.
	OldestKept time.Time `json:"oldest_kept,omitzero"`
	Bytes      int64     `json:"bytes"`
	BytesMax   int64     `json:"bytes_max"`
}

// TraceHead is one trace in short.
type TraceHead struct {
	ID       trace.ID  `json:"id"`
	Start    time.Time `json:"start"`
	Duration int64     `json:"duration_ns"`
	// Reasons are why it is kept: error, slow, round_change, anomaly, random, client.
	Reasons    []string    `json:"reasons"`
	Error      string      `json:"error,omitempty"`
	Author     coord.BoxID `json:"author"`
	AuthorName string      `json:"author_name"`
	Leader     coord.BoxID `json:"leader"`
	LeaderName string      `json:"leader_name"`
	Batch      string      `json:"batch"` // the batch's digest
	Height     uint64      `json:"height"`
	Round      uint64      `json:"round"`
	Epoch      uint64      `json:"epoch"`
	Messages   uint32      `json:"messages"`
	Bytes      uint32      `json:"bytes"`
	Boxes      int         `json:"boxes"` // whose spans are there
}

// Trace answers /api/v1/traces/{id}. Spans are in the order of a waterfall: each after its parent, and what began first before.
type Trace struct {
	TraceHead
	Spans []Span `json:"spans"`
}

// Span is one span of a trace. Start is nanoseconds after the trace's, by the clock of the box that answers as far as it knows the others'.
type Span struct {
	ID         trace.SpanID   `json:"id"`
	Parent     trace.SpanID   `json:"parent"`
	Depth      int            `json:"depth"`
	Name       string         `json:"name"`
	Box        coord.BoxID    `json:"box"`
	BoxName    string         `json:"box_name"`
	Start      int64          `json:"start_ns"`
	Duration   int64          `json:"duration_ns"`
	Error      string         `json:"error,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
	Events     []SpanEvent    `json:"events,omitempty"`
	Links      []SpanLink     `json:"links,omitempty"`
}

// SpanEvent is a moment within a span, nanoseconds after the trace's start.
type SpanEvent struct {
	Name string `json:"name"`
	At   int64  `json:"at_ns"`
}

// SpanLink names a span of another trace.
type SpanLink struct {
	Trace trace.ID     `json:"trace"`
	Span  trace.SpanID `json:"span"`
}

// Why answers /api/v1/why/{revision}: what the revision depends on, as a graph without cycles. Nodes are by ascending rank: the revision asked
// for is node 0 of rank 0, and what an edge leads to has a higher rank than where it comes from, so that ranks are the columns of a drawing.
type Why struct {
	Revision uint64    `json:"revision"`
	Sentence string    `json:"sentence"`
	Nodes    []WhyNode `json:"nodes"`
	Edges    []WhyEdge `json:"edges"`
	// Depth is how far it goes back. Truncated: there is more, beyond the depth or what a picture can show.
	Depth     int  `json:"depth"`
	Truncated bool `json:"truncated"`
	// LogFrom is the lowest height in this box's log: nothing before it can be explained.
	LogFrom uint64 `json:"log_from"`
}

// The kinds of nodes and edges.
const (
	WhyMessage = "message" // a change of the state, or a message that made none
	WhyBatch   = "batch"
	WhyBlock   = "block"

	WhyIn      = "in"      // a message is in a batch, a batch in a block
	WhyReads   = "reads"   // it compared or read a key that the other had written
	WhyWrites  = "writes"  // it replaced or removed what the other had written
	WhySession = "session" // the same client session sent the other before
	WhyAuthor  = "author"  // the same box made the other batch before
	WhyParent  = "parent"  // the block builds on the other
)

// WhyNode is a message, a batch or a block; the fields of the other kinds are absent.
type WhyNode struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	Rank  int    `json:"rank"`
	Label string `json:"label"` // a few words, for a picture

	// Of a message. Revision is absent when it changed nothing.
	Revision uint64    `json:"revision,omitempty"`
	Op       string    `json:"op,omitempty"`
	Keys     []Bytes   `json:"keys,omitempty"`
	Session  string    `json:"session,omitempty"`
	Seq      uint64    `json:"seq,omitempty"` // in the session; of a batch in its author's
	Time     time.Time `json:"time,omitzero"`

	// Of a batch: who made it, and where its time went on that box when that is known. Trace names its trace, Kept says whether it is kept.
	Author     *coord.BoxID `json:"author,omitempty"`
	AuthorName string       `json:"author_name,omitempty"`
	Digest     string       `json:"digest,omitempty"` // also of a block
	Messages   int          `json:"messages,omitempty"`
	Trace      *trace.ID    `json:"trace,omitempty"`
	Kept       bool         `json:"kept,omitempty"`
	Phases     []WhyPhase   `json:"phases,omitempty"`

	// Of a block: who proposed it, and who signed the certificate that makes it final, which is of CertHeight.
	Height     uint64       `json:"height,omitempty"`
	Round      uint64       `json:"round,omitempty"`
	Epoch      uint64       `json:"epoch,omitempty"`
	Leader     *coord.BoxID `json:"leader,omitempty"`
	LeaderName string       `json:"leader_name,omitempty"`
	Voters     []string     `json:"voters,omitempty"`
	CertHeight uint64       `json:"cert_height,omitempty"`
	// Skipped is how many rounds were given up between the parent's and this one.
	Skipped uint64 `json:"skipped,omitempty"`
}

// WhyPhase is one phase of a batch's way, as a span's name.
type WhyPhase struct {
	Name     string `json:"name"`
	Duration int64  `json:"duration_ns"`
}

// WhyEdge leads from what depends to what it depends on.
type WhyEdge struct {
	From string `json:"from"`
	To   string `json:"to"`
	Kind string `json:"kind"`
	// Label has the key, for reads and writes.
	Label string `json:"label,omitempty"`
}
