package wire

import (
	"testing"

	"github.com/golang/snappy"

	"github.com/holdfast-edge/holdfast/coord"
)

// What a batch is on the wire beyond its keys and values, of which snappy's own saving on them is taken off: with its signature
// and head, the link's frame, TLS and TCP/IP over Ethernet.
func TestTheOverheadOfABatchIsSmall(t *testing.T) {
	const (
		frameBytes  = 5
		recordBytes = 22 // TLS 1.3: head, type, tag; a record carries 16 KiB
		recordMax   = 16 << 10
		packetBytes = 52   // IP and TCP with timestamps
		packetMax   = 1448 // bytes of a stream in a packet
	)
	for _, x := range []struct {
		messages int
		most     float64 // percent
	}{{16, 25}, {32, 15}, {128, 8}, {1000, 8}} {
		for _, load := range benchLoads()[:2] {
			var c coord.Columns
			load.fill(&c, x.messages)
			b := &coord.Batch{Seq: 1 << 30, Floor: 1<<30 - 1, Count: uint32(x.messages), Body: NewBodyEncoder().AppendBody(nil, &c)}
			n := len(AppendPeer(nil, &coord.PeerMsg{Batch: b})) + frameBytes
			n += (n/recordMax + 1) * recordBytes
			n += (n/packetMax + 1) * packetBytes
			payload := c.Bytes()
			alone := min(payload, len(snappy.Encode(nil, c.Keys))+len(snappy.Encode(nil, c.Vals)))
			over := 100 * float64(n-alone) / float64(payload)
			t.Logf("%4d messages of %s: %d bytes on the wire, %d of payload (%d squeezed): overhead %.1f %%", x.messages, load.name, n, payload, alone, over)
			if over > x.most {
				t.Errorf("%d messages of %s: overhead %.1f %%, wanted at most %g %%", x.messages, load.name, over, x.most)
			}
		}
	}
}
