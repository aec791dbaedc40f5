package coord

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Limits of decisions. They are part of the protocol: boxes that disagree on one of them fork.
const (
	// DecisionBytesMax bounds an encoded decision: a member set of MembersMax boxes is about 64 KiB, and what proves that it
	// may be (evidence, a chain of tokens) takes a few KiB more.
	DecisionBytesMax = 128 << 10
	// DecisionWritesMax bounds the documents that one decision writes.
	DecisionWritesMax = 16
	// DocKeyBytesMax and DocBytesMax bound one document. A key is printable ASCII without spaces.
	DocKeyBytesMax = 128
	DocBytesMax    = 96 << 10
	// decisionTextBytesMax bounds each of the texts that are for people.
	decisionTextBytesMax = 512
)

// ErrDecision says that bytes are not a decision, or one beyond the limits.
var ErrDecision = errors.New("coord: not a decision")

// DocMembers is the document that holds the member set, the JSON of Members. Whoever writes it begins a new epoch: its number is one
// more than that of the set before, whatever the document says. It cannot be removed, nor end.
const DocMembers = "members"

// Decision is a change of what a site has agreed on about itself: who its members are, who may do what. It names documents to be
// written, and takes effect at once and as a whole when a quorum of the members has given its word for it, unless a document that it
// writes has changed since it was made. What a member must know before it gives its word is judged by each box for itself
// (coord/site.Options.Judge), so boxes of two releases may judge differently and never fork.
type Decision struct {
	Kind      string // "area.verb", such as "member.add": how it is judged, and what the audit log calls it
	Subject   string // what it is about, for people
	Principal string // who asks: "operator:ann", "box:0123456789abcdef"
	Reason    string
	// Seconds is for how long members may give their word, by the site's clock; 0: DecisionSecondsDefault.
	Seconds uint64
	Nonce   uint64 // makes two that are alike different
	// Made and Seen say when it was made: the site's second, and the version of the documents (state.Machine.Stamp sets them). One
	// that is signed once needs them, or whoever has the signature could propose it again long after: with Made, Seconds count
	// from there, and with Seen it is refused when the documents have changed DecisionSeenMax times since. 0: it makes no difference.
	Made, Seen uint64
	Writes     []DocWrite
	// Authority is what convinces a box that has not been asked itself (coord/access says what); it is not part of Digest.
	Authority []byte
}

// DocWrite sets one document, or removes it when Value is nil. Was is the version that the document must have for the decision to take
// effect, 0 for one that does not exist. Seconds, when not 0, is for how long the document is there from then on, by the site's clock.
type DocWrite struct {
	Key     string
	Was     uint64
	Seconds uint64
	Value   []byte
}

// Doc is a document as the state has it. Version grows with every change of documents, so no two writes ever have the same. Ends, when
// not 0, is the second of the site's clock in which it goes away by itself.
type Doc struct {
	Key     string
	Version uint64
	Ends    uint64
	Value   []byte
}

const (
	// DecisionSecondsDefault gives operators a day.
	DecisionSecondsDefault = 86400
	// DecisionSecondsMin and DecisionSecondsMax bound it: a box that lies must not make open decisions come and go by the second,
	// nor leave them for good.
	DecisionSecondsMin = 60
	DecisionSecondsMax = 30 * 86400
	// DecisionSeenMax is how many changes of documents a decision with Seen may be behind: the decisions that took effect in so
	// many are remembered, and none takes effect twice.
	DecisionSeenMax = 128
)

// Digest names the decision: SHA-256("holdfast decide1" || site || encoding without Authority). It is what an authority signs.
func (d *Decision) Digest(site SiteID) Digest {
	h := sha256.New()
	h.Write([]byte("holdfast decide1"))
	h.Write(site[:])
	h.Write(d.appendBody(nil))
	var x Digest
	h.Sum(x[:0])
	return x
}

// Append appends the encoding: texts, numbers and writes, then the authority. Each text and value is a uvarint length and bytes; a
// removed document has length 0 and one that is set its length plus one.
func (d *Decision) Append(dst []byte) []byte {
	return appendText(d.appendBody(dst), string(d.Authority))
}

func (d *Decision) appendBody(dst []byte) []byte {
	dst = append(dst, 1) // format
	for _, s := range []string{d.Kind, d.Subject, d.Principal, d.Reason} {
		dst = appendText(dst, s)
	}
	dst = binary.AppendUvarint(dst, d.Seconds)
	dst = binary.BigEndian.AppendUint64(dst, d.Nonce)
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, d.Made), d.Seen)
	dst = binary.AppendUvarint(dst, uint64(len(d.Writes)))
	for i := range d.Writes {
		w := &d.Writes[i]
		dst = binary.AppendUvarint(binary.AppendUvarint(appendText(dst, w.Key), w.Was), w.Seconds)
		if w.Value == nil {
			dst = binary.AppendUvarint(dst, 0)
			continue
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(w.Value))+1), w.Value...)
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// DecodeDecision reads what Append wrote, and nothing else. The result shares no memory with b. Errors: ErrDecision.
func DecodeDecision(b []byte) (*Decision, error) {
	if len(b) > DecisionBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrDecision, len(b))
	}
	r := decisionReader{b: b}
	if len(b) == 0 || b[0] != 1 {
		return nil, fmt.Errorf("%w: unknown format", ErrDecision)
	}
	r.b = b[1:]
	d := new(Decision)
	for _, s := range []*string{&d.Kind, &d.Subject, &d.Principal, &d.Reason} {
		*s = string(r.text(decisionTextBytesMax))
	}
	d.Seconds = r.number()
	d.Nonce = r.fixed()
	d.Made, d.Seen = r.number(), r.number()
	n := r.number()
	if n > DecisionWritesMax {
		return nil, fmt.Errorf("%w: %d writes", ErrDecision, n)
	}
	for range n {
		w := DocWrite{Key: string(r.text(DocKeyBytesMax)), Was: r.number(), Seconds: r.number()}
		if k := r.number(); k > 0 {
			w.Value = append([]byte{}, r.take(k-1, DocBytesMax)...)
		}
		d.Writes = append(d.Writes, w)
	}
	if a := r.text(DecisionBytesMax); len(a) > 0 {
		d.Authority = append([]byte{}, a...)
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: malformed", ErrDecision)
	}
	return d, d.check()
}

func (d *Decision) check() error {
	area, verb, ok := strings.Cut(d.Kind, ".")
	if !ok || area == "" || verb == "" {
		return fmt.Errorf("%w: kind %q is not area.verb", ErrDecision, d.Kind)
	}
	seen := map[string]bool{}
	for i := range d.Writes {
		k := d.Writes[i].Key
		if k == "" || seen[k] {
			return fmt.Errorf("%w: document %q named twice, or none", ErrDecision, k)
		}
		if strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%w: document %q is not named in printable ASCII", ErrDecision, k)
		}
		seen[k] = true
	}
	return nil
}

// decisionReader reads fields and remembers whether one was not there.
type decisionReader struct {
	b   []byte
	bad bool
}

func (r *decisionReader) number() uint64 {
	n, w := binary.Uvarint(r.b)
	if w <= 0 || w > 1 && r.b[w-1] == 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[w:]
	return n
}

func (r *decisionReader) fixed() uint64 {
	b := r.take(8, 8)
	if len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (r *decisionReader) text(most uint64) []byte { return r.take(r.number(), most) }

func (r *decisionReader) take(n, most uint64) []byte {
	if n > most || n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}
