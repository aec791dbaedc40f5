package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Versions of the native client stream that this build speaks.
const (
	NativeVersionMin = 1
	// NativeVersionTraces is the first in which a Submit may have a Trace.
	NativeVersionTraces = 2
	NativeVersionMax    = NativeVersionTraces
)

// Limits of the native client stream.
const (
	// HelloBytesMax bounds the first frame of a connection, the only one from a client that has not yet shown its
	// token: both texts at their limits and 64 bytes.
	HelloBytesMax = TokenBytesMax + ClientNameBytesMax + 64
	// TokenBytesMax: a capability token with a few attenuations is a few hundred bytes.
	TokenBytesMax = 4 << 10
	// ClientNameBytesMax bounds what a client calls itself.
	ClientNameBytesMax = 256
	// ErrorTextBytesMax bounds the sentence that closes a connection.
	ErrorTextBytesMax = 1 << 10
	// memberTextBytesMax bounds a member's name and each of its addresses: a host name has at most 253 bytes, a
	// port 6.
	memberTextBytesMax = 260
	// memberKeyBytesMax bounds a member's public key: P-256 in PKIX DER is 91 bytes, RSA-4096 550.
	memberKeyBytesMax = 1 << 10
	// retryMillisecondsMax: the largest RetryAfter that fits a time.Duration.
	retryMillisecondsMax = math.MaxInt64 / uint64(time.Millisecond)
)

// Hello is a client's first frame.
type Hello struct {
	// MinVersion and MaxVersion are what the client speaks.
	MinVersion, MaxVersion uint16
	// Token says what the client may do; empty on a local socket that needs none.
	Token []byte
	// Client is what the client calls itself, for logs.
	Client string
}

// Welcome answers Hello: from here on both sides speak Version. A box that does not welcome the client
// answers with Error and closes.
type Welcome struct {
	Version uint16
	Box     coord.BoxID
	Site    coord.SiteID
	// Members are where the client may go when this box is gone.
	Members []coord.Member
	// MessagesMax and BytesMax (keys and values) bound one Submit on this connection.
	MessagesMax, BytesMax uint32
}

// Submit asks for messages to be ordered. Submits are pipelined: the next may follow before the Answer.
type Submit struct {
	// ID is repeated in the Answer; the client's own choice, unique among its unanswered ones.
	ID uint64
	// Body is what BodyEncoder makes of the messages. Decoded, it is a part of the input.
	Body []byte
	// Trace, from NativeVersionTraces on, is the client's own trace, of which this is a part; nil: none.
	Trace *TraceContext
}

// TraceContext is one trace.Context: trace 16, span 8, flags 1.
type TraceContext [16 + 8 + 1]byte

// Answer is the outcome of the Submit with its ID; answers come in any order.
type Answer struct {
	ID     uint64
	Code   coord.Code
	Height uint64
	// RetryAfter travels in whole milliseconds, rounded up.
	RetryAfter time.Duration
	// Results is nil when the request was refused as a whole. Decoded values are parts of one slab of their own.
	Results []coord.Result
}

// Error is the last frame before its sender closes the connection.
type Error struct {
	Code coord.Code
	Text string
}

// Error is the sender's sentence.
func (e *Error) Error() string { return e.Text + " (" + e.Code.String() + ")" }

// ClientMsg is one frame's content of the native client stream: exactly one field is set.
type ClientMsg struct {
	Hello   *Hello   // client to box, first
	Welcome *Welcome // box to client, first
	Submit  *Submit  // client to box
	Answer  *Answer  // box to client
	// Ping asks for a Pong with the same number, which means something to its sender only; from either side.
	Ping, Pong *uint64
	Error      *Error // from either side, last
}

// nativeVersion is the version of the encoding; Welcome.Version may one day mean another.
const nativeVersion = 1

// The types of the native client stream's messages: never reuse a number.
const (
	clientNothing = 0 // of a ClientMsg without content; nobody decodes it
	clientHello   = 1
	clientWelcome = 2
	clientSubmit  = 3
	clientAnswer  = 4
	clientPing    = 5
	clientPong    = 6
	clientError   = 7
	clientTraced  = 8 // a Submit with a Trace
)

const (
	helloFields   = 4
	welcomeFields = 6
	memberFields  = 7
	submitFields  = 2
	tracedFields  = 3
	answerFields  = 5
	resultsFields = 6
	errorFields   = 2
)

// AppendClient appends the encoding of m, without a frame around it (see AppendClientFrame).
func AppendClient(dst []byte, m *ClientMsg) []byte {
	return pack(dst, func(p *packer) { p.client(m) })
}

func (p *packer) client(m *ClientMsg) {
	head := func(typ uint64) {
		p.array(headFields)
		p.uint(nativeVersion)
		p.uint(typ)
	}
	switch {
	case m.Hello != nil:
		head(clientHello)
		p.array(helloFields)
		p.uint(uint64(m.Hello.MinVersion))
		p.uint(uint64(m.Hello.MaxVersion))
		p.bin(m.Hello.Token)
		p.text(m.Hello.Client)
	case m.Welcome != nil:
		head(clientWelcome)
		p.welcome(m.Welcome)
	case m.Submit != nil && m.Submit.Trace != nil:
		head(clientTraced)
		p.array(tracedFields)
		p.uint(m.Submit.ID)
		p.bin(m.Submit.Body)
		p.bin(m.Submit.Trace[:])
	case m.Submit != nil:
		head(clientSubmit)
		p.array(submitFields)
		p.uint(m.Submit.ID)
		p.bin(m.Submit.Body)
	case m.Answer != nil:
		head(clientAnswer)
		p.answer(m.Answer)
	case m.Ping != nil:
		head(clientPing)
		p.uint(*m.Ping)
	case m.Pong != nil:
		head(clientPong)
		p.uint(*m.Pong)
	case m.Error != nil:
		head(clientError)
		p.array(errorFields)
		p.uint(uint64(m.Error.Code))
		p.text(m.Error.Text)
	default:
		head(clientNothing)
		p.null()
	}
}

// DecodeClient decodes one message. Submit.Body is a part of b; all else shares no memory with b.
func DecodeClient(b []byte) (*ClientMsg, error) {
	m := new(ClientMsg)
	if err := unpack(b, func(u *unpacker) { u.client(m) }); err != nil {
		return nil, fmt.Errorf("wire: client message: %w", err)
	}
	return m, nil
}

func (u *unpacker) client(m *ClientMsg) {
	switch typ := u.head(nativeVersion); typ {
	case clientHello:
		h := new(Hello)
		u.tuple(helloFields)
		h.MinVersion = uint16(u.uint(math.MaxUint16))
		h.MaxVersion = uint16(u.uint(math.MaxUint16))
		h.Token = bytes.Clone(u.bin(TokenBytesMax))
		h.Client = u.text(ClientNameBytesMax)
		m.Hello = h
	case clientWelcome:
		m.Welcome = u.welcome()
	case clientSubmit:
		u.tuple(submitFields)
		m.Submit = &Submit{ID: u.uint(math.MaxUint64), Body: u.bin(coord.BatchBodyBytesMax + 1)}
	case clientTraced:
		u.tuple(tracedFields)
		m.Submit = &Submit{ID: u.uint(math.MaxUint64), Body: u.bin(coord.BatchBodyBytesMax + 1), Trace: new(TraceContext)}
		u.fixed(m.Submit.Trace[:])
	case clientAnswer:
		m.Answer = u.answer()
	case clientPing:
		v := u.uint(math.MaxUint64)
		m.Ping = &v
	case clientPong:
		v := u.uint(math.MaxUint64)
		m.Pong = &v
	case clientError:
		u.tuple(errorFields)
		m.Error = &Error{Code: coord.Code(u.uint(math.MaxUint8)), Text: u.text(ErrorTextBytesMax)}
	default:
		u.fail(fmt.Errorf("%w: %d", ErrType, typ))
	}
}

func (p *packer) welcome(w *Welcome) {
	p.array(welcomeFields)
	p.uint(uint64(w.Version))
	p.bin(w.Box[:])
	p.bin(w.Site[:])
	p.array(len(w.Members))
	for i := range w.Members {
		m := &w.Members[i]
		p.array(memberFields)
		p.bin(m.ID[:])
		p.text(m.Name)
		p.bin(m.Key)
		p.text(m.Peer)
		p.text(m.Client)
		p.text(m.Native)
		p.text(m.Console)
	}
	p.uint(uint64(w.MessagesMax))
	p.uint(uint64(w.BytesMax))
}

func (u *unpacker) welcome() *Welcome {
	w := new(Welcome)
	u.tuple(welcomeFields)
	w.Version = uint16(u.uint(math.MaxUint16))
	u.fixed(w.Box[:])
	u.fixed(w.Site[:])
	w.Members = make([]coord.Member, u.array(coord.MembersMax))
	for i := range w.Members {
		m := &w.Members[i]
		u.tuple(memberFields)
		u.fixed(m.ID[:])
		m.Name = u.text(memberTextBytesMax)
		m.Key = bytes.Clone(u.bin(memberKeyBytesMax))
		m.Peer = u.text(memberTextBytesMax)
		m.Client = u.text(memberTextBytesMax)
		m.Native = u.text(memberTextBytesMax)
		m.Console = u.text(memberTextBytesMax)
	}
	w.MessagesMax = uint32(u.uint(math.MaxUint32))
	w.BytesMax = uint32(u.uint(math.MaxUint32))
	return w
}

func (p *packer) answer(a *Answer) {
	p.array(answerFields)
	p.uint(a.ID)
	p.uint(uint64(a.Code))
	p.uint(a.Height)
	// Rounded up: a client that waits a little less than it should is refused again.
	p.uint(uint64((max(a.RetryAfter, 0) + time.Millisecond - 1) / time.Millisecond))
	if a.Results == nil {
		p.null()
		return
	}
	p.results(a.Results)
}

func (u *unpacker) answer() *Answer {
	a := new(Answer)
	u.tuple(answerFields)
	a.ID = u.uint(math.MaxUint64)
	a.Code = coord.Code(u.uint(math.MaxUint8))
	a.Height = u.uint(math.MaxUint64)
	a.RetryAfter = time.Duration(u.uint(retryMillisecondsMax)) * time.Millisecond
	if !u.absent() {
		a.Results = u.results()
	}
	return a
}

// Bits of a result's flags.
const (
	resultDuplicate = 1
	resultFound     = 2
	resultValue     = 4 // Value is not nil
	resultFlagsMax  = 7
)

// results are columns: codes, flags, revisions (deltas, or 8 bytes each), value lengths, values.
func (p *packer) results(rs []coord.Result) {
	n := len(rs)
	codes, flags, lengths := make([]byte, n), make([]byte, n), make([]byte, 0, n)
	revisions := make([]uint64, n)
	total := 0
	for i := range rs {
		r := &rs[i]
		codes[i], revisions[i] = byte(r.Code), r.Revision
		if r.Duplicate {
			flags[i] |= resultDuplicate
		}
		if r.Found {
			flags[i] |= resultFound
		}
		if r.Value != nil {
			flags[i] |= resultValue
			lengths = binary.AppendUvarint(lengths, uint64(len(r.Value)))
			total += len(r.Value)
		}
	}
	p.array(resultsFields)
	p.uint(uint64(n))
	p.bin(codes)
	p.bin(flags)
	deltas := appendDeltas(make([]byte, 0, 2*n), revisions)
	if len(deltas) >= 8*n {
		deltas = appendPlain(deltas[:0], revisions)
	}
	p.bin(deltas)
	p.bin(lengths)
	p.binLen(total)
	for i := range rs {
		p.b = append(p.b, rs[i].Value...)
	}
}

func (u *unpacker) results() []coord.Result {
	u.tuple(resultsFields)
	n := int(u.uint(coord.BatchMessagesMax))
	codes, flags, deltas := u.bin(n), u.bin(n), u.bin(8*n)
	lengths, slab := u.bin(binary.MaxVarintLen32*n), u.bin(coord.FrameBytesMax)
	if u.err != nil {
		return nil
	}
	if len(codes) != n || len(flags) != n || len(deltas) < n {
		u.fail(fmt.Errorf("%w: a column of results is shorter than %d", ErrLength, n))
		return nil
	}
	revisions := make([]uint64, n)
	if err := unpackDeltas(revisions, deltas); err != nil {
		u.fail(fmt.Errorf("revisions: %w", err))
		return nil
	}
	valued := 0
	for _, f := range flags {
		if f > resultFlagsMax {
			u.fail(fmt.Errorf("%w: flags %d of a result", ErrFormat, f))
			return nil
		}
		valued += int(f / resultValue)
	}
	if len(lengths) < valued {
		u.fail(fmt.Errorf("%w: %d values without a length", ErrLength, valued))
		return nil
	}
	end := make([]uint32, valued)
	if err := readLengths(end, lengths, coord.ValueBytesMax, len(slab)); err != nil {
		u.fail(fmt.Errorf("values: %w", err))
		return nil
	}
	slab = bytes.Clone(slab)
	rs, at, v := make([]coord.Result, n), uint32(0), 0
	for i := range rs {
		f := flags[i]
		rs[i] = coord.Result{
			Code: coord.Code(codes[i]), Duplicate: f&resultDuplicate != 0, Revision: revisions[i], Found: f&resultFound != 0,
		}
		if f&resultValue != 0 {
			rs[i].Value = slab[at:end[v]:end[v]]
			at = end[v]
			v++
		}
	}
	return rs
}
