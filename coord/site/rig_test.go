package site_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// waitMax is how long, in virtual time, a condition may take: many time-outs of a leader.
const waitMax = time.Minute

// rig is a site of running boxes inside a synctest bubble: time is virtual, and passes only when
// everything waits. It checks all the time that no vote is said, and nothing answered, before the log has it.
type rig struct {
	t       *testing.T
	members *coord.Members
	tuning  site.Tuning
	hub     *hub
	boxes   []*box

	mu    sync.Mutex
	votes []int // said by each box
	words []int // messages said by each box
	asked []*asked
	seqs  map[uint64]uint64 // by session: the last number used

	edit   func(box int, o *site.Options)                                     // nil: as it is
	judges func(box int, st *state.Machine, d *coord.Decision) site.Judgement // nil: there is no judge
}

func (r *rig) judge(i int) func(*state.Machine, *coord.Decision) site.Judgement {
	if r.judges == nil {
		return nil
	}
	return func(st *state.Machine, d *coord.Decision) site.Judgement { return r.judges(i, st, d) }
}

// box is one computer: its log and state stay when its Site ends.
type box struct {
	site  *site.Site
	log   *memLog
	base  *memBase
	stop  context.CancelFunc
	done  chan error // the end of Run; nil while it does not run
	heads heads

	alarms  alarms
	mu      sync.Mutex
	decided []site.Outcome
}

func (b *box) keepDecided(o *site.Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.decided = append(b.decided, *o)
}

// asked is a request and how often it was answered.
type asked struct {
	box     int
	answers atomic.Int32
	reply   chan coord.Reply
}

// inSite runs a test against a site of n boxes, all started, and checks at the end, when all are stopped,
// that every request was answered exactly once.
func inSite(t *testing.T, n int, tuning site.Tuning, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, n, tuning)
		defer r.end()
		for i := range r.boxes {
			r.start(i)
		}
		test(r)
	})
}

// synctestSite is inSite for a site that is prepared first.
func synctestSite(t *testing.T, n int, prepare, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, n, site.Tuning{})
		prepare(r)
		defer r.end()
		for i := range r.boxes {
			r.start(i)
		}
		test(r)
	})
}

func newRig(t *testing.T, n int, tuning site.Tuning) *rig {
	r := &rig{
		t: t, tuning: tuning, members: &coord.Members{Site: coord.SiteID{7}, Epoch: 1},
		votes: make([]int, n), words: make([]int, n), seqs: map[uint64]uint64{},
	}
	for i := range n {
		r.members.List = append(r.members.List, coord.Member{ID: boxID(i), Name: fmt.Sprintf("box-%d", i)})
		r.boxes = append(r.boxes, &box{log: newMemLog(r.members.Site), base: newMemBase()})
	}
	r.hub = newHub(n, r.said)
	return r
}

// said checks and counts what a box says.
func (r *rig) said(from int, o coord.Parcel) {
	v := o.Msg.Vote
	if p := o.Msg.Proposal; p != nil { // proposing is voting
		v = &coord.Vote{Kind: coord.VoteNotarize, Round: p.Block.Round, Digest: p.Block.Digest(), Voter: uint8(from)}
	}
	r.mu.Lock()
	r.words[from]++
	if v != nil {
		r.votes[from]++
	}
	r.mu.Unlock()
	if v == nil || v.Kind == coord.VoteCheckpoint { // a state's digest is computed again, not remembered
		return
	}
	if int(v.Voter) == from && !r.boxes[from].log.covers(voteName{v.Kind, v.Round, v.Digest}) {
		r.t.Errorf("box %d says its %v vote of round %d before the log has it", from, v.Kind, v.Round)
	}
}

func (r *rig) saidBy(i int) (words, votes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.words[i], r.votes[i]
}

func (r *rig) open(i int) *site.Site {
	r.t.Helper()
	b := r.boxes[i]
	o := site.Options{
		Box: site.BoxConfig{Members: r.members, KeysOf: r.keysOf(i), Tuning: r.tuning},
		Log: b.log, Base: b.base, Connect: r.hub.connect(i), Logger: slog.New(slog.DiscardHandler), Version: "test",
		Audit: b.heads.keep, Alarm: b.alarms.take, Judge: r.judge(i), Decided: b.keepDecided,
	}
	if r.edit != nil {
		r.edit(i, &o)
	}
	s, err := site.Open(o)
	if err != nil {
		r.t.Fatal(err)
	}
	b.site = s
	return s
}

func (r *rig) keysOf(i int) site.KeysOf {
	return func(m *coord.Members) (site.Keys, int, error) { return tagKeys{i, m}, m.Index(boxID(i)), nil }
}

func (r *rig) run(i int) {
	b := r.boxes[i]
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.done = stop, make(chan error, 1)
	go func() { b.done <- b.site.Run(ctx) }()
}

func (r *rig) start(i int) {
	r.t.Helper()
	r.open(i)
	r.run(i)
	r.eventually("the box runs", func() bool {
		_, _, _, err := r.boxes[i].site.Get(nil)
		return err == nil
	})
}

// stop ends a box as a service manager does and gives Run's error.
func (r *rig) stop(i int) error {
	b := r.boxes[i]
	b.stop()
	err := <-b.done
	b.done = nil
	return err
}

// restart stops a box, takes from its disk what no sync covered, and opens it again.
func (r *rig) restart(is ...int) {
	r.t.Helper()
	for _, i := range is {
		if err := r.stop(i); err != nil {
			r.t.Fatalf("box %d: %v", i, err)
		}
		r.boxes[i].log.cutPower()
	}
	for _, i := range is {
		r.start(i)
	}
}

func (r *rig) end() {
	for i, b := range r.boxes {
		if b.done == nil {
			continue
		}
		if err := r.stop(i); err != nil && !errors.Is(err, site.ErrLog) {
			r.t.Errorf("box %d: %v", i, err)
		}
	}
	for _, a := range r.asked {
		if n := a.answers.Load(); n != 1 {
			r.t.Errorf("a request on box %d was answered %d times", a.box, n)
		}
	}
}

// submit hands a request to a box.
func (r *rig) submit(i int, c *coord.Columns) *asked {
	a, q := r.request(i, c)
	r.boxes[i].site.Submit(q)
	return a
}

func (r *rig) request(i int, c *coord.Columns) (*asked, *site.Request) {
	a := &asked{box: i, reply: make(chan coord.Reply, 1)}
	log := r.boxes[i].log
	r.mu.Lock()
	r.asked = append(r.asked, a)
	r.mu.Unlock()
	return a, &site.Request{Cols: c, Done: func(p coord.Reply) {
		if n := log.unsyncedVotes(); p.Code == coord.CodeOK && n > 0 {
			r.t.Errorf("box %d answers while %d of its votes are not in the log", i, n)
		}
		if a.answers.Add(1) == 1 {
			a.reply <- p
		}
	}}
}

// answer waits for a request's.
func (r *rig) answer(a *asked) (p coord.Reply) {
	r.t.Helper()
	late := time.NewTimer(waitMax)
	defer late.Stop()
	select {
	case p = <-a.reply:
	case <-late.C:
		r.t.Errorf("a request on box %d has no answer after %v", a.box, waitMax)
	}
	return p
}

// must submits and wants success.
func (r *rig) must(i int, c *coord.Columns) coord.Reply {
	r.t.Helper()
	p := r.answer(r.submit(i, c))
	if p.Code != coord.CodeOK {
		r.t.Fatalf("box %d answers %q", i, p.Code)
	}
	return p
}

// session opens a client's session on a box.
func (r *rig) session(i int, id uint64) {
	r.t.Helper()
	c := new(coord.Columns)
	c.Add(coord.KindOpen, id, 0, 0, []byte("test"), nil)
	r.must(i, c)
}

func (r *rig) seq(session uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seqs[session]++
	return r.seqs[session]
}

// put and observe are requests of one message with the session's next number.
func (r *rig) put(session uint64, key, value string) *coord.Columns {
	c := new(coord.Columns)
	c.Add(coord.KindPut, session, r.seq(session), 0, []byte(key), []byte(value))
	return c
}

func (r *rig) observe(session, object uint64) *coord.Columns {
	c := new(coord.Columns)
	c.Add(coord.KindObserve, session, r.seq(session), 0, binary.BigEndian.AppendUint64(nil, object), nil)
	return c
}

// eventually lets virtual time pass until ok; what names the promise.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(waitMax); !ok(); <-tick.C {
		if time.Now().After(end) {
			r.t.Fatalf("not within %v: %s", waitMax, what)
		}
	}
}

// reads wants a key's value on a box, soon.
func (r *rig) reads(i int, key, value string) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("box %d reads %s = %.20s", i, key, value), func() bool {
		v, _, found, err := r.boxes[i].site.Get([]byte(key))
		return err == nil && found && string(v) == value
	})
}

// agree waits until the boxes are at one height and compares their states there.
func (r *rig) agree(is ...int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("boxes %v are at one height", is), func() bool {
		a := r.boxes[is[0]].site.View()
		for _, i := range is {
			if v := r.boxes[i].site.View(); v.Final != a.Final || v.Revision != a.Revision || v.Pending > 0 {
				return false
			}
		}
		return true
	})
	want := r.top(is[0], 2*state.TopMax)
	for _, i := range is[1:] {
		if got := r.top(i, 2*state.TopMax); fmt.Sprint(got) != fmt.Sprint(want) {
			r.t.Errorf("boxes %d and %d count differently: %v, %v", is[0], i, want, got)
		}
	}
}

func (r *rig) top(i, n int) site.Top {
	r.t.Helper()
	top, err := r.boxes[i].site.Top(n)
	if err != nil {
		r.t.Fatal(err)
	}
	return top
}

func (r *rig) view(i int) *site.View { return r.boxes[i].site.View() }
