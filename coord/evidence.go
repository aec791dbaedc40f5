package coord

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrEvidence says that something proves no lie.
var ErrEvidence = errors.New("coord: proves nothing")

const (
	// EvidenceMax bounds the findings that a box keeps of one identity: one proves as much as a thousand.
	EvidenceMax = 64
	// FindingBytesMax bounds the JSON of one finding: two votes of 300 bytes, a key of 124, a name of 64 runes.
	FindingBytesMax = 4 << 10
	// EvidenceBytesMax bounds the JSON of an Exhibit.
	EvidenceBytesMax = MembersMax*EvidenceMax*FindingBytesMax + FindingBytesMax
)

// Evidence is two signed votes of one member that no honest box sends both.
type Evidence struct {
	A Vote `json:"a"`
	B Vote `json:"b"`
}

// Rule is a promise that two votes of one box break together; the numbers are part of what is kept on disk.
type Rule uint8

// The rules. What an honest box promises is durable before it says it, so no restart breaks one.
const (
	RuleOneBlock        Rule = 1 // one notarize vote a round; a proposal counts as one
	RuleOneFinal        Rule = 2 // one finalize vote a round
	RuleOneLevel        Rule = 3 // one empty vote a term
	RuleEmptyIsNotFinal Rule = 4 // no finalize vote at or above the level of an empty vote in its term
	RuleOneState        Rule = 5 // one state at a height
	RuleOneSuccessor    Rule = 6 // one end of an epoch
)

// String says in words what the box did.
func (r Rule) String() string {
	switch r {
	case RuleOneBlock:
		return "voted for two blocks in one round"
	case RuleOneFinal:
		return "called two blocks of one round final"
	case RuleOneLevel:
		return "gave up one term from two rounds"
	case RuleEmptyIsNotFinal:
		return "called a block final in rounds that it had declared empty"
	case RuleOneState:
		return "signed two states at one height"
	case RuleOneSuccessor:
		return "signed two ends of one epoch"
	}
	return "unknown"
}

// Conflict is the rule that two votes of one voter and epoch break together, and the round, or for rules about a
// term its number, that it is broken in; 0 when an honest box may send both. termRounds is the site's
// rounds a term, at least 1. Signatures are not looked at.
func Conflict(a, b *Vote, termRounds uint64) (Rule, uint64) {
	if a.Voter != b.Voter || a.Epoch != b.Epoch || termRounds == 0 {
		return 0, 0
	}
	if a.Kind > b.Kind {
		a, b = b, a
	}
	term := b.Round / termRounds
	switch {
	case a.Kind == VoteFinalize && b.Kind == VoteEmpty:
		if a.Round/termRounds == term && a.Round >= b.Round {
			return RuleEmptyIsNotFinal, term
		}
	case a.Kind != b.Kind:
	case a.Kind == VoteEmpty:
		if a.Round/termRounds == term && a.Round != b.Round {
			return RuleOneLevel, term
		}
	case a.Kind == VoteEpoch:
		if a.Round != b.Round || a.Digest != b.Digest {
			return RuleOneSuccessor, a.Epoch
		}
	case a.Round != b.Round || a.Digest == b.Digest:
	case a.Kind == VoteNotarize:
		return RuleOneBlock, a.Round
	case a.Kind == VoteFinalize:
		return RuleOneFinal, a.Round
	case a.Kind == VoteCheckpoint:
		return RuleOneState, a.Round
	}
	return 0, 0
}

// Finding is evidence with all that a third party needs to judge it, but for whom to believe: whether Key is
// that of a box of Site. It stays true when the site's members change.
type Finding struct {
	Found time.Time `json:"found"` // by the clock of the box that noticed
	Site  SiteID    `json:"site"`
	Box   BoxID     `json:"box"`
	Name  string    `json:"name"`
	// Key is the public key, PKIX DER, of which Box is the hash.
	Key []byte `json:"key"`
	// TermRounds is the site's rounds a term. It is not signed: whoever judges must know it.
	TermRounds uint64 `json:"term_rounds"`
	Evidence
}

// Check says which rule the finding proves broken, and in which round, height or term, or why it proves nothing
// (ErrEvidence). verify says whether a vote's signature is by Key in Site (trust.CheckFinding has it).
func (f *Finding) Check(verify func(*Vote) bool) (Rule, uint64, error) {
	if f.Box != BoxIDOf(f.Key) {
		return 0, 0, fmt.Errorf("%w: box %v is not the owner of the key", ErrEvidence, f.Box)
	}
	for _, v := range []*Vote{&f.A, &f.B} {
		if v.Kind == VoteEmpty && v.Digest != (Digest{}) {
			return 0, 0, fmt.Errorf("%w: an empty vote with a digest", ErrEvidence)
		}
	}
	if f.A.Epoch != f.B.Epoch {
		return 0, 0, fmt.Errorf("%w: votes of different epochs, %d and %d", ErrEvidence, f.A.Epoch, f.B.Epoch)
	}
	rule, at := Conflict(&f.A, &f.B, f.TermRounds)
	if rule == 0 {
		return 0, 0, fmt.Errorf("%w: an honest box may send both votes", ErrEvidence)
	}
	for i, v := range []*Vote{&f.A, &f.B} {
		if !verify(v) {
			return 0, 0, fmt.Errorf("%w: the signature of vote %c is not by the key", ErrEvidence, 'a'+i)
		}
	}
	return rule, at, nil
}

// Exhibit is what a box shows of the evidence that it keeps, and what is exported.
type Exhibit struct {
	Site SiteID `json:"site"`
	// Findings in the order of box, epoch, rule and round; at most EvidenceMax an identity and MembersMax*EvidenceMax.
	Findings []Finding `json:"findings"`
	// More counts findings beyond that, which were not kept.
	More uint64 `json:"more"`
}

// ReadExhibit reads an Exhibit of at most EvidenceBytesMax. Nothing in it is checked but its form.
func ReadExhibit(r io.Reader) (*Exhibit, error) {
	data, err := io.ReadAll(io.LimitReader(r, EvidenceBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(data) > EvidenceBytesMax {
		return nil, fmt.Errorf("coord: evidence of more than %d bytes", EvidenceBytesMax)
	}
	x := new(Exhibit)
	if err := json.Unmarshal(data, x); err != nil {
		return nil, fmt.Errorf("coord: not an evidence file: %w", err)
	}
	if len(x.Findings) > MembersMax*EvidenceMax {
		return nil, fmt.Errorf("coord: %d findings, at most %d can be", len(x.Findings), MembersMax*EvidenceMax)
	}
	return x, nil
}

// UnmarshalText reads what String wrote, of the kinds that exist.
func (k *VoteKind) UnmarshalText(t []byte) error {
	for v := VoteNotarize; v <= VoteEpoch; v++ {
		if v.String() == string(t) {
			*k = v
			return nil
		}
	}
	return fmt.Errorf("coord: no kind of vote: %.20q", t)
}

// MarshalText makes JSON show a kind as its String.
func (k VoteKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (d *Digest) UnmarshalText(t []byte) error { return decodeHex(d[:], t) }

// UnmarshalText reads 128 hexadecimal digits.
func (s *Signature) UnmarshalText(t []byte) error { return decodeHex(s[:], t) }

func decodeHex(to, t []byte) error {
	if len(t) != hex.EncodedLen(len(to)) {
		return fmt.Errorf("coord: %d hexadecimal digits where %d are needed", len(t), hex.EncodedLen(len(to)))
	}
	_, err := hex.Decode(to, t)
	return err
}
