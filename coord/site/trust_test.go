package site_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

// alarms are those of one box.
type alarms struct {
	mu  sync.Mutex
	all []site.Alarm
}

func (a *alarms) take(x *site.Alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, *x)
}

func (a *alarms) get() []site.Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]site.Alarm(nil), a.all...)
}

// within lets minutes of virtual time pass until ok.
func (r *rig) within(d time.Duration, what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.Now().Add(d); !ok(); <-tick.C {
		if time.Now().After(end) {
			r.t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// offBy makes one box's clock differ from the others' by what ahead says.
func (r *rig) offBy(who int, ahead func() time.Duration) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.hub.counted = func(self, peer int, p *site.PeerState) {
		p.Compared, p.RoundTrip = time.Now(), 2*linkDelay
		switch who {
		case peer:
			p.Ahead = ahead()
		case self:
			p.Ahead = -ahead()
		}
	}
}

func TestASuspectDoesNotLeadUntilItIsForgiven(t *testing.T) {
	inSite(t, 4, site.Tuning{TermRounds: 5}, func(r *rig) {
		var mu sync.Mutex
		off := 3 * time.Second
		r.offBy(3, func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return off
		})
		r.session(0, 1)
		leads := func() bool { // whether box 3 led one of the next blocks
			led := false
			for range 60 {
				r.must(0, r.put(1, "k", "v"))
				led = led || r.view(0).Blocks[0].Leader == r.members.List[3].ID
			}
			return led
		}
		if !leads() {
			t.Fatal("box 3 never led")
		}
		r.within(5*time.Minute, "all others told the site that they suspect box 3", func() bool {
			for i := range 3 {
				if v := r.view(i).Trust[3]; v.Level != suspicion.Suspect || len(v.SuspectedBy) != 3 || !v.Aside {
					return false
				}
			}
			return true
		})
		v := r.view(0)
		if w := v.Trust[3].Why; len(w) != 1 || w[0].Reason != suspicion.Clock || w[0].Events == 0 || !strings.Contains(w[0].Detail, "ahead") || v.Trust[3].FineIn <= 0 {
			t.Errorf("why: %+v, fine in %v", w, v.Trust[3].FineIn)
		}
		if !strings.Contains(v.Verdict, "The site works") || !strings.Contains(v.Verdict, "Look at box-3: clock off the median.") {
			t.Errorf("verdict %q", v.Verdict)
		}
		if leads() {
			t.Error("a suspect led")
		}
		for i := range 4 {
			for k, m := range r.view(i).Trust {
				if k != 3 && (m.Level != suspicion.Fine || m.Aside || len(m.SuspectedBy) > 0) {
					t.Errorf("box %d: box %d is %v", i, k, m)
				}
			}
		}
		mu.Lock()
		off = 0
		mu.Unlock()
		r.within(time.Hour, "box 3 is forgiven", func() bool {
			for i := range 4 {
				if m := r.view(i).Trust[3]; m.Aside || len(m.SuspectedBy) > 0 || m.Level == suspicion.Suspect {
					return false
				}
			}
			return true
		})
		if !leads() {
			t.Error("box 3 does not lead again")
		}
		a := r.boxes[0].alarms.get()
		if len(a) != 2 || !a[0].Suspects() || a[1].Suspects() || a[0].Box != r.members.List[3].ID || a[0].Name != "box-3" {
			t.Errorf("alarms: %+v", a)
		}
	})
}

func TestOneBoxesOpinionMovesNobody(t *testing.T) {
	inSite(t, 4, site.Tuning{TermRounds: 5}, func(r *rig) {
		r.hub.mu.Lock()
		control := uint64(0)
		r.hub.counted = func(self, peer int, p *site.PeerState) { // box 2 floods box 0 alone
			if self == 0 && peer == 2 {
				control += 500_000
				p.Control = control
			}
		}
		r.hub.mu.Unlock()
		r.session(0, 1)
		r.within(5*time.Minute, "box 0 suspects box 2 and says so", func() bool {
			v := r.view(1).Trust[2]
			return len(v.SuspectedBy) == 1 && v.SuspectedBy[0] == r.members.List[0].ID
		})
		for i := range 4 {
			if v := r.view(i).Trust[2]; v.Aside || (v.Level == suspicion.Suspect) != (i == 0) {
				t.Errorf("box %d: %+v", i, v)
			}
		}
	})
}

func TestALieIsAnAlarmWithItsProof(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		r.lies(3, 0, 40)
		r.eventually("the alarm", func() bool { return len(r.boxes[0].alarms.get()) == 1 })
		a := r.boxes[0].alarms.get()[0]
		if a.Proof == nil || a.Change != nil || a.Box != r.members.List[3].ID || a.Proof.Box != a.Box || !a.Suspects() {
			t.Errorf("alarm %+v", a)
		}
	})
}

// Every head of an audit log is signed by all: who is here and does not sign is asked in vain.
func TestAMemberThatDoesNotSignIsSuspected(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		r.hub.mu.Lock()
		r.hub.lie = func(from int, m *coord.PeerMsg) *coord.PeerMsg {
			if from == 2 && m.Reading != nil {
				return &coord.PeerMsg{Reading: new(coord.ReadVote)}
			}
			return m
		}
		r.hub.mu.Unlock()
		nonce := make([]byte, coord.NonceBytesMin)
		r.within(10*time.Minute, "box 0 suspects box 2", func() bool {
			nonce[0]++
			if _, err := r.boxes[0].site.Prove(r.t.Context(), []byte("k"), nonce); err != nil {
				t.Fatal(err)
			}
			v := r.view(0).Trust[2]
			return v.Level == suspicion.Suspect && v.Why[0].Reason == suspicion.Challenge && strings.Contains(v.Why[0].Detail, "sign")
		})
		for _, i := range []int{1, 3} {
			if v := r.view(0).Trust[i]; v.Points > 0 {
				t.Errorf("box %d: %+v", i, v)
			}
		}
	})
}

func TestABoxSaysThatItLacksAProcessor(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		said := func() bool { return strings.Contains(r.view(0).Verdict, "lacks processor time") }
		r.within(time.Minute, "it listens", func() bool { return r.view(0).Trust != nil })
		if said() {
			t.Error("it says so although it was run")
		}
		r.hub.starved.Store(int64(3 * time.Second))
		r.within(5*time.Second, "it says so", said)
		r.within(20*time.Second, "and does not when it was run again", func() bool { return !said() })
	})
}
