package alarms

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
)

// takeover is for how long a box that does not speak for its site owes what it would have said: when the one that speaks goes away
// meanwhile, another says it. It covers the failure detection (seconds) and boxes that notice the same thing two evaluations apart.
const takeover = time.Minute

// Notice is something that a receiver is to be told.
type Notice struct {
	// Seq numbers the notices of one queue.
	Seq    uint64    `json:"seq"`
	At     time.Time `json:"at"`
	Status State     `json:"status"` // Firing or Resolved
	Alert  *Alert    `json:"alert"`
	// Test says that somebody tries whether the receiver is reached.
	Test bool `json:"test,omitempty"`
}

// Speaks says whether this box is the one that tells people of what all boxes see alike: the first member that it sees up. All boxes that see
// each other agree on it, it stays while nothing happens (the leader does not), and when a site falls apart each part has one.
func Speaks(v *site.View) bool {
	for i := range v.Members {
		if m := &v.Members[i]; m.Up || m.Self {
			return m.Self
		}
	}
	return true // it is no member any more, and speaks for itself
}

// due says what people are to be told now of the alarms, and notes it in them. silent says whether an alarm is silenced, speaking whether this
// box tells what concerns the whole site. Who was told that an alarm fires is told when it is over, silenced or not. repeat is after how long
// people are told again of one that goes on; 0: never.
func due(list []*Alert, silent func(*Alert) bool, speaking bool, repeat time.Duration, now time.Time) (out []Notice) {
	for _, a := range list {
		status := a.State
		fires := a.State == Firing && !silent(a)
		switch again := repeat > 0 && now.Sub(a.Told) >= repeat; {
		case fires && (a.Told.IsZero() || again):
		case a.State == Resolved && !a.Told.IsZero():
		default:
			a.Owed = time.Time{}
			continue
		}
		mine := speaking || !a.ofSite()
		if a.Owed.IsZero() {
			a.Owed = now
		}
		if !mine && now.Sub(a.Owed) < takeover {
			continue
		}
		a.Owed = time.Time{}
		if a.Told = now; status == Resolved {
			a.Told = time.Time{}
		}
		if mine {
			out = append(out, Notice{At: now, Status: status, Alert: a.clone()})
		}
	}
	return out
}

// heard is what Alertmanager was told last of each alarm, by fingerprint. Every box tells it, and what concerns the whole site with the same
// labels: it makes one alarm of them, as it does for a pair of Prometheus servers, and needs no box in particular.
type heard map[string]word

type word struct {
	status State
	at     time.Time
}

// news is what it is to be told now: what changed, and what still fires each resendEvery unless something waits for it already.
func (h heard) news(list []*Alert, silent func(*Alert) bool, idle bool, now time.Time) (out []Notice) {
	there := map[string]bool{}
	for _, a := range list {
		was := h[a.Fingerprint]
		switch {
		case a.State == Firing && !silent(a):
			if was.status == Firing && (!idle || now.Sub(was.at) < resendEvery) {
				there[a.Fingerprint] = true
				continue
			}
		case a.State == Resolved && was.status != Resolved:
		default:
			there[a.Fingerprint] = a.State == Resolved
			continue
		}
		there[a.Fingerprint] = true
		h[a.Fingerprint] = word{a.State, now}
		out = append(out, Notice{At: now, Status: a.State, Alert: a.clone()})
	}
	for fp := range h {
		if !there[fp] {
			delete(h, fp)
		}
	}
	return out
}
