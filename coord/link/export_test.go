package link

import "io"

// Frame types, for tests that speak the protocol themselves.
const (
	FrameHello   = frameHello
	FramePing    = framePing
	FramePong    = framePong
	FrameMessage = frameMessage
	FrameRefusal = frameRefusal
)

// Hello is hello for other packages.
type Hello struct {
	Site        [8]byte
	Epoch       uint64
	Box         [8]byte
	Incarnation uint64
	Min, Max    uint16
}

func AppendHello(h Hello) []byte {
	return appendHello(nil, &hello{h.Site, h.Epoch, h.Box, h.Incarnation, h.Min, h.Max})
}

// SpeakAtMost makes a Link one of an earlier release.
func SpeakAtMost(version uint16) func(*Config) { return func(c *Config) { c.versionMax = version } }

func AppendFrame(typ byte, body []byte) []byte {
	return append(appendHeader(nil, typ, len(body)), body...)
}

var AppendMessage = appendMessage

// ReadFrame reads one frame of at most a pong or a hello.
func ReadFrame(r io.Reader) (typ byte, body []byte, err error) {
	return newFrameReader(r, readBytes).next(helloBytesMax)
}
