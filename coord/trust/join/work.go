package join

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The puzzle of the joining port. A stranger who wants to be heard finds 8 bytes so that the hash of the challenge and them begins with
// as many zero bits as the challenge says: 2^bits hashes on average, one to check. The box keeps nothing for a challenge that it
// gave: it knows its own again by a MAC.
const (
	// WorkBitsDefault is a million hashes: 0.1 to 1 s of one core of the boxes that this is for.
	WorkBitsDefault = 20
	// WorkBitsMax is where a joiner stops believing that it is asked for a reason: minutes on all cores.
	WorkBitsMax = 30

	// ChallengeBytes is the size of an encoded challenge, and SolutionBytes that of the answer.
	ChallengeBytes = 1 + 1 + 8 + 8 + macBytes
	SolutionBytes  = ChallengeBytes + suffixBytes
	macBytes       = 16
	suffixBytes    = 8

	// workSecondsMax is how old a challenge may be: WorkBitsMax on a slow box takes minutes.
	workSecondsMax = 300
	// spentMax bounds the remembered solutions: 24 bytes each in the map, so about 1 MiB.
	spentMax = 16384
)

// Challenge is what a box asks a stranger to work on.
//
//	1 | bits | time 8 | number 8 | MAC 16
//
// Time is in milliseconds since the gate's key was made, number makes two of one millisecond different, both big-endian. The MAC is the
// first half of HMAC-SHA256(key, "holdfast work 01" || what is before it || the address that it was given to).
type Challenge [ChallengeBytes]byte

// Bits is how many zero bits are asked for.
func (c *Challenge) Bits() int { return int(c[1]) }

// Solution is a challenge with what solves it.
type Solution [SolutionBytes]byte

// ParseChallenge reads a challenge as a joiner does. Errors: ErrMalformed.
func ParseChallenge(b []byte) (c Challenge, err error) {
	if len(b) != len(c) || b[0] != 1 || b[1] > WorkBitsMax {
		return c, fmt.Errorf("%w: not a puzzle that is worth solving", ErrMalformed)
	}
	copy(c[:], b)
	return c, nil
}

// Search looks through the suffixes from, from+step, ... and gives the solution, or, after tries of them, ok = false and where to go on.
func (c *Challenge) Search(from, step uint64, tries int) (s Solution, next uint64, ok bool) {
	var buf [16 + SolutionBytes]byte
	copy(buf[:], "holdfast solve 1")
	copy(buf[16:], c[:])
	suffix := buf[16+ChallengeBytes:]
	for range tries {
		binary.BigEndian.PutUint64(suffix, from)
		if h := sha256.Sum256(buf[:]); zeros(&h) >= c.Bits() {
			copy(s[:], buf[16:])
			return s, from, true
		}
		from += step
	}
	return s, from, false
}

// zeros is the number of zero bits that h begins with; bits beyond 64 are not asked for.
func zeros(h *[32]byte) int { return bits.LeadingZeros64(binary.BigEndian.Uint64(h[:8])) }

// Gate gives challenges and takes solutions, each once. It is for one goroutine at a time. Times are milliseconds of a clock that only
// goes forward, from 0 when the gate was made.
type Gate struct {
	key  [32]byte
	bits uint8
	said uint64 // number of the last challenge

	// spent has the MACs of solutions that were taken, in the order of the ring. What is dropped because there is no room moves floor
	// to its challenge's time: older ones are not taken any more, so that none is taken twice.
	spent map[[macBytes]byte]struct{}
	ring  []spentAt
	head  int
	floor uint64
}

type spentAt struct {
	mac [macBytes]byte
	at  uint64
}

// NewGate makes a gate that asks for so many zero bits (0 to WorkBitsMax). key is random and new for each gate.
func NewGate(key [32]byte, bits int) *Gate {
	return &Gate{key: key, bits: uint8(min(max(bits, 0), WorkBitsMax)), spent: map[[macBytes]byte]struct{}{}}
}

// Challenge is a new puzzle for who is at address, an IP address as bytes.
func (g *Gate) Challenge(now uint64, address []byte) (c Challenge) {
	g.said++
	c[0], c[1] = 1, g.bits
	binary.BigEndian.PutUint64(c[2:], now)
	binary.BigEndian.PutUint64(c[10:], g.said)
	mac := g.mac(&c, address)
	copy(c[ChallengeBytes-macBytes:], mac[:])
	return c
}

func (g *Gate) mac(c *Challenge, address []byte) (m [macBytes]byte) {
	h := hmac.New(sha256.New, g.key[:])
	h.Write([]byte("holdfast work 01"))
	h.Write(c[:ChallengeBytes-macBytes])
	h.Write(address)
	copy(m[:], h.Sum(nil))
	return m
}

// Take says whether b solves a challenge that this gate gave to this address not long ago, and spends it. The work is
// looked at first: it costs one hash, and who has not done it is not worth a second.
// Errors: ErrWork, ErrLate.
func (g *Gate) Take(now uint64, address, b []byte) error {
	if len(b) != SolutionBytes || b[0] != 1 {
		return fmt.Errorf("%w: %d bytes", ErrWork, len(b))
	}
	var buf [16 + SolutionBytes]byte
	copy(buf[:], "holdfast solve 1")
	copy(buf[16:], b)
	if h := sha256.Sum256(buf[:]); zeros(&h) < int(g.bits) {
		return fmt.Errorf("%w: fewer than %d zero bits", ErrWork, g.bits)
	}
	c := Challenge(b[:ChallengeBytes])
	mac := g.mac(&c, address)
	if c[1] != g.bits || subtle.ConstantTimeCompare(mac[:], c[ChallengeBytes-macBytes:]) != 1 {
		return fmt.Errorf("%w: not a puzzle of this box for this address", ErrWork)
	}
	at := binary.BigEndian.Uint64(c[2:])
	if at > now || now-at > workSecondsMax*1000 || at <= g.floor && g.floor > 0 {
		return fmt.Errorf("%w: it was given too long ago", ErrLate)
	}
	if _, twice := g.spent[mac]; twice {
		return fmt.Errorf("%w: it was used", ErrLate)
	}
	g.spend(now, spentAt{mac, at})
	return nil
}

func (g *Gate) spend(now uint64, s spentAt) {
	for len(g.ring) > g.head && g.ring[g.head].at+workSecondsMax*1000 < now { // too old to come back
		g.drop()
	}
	if len(g.ring)-g.head >= spentMax {
		g.floor = max(g.floor, g.ring[g.head].at)
		g.drop()
	}
	if g.head > spentMax { // what is before head is garbage
		g.ring = append(g.ring[:0], g.ring[g.head:]...)
		g.head = 0
	}
	g.ring = append(g.ring, s)
	g.spent[s.mac] = struct{}{}
}

func (g *Gate) drop() {
	delete(g.spent, g.ring[g.head].mac)
	g.head++
}
