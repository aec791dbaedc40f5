package trace

import (
	"crypto/sha256"

	"github.com/holdfast-edge/holdfast/coord"
)

// Span is a piece of a trace, as OpenTelemetry has it.
type Span struct {
	Trace      ID
	ID, Parent SpanID
	Name       string
	Box        coord.BoxID // where it was
	Remote     bool        // its parent is on another box, or in a client
	Start, End int64       // Unix nanoseconds
	Error      string
	Attrs      []Attr
	Events     []Event
	Links      []Link
}

// Attr is an attribute: Text, or when that is empty Number.
type Attr struct {
	Key    string
	Text   string
	Number int64
}

// Event is a moment in a span.
type Event struct {
	Name string
	At   int64
}

// Link names a span of another trace.
type Link struct {
	Trace ID
	Span  SpanID
}

// The names of spans.
const (
	SpanMessage  = "message"  // on the author, from a client's request to its answer
	SpanSubmit   = "submit"   // waiting to be taken in
	SpanBatch    = "batch"    // waiting for the batch to be closed
	SpanOrder    = "order"    // on every box, from having the batch to its effect
	SpanPropose  = "propose"  // until a proposal names it
	SpanVote     = "vote"     // until a quorum voted for that
	SpanFinalize = "finalize" // until a quorum made it final
	SpanApply    = "apply"    // until it took effect
	SpanAnswer   = "answer"   // until the answer was durable and left
)

// rootOf is the name of the span of a whole batch, which every box knows.
func rootOf(d coord.Digest) SpanID { return SpanID(d[16:24]) }

// spanID names a box's span of a batch: the first 8 bytes of SHA-256("holdfast span 1" || trace || batch || box || name || part).
func (r *Record) spanID(name string) (id SpanID) {
	h := sha256.New()
	h.Write([]byte("holdfast span 1"))
	h.Write(r.Trace[:])
	h.Write(r.Batch[:])
	h.Write(r.Box[:])
	h.Write([]byte(name))
	h.Write([]byte{r.Part})
	var d [sha256.Size]byte
	copy(id[:], h.Sum(d[:0]))
	return id
}

// Spans appends the spans that a record says of. A phase of which an end is not known has none: a box that fetched a block long after
// it was final cannot say how long the votes took.
func (r *Record) Spans(dst []Span) []Span {
	root := rootOf(r.Batch)
	order := r.spanID(SpanOrder)
	add := func(name string, id, parent SpanID, from, to Point) *Span {
		a, b := r.At[from], r.At[to]
		if held := r.At[Held]; parent == order && a != 0 && b != 0 {
			// A proposal, and others' votes for it, may come before the batch that it names.
			a, b = max(a, held), max(b, held)
		}
		if a == 0 || b < a {
			return nil
		}
		dst = append(dst, Span{Trace: r.Trace, ID: id, Parent: parent, Name: name, Box: r.Box, Start: a, End: b})
		return &dst[len(dst)-1]
	}
	child := func(name string, parent SpanID, from, to Point, voted Point) {
		s := add(name, r.spanID(name), parent, from, to)
		if s == nil || voted == to || r.At[voted] == 0 {
			return
		}
		s.Events = []Event{{Name: "voted", At: r.At[voted]}}
	}
	if r.Part > 0 {
		if s := add(SpanMessage, r.spanID(SpanMessage), r.Parent, Accepted, Answered); s != nil {
			s.Remote, s.Error = true, r.failure()
			s.Links = []Link{{Trace: r.Of, Span: root}}
			s.Attrs = r.attrs(nil)
		}
		return dst
	}
	own := r.Box == r.Author
	if own {
		if s := add(SpanMessage, root, r.Parent, Accepted, Answered); s != nil {
			s.Remote, s.Error = r.Parent != SpanID{}, r.failure()
			s.Attrs = r.attrs(nil)
		}
		child(SpanSubmit, root, Accepted, Taken, Taken)
		child(SpanBatch, root, Taken, Closed, Closed)
	}
	if s := add(SpanOrder, order, root, Held, Applied); s != nil {
		s.Remote = !own
		s.Attrs = append(r.attrs(nil), Attr{Key: "holdfast.leads", Number: flag(r.Leader == r.Box)})
	}
	child(SpanPropose, order, Held, Proposed, Proposed)
	child(SpanVote, order, Proposed, Notarized, Voted)
	child(SpanFinalize, order, Notarized, Final, Finalizing)
	child(SpanApply, order, Final, Applied, Applied)
	if own {
		child(SpanAnswer, root, Applied, Answered, Answered)
	}
	return dst
}

func flag(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

func (r *Record) failure() string {
	if r.Code == coord.CodeOK {
		return ""
	}
	return r.Code.String()
}

func (r *Record) attrs(to []Attr) []Attr {
	return append(
		to,
		Attr{Key: "holdfast.batch.digest", Text: r.Batch.String()},
		Attr{Key: "holdfast.batch.author", Text: r.Author.String()},
		Attr{Key: "holdfast.batch.seq", Number: int64(r.Seq)},
		Attr{Key: "holdfast.batch.messages", Number: int64(r.Messages)},
		Attr{Key: "holdfast.batch.bytes", Number: int64(r.Bytes)},
		Attr{Key: "holdfast.block.height", Number: int64(r.Height)},
		Attr{Key: "holdfast.block.batches", Number: int64(r.Batches)},
		Attr{Key: "holdfast.block.leader", Text: r.Leader.String()},
		Attr{Key: "holdfast.round", Number: int64(r.Round)},
		Attr{Key: "holdfast.epoch", Number: int64(r.Epoch)},
	)
}
