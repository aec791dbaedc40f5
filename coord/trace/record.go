package trace

import (
	"encoding/binary"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
)

// Point is a moment in the way of a batch, as one box has it.
type Point uint8

// The points, in the order in which they are passed. A box that is not the batch's author knows those from Held to Applied.
const (
	Accepted   Point = iota // a client's request was handed to the box
	Taken                   // it is in the open batch
	Closed                  // the batch is encoded, signed and sent
	Held                    // this box has the batch
	Proposed                // this box has, or made, the proposal that names it
	Voted                   // this box voted for that
	Notarized               // a quorum did, as far as this box knows
	Finalizing              // this box voted to make it final
	Final                   // a quorum did
	Applied                 // it took effect here
	Answered                // the answer is durable and left
	points
)

// Reason is why a trace is kept; bits of one byte.
type Reason uint8

// The reasons.
const (
	Failed     Reason = 1 << iota // a message had another outcome than OK
	Slow                          // slower than nearly all lately
	Turned                        // the round before was given up, or another box leads
	Unusual                       // a detector of anomalies had said so
	Random                        // by chance
	Asked                         // the client keeps its trace
	reasonsEnd = iota
)

var reasonNames = [reasonsEnd]string{"error", "slow", "round_change", "anomaly", "random", "client"}

// Names lists the reasons, in words that stay.
func (r Reason) Names() []string {
	names := make([]string, 0, 2)
	for i, n := range reasonNames {
		if r&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// ReasonNamed is the reason of a name, 0 when there is none.
func ReasonNamed(name string) Reason {
	for i, n := range reasonNames {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

// Record is what one box knows of the way of one batch. It has no pointers.
type Record struct {
	Trace  ID
	Parent SpanID // the client's span; zero: none
	Batch  coord.Digest
	// Author made the batch, Box tells, Leader proposed the block.
	Author, Box, Leader coord.BoxID

	Epoch, Seq, Round, Height uint64
	// Messages and Bytes (of its body) are of the batch, Batches of its block.
	Messages, Bytes, Batches uint32
	Code                     coord.Code // the first outcome that is not OK
	Reasons                  Reason
	// Part, when not 0, counts the clients' requests in a batch whose trace, Of, goes on from another client's: the record is of that
	// request alone, and has Accepted and Answered only.
	Part uint8
	Of   ID
	// At is when each point was passed: in a Ring nanoseconds of its box's monotonic clock, elsewhere Unix nanoseconds; 0: not known.
	At [points]int64
}

// Duration is from Accepted to Answered, for the author, else from Held to Applied; 0 while that is not known. Nanoseconds.
func (r *Record) Duration() int64 {
	from, to := r.At[Accepted], r.At[Answered]
	if r.Box != r.Author {
		from, to = r.At[Held], r.At[Applied]
	}
	if from == 0 || to < from {
		return 0
	}
	return to - from
}

// Shift moves all points that are known by nanoseconds.
func (r *Record) Shift(by int64) {
	for i := range r.At {
		if r.At[i] != 0 {
			r.At[i] += by
		}
	}
}

// BatchTrace is the trace of a batch without a client's context: the first 16 bytes of its digest.
func BatchTrace(d coord.Digest) ID { return ID(d[:16]) }

const (
	recordFormat = 1
	// recordBytes is one record without its format: it is of fixed size, so that the bound on a number of them is one on bytes.
	recordBytes = 16 + 8 + 32 + 16 + 3*8 + 4*8 + 3*4 + 3 + int(points)*8
	// RecordsMax bounds the records of one trace: a box has one, and those of clients who share the batch.
	RecordsMax = coord.MembersMax + ContextsMax
	// RecordsBytesMax bounds their encoding.
	RecordsBytesMax = 1 + RecordsMax*recordBytes
)

// AppendRecords appends a byte of format and the records, each as its fields in order: bytes, numbers big-endian of 8 bytes (Messages,
// Bytes and Batches of 4), then Code, Reasons, Part and the points.
func AppendRecords(dst []byte, rs []Record) []byte {
	dst = append(dst, recordFormat)
	for i := range rs[:min(len(rs), RecordsMax)] {
		r := &rs[i]
		dst = append(append(append(append(dst, r.Trace[:]...), r.Parent[:]...), r.Batch[:]...), r.Of[:]...)
		dst = append(append(append(dst, r.Author[:]...), r.Box[:]...), r.Leader[:]...)
		for _, n := range [...]uint64{r.Epoch, r.Seq, r.Round, r.Height} {
			dst = binary.BigEndian.AppendUint64(dst, n)
		}
		for _, n := range [...]uint32{r.Messages, r.Bytes, r.Batches} {
			dst = binary.BigEndian.AppendUint32(dst, n)
		}
		dst = append(dst, byte(r.Code), byte(r.Reasons), r.Part)
		for _, at := range r.At {
			dst = binary.BigEndian.AppendUint64(dst, uint64(at))
		}
	}
	return dst
}

// DecodeRecords reads what AppendRecords wrote, and nothing else. What the records say is the word of who sent them. Errors: ErrRecord.
func DecodeRecords(b []byte) ([]Record, error) {
	if len(b) == 0 || b[0] != recordFormat || (len(b)-1)%recordBytes != 0 || len(b) > RecordsBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrRecord, len(b))
	}
	b = b[1:]
	rs := make([]Record, len(b)/recordBytes)
	for i := range rs {
		r := &rs[i]
		take := func(n int) []byte { x := b[:n]; b = b[n:]; return x }
		for _, to := range [...][]byte{r.Trace[:], r.Parent[:], r.Batch[:], r.Of[:], r.Author[:], r.Box[:], r.Leader[:]} {
			copy(to, take(len(to)))
		}
		for _, n := range [...]*uint64{&r.Epoch, &r.Seq, &r.Round, &r.Height} {
			*n = binary.BigEndian.Uint64(take(8))
		}
		for _, n := range [...]*uint32{&r.Messages, &r.Bytes, &r.Batches} {
			*n = binary.BigEndian.Uint32(take(4))
		}
		rest := take(3)
		r.Code, r.Reasons, r.Part = coord.Code(rest[0]), Reason(rest[1]), rest[2]
		if r.Reasons >= 1<<reasonsEnd || r.Part >= ContextsMax || r.Trace == (ID{}) {
			return nil, fmt.Errorf("%w: a field is out of bounds", ErrRecord)
		}
		for p := range r.At {
			r.At[p] = int64(binary.BigEndian.Uint64(take(8)))
		}
	}
	return rs, nil
}
