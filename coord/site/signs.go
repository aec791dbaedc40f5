package site

import (
	"slices"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

const (
	// signsMax bounds the questions whose answers are waited for; of more the oldest are forgotten.
	signsMax = 64
	// signPatience is how long a member has to sign what all sign when they apply a block: as long as a disk of a board may hang.
	signPatience = int64(5 * time.Second)
	// listenEvery is how often what the links counted is looked at.
	listenEvery = int64(time.Second)
	// headlessAfter is how long a member may be here without ever having ordered its audit log's head, which a box does in its first minute;
	// each such time counts once.
	headlessAfter = 10 * time.Minute
)

// signs knows who signed what all members sign: whoever is here and does not, often, hides something or is damaged.
type signs struct {
	mu    sync.Mutex
	open  []wanted // oldest first
	wrong map[coord.BoxID]int
}

type wanted struct {
	digest coord.Digest
	height uint64
	what   string
	at     int64
	by     []coord.BoxID
}

func (g *signs) ask(d coord.Digest, height uint64, what string, now int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.open) >= signsMax {
		g.open = slices.Delete(g.open, 0, 1)
	}
	g.open = append(g.open, wanted{digest: d, height: height, what: what, at: now})
}

// signed takes the signature of a member, good or not.
func (g *signs) signed(by coord.BoxID, d coord.Digest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.open {
		if o := &g.open[i]; o.digest == d && !slices.Contains(o.by, by) {
			o.by = append(o.by, by)
		}
	}
}

func (g *signs) bad(by coord.BoxID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wrong == nil {
		g.wrong = map[coord.BoxID]int{}
	}
	g.wrong[by]++
}

// due gives what was asked long enough ago, and how many bad signatures came.
func (g *signs) due(now int64) (asked []wanted, wrong map[coord.BoxID]int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.open) > 0 && now-g.open[0].at >= signPatience {
		asked = append(asked, g.open[0])
		g.open = g.open[1:]
	}
	wrong, g.wrong = g.wrong, nil
	return asked, wrong
}

// ears is what the owner heard of the links until the last second.
type ears struct {
	at    int64 // when to listen again
	peers map[coord.BoxID]*ear
	// starved is what Links.Starved grew by in the last seconds, of which there were seconds.
	starved    [starvedSeconds]time.Duration
	seconds    int
	starvedAll time.Duration
}

const (
	starvedSeconds = 10
	// starvedAlarm is how much of them a box may not have been run before it says so. Links.Starved sees what is longer than an eighth of a
	// heartbeat: of 4.8 s for which the kernel held a box back, 1 s.
	starvedAlarm = 500 * time.Millisecond
)

// lacked is for how long this box was not run in the last starvedSeconds.
func (e *ears) lacked() (sum time.Duration) {
	for _, d := range e.starved {
		sum += d
	}
	return sum
}

type ear struct {
	control, bulk uint64
	headless      time.Time // when it was noticed last that it has no audit head
}

// listen gathers what was noticed of the other members since the last call.
func (s *Site) listen() []Heard {
	e, now, wall := &s.ears, s.now(), time.Now()
	e.at = now + listenEvery
	all := s.links.Starved()
	e.starved[e.seconds%starvedSeconds], e.starvedAll = all-e.starvedAll, all
	e.seconds++
	if e.peers == nil || len(e.peers) > 2*coord.MembersMax { // of members of long ago
		e.peers = map[coord.BoxID]*ear{}
	}
	asked, wrong := s.signs.due(now)
	heard := []Heard{}
	peers := s.links.Peers()
	for k := range peers {
		p := &peers[k]
		id := p.ID
		i := s.box.ep.Members.Index(id)
		if i < 0 || i == s.box.ep.Self {
			continue
		}
		old := e.peers[id]
		if old == nil {
			old = new(ear)
			e.peers[id] = old
		}
		h := Heard{Box: id, Control: since(old.control, p.Control), Bulk: since(old.bulk, p.Bulk), BadSigns: wrong[id]}
		old.control, old.bulk = p.Control, p.Bulk
		if h.Clock = !p.Compared.IsZero() && wall.Sub(p.Compared) < 2*time.Duration(listenEvery); h.Clock {
			h.Ahead, h.RoundTrip = p.Ahead, p.RoundTrip
		}
		here := wall.Sub(p.Since)
		for k := range asked {
			a := &asked[k]
			switch {
			case slices.Contains(a.by, id):
				h.Answers = append(h.Answers, Answered{a.what, suspicion.Right})
			case p.Up && here > time.Duration(now-a.at) && s.box.core.Heard(i).Height >= a.height:
				h.Answers = append(h.Answers, Answered{a.what, suspicion.None})
			}
		}
		if s.o.Audit != nil && p.Up && here >= headlessAfter && wall.Sub(old.headless) >= headlessAfter && s.box.st.AuditTop(id).Size == 0 {
			old.headless = wall
			h.Answers = append(h.Answers, Answered{"to order the head of its audit log", suspicion.None})
		}
		heard = append(heard, h)
	}
	return heard
}

// since is how much a counter grew; one that is lower began anew.
func since(old, n uint64) int {
	if n < old {
		old = 0
	}
	return int(n - old)
}
