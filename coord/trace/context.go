package trace

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// Errors of this package.
var (
	// ErrContext says that bytes or a text are not a context.
	ErrContext = errors.New("trace: not a context")
	// ErrRecord says that bytes are not records.
	ErrRecord = errors.New("trace: not records")
)

// ID names a trace. All zeros: none.
type ID [16]byte

// SpanID names a span within its trace. All zeros: none.
type SpanID [8]byte

// String is 32 lower-case hexadecimal digits.
func (t ID) String() string { return hex.EncodeToString(t[:]) }

// MarshalText makes JSON show an ID as its String.
func (t ID) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what String wrote.
func (t *ID) UnmarshalText(b []byte) error { return fromHex(t[:], string(b)) }

// String is 16 lower-case hexadecimal digits.
func (s SpanID) String() string { return hex.EncodeToString(s[:]) }

// MarshalText makes JSON show a SpanID as its String, and none as nothing.
func (s SpanID) MarshalText() ([]byte, error) {
	if s == (SpanID{}) {
		return nil, nil
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (s *SpanID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*s = SpanID{}
		return nil
	}
	return fromHex(s[:], string(b))
}

// fromHex reads lower-case digits, as W3C Trace Context has them.
func fromHex(to []byte, s string) error {
	if len(s) != 2*len(to) {
		return fmt.Errorf("%w: %.40q", ErrContext, s)
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%w: %.40q", ErrContext, s)
		}
	}
	_, err := hex.Decode(to, []byte(s))
	return err
}

// Context is where a client's own trace goes on: below its span Span. The zero Context is none.
type Context struct {
	Trace ID
	Span  SpanID
	Flags byte
}

// FlagSampled is the bit of Context.Flags by which the client says that it keeps the trace.
const FlagSampled = 1

// Valid says whether there is a context.
func (c *Context) Valid() bool { return c.Trace != ID{} && c.Span != SpanID{} }

// Bytes is how a context travels: trace 16, span 8, flags 1.
func (c *Context) Bytes() (b [contextBytes]byte) {
	copy(b[:], c.Trace[:])
	copy(b[len(c.Trace):], c.Span[:])
	b[contextBytes-1] = c.Flags
	return b
}

// ContextOf reads what Bytes made; what is none gives the zero Context.
func ContextOf(b [contextBytes]byte) (c Context) {
	copy(c.Trace[:], b[:])
	copy(c.Span[:], b[len(c.Trace):])
	c.Flags = b[contextBytes-1] & FlagSampled
	if !c.Valid() {
		return Context{}
	}
	return c
}

// traceparentBytes is the length of version 00.
const traceparentBytes = 2 + 1 + 32 + 1 + 16 + 1 + 2

// ParseTraceparent reads the value of a traceparent header (W3C Trace Context, section 3.2). A later version may be longer, and is read
// as far as version 00 goes. Errors: ErrContext.
func ParseTraceparent(s string) (c Context, err error) {
	var version, flags [1]byte
	later := len(s) > traceparentBytes && s[traceparentBytes] == '-'
	if len(s) != traceparentBytes && !later || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Context{}, fmt.Errorf("%w: %.80q", ErrContext, s)
	}
	for _, f := range []struct {
		to   []byte
		text string
	}{{version[:], s[:2]}, {c.Trace[:], s[3:35]}, {c.Span[:], s[36:52]}, {flags[:], s[53:55]}} {
		if err := fromHex(f.to, f.text); err != nil {
			return Context{}, err
		}
	}
	if version[0] == 0xff || version[0] == 0 && later || !c.Valid() {
		return Context{}, fmt.Errorf("%w: %.80q", ErrContext, s)
	}
	c.Flags = flags[0] & FlagSampled
	return c, nil
}

// ContextsMax bounds the contexts that one batch carries; the traces of further clients have their own spans only.
const ContextsMax = 8

const (
	contextsFormat = 1
	contextBytes   = 16 + 8 + 1
	// ContextsBytesMax is the most that AppendContexts appends.
	ContextsBytesMax = 1 + ContextsMax*contextBytes
)

// AppendContexts appends the value of a coord.KindTrace message: a byte of format, then of each context trace 16, span 8, flags 1. It
// allocates nothing when dst has room for ContextsBytesMax.
func AppendContexts(dst []byte, cs []Context) []byte {
	dst = append(dst, contextsFormat)
	for i := range cs[:min(len(cs), ContextsMax)] {
		b := cs[i].Bytes()
		dst = append(dst, b[:]...)
	}
	return dst
}

// FirstContext reads the first of the contexts in the value of a coord.KindTrace message: the one that the batch's trace goes on from.
// What is malformed in any part is no context: who sent it is an author who lies, or of a later release.
func FirstContext(value []byte) (c Context, ok bool) {
	n := len(value) - 1
	if n < contextBytes || n > ContextsMax*contextBytes || n%contextBytes != 0 || value[0] != contextsFormat {
		return Context{}, false
	}
	c = ContextOf([contextBytes]byte(value[1:]))
	return c, c.Valid()
}
