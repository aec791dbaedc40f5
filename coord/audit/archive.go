package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-edge/holdfast/coord"
)

// ErrArchive says that a file is no archive, or does not fit to another.
var ErrArchive = errors.New("audit: not an archive")

const (
	archiveVersion = 1
	// lineBytesMax bounds a line: a record in which JSON escapes every byte, with its names.
	lineBytesMax = 6*RecordBytesMax + 1024
	sliceBytes   = 24 // of memory for each record beside its bytes
)

// archiveHeader is an archive's first line.
type archiveHeader struct {
	Version int            `json:"holdfast_audit"`
	Box     coord.BoxID    `json:"box"`
	First   int64          `json:"first"`
	Before  []coord.Digest `json:"before"` // Peaks.Hashes of the First records before
}

// unreadable stands where a line is no record: no record is encoded so, and Verify calls it edited.
var unreadable = []byte{0}

// AppendArchive appends the first line of an archive: the records of a box from place before's size on, one line of JSON each (AppendLine). An
// archive has all that Verify wants, so records may leave the box and stay proven.
func AppendArchive(b []byte, box coord.BoxID, before *Peaks) []byte {
	h := archiveHeader{Version: archiveVersion, Box: box, First: before.size, Before: before.hashes}
	if h.Before == nil {
		h.Before = []coord.Digest{}
	}
	return appendJSON(b, &h)
}

// AppendLine appends a record's line: one record has one line.
func AppendLine(b []byte, r *Record) []byte { return appendJSON(b, r) }

func appendJSON(b []byte, v any) []byte {
	line, err := json.Marshal(v)
	if err != nil { // strings, numbers and an outcome that Check accepted
		panic(err)
	}
	return append(append(b, line...), '\n')
}

// ReadArchive reads an archive that takes no more than bytesMax of memory. A line that is not exactly what AppendLine writes is
// no error: it is kept as an edited record for Verify to name. Errors: ErrArchive, the reader's.
func ReadArchive(r io.Reader, bytesMax int) (*Log, error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, lineBytesMax)
	if !in.Scan() {
		return nil, errors.Join(fmt.Errorf("%w: no first line", ErrArchive), in.Err())
	}
	var h archiveHeader
	if err := json.Unmarshal(in.Bytes(), &h); err != nil {
		return nil, fmt.Errorf("%w: first line: %w", ErrArchive, err)
	}
	if h.Version != archiveVersion {
		return nil, fmt.Errorf("%w: version %d", ErrArchive, h.Version)
	}
	l := &Log{Box: h.Box, First: h.First}
	var err error
	if l.Before, err = PeaksOf(h.First, h.Before); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	size := 0
	for in.Scan() {
		l.Records = append(l.Records, fromLine(in.Bytes()))
		if size += sliceBytes + len(l.Records[len(l.Records)-1]); size > bytesMax {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrArchive, bytesMax)
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrArchive, lineBytesMax)
	}
	return l, in.Err()
}

// fromLine is the encoded record of a line, or unreadable.
func fromLine(line []byte) []byte {
	var r Record
	if json.Unmarshal(line, &r) != nil || r.Check() != nil {
		return unreadable
	}
	// What another program would read out of it (a field twice, one in capitals) must be what we read.
	if again := AppendLine(nil, &r); !bytes.Equal(again[:len(again)-1], line) {
		return unreadable
	}
	return r.Append(nil)
}

// Join appends the records of next to the log: the same box's, from where the log ends. Error: ErrArchive.
func (l *Log) Join(next *Log) error {
	if end := l.First + int64(len(l.Records)); next.Box != l.Box || next.First != end {
		return fmt.Errorf("%w: records of box %v from %d on do not follow those of %v to %d", ErrArchive, next.Box, next.First, l.Box, end)
	}
	l.Records = append(l.Records, next.Records...)
	return nil
}
