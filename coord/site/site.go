package site

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

// Errors of this package.
var (
	// ErrStopped: the site does not run any more.
	ErrStopped = errors.New("site: stopped")
	// ErrLog: the log or the state could not be written or read; the box has stopped voting.
	ErrLog = errors.New("site: storage failed")
	// ErrRemoved: this box is no member of the site any more.
	ErrRemoved = errors.New("site: this box is no member any more")
	// ErrFull, from a Log or a Base: there is no space now; nothing happened, and it may be tried again.
	ErrFull = errors.New("site: disk full")
)

const (
	// peerQueue is how many messages of other boxes wait for the owner; when it is full
	// the links' readers wait, which is back-pressure.
	peerQueue = 1024
	// requestQueue is how many client requests wait for the owner; beyond it they are refused.
	requestQueue = 4096
	// effectsMax is how many Steps may wait for the disk before the owner waits for it.
	effectsMax = 4096
	// burst is how many inputs the owner takes before it looks at its timer again.
	burst = 256
	// drainMax is how long a stopping box waits for what it took in to become final.
	drainMax = 1500 * time.Millisecond
	// serveMax is how many requests for old blocks and batches wait; more are dropped, they come again.
	serveMax = 64
	// pointEvery is how often a box may ask for a checkpoint because a member needs one.
	pointEvery = 5 * time.Second
)

// Options of a Site.
type Options struct {
	Box     BoxConfig
	Log     Log
	Base    Base
	Connect func(Handlers) (Links, error)
	Logger  *slog.Logger
	Version string
	// Self is the box, for the View of one that its site does not list any more.
	Self coord.Member
	// Changes, if not nil, is called with what blocks changed, in order and when it is visible. It must not block.
	Changes func(*Changes)
	// Audit, if not nil, is called with heads of the boxes' audit logs that a quorum signed, this box's among them. It must not block.
	Audit func(*audit.SignedHead)
	// Alarm, if not nil, is told when this box comes to suspect a member or does no more, and when it finds proof of a lie. It must not block.
	Alarm func(*Alarm)
	// Judge, if not nil, says what this box thinks of a decision, off the owner's goroutine and one at a time; it is asked again when documents
	// or the open decisions change. d and what st gives are immutable. Nil: an operator must give the box's word on each.
	Judge func(st *state.Machine, d *coord.Decision) Judgement
	// Decided, if not nil, is called with how decisions ended, in order; again after a restart for those that the durable state did not
	// have. It must not block.
	Decided func(*Outcome)
	// Finished, if not nil, is called with the record of each own batch when its answers have left; it needs Box.Ring. The record is valid
	// during the call, which must not block.
	Finished func(*trace.Record)
	// Traces, if not nil, keeps traces.
	Traces Traces
	// Revised, if not nil, is told which batches changed the revision, in order and before the state that has them is made durable. It
	// must not block, and does not change what it is given.
	Revised func([]trace.Revised)
	// Loop, if not nil, runs the owner's loop: it calls the function it is given, once, and returns after it. A box
	// uses it to choose the thread.
	Loop func(loop func())
}

// Site is one box's running coordinator.
type Site struct {
	o     Options
	log   *slog.Logger
	box   *Box // the owner's
	links Links
	start time.Time

	peers    chan fromPeer
	requests chan *Request
	inner    *mailbox[Input]           // from our own goroutines: bounded by what the box asked of them
	calls    *mailbox[func(*Box)]      // views: bounded by their callers, who wait
	effects  *mailbox[Effects]         // to the writer: bounded by effectsMax
	commits  *mailbox[*coord.Commit]   // one is under way at a time
	installs *mailbox[*InstallStep]    // bounded by the pieces asked for, one at a time
	verifies *mailbox[unverified]      // bounded by the pending batches
	serves   *mailbox[Serve]           // bounded by serveMax
	pieces   *mailbox[SnapAsk]         // bounded by serveMax
	findings *mailbox[*coord.Finding]  // bounded by findingsMax
	learned  *mailbox[*coord.Handover] // bounded by the changes of members, and the signatures of each
	written  chan struct{}             // the writer took effects: wakes an owner that waits
	queued   atomic.Int64              // effects that the writer has not released yet
	stable   atomic.Pointer[coord.Checkpoint]
	offered  atomic.Pointer[coord.Checkpoint]
	synced   atomic.Uint64
	lastView atomic.Pointer[View]
	// audited is what TellAudit was told last.
	audited  atomic.Pointer[AuditView]
	fault    atomic.Pointer[string]
	fullLog  atomic.Pointer[string] // what waits for space on the disk, of the writer
	fullBase atomic.Pointer[string] // and of the keeper
	draining atomic.Bool
	running  atomic.Bool

	snapMu  sync.Mutex
	snap    Snapshot
	askedAt time.Time // when a checkpoint was asked for

	installing *coord.Checkpoint // the keeper's
	silent     uint64            // the owner's: what tellSilent said last

	prover prover
	signs  signs
	ears   ears // the owner's

	decisions deciding

	ep   atomic.Pointer[Epoch] // what is released is of it
	sets struct {              // the members of epochs before it, by epoch, as far as the base had them when it was asked last
		sync.Mutex
		of map[uint64]*coord.Members
	}
	index   indexer
	claim   atomic.Uint64 // the place that the box claims; 0: it does not know
	seen    gate          // the place of the last block applied
	entered gate          // the epoch of ep
	begun   atomic.Uint64 // Steps: what State shows is of these
	shown   gate          // Steps whose effects are visible

	stopped chan struct{} // closed when the owner has ended
}

type fromPeer struct {
	from coord.BoxID
	msg  *coord.PeerMsg
}

// Open replays the log and makes a Site; Run starts it.
func Open(o Options) (*Site, error) {
	for o.Box.Nonce == 0 {
		var a [8]byte
		_, _ = rand.Read(a[:]) // never fails
		o.Box.Nonce = binary.BigEndian.Uint64(a[:])
	}
	o.Box.Watch = o.Changes != nil
	kept, err := o.Base.Handovers()
	if err != nil {
		return nil, fmt.Errorf("site: handovers: %w", err)
	}
	o.Box.Handovers = append(o.Box.Handovers, kept...) // what was kept knows more
	box, err := NewBox(o.Box, o.Base.Backend(), o.Base.Committed())
	if err != nil {
		return nil, err
	}
	records := 0
	err = o.Log.Replay(func(r *coord.Record) error {
		box.Replay(r)
		records++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("site: replay the log: %w", err)
	}
	box.Start()
	s := &Site{
		o: o, log: o.Logger, box: box, start: time.Now(),
		peers: make(chan fromPeer, peerQueue), requests: make(chan *Request, requestQueue),
		inner: newMailbox[Input](), calls: newMailbox[func(*Box)](), effects: newMailbox[Effects](),
		commits: newMailbox[*coord.Commit](), installs: newMailbox[*InstallStep](), verifies: newMailbox[unverified](),
		serves: newMailbox[Serve](), pieces: newMailbox[SnapAsk](), findings: newMailbox[*coord.Finding](), learned: newMailbox[*coord.Handover](),
		written: make(chan struct{}, 1), stopped: make(chan struct{}), decisions: newDeciding(),
		prover: prover{
			byNonce: map[string]*proving{}, byHash: map[coord.Digest]*proving{}, early: map[coord.BoxID][]coord.ReadVote{},
			heads: map[coord.Digest]*signing{},
		},
	}
	s.index.asks, s.index.claimed = map[uint64]*indexAsk{}, map[coord.BoxID]claimed{}
	s.index.doubted = map[coord.BoxID]time.Time{}
	s.index.nonce = o.Box.Nonce // answers to an earlier start of this box are not taken
	s.log.Info("log replayed", "records", records, "height", box.State().Height(), "round", box.Core().Round())
	s.links, err = o.Connect(Handlers{Message: s.fromPeer, State: s.fromLink})
	if err != nil {
		return nil, fmt.Errorf("site: links: %w", err)
	}
	s.links.Use(box.ep)
	s.enter(box.ep)
	s.publish()
	return s, nil
}

// Run until ctx ends, then drain: requests are refused, what was taken in becomes final if the site
// can, and everything acknowledged is durable when Run returns.
func (s *Site) Run(ctx context.Context) error {
	// The links outlive the owner, so that draining can still order; the workers outlive both.
	linkCtx, stopLinks := context.WithCancel(context.WithoutCancel(ctx))
	workCtx, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLinks()
	defer stopWork()
	var links, work sync.WaitGroup
	linkErr := make(chan error, 1)
	links.Go(func() {
		err := s.links.Run(linkCtx)
		if err != nil && linkCtx.Err() == nil {
			s.failed("the links to the other boxes ended: " + err.Error())
		}
		linkErr <- err
	})
	for _, w := range []func(context.Context){s.write, s.keep, s.verify, s.serve, s.judge} {
		work.Go(func() { w(workCtx) })
	}
	if s.o.Loop == nil {
		s.o.Loop = func(loop func()) { loop() }
	}
	s.o.Loop(func() { s.own(ctx) })
	stopLinks()
	stopWork()
	work.Wait()
	links.Wait()
	s.refuseRest()
	s.snapMu.Lock()
	if s.snap != nil {
		s.snap.Close()
		s.snap = nil
	}
	s.snapMu.Unlock()
	if f := s.fault.Load(); f != nil {
		return fmt.Errorf("%w: %s", ErrLog, *f)
	}
	if err := <-linkErr; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("site: links: %w", err)
	}
	return nil
}

// fromPeer takes a message from a link's reader.
func (s *Site) fromPeer(from coord.BoxID, m *coord.PeerMsg) {
	switch {
	case m.Reading != nil:
		s.onReading(from, m.Reading)
		return
	case m.IndexAsk != nil:
		s.onIndexAsk(from, m.Epoch, *m.IndexAsk)
		return
	case m.Index != nil:
		s.onIndex(from, m.Epoch, m.Index)
		return
	case m.TraceAsk != nil:
		if s.o.Traces != nil {
			s.o.Traces.Asked(from, *m.TraceAsk)
		}
		return
	case m.Trace != nil:
		if s.o.Traces != nil {
			s.o.Traces.Told(from, m.Trace.ID, m.Trace.Records)
		}
		return
	}
	select {
	case s.peers <- fromPeer{from, m}:
	case <-s.stopped:
	}
}

func (s *Site) fromLink(peer coord.BoxID, up bool) {
	s.inner.put(Input{Link: &Link{Peer: peer, Up: up}})
}

// enter makes what is released from now on be of an epoch.
func (s *Site) enter(e *Epoch) {
	s.ep.Store(e)
	s.entered.reach(e.Members.Epoch)
}

// waits says what waits for space on the disk; empty: nothing.
func (s *Site) waits() string {
	for _, p := range []*atomic.Pointer[string]{&s.fullLog, &s.fullBase} {
		if why := p.Load(); why != nil {
			return *why
		}
	}
	return ""
}

// Submit takes over a request; its Done is called exactly once.
func (s *Site) Submit(r *Request) {
	r.at = s.now()
	code := coord.CodeStopping
	if s.waits() != "" {
		code = coord.CodeFull
	} else if !s.draining.Load() && s.fault.Load() == nil {
		select {
		case s.requests <- r:
			select {
			case <-s.stopped: // perhaps after Run looked at the queue for the last time
				s.refuseQueue()
			default:
			}
			return
		default:
			code = coord.CodeBusy
		}
	}
	r.Done(coord.Reply{Code: code, RetryAfter: s.box.cfg.Tuning.RetryAfter})
}

// State is the state machine, for reads from any goroutine; a fetched state replaces it, so ask each time.
func (s *Site) State() *state.Machine { return s.box.reads.Load() }

func (s *Site) now() int64 { return int64(time.Since(s.start)) + 1 }

// own is the goroutine that owns the box.
func (s *Site) own(ctx context.Context) {
	s.running.Store(true)
	defer s.running.Store(false)
	defer close(s.stopped)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var wakeAt int64
	done := ctx.Done()
	var giveUp int64
	step := func(in Input) {
		seq := s.begun.Add(1)
		e := s.box.Step(in, s.now())
		e.seq = seq
		if e.Traced < e.TracedTo {
			s.o.Box.Ring.Applied(e.Traced, e.TracedTo, s.now())
		}
		s.tellReaders()
		s.tellSilent()
		if e.Wake > 0 && (wakeAt == 0 || e.Wake < wakeAt) {
			wakeAt = e.Wake
		}
		s.dispatch(&e)
	}
	for {
		if giveUp > 0 && (s.box.Idle() && s.queued.Load() == 0 || s.now() >= giveUp || s.fault.Load() != nil) {
			s.publish()
			return
		}
		switch {
		case s.now() < s.ears.at:
		case s.waits() != "":
			s.ears.at = s.now() + listenEvery
		default:
			step(Input{Heard: s.listen()})
		}
		timer.Reset(s.sleep(wakeAt, giveUp))
		// Without space nothing can be written, so nothing is taken in: the others go on without this box, and views
		// are answered.
		peers, requests := s.peers, s.requests
		if s.waits() != "" {
			peers, requests = nil, nil
			s.refuse(coord.CodeFull)
			wakeAt = s.now() + int64(time.Second)
		}
		select {
		case p := <-peers:
			step(Input{From: p.from, Peer: p.msg})
		case r := <-requests:
			step(Input{Request: r})
		case <-s.inner.signal:
		case <-s.calls.signal:
		case <-timer.C:
		case <-done:
			done = nil
			s.draining.Store(true)
			giveUp = s.now() + int64(drainMax)
			step(Input{Drain: true})
		}
		for range burst {
			select {
			case p := <-peers:
				step(Input{From: p.from, Peer: p.msg})
				continue
			case r := <-requests:
				step(Input{Request: r})
				continue
			default:
			}
			break
		}
		for _, in := range s.inner.take() {
			step(in)
		}
		for _, fn := range s.calls.take() {
			fn(s.box)
		}
		if wakeAt != 0 && s.now() >= wakeAt && s.waits() == "" {
			wakeAt = 0
			step(Input{})
		}
		if s.fault.Load() != nil {
			s.refuseHeld()
		}
	}
}

// tellSilent logs when the box begins or ends not to vote because it does not know what it signed.
func (s *Site) tellSilent() {
	until, _ := s.box.core.Silent()
	if until == s.silent {
		return
	}
	s.silent = until
	switch until {
	case 0:
		s.log.Info("this box votes again", "round", s.box.core.Round())
	case coord.SilentUnknown:
		s.log.Warn("this box does not know all that it signed: its log was damaged, or is an old one; it does not vote and asks the others where they are")
	default:
		s.log.Warn("this box does not vote until a round in which it cannot have voted", "round", until)
	}
}

func (s *Site) sleep(wakeAt, giveUp int64) time.Duration {
	d := max(time.Duration(s.ears.at-s.now()), time.Millisecond)
	if wakeAt > 0 {
		d = min(d, time.Duration(wakeAt-s.now()))
	}
	if giveUp > 0 {
		d = min(d, 10*time.Millisecond)
	}
	return max(d, 0)
}

// dispatch hands a Step's effects to whoever does them.
func (s *Site) dispatch(e *Effects) {
	if e.Fault != "" {
		s.failed(e.Fault)
	}
	for _, h := range e.Verify {
		s.verifies.put(unverified{h, s.box.ep.Keys})
	}
	for _, v := range e.Serve {
		if s.serves.len() < serveMax {
			s.serves.put(v)
		}
	}
	for _, a := range e.ServeSnap {
		if s.pieces.len() < serveMax {
			s.pieces.put(a)
		}
	}
	for _, h := range e.Handovers {
		s.learned.put(h)
	}
	for i := range e.Install {
		s.installs.put(&e.Install[i])
	}
	if e.Stable != nil {
		s.stable.Store(e.Stable)
		s.log.Info("checkpoint signed by a quorum", "height", e.Stable.Header.Height, "state", e.Stable.State.Short())
	}
	if e.Offer != nil {
		s.offered.Store(e.Offer)
	}
	for i := range e.Evidence {
		s.onEvidence(&e.Evidence[i])
	}
	for i := range e.Trust {
		s.onTrust(&e.Trust[i])
	}
	if len(e.Persist) == 0 && e.Roll == nil && s.queued.Load() == 0 {
		s.release(e) // nothing before it waits for the disk
		s.shown.reach(e.seq)
		return
	}
	if !e.Visible() {
		*e = Effects{seq: e.seq} // only its place in the order
	}
	for s.queued.Load() >= effectsMax {
		<-s.written
	}
	s.queued.Add(1)
	s.effects.put(*e)
}

// failed stops the box for good: it says nothing more, its console says why, and the owner, which this
// wakes, refuses what it holds.
func (s *Site) failed(why string) {
	if s.fault.CompareAndSwap(nil, &why) {
		s.log.Error("this box has stopped voting", "reason", why)
		s.inner.put(Input{})
	}
}

// send is for answers to members that need no log; a box with a fault gives none.
func (s *Site) send(p coord.Parcel) {
	if s.fault.Load() == nil {
		s.links.Send(p)
	}
}

// release makes visible what the log holds now.
func (s *Site) release(e *Effects) {
	if s.fault.Load() != nil {
		for _, a := range e.Answers {
			a.Request.Done(coord.Reply{Code: coord.CodeStopping})
		}
		return
	}
	if e.Reach != nil {
		s.links.Use(e.Reach)
	}
	if e.Epoch != nil {
		s.enter(e.Epoch)
	}
	for _, p := range e.Send {
		s.links.Send(p)
	}
	if e.Changes != nil {
		s.o.Changes(e.Changes)
	}
	for i := range e.Readings {
		s.answerReading(&e.Readings[i])
	}
	for _, a := range e.Accused {
		s.log.Error("a box's audit log is not what it was", "member", a.Box, "height", a.Height, "err", a.Err)
	}
	for i := range e.Decided {
		if s.o.Decided != nil {
			s.o.Decided(&e.Decided[i])
		}
	}
	if e.Decisions {
		s.decisions.tell()
	}
	for _, a := range e.Answers {
		a.Request.Done(a.Reply)
	}
	if len(e.Own) > 0 {
		s.answered(e.Own)
	}
	if e.Revised != nil && s.o.Revised != nil {
		s.o.Revised(e.Revised)
	}
	if e.Commit != nil {
		s.commits.put(e.Commit)
	}
}

// refuseRest answers what nobody will work on any more.
func (s *Site) refuseRest() {
	s.refuseHeld()
	s.refuseQueue()
}

// refuseHeld answers the requests that the box took in; on the owner's goroutine, or after it.
func (s *Site) refuseHeld() {
	for seq, o := range s.box.own {
		for _, r := range o.requests {
			r.Done(coord.Reply{Code: coord.CodeStopping})
		}
		delete(s.box.own, seq)
	}
	for _, r := range s.box.waiting {
		r.Done(coord.Reply{Code: coord.CodeStopping})
	}
	s.box.waiting = nil
}

// refuseQueue answers the requests that wait for the owner when there is none any more.
func (s *Site) refuseQueue() { s.refuse(coord.CodeStopping) }

func (s *Site) refuse(code coord.Code) {
	for {
		select {
		case r := <-s.requests:
			r.Done(coord.Reply{Code: code, RetryAfter: s.box.cfg.Tuning.RetryAfter})
		default:
			return
		}
	}
}
