package wire

import "errors"

// What is wrong with bytes that do not decode; wrapped with the place.
var (
	// ErrTruncated: the bytes end before the value does.
	ErrTruncated = errors.New("truncated")
	// ErrTrailing: bytes follow the value.
	ErrTrailing = errors.New("bytes after the end")
	// ErrFormat: not what this package writes: another type, a longer form of a number or a length.
	ErrFormat = errors.New("malformed")
	// ErrLimit: a number, count or length exceeds its limit.
	ErrLimit = errors.New("beyond a limit")
	// ErrLength: lengths that belong together disagree.
	ErrLength = errors.New("lengths disagree")
	// ErrVersion: a version of the format that this build does not know.
	ErrVersion = errors.New("unknown version")
	// ErrType: a type of message or record that this build does not know.
	ErrType = errors.New("unknown type")
	// ErrCompression: a compressed part is damaged or claims more than it can hold.
	ErrCompression = errors.New("bad compressed data")
	// ErrFrame: a frame's length is beyond the limit for its place.
	ErrFrame = errors.New("frame too long")
)
