// Package api is what the console says in JSON: the answers that are not types of
// coord/site already. The console writes them, the command line and other programs read
// them; openapi.json of package console describes them to the world.
package api

import (
	"encoding/hex"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
)

// TopMax bounds the objects in one answer about top objects: about 40 MiB of JSON.
const TopMax = 1 << 20

// Status is what the command line reads of /api/v1/status, whose answer is a whole site.View.
type Status struct {
	ID      coord.BoxID  `json:"id"`
	Name    string       `json:"name"`
	Site    coord.SiteID `json:"site"`
	Version string       `json:"version"`
	Started time.Time    `json:"started"`
	Taken   time.Time    `json:"taken"`
	N       int          `json:"n"`
	F       int          `json:"f"`
	Quorum  int          `json:"quorum"`
	// Members, Leader and the numbers are as this box sees them.
	Members  []site.MemberView `json:"members"`
	Leader   coord.BoxID       `json:"leader"`
	Blocks   []site.BlockView  `json:"blocks"` // the last ones, the newest first
	Round    uint64            `json:"round"`
	Height   uint64            `json:"height"`
	Revision uint64            `json:"revision"`
	Applied  uint64            `json:"applied"`
	Rate     float64           `json:"rate"`
	Serving  bool              `json:"serving"`
	Verdict  string            `json:"verdict"`
	Fault    string            `json:"fault"`
	Full     string            `json:"full"`
	Removed  bool              `json:"removed"`
	Epoch    uint64            `json:"epoch"`
	// Decisions are open ones, of which Word is this box's.
	Decisions []site.DecisionView `json:"decisions"`
	Counters  site.Counters       `json:"counters"`
}

// Members answers /api/v1/members.
type Members struct {
	Site    coord.SiteID      `json:"site"`
	Epoch   uint64            `json:"epoch"`
	N       int               `json:"n"`
	F       int               `json:"f"`
	Quorum  int               `json:"quorum"`
	Members []site.MemberView `json:"members"`
	// NativeSocket is where the box itself speaks the native stream; told over its own socket only.
	NativeSocket string `json:"native_socket,omitempty"`
}

// Blocks answers /api/v1/blocks, newest first.
type Blocks struct {
	Height uint64           `json:"height"`
	Blocks []site.BlockView `json:"blocks"`
}

// KV answers /api/v1/kv/{key}: one key as this box has applied it.
type KV struct {
	Key      Bytes  `json:"key"`
	Value    Bytes  `json:"value"`
	Revision uint64 `json:"revision"`
}

// Crashes answers /api/v1/crashes, newest first.
type Crashes struct {
	Crashes []crash.Report `json:"crashes"`
}

// Error answers a request that failed.
type Error struct {
	Error string `json:"error"`
}

// LogHead is one line of /api/v1/log without its messages, which follow as "messages".
// Digests and signatures are in hexadecimal.
type LogHead struct {
	Height uint64      `json:"height"`
	Epoch  uint64      `json:"epoch"`
	Round  uint64      `json:"round"`
	Digest string      `json:"digest"`
	Parent string      `json:"parent"`
	Leader coord.BoxID `json:"leader"`
	// Certificate is absent when the block is final through a descendant's.
	Certificate *Certificate `json:"certificate"`
	Batches     []Batch      `json:"batches"`
}

// LogLine is one committed block.
type LogLine struct {
	LogHead
	Messages []Message `json:"messages"`
}

// Certificate is a quorum of signatures over a block.
type Certificate struct {
	Kind       string      `json:"kind"`
	Epoch      uint64      `json:"epoch"`
	Round      uint64      `json:"round"`
	Digest     string      `json:"digest"`
	Signatures []Signature `json:"signatures"`
}

// Signature is one member's part of a certificate; Voter is its index.
type Signature struct {
	Voter     uint8  `json:"voter"`
	Level     uint64 `json:"level,omitempty"`
	Signature string `json:"signature"`
}

// Batch is one signed batch of a block. Error says why its messages cannot be read; such a
// batch has no effect on any box.
type Batch struct {
	Author    coord.BoxID `json:"author"`
	Seq       uint64      `json:"seq"`
	Digest    string      `json:"digest"`
	Count     uint32      `json:"count"`
	Signature string      `json:"signature"`
	Error     string      `json:"error,omitempty"`
}

// Message is one ordered message. Batch is its place in LogHead.Batches.
type Message struct {
	Batch int    `json:"batch"`
	Kind  string `json:"kind"`
	// Session is 16 hexadecimal digits: 64 random bits do not fit into every reader's numbers.
	Session string    `json:"session"`
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Key     Bytes     `json:"key"`
	Value   Bytes     `json:"value"`
	// Object and Count are set for kind "observe" instead of a readable key.
	Object *uint64 `json:"object,omitempty"`
	Count  *uint64 `json:"count,omitempty"`
}

// Bytes shows as text when it is printable UTF-8, else as "0x" and hexadecimal digits; text
// that begins with "0x" is shown in hexadecimal too, so that reading back is unambiguous.
type Bytes []byte

// MarshalText is the form described at Bytes.
func (b Bytes) MarshalText() ([]byte, error) {
	if printable(b) {
		return b, nil
	}
	return hex.AppendEncode([]byte("0x"), b), nil
}

// UnmarshalText reads what MarshalText wrote.
func (b *Bytes) UnmarshalText(text []byte) error {
	digits, ok := cutHex(text)
	if !ok {
		*b = append((*b)[:0], text...)
		return nil
	}
	v, err := hex.AppendDecode(nil, digits)
	if err != nil {
		return err
	}
	*b = v
	return nil
}

func cutHex(text []byte) ([]byte, bool) {
	if len(text) < 2 || text[0] != '0' || text[1] != 'x' {
		return nil, false
	}
	return text[2:], true
}

func printable(b []byte) bool {
	if _, isHex := cutHex(b); isHex || !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return false
		}
	}
	return true
}
