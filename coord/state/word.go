package state

import (
	"errors"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
)

// The values of KindDecide messages: 01 and an encoded decision, which its sender proposes and says yes to; or 02, the decision's id
// [32], and 00 for no, 01 for yes.
const (
	wordProposes = 1
	wordGiven    = 2
)

// ErrWord says that a value is not one of a KindDecide message.
var ErrWord = errors.New("state: not a word on a decision")

// Word is what a KindDecide message says: a decision that is proposed, or the sender's word on one.
type Word struct {
	Proposed *coord.Decision // if not nil, the rest is not set
	ID       coord.Digest
	Yes      bool
}

// AppendProposal appends the value of a KindDecide message that proposes d.
func AppendProposal(dst []byte, d *coord.Decision) []byte { return d.Append(append(dst, wordProposes)) }

// AppendWord appends the value of a KindDecide message that gives the sender's word on the decision id.
func AppendWord(dst []byte, id coord.Digest, yes bool) []byte {
	return append(append(append(dst, wordGiven), id[:]...), byte(flag(yes)))
}

// DecodeWord reads what AppendProposal and AppendWord wrote, and nothing else. The result shares no memory with b. Errors: ErrWord,
// coord.ErrDecision.
func DecodeWord(b []byte) (w Word, err error) {
	const given = 1 + len(w.ID) + 1
	switch {
	case len(b) > 0 && b[0] == wordProposes:
		w.Proposed, err = coord.DecodeDecision(b[1:])
		return w, err
	case len(b) == given && b[0] == wordGiven && b[given-1] <= 1:
		return Word{ID: coord.Digest(b[1 : given-1]), Yes: b[given-1] == 1}, nil
	}
	return w, fmt.Errorf("%w: %d bytes", ErrWord, len(b))
}

// Refusal is why a KindDecide message had no effect; the numbers are in a Result for its sender only (RefusalOf).
type Refusal byte

// The refusals.
const (
	NotRefused      Refusal = iota
	RefuseAuthor            // the sender is no member of this epoch
	RefuseMalformed         // it is no proposal and no word
	RefuseMembers           // it writes a member set that no site can have, or takes it away
	RefuseStale             // a document that it writes has another version, or documents changed too often since it was made
	RefuseOver              // its time was over before it was proposed, or is said to begin later
	RefuseDone              // it was decided before
	RefuseFull              // too many decisions are open, or too many of this box, or were refused in the last minute
	RefuseRoom              // the documents would take more room than there is
	RefuseUnknown           // no such decision is open
	RefuseTaken             // a yes is not taken back
)

// RefusalOf says why a KindDecide message had no effect, from what its sender was answered.
func RefusalOf(r *coord.Result) Refusal {
	if len(r.Value) != 1 {
		return NotRefused
	}
	return Refusal(r.Value[0])
}

// String completes "the site did not take it: ".
func (r Refusal) String() string {
	switch r {
	case NotRefused:
		return "it did"
	case RefuseAuthor:
		return "this box is no member of the site now"
	case RefuseMalformed:
		return "it is not well formed"
	case RefuseMembers:
		return "it writes a member set that no site can have"
	case RefuseStale:
		return "what it changes has changed since it was made"
	case RefuseOver:
		return "its time is over, or has not begun"
	case RefuseDone:
		return "it was decided before"
	case RefuseFull:
		return "too many decisions of this box are open, or were refused in the last minute"
	case RefuseRoom:
		return "the site's documents have no room for it"
	case RefuseUnknown:
		return "no such decision is open"
	case RefuseTaken:
		return "this box has said yes, which cannot be taken back"
	}
	return "for a reason that this release does not know"
}
