package suspicion

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Config of a Watch.
type Config struct {
	Self    coord.BoxID   // is judged only by its state: a quorum that has another one says that this box is damaged
	Members []coord.BoxID // all, Self too; at most coord.MembersMax
	// Rates is what each box may send to this one, by Class; a zero one is not watched.
	Rates [classes]Rate
}

// DefaultRates are above what a member that works well can send over a gigabit link, and far below what it takes to drown one. Integration
// should measure and lower them.
func DefaultRates() [classes]Rate {
	return [classes]Rate{
		// Three votes a round of every member and what answers ask for; at 1 ms a round that is some thousands. Seen on two cores: 450.
		Control: {PerSecond: 10_000, Burst: 50_000},
		// Half of a gigabit; of a whole one each of three others gets a third. Seen on two cores: 2.3 MB.
		Batches: {PerSecond: 64 << 20, Burst: 256 << 20},
		// 1 % of a gigabit.
		Telemetry: {PerSecond: 1 << 20, Burst: 8 << 20},
	}
}

// Watch is what one box thinks of the others. Times are nanoseconds of one monotonic clock. All of its memory is bounded by the number of
// members: about 2 KiB for each. It is for one goroutine.
type Watch struct {
	board      board
	volume     volume
	states     states
	clocks     clocks
	lateness   lateness
	challenges challenges
}

// New makes a Watch in which nobody is suspected.
func New(c Config) *Watch {
	w := &Watch{volume: volume{rates: c.Rates}, clocks: clocks{self: c.Self}, lateness: lateness{self: c.Self}}
	w.SetMembers(c.Members)
	return w
}

// SetMembers keeps what is known of those that stay and forgets the others; events of other boxes do nothing.
func (w *Watch) SetMembers(ids []coord.BoxID) {
	ids = ids[:min(len(ids), coord.MembersMax)]
	w.board.members(ids)
	w.volume.boxes = keep(w.volume.boxes, ids)
	w.states.boxes = keep(w.states.boxes, ids)
	w.clocks.boxes = keep(w.clocks.boxes, ids)
	w.lateness.boxes = keep(w.lateness.boxes, ids)
	w.challenges.boxes = keep(w.challenges.boxes, ids)
}

func keep[T any](old map[coord.BoxID]*T, ids []coord.BoxID) map[coord.BoxID]*T {
	m := make(map[coord.BoxID]*T, len(ids))
	for _, id := range ids {
		if m[id] = old[id]; m[id] == nil {
			m[id] = new(T)
		}
	}
	return m
}

func (w *Watch) note(e *event, now int64) {
	if e != nil && (e.box != w.clocks.self || e.reason == WrongState) {
		w.board.note(e, now)
	}
}

// Traffic says that box sent n (messages or bytes, see Class) over its own link.
func (w *Watch) Traffic(box coord.BoxID, c Class, n int, now int64) {
	w.note(w.volume.add(box, c, n, now), now)
}

// State says which state box signed at a checkpoint. This box's own belongs there too: without it a quorum may be missing, and it is how a
// damaged box learns that it is. The signature is checked before.
func (w *Watch) State(box coord.BoxID, height uint64, d coord.Digest, now int64) {
	for _, e := range w.states.add(box, height, d) {
		w.note(e, now)
	}
}

// ClockSample says that box's clock, which it says is set, was offset ahead of this one's, measured over roundTrip.
func (w *Watch) ClockSample(box coord.BoxID, offset, roundTrip time.Duration, now int64) {
	w.note(w.clocks.add(box, offset, roundTrip, now), now)
}

// Proposal says how long after it could have (this box knew the parent's notarization and a batch to propose) the leader's proposal came. A turn
// that ended without one while the leader's link was up counts with its timeout. pace is the median time, over the last rounds, from a proposal to its
// notarization here: what the network and the boxes need just now.
func (w *Watch) Proposal(leader coord.BoxID, delay, pace time.Duration, now int64) {
	w.note(w.lateness.add(leader, delay, pace), now)
}

// BadSignature says that box sent, over its own link, something whose signature, or that of somebody it vouched for, is bad.
func (w *Watch) BadSignature(box coord.BoxID, what string, now int64) {
	w.note(&event{box, BadSignature, badSignaturePoints, what}, now)
}

// Challenge says what came of a question whose right answer this box knows; what names it.
func (w *Watch) Challenge(box coord.BoxID, what string, a Answer, now int64) {
	w.note(w.challenges.add(box, what, a), now)
}

// Standings are all members' scores with their reasons, the highest first, then by id.
func (w *Watch) Standings(now int64) []Standing { return w.board.standings(now) }

// Changes are the boxes whose level is another one than at the last call: for alarms, once a second or so.
func (w *Watch) Changes(now int64) []Change { return w.board.changes(now) }

// Opinion is this box's part of Aside: bit i for member i of the list that it suspects.
func (w *Watch) Opinion(members []coord.BoxID, now int64) (bits uint32) {
	for i, id := range members {
		if s := w.board.boxes[id]; s != nil && i < coord.MembersMax {
			if s.decay(now); s.level() == Suspect {
				bits |= 1 << i
			}
		}
	}
	return bits
}
