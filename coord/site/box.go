package site

import (
	"fmt"
	"sync/atomic"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/batch"
	"github.com/holdfast-edge/holdfast/coord/bft"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// Keys is what a box signs and checks with (coord/trust in the product).
type Keys interface {
	bft.Keys
	// SignBatch signs a batch's digest; VerifyBatch checks its author's signature.
	SignBatch(b *coord.Batch) coord.Signature
	VerifyBatch(b *coord.Batch) bool
}

// BoxConfig is fixed for the life of a Box.
type BoxConfig struct {
	// Members is the site as the box knew it last; the state, where it has a later set, knows better.
	Members *coord.Members
	KeysOf  KeysOf
	// Handovers are those that the box kept, ascending, and for a box that joins a site the one that ends with Members: how it knows
	// the epoch before its first. They are believed.
	Handovers []*coord.Handover
	Tuning    Tuning
	// Nonce is new for each start and not 0 (bft.Config says what for).
	Nonce uint64
	// Watch says that Effects.Changes is wanted.
	Watch bool
	// Arena, if not nil, is memory for the two batches that are open or under way at a time, which the box owns from
	// then on: 2*coord.ArenaBytes hold the largest. LineBytes is the CPUs' cache line. Nil: the heap.
	Arena     []byte
	LineBytes int
	// Ring, if not nil, gets a record of each batch's way (package coord/trace).
	Ring *trace.Ring
	// Codec, if not nil, is how batches' bodies are written and read in place of coord/wire's, in all boxes of a site: for
	// programs that measure what that one is worth.
	Codec Codec
}

// Codec writes and reads the bodies of batches, as coord/wire's BodyEncoder and BodyDecoder do.
type Codec interface {
	AppendBody(dst []byte, c *coord.Columns) []byte
	DecodeBody(body []byte, c *coord.Columns) error
}

// columnar is the product's codec.
type columnar struct {
	*wire.BodyEncoder
	*wire.BodyDecoder
}

// Box is one box without its goroutines, disk and network. Not safe for concurrent use.
type Box struct {
	cfg  BoxConfig
	ep   *Epoch
	core *bft.Core
	st   *state.Machine
	// reads is st, for whoever reads the state from another goroutine.
	reads atomic.Pointer[state.Machine]
	me    coord.BoxID
	name  string // of the member that we are, or were
	out   bool   // we are none any more
	// older: the state that the box began with does not say all epochs that it has been in, so if the log is lost nobody does. Any other state is
	// of the box's last epoch, which begins with a commit.
	older bool

	past      []*coord.Handover               // of epochs before ours, ascending
	ahead     []step                          // of ours and those after it, as others know them
	heard     map[coord.BoxID]*coord.Handover // of the end of our epoch, by who said it first: with fewer signatures than it takes
	later     []coord.Record                  // of the log: what we said in epochs after ours
	strangers map[coord.BoxID]*told
	cut       map[coord.BoxID]bool // links that are down
	askAt     int64                // when to ask again for what we wait for
	rollNow   bool

	bat   *batch.Batcher
	codec Codec

	waiting []*Request // of the open batch, in the order of its messages
	takenAt int64      // when the first of them came into it
	tracing tracing
	own     map[uint64]*ownBatch
	nextSeq uint64

	cols    coord.Columns // reused: the batch being closed, or being applied
	results []coord.Result

	backlog   []bft.Delivery // final, to be applied after the commit that a checkpoint waits for
	ends      *ending        // the last block of the epoch is applied
	wantPoint bool           // a checkpoint is due at the height that the state is at
	lastFinal *coord.Final
	commits   int // under way
	dirty     int // bytes ordered since the last commit
	begun     int // added to dirty, see phase
	commitAt  int64
	logBytes  int

	snap      *snapFetch
	askPoint  bool
	pointAt   int64 // when a checkpoint was wanted last
	appliedAt int64
	draining  bool
	now       int64
	fx        Effects
	count     Counters
	meter     meter
	fault     string

	applied, duplicates uint64
	revision            uint64 // of the batch applied last

	clock clock
	watch watcher

	decidedTo, siteChanges uint64 // see tellDecided
}

// NewBox makes a box on a state whose last durable block is final (nil for a new site). Replay the log
// into it, then Start.
func NewBox(cfg BoxConfig, backend state.Backend, final *coord.Final) (*Box, error) {
	st, err := state.New(backend)
	if err != nil {
		return nil, fmt.Errorf("site: open state: %w", err)
	}
	cfg.Tuning = cfg.Tuning.withDefaults()
	members := cfg.Members
	if known := st.Members(); known != nil {
		members = known
	}
	b := &Box{
		cfg: cfg, own: map[uint64]*ownBatch{}, cut: map[coord.BoxID]bool{}, heard: map[coord.BoxID]*coord.Handover{},
		strangers: map[coord.BoxID]*told{}, bat: batch.New(cfg.Tuning.Batch), codec: cfg.Codec, older: final == nil,
	}
	if members, err = b.resume(members, final); err != nil {
		return nil, err
	}
	ep, err := cfg.KeysOf.epoch(members)
	if err != nil {
		return nil, err
	}
	b.ep, b.out, b.me = ep, ep.Self < 0, ep.Me()
	if !b.out {
		b.name = members.List[ep.Self].Name
	}
	if b.codec == nil {
		b.codec = columnar{wire.NewBodyEncoder(), wire.NewBodyDecoder()}
	}
	half := len(cfg.Arena) / 2 &^ 7
	b.bat.Use(coord.ColumnsIn(cfg.Arena[:half:half], cfg.LineBytes))
	b.cols = coord.ColumnsIn(cfg.Arena[half:], cfg.LineBytes)
	b.lastFinal = final
	if final == nil {
		b.lastFinal = &coord.Final{Header: &coord.Block{Epoch: members.Epoch}}
	}
	b.use(st)
	// Who has no state yet is a member of the first epoch, or has joined a site that is older than it.
	b.core, err = b.newCore(b.lastFinal.Header, b.lastFinal.Cert, final == nil && members.Epoch > 1, false)
	if err != nil {
		return nil, err
	}
	b.nextSeq = st.LastSeq(b.me)
	b.catchUpDecided()
	b.fx = Effects{}
	b.watchMembers()
	return b, nil
}

// use makes st the box's state.
func (b *Box) use(st *state.Machine) {
	st.SetRule(b.cfg.Tuning.Checkpoint)
	st.SetSite(b.ep.Members, b.me)
	st.Watch(b.cfg.Watch)
	b.st, b.revision = st, st.Revision()
	b.reads.Store(st)
}

// Replay takes one record of the log, in order, before Start.
func (b *Box) Replay(r *coord.Record) {
	if r.Batch != nil && r.Batch.Author == b.me {
		b.nextSeq = max(b.nextSeq, r.Batch.Seq)
	}
	// A state that is older than the log, or was lost: what the box signed in later epochs must be known when it comes to them again.
	if r.Vote != nil && r.Vote.Epoch > b.ep.Members.Epoch || r.Cert != nil && r.Cert.Epoch > b.ep.Members.Epoch ||
		r.Block != nil && r.Block.Epoch > b.ep.Members.Epoch {
		b.later = append(b.later, *r)
		b.core.Mute()
	}
	if r.Handover != nil {
		b.replayHandover(r.Handover)
	}
	if !b.out {
		b.core.Replay(r)
	}
	if r.Silent != nil && r.Silent.Epoch > b.ep.Members.Epoch {
		b.later = append(b.later, *r)
		b.core.Mute()
	}
}

// seqBitsPerStart is how many batches a box can make between two starts.
const seqBitsPerStart = 20

// Start ends the replay. A box numbers its batches in the upper bits by its starts, so that a number that
// was sent and not written is never used again.
func (b *Box) Start() {
	b.nextSeq = (b.nextSeq>>seqBitsPerStart + 1) << seqBitsPerStart
	if !b.out {
		b.core.Start()
	}
}

// Core, State: for views and the simulator's checks. The owner alone may use them.
func (b *Box) Core() *bft.Core { return b.core }

// State is the state machine.
func (b *Box) State() *state.Machine { return b.st }

// Counters is a copy of the box's counters.
func (b *Box) Counters() Counters { return b.count }

// Step takes one input at one time (monotonic nanoseconds, never going back).
func (b *Box) Step(in Input, now int64) Effects {
	b.now, b.fx = now, Effects{}
	if b.commitAt == 0 {
		b.phase()
	}
	switch {
	case in.Peer != nil:
		b.onPeer(in.From, in.Peer)
	case in.Request != nil:
		b.onRequest(in.Request)
	case in.Checked != nil:
		b.step(bft.Input{Checked: in.Checked})
	case in.Link != nil:
		b.onLink(in.Link)
	case in.Committed:
		b.onCommitted()
	case in.State != nil:
		b.onState(in.State)
	case in.Installed != nil:
		b.onInstalled(in.Installed)
	case in.Checkpoint:
		b.onCheckpointWanted()
		b.step(bft.Input{})
	case in.Heard != nil:
		b.onHeard(in.Heard)
	case in.Drain:
		b.draining = true
		b.step(bft.Input{})
	default:
		b.step(bft.Input{})
	}
	b.tick()
	b.closeBatch()
	b.commit()
	b.stepSnapshot()
	b.advance()
	b.seek()
	b.roll()
	b.wake(b.bat.Deadline())
	if b.fx.Fault != "" {
		b.fault = b.fx.Fault
	}
	return b.fx
}

// onCheckpointWanted: a member needs a state that nobody can serve. While blocks are ordered, one of them
// asks for a checkpoint; on a quiet site, or one that cannot go on without that member, all boxes are at one
// height and sign the state there.
func (b *Box) onCheckpointWanted() {
	quiet := 2 * int64(b.cfg.Tuning.Timeout)
	if b.now < b.pointAt+quiet || b.lastFinal.Header.Height == 0 || b.out || b.ends != nil {
		return
	}
	b.pointAt = b.now
	if b.now-b.appliedAt < quiet {
		b.askPoint = true
	} else {
		b.wantPoint = true
	}
}

func (b *Box) wake(at int64) {
	if at > 0 && (b.fx.Wake == 0 || at < b.fx.Wake) {
		b.fx.Wake = max(at, b.now+1)
	}
}

// step drives the core and takes over what it wants.
func (b *Box) step(in bft.Input) {
	if b.fault != "" || b.out {
		return // a box that found its own invariants broken says nothing more, nor does one that is no member
	}
	rd := b.core.Step(in, b.now)
	b.saw(rd.Seen)
	b.fx.Persist = append(b.fx.Persist, rd.Persist...)
	b.fx.Sync = b.fx.Sync || rd.Sync
	for _, o := range rd.Send {
		b.fx.Send = append(b.fx.Send, b.ep.parcel(o))
	}
	for _, v := range rd.Serve {
		b.fx.Serve = append(b.fx.Serve, Serve{
			To: b.ep.Members.List[v.To].ID, Epoch: b.ep.Members.Epoch, Blocks: v.Blocks, After: v.After, Batches: v.Batches,
		})
	}
	b.fx.Verify = append(b.fx.Verify, rd.Verify...)
	b.fx.Evidence = append(b.fx.Evidence, rd.Evidence...)
	if rd.Stable != nil {
		b.fx.Stable = rd.Stable
	}
	if rd.Offer != nil {
		b.fx.Offer = rd.Offer
	}
	if rd.Fault != "" {
		b.fx.Fault = rd.Fault
	}
	b.count.Evidence += uint64(len(rd.Evidence))
	for i := range rd.Persist {
		b.logBytes += recordBytes(&rd.Persist[i])
	}
	b.fx.Wake = rd.Wake
	for _, d := range rd.Deliver {
		b.deliver(d)
	}
}

// recordBytes is about what a record takes in the log.
func recordBytes(r *coord.Record) int {
	switch {
	case r.Batch != nil:
		return 160 + len(r.Batch.Body)
	case r.Block != nil:
		return 160 + 56*len(r.Block.Refs)
	}
	return 400
}

func (b *Box) onLink(l *Link) {
	if l.Up {
		delete(b.cut, l.Peer)
		b.askAt = 0
	} else {
		if len(b.cut) > strangersMax {
			clear(b.cut)
		}
		b.cut[l.Peer] = true
	}
	if i := b.ep.Members.Index(l.Peer); i >= 0 {
		b.step(bft.Input{Link: &bft.Link{Peer: i, Up: l.Up}})
	}
}

func (b *Box) onPeer(box coord.BoxID, m *coord.PeerMsg) {
	from := b.ep.Members.Index(box)
	switch epoch := b.ep.Members.Epoch; {
	case box == b.me:
		return
	case m.Handover != nil:
		b.onHandover(box, m.Handover)
		return
	case m.HandoverAsk != nil:
		b.tellHandover(box, *m.HandoverAsk)
		return
	case m.Checkpoint != nil:
		b.onOffer(box, m.Checkpoint)
		return
	case m.SnapshotPart != nil:
		b.onPart(box, m.SnapshotPart)
		return
	case m.SnapshotAsk != nil:
		if from >= 0 { // what the site has now is for its members
			b.fx.ServeSnap = append(b.fx.ServeSnap, SnapAsk{From: box, Ask: *m.SnapshotAsk})
		}
		return
	case m.Epoch < epoch:
		b.onOlder(box, m)
		return
	case m.Epoch > epoch:
		b.onNewer(box, m)
		return
	case from < 0 && m.Batch == nil && m.CatchUp == nil: // but who was told of a later epoch is helped by anybody
		return
	}
	switch {
	case m.Batch != nil:
		b.onPeerBatch(from, m.Batch)
	case m.Reading != nil, m.IndexAsk != nil, m.Index != nil, m.TraceAsk != nil, m.Trace != nil: // the shell's
	default:
		b.step(bft.Input{From: from, Msg: m})
	}
}

// onPeerBatch: over its author's link a batch is known to be the author's; from anyone else its signature is
// checked, unless a certified block names the digest.
func (b *Box) onPeerBatch(from int, bt *coord.Batch) {
	d := bt.Digest(b.ep.Members.Site)
	verified := false
	if b.ep.Members.Index(bt.Author) != from {
		wanted, certified := b.core.WantsBatch(d)
		if !wanted {
			return
		}
		if !certified {
			b.count.Verified++
			if verified = b.ep.Keys.VerifyBatch(bt); !verified {
				b.count.BadMessages++
				return
			}
		}
	}
	b.step(bft.Input{From: from, Batch: bt, BatchDigest: d, Verified: verified})
}

// deliver applies one final block, or keeps it until the state may move on.
func (b *Box) deliver(d bft.Delivery) {
	if b.ends != nil {
		b.void(d)
		return
	}
	if b.wantPoint || b.frozen() || len(b.backlog) > 0 {
		b.backlog = append(b.backlog, d)
		return
	}
	b.apply(d)
}

func (b *Box) apply(d bft.Delivery) {
	leader := b.core.Leader(d.Block.Round)
	b.tracing.block(d.Block, b.ep.Members.List[leader].ID)
	b.st.Begin(d.Block)
	messages := 0
	for i, bt := range d.Batches {
		ref := &d.Block.Refs[i]
		if bt == nil {
			continue // it took effect before
		}
		cols := &b.cols
		if err := b.codec.DecodeBody(bt.Body, cols); err != nil {
			cols = nil
			b.count.BadMessages++
		}
		var took bool
		b.results, took = b.st.Batch(bt.Author, bt.Seq, bt.Floor, cols, b.results[:0])
		if took {
			messages += len(b.results)
			b.tally()
		}
		b.dirty += len(bt.Body)
		if cols != nil {
			b.dirty += cols.Bytes() + dirtyMessageBytes*cols.Len()
		}
		b.count.Batches++
		b.count.PayloadBytes += uint64(len(bt.Body))
		b.revised(d.Block.Height, i)
		if b.cfg.Ring != nil {
			b.trace(&d, i, cols)
		}
		if bt.Author == b.me {
			b.finishOwn(bt.Seq, ref.Digest, d.Block.Height, took)
		}
	}
	due := b.st.End()
	if err := b.st.Err(); err != nil {
		b.fx.Fault = fmt.Sprintf("the state cannot be read: %v", err)
		return
	}
	if revs := b.st.TakeEvents(); len(revs) > 0 {
		if b.fx.Changes == nil {
			b.fx.Changes = new(Changes)
		}
		b.fx.Changes.Revisions = append(b.fx.Changes.Revisions, revs...)
		b.fx.Changes.Revision = revs[len(revs)-1].Revision
	}
	b.fx.Readings = append(b.fx.Readings, b.st.TakeAsked()...)
	b.fx.Accused = append(b.fx.Accused, b.st.TakeAccused()...)
	b.tellDecided()
	if id, asked := b.st.TakeLead(); asked {
		b.core.Lead(b.ep.Members.Index(id))
	}
	if b.st.TakeOpinions() {
		b.setAside()
	}
	b.lastFinal = &coord.Final{Header: d.Block.Header(), Cert: d.Cert}
	b.wantPoint, b.appliedAt = due, b.now
	if next := b.st.NextMembers(); next != nil {
		b.endEpoch(next, b.lastFinal)
	}
	b.count.Blocks++
	if len(d.Block.Refs) == 0 {
		b.count.EmptyBlocks++
	}
	b.meter.block(BlockView{
		Height: d.Block.Height, Round: d.Block.Round, Digest: d.Digest, Leader: b.ep.Members.List[leader].ID,
		Batches: len(d.Block.Refs), Messages: messages,
	}, b.now)
}

// dirtyMessageBytes is about what a message that is not durable yet takes in memory beside its key and value.
const dirtyMessageBytes = 256

// tally counts what a batch's messages did.
func (b *Box) tally() {
	for i := range b.results {
		switch {
		case b.results[i].Duplicate:
			b.duplicates++
		case b.results[i].Code == coord.CodeOK:
			b.applied++
		}
	}
}

// commit hands the changes since the last one to the background, when enough gathered or at a checkpoint.
func (b *Box) commit() {
	if b.commits > 0 || b.frozen() {
		return
	}
	late := b.now >= b.commitAt
	if !b.wantPoint && b.dirty+b.begun < b.cfg.Tuning.CommitBytes && !(late && b.dirty > 0) && !(b.draining && b.dirty > 0) {
		if b.dirty > 0 {
			b.wake(b.commitAt)
		}
		return
	}
	b.fx.Commit = &coord.Commit{
		Header: b.lastFinal.Header, Cert: b.lastFinal.Cert, Changes: b.st.Take(), Checkpoint: b.wantPoint,
	}
	if b.ends != nil && b.ends.durable == toCommit {
		b.fx.Commit.Handover, b.ends.durable = b.handover(), committing
	}
	b.commits++
	b.dirty, b.begun, b.commitAt = 0, 0, b.now+int64(b.cfg.Tuning.CommitEvery)
	if b.wantPoint {
		b.wantPoint = false
		b.phase() // all boxes commit now
	}
	b.drainBacklog()
}

// phase has the boxes commit in turn: they order the same messages, so that otherwise all would be slow at once, and the
// site with them, while n-f that are not can go on.
func (b *Box) phase() {
	self, n := b.ep.Self, b.ep.Members.N()
	b.begun = self * b.cfg.Tuning.CommitBytes / n
	b.commitAt = b.now + int64(b.cfg.Tuning.CommitEvery)*int64(n-self)/int64(n)
}

func (b *Box) drainBacklog() {
	for len(b.backlog) > 0 && !b.wantPoint && !b.frozen() {
		d := b.backlog[0]
		b.backlog = b.backlog[1:]
		b.apply(d)
	}
	if b.ends != nil {
		for _, d := range b.backlog {
			b.void(d)
		}
		b.backlog = nil
	}
}

// roll starts a new log segment when the current one is full.
func (b *Box) roll() {
	if b.out || b.logBytes < b.cfg.Tuning.SegmentBytes && !b.rollNow {
		return
	}
	b.logBytes, b.rollNow = 0, false
	b.fx.Roll = b.core.LiveRecords()
	if n := len(b.past); n > 0 { // while the state is that of the end of an epoch, only this says that the box went on
		b.fx.Roll = append([]coord.Record{{Handover: b.past[n-1]}}, b.fx.Roll...)
	}
}

// Idle says that nothing of ours waits: a draining box may stop.
func (b *Box) Idle() bool {
	return len(b.own) == 0 && len(b.waiting) == 0 && b.commits == 0 && b.dirty == 0 && len(b.backlog) == 0
}
