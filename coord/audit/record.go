package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/holdfast-edge/holdfast/coord"
)

// ErrRecord says that bytes or fields are no record.
var ErrRecord = errors.New("audit: not a record")

// Limits of the texts of a record, in bytes. Clip makes a longer one fit and leaves it told apart from others.
const (
	PrincipalBytesMax = 256
	ActionBytesMax    = 64
	ResourceBytesMax  = 1024 // a key may be longer: coord.KeyBytesMax
	PolicyBytesMax    = 256
	ReasonBytesMax    = 512
	RequestBytesMax   = 128
	SourceBytesMax    = 128

	recordVersion = 1
	fixedBytes    = 1 + 1 + 8 + 8 + 8
	texts         = 7
	// RecordBytesMax bounds an encoded record.
	RecordBytesMax = fixedBytes + 2*texts + PrincipalBytesMax + ActionBytesMax + ResourceBytesMax + PolicyBytesMax + ReasonBytesMax + RequestBytesMax + SourceBytesMax
)

// Outcome is what became of an action; the numbers are part of the files.
type Outcome uint8

// The outcomes.
const (
	Allowed Outcome = 1 // it was authorised and took effect
	Denied  Outcome = 2 // it was refused by a policy, a token, a limit or a wrong secret
	Failed  Outcome = 3 // it was authorised and did not take effect
)

var outcomes = [...]string{Allowed: "allowed", Denied: "denied", Failed: "failed"}

// String is a word for people and exports.
func (o Outcome) String() string {
	if o < Allowed || o > Failed {
		return "unknown"
	}
	return outcomes[o]
}

// MarshalText makes JSON show an outcome as its String.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what String wrote, of the outcomes that exist.
func (o *Outcome) UnmarshalText(t []byte) error {
	for v := Allowed; v <= Failed; v++ {
		if v.String() == string(t) {
			*o = v
			return nil
		}
	}
	return fmt.Errorf("%w: outcome %.20q", ErrRecord, t)
}

// Record is one action. Its texts are UTF-8 within the limits above; any character may be in them.
type Record struct {
	// TimeMs is Unix milliseconds by the box's clock: for people. The order of the log is the truth.
	TimeMs int64       `json:"time_ms"`
	Box    coord.BoxID `json:"box"` // that decided
	// Principal is who asked: kind and name, like "operator:ann", "program:cache", "box:0123456789abcdef"; empty: nobody known.
	Principal string `json:"principal"`
	// Action is "area.verb"; the area "auth" is about who somebody is.
	Action   string  `json:"action"`
	Resource string  `json:"resource,omitempty"`
	Outcome  Outcome `json:"outcome"`
	Policy   string  `json:"policy,omitempty"` // the policy or token that decided
	Reason   string  `json:"reason,omitempty"`
	Request  string  `json:"request,omitempty"` // the request's id
	Source   string  `json:"source,omitempty"`  // host:port of the peer, or another name of where it came from
	Revision uint64  `json:"revision,omitempty"`
}

// Entry is a record and its place in its box's log, from 0.
type Entry struct {
	Index int64 `json:"index"`
	Record
}

func (r *Record) fields() [texts]struct {
	text *string
	max  int
} {
	return [texts]struct {
		text *string
		max  int
	}{
		{&r.Principal, PrincipalBytesMax},
		{&r.Action, ActionBytesMax},
		{&r.Resource, ResourceBytesMax},
		{&r.Policy, PolicyBytesMax},
		{&r.Reason, ReasonBytesMax},
		{&r.Request, RequestBytesMax},
		{&r.Source, SourceBytesMax},
	}
}

// Clip makes every text of the record UTF-8 and no longer than its limit. What is not UTF-8 is quoted as Go quotes it; what is too
// long ends in ~ and 16 hexadecimal digits of the SHA-256 of the whole, so that two long names stay two names.
func (r *Record) Clip() {
	for _, f := range r.fields() {
		s := *f.text
		if !utf8.ValidString(s) {
			s = strconv.QuoteToASCII(s)
		}
		if len(s) > f.max {
			h := sha256.Sum256([]byte(*f.text))
			cut := f.max - 17
			for !utf8.RuneStart(s[cut]) {
				cut--
			}
			s = s[:cut] + "~" + hex.EncodeToString(h[:8])
		}
		*f.text = s
	}
}

// Check says whether the record can be encoded; it is ErrRecord and names what is wrong.
func (r *Record) Check() error {
	if r.Outcome < Allowed || r.Outcome > Failed {
		return fmt.Errorf("%w: outcome %d", ErrRecord, r.Outcome)
	}
	for i, f := range r.fields() {
		if len(*f.text) > f.max || !utf8.ValidString(*f.text) {
			return fmt.Errorf("%w: text %d of %d bytes is longer than %d or not UTF-8", ErrRecord, i, len(*f.text), f.max)
		}
	}
	return nil
}

// Append encodes a record that Check accepts. It is what the tree hashes: one record has one encoding.
//
//	 0  version, 1
//	 1  outcome
//	 2  time, 8 bytes
//	10  box
//	18  revision, 8 bytes
//	26  principal, action, resource, policy, reason, request, source: each its length, 2 bytes, and its bytes
//
// Numbers are big-endian.
func (r *Record) Append(b []byte) []byte {
	b = append(b, recordVersion, byte(r.Outcome))
	b = binary.BigEndian.AppendUint64(b, uint64(r.TimeMs))
	b = append(b, r.Box[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Revision)
	for _, f := range r.fields() {
		b = binary.BigEndian.AppendUint16(b, uint16(len(*f.text)))
		b = append(b, *f.text...)
	}
	return b
}

// Decode reads what Append wrote; the error is ErrRecord.
func Decode(b []byte) (*Record, error) {
	if len(b) < fixedBytes || len(b) > RecordBytesMax || b[0] != recordVersion {
		return nil, fmt.Errorf("%w: %d bytes of another version or size", ErrRecord, len(b))
	}
	r := &Record{
		Outcome: Outcome(b[1]), TimeMs: int64(binary.BigEndian.Uint64(b[2:])),
		Box: coord.BoxID(b[10:18]), Revision: binary.BigEndian.Uint64(b[18:]),
	}
	rest := b[fixedBytes:]
	for i, f := range r.fields() {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, fmt.Errorf("%w: text %d is cut", ErrRecord, i)
		}
		n := 2 + int(binary.BigEndian.Uint16(rest))
		*f.text, rest = string(rest[2:n]), rest[n:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow it", ErrRecord, len(rest))
	}
	return r, r.Check()
}

// Filter chooses records; a zero field does not matter.
type Filter struct {
	FromMs, ToMs int64 // TimeMs in [FromMs, ToMs)
	Principal    string
	Action       string // this one, or with a dot at the end all of an area
	Resource     string // what the resource begins with
	Outcome      Outcome
	Request      string
}

// Matches says whether the filter chooses r.
func (f *Filter) Matches(r *Record) bool {
	prefix := func(s, p string) bool { return len(s) >= len(p) && s[:len(p)] == p }
	area := len(f.Action) > 0 && f.Action[len(f.Action)-1] == '.'
	return (f.FromMs == 0 || r.TimeMs >= f.FromMs) && (f.ToMs == 0 || r.TimeMs < f.ToMs) &&
		(f.Principal == "" || r.Principal == f.Principal) &&
		(f.Action == "" || r.Action == f.Action || area && prefix(r.Action, f.Action)) &&
		prefix(r.Resource, f.Resource) && (f.Outcome == 0 || r.Outcome == f.Outcome) &&
		(f.Request == "" || r.Request == f.Request)
}
