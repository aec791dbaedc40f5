package sim

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord/liar"
)

// Scenario is a plan that somebody wrote down because something broke under the like of it once. The seed
// changes the order of what happens at about the same time.
type Scenario struct {
	Name string
	From string // where it broke
	What string // what broke
	// Evidence: honest boxes must hand some up.
	Evidence bool
	Options  func(seed uint64) Options
}

const sec, at = time.Second, time.Millisecond

// scene is three seconds of load on a quiet network.
func scene(n int, term uint64, change func(p *Plan)) func(seed uint64) Options {
	return func(seed uint64) Options {
		p := &Plan{
			End: 3 * sec, Net: Net{DelayLo: 2 * at, DelayHi: 10 * at},
			Clients: []Client{{Gap: 30 * at}, {Start: 5 * at, Gap: 50 * at}},
		}
		change(p)
		return Options{N: n, Seed: seed, Term: term, Plan: p}
	}
}

func (p *Plan) add(k FaultKind, when, length time.Duration, box int) *Fault {
	p.Faults = append(p.Faults, Fault{Kind: k, At: when, For: length, Box: box})
	return &p.Faults[len(p.Faults)-1]
}

// away cuts a box off.
func (p *Plan) away(n, box int, when, length time.Duration) {
	split := make([]uint8, 2*n)
	split[box] = 1
	p.Faults = append(p.Faults, Fault{Kind: faultPartition, At: when, For: length, Box: -1, Split: split})
}

// grow adds new boxes.
func (p *Plan) grow(when time.Duration, count int) {
	p.Changes = append(p.Changes, Change{At: when, Kind: ChangeGrow, Count: count})
	for range count {
		p.Fresh = append(p.Fresh, "")
	}
}

func (p *Plan) lies(box int, k liar.Kind) { p.Liars = append(p.Liars, Liar{box, k}) }

// Scenarios are all of them.
func Scenarios() []Scenario {
	const smart, simplex, trial = "SmartBFT v1.0.1", "ava-labs/simplex v0.0.0-20250919", "a trial core"
	const issue = "changes of members, as they were thought through"
	return []Scenario{
		{Name: "leader crashes again and again", From: smart, What: "a failed view change forgot votes: FORK", Options: scene(4, 1, func(p *Plan) {
			for i := range 16 {
				p.add(faultCrash, time.Duration(100+150*i)*at, 100*at, i%4)
			}
		})},
		{Name: "a term ends while its block waits for the disk", From: smart, What: "deadlock: a view aborts while its decision is queued", Options: scene(4, 3, func(p *Plan) {
			p.add(faultSlowDisk, 300*at, 2*sec, 0).Amount = 700 * at
			p.add(faultSlowDisk, 900*at, 2*sec, 1).Amount = 600 * at
		})},
		{Name: "one box behind while another is down", From: smart, What: "a follower two sequences behind stops to vote, and with one box down nobody goes on", Options: scene(4, 1000, func(p *Plan) {
			p.add(faultCrash, 200*at, 3*sec, 3)
			for i := range 5 {
				p.away(4, 2, time.Duration(300+500*i)*at, 200*at)
			}
		})},
		{Name: "everything arrives twice", From: smart, What: "a pool that is not purged: an honest leader rejects itself, DOUBLE", Options: scene(4, 8, func(p *Plan) {
			p.add(faultDup, 0, 3*sec, -1).Rate = 0.9
			p.add(faultReorder, 0, 3*sec, -1).Amount = 150 * at
		})},
		{Name: "clocks jump", From: simplex, What: "a timer that does not look at its round again: an empty vote after a finalize vote, TWICE", Options: scene(4, 3, func(p *Plan) {
			for i := range 20 {
				p.add(faultJump, time.Duration(100+130*i)*at, 0, i%4).Amount = 15 * sec
			}
		})},
		{Name: "restart with a block as the last record", From: simplex, What: "after a restart no vote and no timer: STALL", Options: scene(4, 8, func(p *Plan) {
			for i := range 24 {
				p.add(faultRestart, time.Duration(100+110*i)*at, 20*at, i%4)
			}
			p.add(faultCrash, 2800*at, 10*at, -1)
		})},
		{Name: "an empty certificate is lost", From: simplex, What: "broadcast once and lost: STALL", Options: scene(4, 3, func(p *Plan) {
			p.add(faultCrash, 200*at, 3*sec, 0)
			p.add(faultLoss, 200*at, 3*sec, -1).Rate = 0.6
		})},
		{Name: "equivocating leader", From: simplex, What: "a finalization attached to a block without comparing digests: FORK", Evidence: true, Options: scene(4, 3, func(p *Plan) {
			p.lies(0, liar.Equivocal)
		})},
		{Name: "several certificates, one of them good", From: simplex, What: "a reply is believed when one of its certificates is valid: CERTIFICATE", Options: scene(4, 8, func(p *Plan) {
			p.lies(1, liar.Historian)
			for i := range 4 {
				p.away(4, 3, time.Duration(200+700*i)*at, 500*at)
			}
		})},
		{Name: "much is ordered", From: simplex, What: "a log that is never pruned: LOG", Options: scene(4, 1000, func(p *Plan) {
			p.End = 6 * sec
			p.Clients = []Client{{Gap: 6 * at}, {Gap: 6 * at}, {Gap: 6 * at}}
		})},
		{Name: "votes for everything", From: "all engines tried", What: "no evidence reached the application", Evidence: true, Options: scene(4, 8, func(p *Plan) {
			p.lies(2, liar.Double)
		})},

		{Name: "crash storm", From: simplex, What: "32 of 34 runs with crashes and partitions: STALL", Options: scene(4, 1, func(p *Plan) {
			for i := range 40 {
				p.add(faultCrash, time.Duration(100+70*i)*at, 60*at, (i*7)%4)
			}
			p.away(4, 1, 800*at, 600*at)
			p.away(4, 2, 1700*at, 600*at)
		})},
		{Name: "partitions only", From: simplex, What: "10 of 55 runs: STALL", Options: scene(4, 1, func(p *Plan) {
			for i := range 6 {
				p.away(4, i%4, time.Duration(100+450*i)*at, 400*at)
			}
		})},
		{Name: "the whole site loses power", From: simplex, What: "8 of 18 runs: STALL", Options: scene(4, 3, func(p *Plan) {
			for i := range 3 {
				p.add(faultCrash, time.Duration(500+800*i)*at, 200*at, -1)
			}
		})},
		{Name: "a leader that starves one author", From: smart, What: "a censored client: RESTLESS", Options: scene(4, 1000, func(p *Plan) {
			p.lies(0, liar.Starver)
		})},
		{Name: "a leader that is slow while its links are up", From: smart, What: "a view change of 0.5 to 6 s, or never", Options: scene(4, 1000, func(p *Plan) {
			p.lies(0, liar.Delayer)
		})},
		{Name: "a silent follower", From: smart, What: "STALL", Options: scene(4, 8, func(p *Plan) { p.lies(3, liar.Silent) })},
		{Name: "one victim gets nothing", From: simplex, What: "a victim delivers a block that is not final: FORK", Options: scene(4, 3, func(p *Plan) { p.lies(0, liar.Victim) })},
		{Name: "speaks to some", From: simplex, What: "STALL", Options: scene(4, 3, func(p *Plan) { p.lies(2, liar.Selective) })},
		{Name: "one identity on two machines", From: "Twins, OPODIS 2021", What: "FORK", Options: scene(4, 1, func(p *Plan) {
			p.lies(1, liar.Twins)
			for i := range 5 {
				split := []uint8{0, uint8(i & 1), uint8(i >> 1 & 1), 1, 1}
				p.Faults = append(p.Faults, Fault{Kind: faultPartition, At: time.Duration(200+500*i) * at, For: 450 * at, Box: -1, Split: split})
			}
		})},
		{Name: "an old image of a disk", From: "operators", What: "TWICE", Options: scene(4, 8, func(p *Plan) {
			p.Weak = []int{2}
			p.add(faultOldDisk, 1500*at, weakDown, 2).Amount = 700 * at
		})},
		{Name: "an old image, and the site loses power", From: "this simulator, seed 8761", What: "everybody forgot the votes that only they had heard: TWICE", Options: scene(4, 8, func(p *Plan) {
			p.Weak = []int{2}
			p.add(faultOldDisk, 1500*at, weakDown, 2).Amount = 700 * at
			p.add(faultCrash, 2000*at, 300*at, -1)
		})},
		{Name: "a lost box gets a new identity", From: "NATS, TigerBeetle reports", What: "no path to replace a lost node", Options: scene(4, 8, func(p *Plan) {
			p.Weak = []int{1}
			p.add(faultReplace, 1200*at, weakDown, 1)
		})},

		{Name: "the log is compacted under crashes", From: trial, What: "compaction in the middle of a Step lost later records: TWICE", Options: scene(4, 3, func(p *Plan) {
			p.Clients = []Client{{Gap: 10 * at}, {Gap: 10 * at}}
			for i := range 14 {
				p.add(faultCrash, time.Duration(300+190*i)*at, 50*at, i%4)
			}
		})},
		{Name: "away until only a state can help", From: trial, What: "what took effect through a snapshot stayed pending: RESTLESS, empty votes for ever", Options: scene(4, 8, func(p *Plan) {
			p.End = 5 * sec
			p.Clients = []Client{{Gap: 10 * at}, {Gap: 10 * at}, {Gap: 15 * at}}
			p.away(4, 3, 300*at, 3500*at)
			p.add(faultCrash, 4*sec, 100*at, 3)
		})},
		{Name: "many blocks and no finality", From: trial, What: "a depth bound stopped the block that would restore finality: STALL", Options: scene(4, 3, func(p *Plan) {
			p.add(faultLoss, 300*at, 2*sec, -1).Rate = 0.7
			p.add(faultCrash, 1500*at, 400*at, -1)
		})},
		{Name: "a state below what is known to be final", From: trial, What: "a snapshot forgot a final certificate: STALL", Options: scene(4, 8, func(p *Plan) {
			p.End = 5 * sec
			p.Clients = []Client{{Gap: 8 * at}, {Gap: 8 * at}}
			p.away(4, 2, 200*at, 2500*at)
			p.add(faultLoss, 2700*at, 1*sec, -1).Rate = 0.5
			p.away(4, 2, 3200*at, 600*at)
		})},
		{Name: "what was asked for is not needed any more", From: trial, What: "a fetch target never cleared: STALL", Options: scene(4, 1, func(p *Plan) {
			p.lies(0, liar.Withhold)
			p.away(4, 3, 500*at, 700*at)
			p.away(4, 3, 1600*at, 700*at)
		})},
		{Name: "a leader that proposes just in time", From: "the rule \"a leader stays while it succeeds\"", What: "one liar, bounded delays: nothing executed for ever", Options: scene(4, 1000, func(p *Plan) {
			p.lies(0, liar.Late)
		})},
		{Name: "a leader that proposes just in time, rounds of one", From: trial, What: "a timer per round", Options: scene(4, 1, func(p *Plan) {
			p.lies(0, liar.Late)
			p.away(4, 2, 400*at, 900*at)
		})},
		{Name: "f+1 boxes give the leader up", From: trial, What: "no join on f+1 empty votes", Options: scene(7, 1000, func(p *Plan) {
			p.lies(0, liar.Victim)
			p.lies(6, liar.Silent)
		})},
		{Name: "a block that is not final is work", From: trial, What: "non-final blocks not counted as work: STALL", Options: scene(4, 3, func(p *Plan) {
			p.Clients = []Client{{Gap: 700 * at}}
			p.add(faultLoss, 0, 3*sec, -1).Rate = 0.5
		})},
		{Name: "slower than the time-out", From: trial, What: "no back-off: STALL", Options: scene(4, 3, func(p *Plan) {
			p.End = 8 * sec
			p.Net = Net{DelayLo: 500 * at, DelayHi: 100 * at}
		})},
		{Name: "from 1 to 4 to 7 to 4", From: issue, What: "members change under load: STALL, LOST", Options: scene(1, 8, func(p *Plan) {
			p.End = 6 * sec
			p.grow(500*at, 3)
			p.grow(1800*at, 3)
			p.Changes = append(p.Changes, Change{At: 3500 * at, Kind: ChangeShrink, Count: 3})
		})},
		{Name: "the power goes between the log and the state of an epoch's end", From: issue, What: "blocks above the end are applied after the restart: FORK", Options: scene(4, 8, func(p *Plan) {
			p.Clients = []Client{{Gap: 8 * at}, {Gap: 8 * at}}
			p.Traps = []Trap{{At: TrapCommit, Box: -1, For: 200 * at, Times: 7}}
			p.grow(600*at, 1)
			p.Changes = append(p.Changes, Change{At: 1500 * at, Kind: ChangeRotate, Box: 0})
		})},
		{Name: "the state at an epoch's end is durable and nobody was told", From: issue, What: "a box that starts in an epoch that it cannot prove leaves the others alone: STALL", Options: scene(4, 8, func(p *Plan) {
			p.lies(3, liar.Silent)
			p.Traps = []Trap{{At: TrapSigned, Box: -1, For: 300 * at, Times: 5}}
			p.grow(600*at, 1)
			p.Changes = append(p.Changes, Change{At: 1500 * at, Kind: ChangeRotate, Box: 1})
		})},
		{Name: "an epoch is entered and nothing was said", From: issue, What: "a box goes back to the epoch that it left: LEFT", Options: scene(4, 3, func(p *Plan) {
			p.Traps = []Trap{{At: TrapRecord, Box: -1, For: 300 * at, Times: 6}}
			p.grow(600*at, 1)
			p.Changes = append(p.Changes, Change{At: 1500 * at, Kind: ChangeRemove, Box: 2})
		})},
		{Name: "the site loses power at each point of a change", From: issue, What: "STALL, LEFT", Options: scene(4, 8, func(p *Plan) {
			p.End = 6 * sec
			for i, t := range []TrapPoint{TrapCommit, TrapSigned, TrapRecord} {
				p.Traps = append(p.Traps, Trap{At: t, Box: -1, Site: true, For: 200 * at, Times: 2})
				p.Changes = append(p.Changes, Change{At: time.Duration(500+1300*i) * at, Kind: ChangeRotate, Box: i})
			}
		})},
		{Name: "only one box knows the end, and restarts", From: issue, What: "nobody else can come to the end: STALL", Options: scene(4, 8, func(p *Plan) {
			p.lies(0, liar.Silent)
			p.Traps = []Trap{{At: TrapCommit, Box: -1, For: 700 * at, Times: 1}, {At: TrapSigned, Box: -1, For: 700 * at, Times: 1}}
			p.Changes = append(p.Changes, Change{At: 600 * at, Kind: ChangeRemove, Box: 0})
			p.add(faultLoss, 600*at, 1*sec, -1).Rate = 0.4
		})},
		{Name: "void blocks with the only good certificate", From: issue, What: "blocks above the end are applied: FORK", Options: scene(4, 1000, func(p *Plan) {
			p.Clients = []Client{{Gap: 6 * at}, {Gap: 6 * at}, {Gap: 6 * at}}
			p.lies(1, liar.BadSig)
			for _, b := range []int{2, 3} {
				p.add(faultSlowState, 0, 3*sec, b).Amount = 400 * at
			}
			p.grow(500*at, 1)
			p.Changes = append(p.Changes, Change{At: 1500 * at, Kind: ChangeRotate, Box: 3})
		})},
		{Name: "away over three epochs, with logs that were cut", From: issue, What: "a box that cannot judge the state of a later epoch: STALL", Options: scene(4, 8, func(p *Plan) {
			p.End = 6 * sec
			p.Clients = []Client{{Gap: 8 * at}, {Gap: 8 * at}, {Gap: 12 * at}}
			p.Fresh = append(p.Fresh, "")
			p.away(4, 3, 300*at, 4700*at)
			for i, c := range []Change{{Kind: ChangeRotate, Box: 0}, {Kind: ChangeRotate, Box: 1}, {Kind: ChangeAdd}} {
				c.At = time.Duration(600+1200*i) * at
				p.Changes = append(p.Changes, c)
			}
		})},
		{Name: "a box joins while the site loses power", From: issue, What: "a member without a state for ever: STALL", Options: scene(1, 8, func(p *Plan) {
			p.grow(600*at, 3)
			for i := range 6 {
				p.add(faultCrash, time.Duration(650+250*i)*at, 60*at, -1)
			}
		})},
		{Name: "every box is another one in the end", From: issue, What: "a box that was away finds nobody whom it knows: STALL", Options: scene(4, 8, func(p *Plan) {
			p.End = 7 * sec
			for i := range 4 {
				p.Fresh = append(p.Fresh, "")
				p.Changes = append(p.Changes, Change{At: time.Duration(500+1300*i) * at, Kind: ChangeReplace, Box: i})
			}
		})},
		{Name: "removed while it is cut off", From: issue, What: "a box that goes on as if it were a member: STALL", Options: scene(4, 8, func(p *Plan) {
			p.away(4, 2, 300*at, 2500*at)
			p.Changes = append(p.Changes, Change{At: 700 * at, Kind: ChangeRemove, Box: 2})
		})},
		{Name: "the only proof was in the log that is gone", From: "this simulator, seed 108626", What: "STALL", Options: scene(4, 3, func(p *Plan) {
			p.Weak = []int{2}
			p.add(faultLoss, 600*at, 2*sec, -1).Rate = 0.5
			p.add(faultRestart, 900*at, 200*at, 0)
			p.add(faultTail, 1400*at, weakDown, 2)
			p.add(faultCrash, 1500*at, 900*at, 0)
			p.add(faultRestart, 1700*at, 200*at, 1)
			p.add(faultCrash, 1900*at, 600*at, 3)
		})},
	}
}
