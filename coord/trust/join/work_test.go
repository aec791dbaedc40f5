package join_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

var here, there = []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}

func solve(t testing.TB, c join.Challenge) join.Solution {
	t.Helper()
	s, _, ok := c.Search(0, 1, 1<<24)
	if !ok {
		t.Fatal("no solution")
	}
	return s
}

func TestASolutionIsTakenOnce(t *testing.T) {
	g := join.NewGate([32]byte{1}, 10)
	c := g.Challenge(1000, here)
	read, err := join.ParseChallenge(c[:])
	if err != nil || read != c || c.Bits() != 10 {
		t.Fatalf("%v", err)
	}
	s := solve(t, c)
	if err := g.Take(1500, here, s[:]); err != nil {
		t.Fatal(err)
	}
	if err := g.Take(1501, here, s[:]); !errors.Is(err, join.ErrLate) {
		t.Fatalf("twice: %v", err)
	}
}

func TestAPuzzleIsForOneAddressOneBoxAndAWhile(t *testing.T) {
	g, other := join.NewGate([32]byte{1}, 4), join.NewGate([32]byte{2}, 4)
	c := g.Challenge(1000, here)
	s := solve(t, c)
	easy := join.NewGate([32]byte{1}, 0).Challenge(1000, here)
	free := solve(t, easy)
	late := c
	late[9] ^= 1 // another time than the MAC is over
	forged := solve(t, late)
	for name, tc := range map[string]struct {
		g       *join.Gate
		now     uint64
		address []byte
		b       []byte
		want    error
	}{
		"from elsewhere":       {g, 1500, there, s[:], join.ErrWork},
		"for another box":      {other, 1500, here, s[:], join.ErrWork},
		"five minutes old":     {g, 1000 + 300_001, here, s[:], join.ErrLate},
		"of the future":        {g, 999, here, s[:], join.ErrLate},
		"cut":                  {g, 1500, here, s[:len(s)-1], join.ErrWork},
		"nothing":              {g, 1500, here, nil, join.ErrWork},
		"its time changed":     {g, 1500, here, forged[:], join.ErrWork},
		"an easier one's work": {join.NewGate([32]byte{1}, 30), 1500, here, free[:], join.ErrWork},
	} {
		if err := tc.g.Take(tc.now, tc.address, tc.b); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := g.Take(1500, here, s[:]); err != nil {
		t.Errorf("the refusals spent it: %v", err)
	}
}

func TestNoWorkMeansTheBitsAreThere(t *testing.T) {
	g := join.NewGate([32]byte{1}, 12)
	c := g.Challenge(1, here)
	taken := 0
	for i := range uint64(4000) {
		var s join.Solution
		copy(s[:], c[:])
		r := rand.New(rand.NewPCG(i, 3))
		for j := len(c); j < len(s); j++ {
			s[j] = byte(r.Uint32())
		}
		if g.Take(2, here, s[:]) == nil {
			taken++
		}
	}
	if taken > 8 { // one in 4,096
		t.Fatalf("%d of 4000 guesses were taken", taken)
	}
}

// However many solutions come, none is taken twice, memory is bounded, and a new one is heard.
func TestAFloodOfSolutionsForgetsNone(t *testing.T) {
	g := join.NewGate([32]byte{1}, 0)
	rnd := rand.New(rand.NewPCG(1, 1))
	var had []join.Solution
	for i := range uint64(60_000) {
		now := 1000 + i/10
		s := solve(t, g.Challenge(now, here))
		if err := g.Take(now, here, s[:]); err != nil {
			t.Fatalf("%d: a new one is refused: %v", i, err)
		}
		had = append(had, s)
		if again := had[rnd.IntN(len(had))]; g.Take(now, here, again[:]) == nil {
			t.Fatalf("%d: one was taken twice", i)
		}
	}
}

func TestAJoinerDoesNotWorkForWhoAsksTooMuch(t *testing.T) {
	c := join.NewGate([32]byte{1}, 20).Challenge(1, here)
	c[1] = join.WorkBitsMax + 1
	if _, err := join.ParseChallenge(c[:]); !errors.Is(err, join.ErrMalformed) {
		t.Fatal(err)
	}
}

func FuzzChallenge(f *testing.F) {
	c := join.NewGate([32]byte{1}, 4).Challenge(1, here)
	s := solve(f, c)
	f.Add(c[:])
	f.Add(s[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := join.ParseChallenge(b); err != nil && !errors.Is(err, join.ErrMalformed) {
			t.Fatal(err)
		}
		g := join.NewGate([32]byte{9}, 4) // a key that nobody here knows
		if err := g.Take(5, here, b); err == nil {
			t.Fatal("a puzzle that was never given was taken")
		}
	})
}

func BenchmarkSearch(b *testing.B) {
	c := join.NewGate([32]byte{1}, join.WorkBitsMax).Challenge(1, here)
	for i := range b.N {
		c.Search(uint64(i), 1, 1)
	}
}

func BenchmarkTakeOfWhoDidNoWork(b *testing.B) {
	g := join.NewGate([32]byte{1}, join.WorkBitsDefault)
	var s join.Solution
	s[0] = 1
	for b.Loop() {
		if g.Take(1, here, s[:]) == nil {
			b.Fatal("taken")
		}
	}
}
