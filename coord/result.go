package coord

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord/kv"
)

// Code is the outcome of one message or of one request.
type Code uint8

// The outcomes; the numbers are part of the native stream.
const (
	// CodeOK: it took effect (once, also when it was a retry).
	CodeOK Code = 0
	// CodeNoSession: the session is unknown or was dropped for being idle too long; whether an
	// earlier try took effect is unknown. Open a new one.
	CodeNoSession Code = 1
	// CodeWindow: the number is too far ahead of the session's oldest gap; nothing took
	// effect. Retry when earlier ones are answered.
	CodeWindow Code = 2
	// CodeBad: the message is malformed; it will never take effect.
	CodeBad Code = 3
	// CodeBusy: the box is overloaded; nothing took effect. Retry after RetryAfter.
	CodeBusy Code = 4
	// CodeStopping: the box is shutting down, or lost the request's batch; retry the same numbers elsewhere.
	CodeStopping Code = 5
	// CodeTooLarge: a limit of the request is exceeded.
	CodeTooLarge Code = 6
	// CodeFull: the box's disk is full; nothing took effect. Retry the same numbers elsewhere.
	CodeFull Code = 7
	// CodeDenied: who asks may not do this, or not to this key; nothing of the request took effect, and trying again does not help.
	CodeDenied Code = 8
)

// String is a short English name.
func (c Code) String() string {
	switch c {
	case CodeOK:
		return "ok"
	case CodeNoSession:
		return "unknown session"
	case CodeWindow:
		return "too far ahead in the session"
	case CodeBad:
		return "malformed message"
	case CodeBusy:
		return "overloaded"
	case CodeStopping:
		return "box is stopping"
	case CodeTooLarge:
		return "too large"
	case CodeFull:
		return "disk full"
	case CodeDenied:
		return "denied"
	}
	return "unknown code"
}

// Result is what one message gave when it was applied.
type Result struct {
	Code Code
	// Duplicate: it had taken effect before; nothing was done now.
	Duplicate bool
	// Revision of the store after the message, or for a duplicate that of its first
	// application while that is remembered (the last 64 of a session), else 0.
	Revision uint64
	// Found and Value answer KindGet; Found also tells KindDelete's outcome. Value belongs to the caller.
	Found bool
	Value []byte
	// KV answers KindKV, KindLease and KindCompact on the box that took the message in; nil elsewhere.
	KV *kv.Answer
}

// Reply answers a request of one or more messages.
type Reply struct {
	// Code is CodeOK when every message has CodeOK, else that of the first that has not.
	Code Code
	// Height of the block that the request took effect in.
	Height uint64
	// Results, one a message, in order; nil when the request was refused as a whole.
	Results []Result
	// RetryAfter is a hint with CodeBusy and CodeWindow.
	RetryAfter time.Duration
}
