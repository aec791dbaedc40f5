package joining

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

// The first bytes of a connection.
const (
	askFor = "HFJOIN1?"
	solved = "HFJOIN1!"
)

// The byte that answers a solution.
const (
	goOn    = 0
	noWork  = 1
	late    = 2
	busy    = 3
	tooMany = 4
)

const (
	helloBytes = 32 + 8
	// answerBytesMax bounds an Answer: a chain of a few member sets is some 10 KiB, one of coord.MembersMax boxes 64 KiB a step.
	answerBytesMax = 4 << 20
	// protocol is what TLS is made for (ALPN), so that no other TLS server of a box can be taken for this port.
	protocol = "holdfast-join/1"
)

// Errors of this package, beside those of coord/trust/join.
var (
	// ErrProtocol says that the other side does not speak as it should.
	ErrProtocol = errors.New("not the joining port's protocol")
	// ErrBusy says that the box has too many who want to join; it is worth another try.
	ErrBusy = errors.New("the box is busy; try again")
	// ErrLiar says that the box that was asked is not of the site that made the token.
	ErrLiar = errors.New("not a box of the token's site")
	// ErrReach says that the box could not reach the new one at the address that it gave for other boxes.
	ErrReach = errors.New("the new box is not reached")
	// ErrLocked says that letting the box in would leave the site without a quorum.
	ErrLocked = errors.New("the site would lock itself")
	// ErrOvertaken says that another decision changed the list meanwhile.
	ErrOvertaken = errors.New("the site's boxes have just changed")
	// ErrNotGranted says that the site did not let the box in.
	ErrNotGranted = errors.New("the site did not let the box in")
)

// codes are the words for this package's refusals.
var codes = []struct {
	word string
	err  error
}{
	{"not-reached", ErrReach}, {"locked", ErrLocked}, {"not-granted", ErrNotGranted}, {"busy", ErrBusy}, {"protocol", ErrProtocol},
}

func codeOf(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.word
		}
	}
	return join.Code(err)
}

func errorOf(a *Answer) error {
	for _, c := range codes {
		if c.word == a.Code {
			return fmt.Errorf("joining: %w", because(c.err, a.Why))
		}
	}
	if err := join.Refusal(a.Code); err != nil {
		err = fmt.Errorf("joining: refused: %w", because(err, a.Why))
		for _, spent := range []error{join.ErrUsed, join.ErrExpired, join.ErrUnknown, join.ErrSignature} {
			if errors.Is(err, spent) {
				return fmt.Errorf("%w; make another token with `holdfast site join-token` on a box of the site", err)
			}
		}
		return err
	}
	return fmt.Errorf("joining: %w: %.40q: %.500q", ErrNotGranted, a.Code, a.Why)
}

// because is err with what the box says of it, which begins with err's own words as a rule.
func because(err error, why string) error {
	if rest := strings.TrimPrefix(strings.TrimPrefix(why, err.Error()), ": "); rest != "" {
		return fmt.Errorf("%w: %.500q", err, rest)
	}
	return err
}

// Answer is what the box says. One of Code, Chain and Waits is set.
type Answer struct {
	// Code is why not, and Why says it to people.
	Code string `json:"code,omitempty"`
	Why  string `json:"why,omitempty"`
	// Chain leads from the token's member set to today's.
	Chain *join.Chain `json:"chain,omitempty"`
	// Seconds is the site's clock, with the first Chain.
	Seconds uint64 `json:"seconds,omitempty"`
	Waits   *Waits `json:"waits,omitempty"`
}

// Waits says what a joiner waits for.
type Waits struct {
	Need    int      `json:"need"`
	Yes     []string `json:"yes"`               // names of the boxes that gave their word
	Missing []string `json:"missing,omitempty"` // of those that did not yet
	No      []string `json:"no,omitempty"`
}

func writeFrame(w io.Writer, b []byte) error {
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...)); err != nil {
		return fmt.Errorf("joining: write: %w", err)
	}
	return nil
}

// readFrame reads a frame of at most most bytes. What is longer is not read. Errors: ErrProtocol, or the connection's.
func readFrame(r io.Reader, most int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("joining: read: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(most) {
		return nil, fmt.Errorf("joining: %w: a frame of %d bytes, %d are the most", ErrProtocol, n, most)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(n))) // grows with what comes, not with what is promised
	if err == nil && len(b) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("joining: read: %w", err)
	}
	return b, nil
}

func writeAnswer(w io.Writer, a *Answer) error {
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("joining: answer: %w", err)
	}
	return writeFrame(w, b)
}

func readAnswer(r io.Reader) (*Answer, error) {
	b, err := readFrame(r, answerBytesMax)
	if err != nil {
		return nil, err
	}
	a := new(Answer)
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("joining: %w: %w", ErrProtocol, err)
	}
	return a, nil
}
