// Package feed sends a recorded trace of object accesses to a site: every access becomes
// one observe message, submitted to the boxes in turn, many in flight, and counted as
// acknowledged only when the site has ordered and applied it. It shows that a site counts
// each access exactly once whatever happens to its boxes meanwhile.
//
// A trace is a file of 32-bit big-endian object keys, raw or xz-compressed (the format of the
// web traces in testdata/traces). It is read twice, in bounded memory: Open decodes it whole,
// so that a damaged file is refused before anything is sent, and Run sends it.
package feed

import "errors"

// Errors of this package.
var (
	// ErrTrace says that a file is not a whole trace.
	ErrTrace = errors.New("trace is damaged")
	// ErrGaveUp says that nothing was acknowledged for as long as the caller was willing to wait.
	ErrGaveUp = errors.New("the site acknowledged nothing")
	// ErrUnacknowledged says that something sent was not acknowledged, or not sent at all.
	ErrUnacknowledged = errors.New("not everything was acknowledged")
)
