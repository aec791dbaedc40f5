package limit_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trust/limit"
)

var rate = limit.Rate{Every: 100 * time.Millisecond, Burst: 5}

func TestABurstAndThenTheRate(t *testing.T) {
	b := limit.New[string](rate, 4, time.Minute)
	for i := range rate.Burst {
		if ok, _ := b.Take(0, "ann", 1); !ok {
			t.Fatalf("token %d of the burst was refused", i)
		}
	}
	ok, wait := b.Take(0, "ann", 1)
	if ok || wait != rate.Every {
		t.Fatalf("one beyond the burst: %v, wait %v", ok, wait)
	}
	if ok, _ := b.Take(wait, "ann", 1); !ok {
		t.Fatal("refused after the wait that was named")
	}
	if ok, _ := b.Take(time.Hour, "ann", rate.Burst); !ok {
		t.Fatal("a full bucket does not have a burst")
	}
	if ok, wait := b.Take(2*time.Hour, "ann", 1<<40); ok || wait <= 0 {
		t.Fatalf("more than a burst was given, or a wait of %v", wait)
	}
}

func TestNoIdentityTakesMoreThanItsShareWhateverItDoes(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := limit.New[int](rate, 12, time.Duration(r.IntN(2))*time.Second)
		var now time.Duration
		got := map[int]int{}
		for range 5000 {
			now += time.Duration(r.Int64N(int64(20 * time.Millisecond)))
			key := r.IntN(12)
			if ok, _ := b.Take(now, key, 1); ok {
				got[key]++
			}
		}
		for key, n := range got {
			if most := rate.Burst + int(now/rate.Every); n > most {
				t.Fatalf("seed %d: %d took %d of at most %d", seed, key, n, most)
			}
		}
	}
}

func TestAFloodOfStrangersTakesNothingFromThoseWhoAreKnown(t *testing.T) {
	const most, seconds = 64, 60
	b := limit.New[int](rate, most, 10*time.Second)
	strangers := 0
	for ms := range seconds * 1000 {
		now := time.Duration(ms) * time.Millisecond
		if ms%5000 == 0 { // somebody who does little, with long pauses
			if ok, _ := b.Take(now, 7, rate.Burst); !ok {
				t.Fatalf("the known one was refused at %v", now)
			}
		}
		for i := range 20 { // 20,000 new identities a second
			if ok, _ := b.Take(now, 1000+ms*20+i, 1); ok {
				strangers++
			}
		}
		if b.Len() > most {
			t.Fatalf("%d buckets, more than %d", b.Len(), most)
		}
	}
	shared := 16 * (seconds*1000/100 + rate.Burst)
	places := most * (seconds/10 + 1)
	if strangers > shared+places {
		t.Errorf("strangers had %d, beyond %d", strangers, shared+places)
	}
	if strangers < shared/2 {
		t.Errorf("strangers had %d: one who is honest among them never gets in", strangers)
	}
}

func TestAllOfAnIPv6NetworkIsOneCaller(t *testing.T) {
	for _, tc := range []struct{ a, b string }{
		{"2001:db8::1", "2001:db8::ffff:1"}, {"::ffff:10.0.0.1", "10.0.0.1"}, {"fe80::1%eth0", "fe80::2%eth1"},
	} {
		if limit.Host(netip.MustParseAddr(tc.a)) != limit.Host(netip.MustParseAddr(tc.b)) {
			t.Errorf("%s and %s are two", tc.a, tc.b)
		}
	}
	if limit.Host(netip.MustParseAddr("10.0.0.1")) == limit.Host(netip.MustParseAddr("10.0.0.2")) {
		t.Error("two IPv4 addresses are one")
	}
}

func BenchmarkTake(b *testing.B) {
	l := limit.New[uint64](rate, 4096, time.Minute)
	b.ReportAllocs()
	for i := range b.N {
		l.Take(time.Duration(i)*time.Microsecond, uint64(i)%8192, 1)
	}
}
