package link

import (
	"encoding/binary"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// appendMessage appends m as one frame, in one buffer.
func appendMessage(dst []byte, m *coord.PeerMsg) []byte {
	at := len(dst)
	dst = wire.AppendPeer(appendHeader(dst, frameMessage, 0), m)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-lengthBytes))
	return dst
}

// decodeMessage decodes the body of a message frame. The message does not refer to body.
func decodeMessage(body []byte) (*coord.PeerMsg, error) { return wire.DecodePeer(body) }
