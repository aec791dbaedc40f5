package site

import (
	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

// Input is one thing that happened to a box; exactly one field is set, or none: time passed.
type Input struct {
	From       coord.BoxID    // the box whose link Peer came over
	Peer       *coord.PeerMsg // a message of another box
	Request    *Request       // of a client on this box
	Checked    *bft.Checked   // outcome of Effects.Verify
	Link       *Link
	Committed  bool       // the oldest Effects.Commit that was not answered yet is durable
	State      *bft.State // digest of the state that a Commit with Checkpoint kept
	Installed  *Installed // outcome of Effects.Install
	Checkpoint bool       // a peer needs a snapshot that nobody has: have one made
	Drain      bool       // take no more requests
	Heard      []Heard    // what the links and the shell noticed of the members in the last second
}

// Link says that the link to a box came up or went down.
type Link struct {
	Peer coord.BoxID
	Up   bool
}

// Serve is work for whoever can read the log: send To the final blocks of Epoch after After (when Blocks) with
// their batches, or the batches named.
type Serve struct {
	To      coord.BoxID
	Epoch   uint64
	Blocks  bool
	After   uint64
	Batches []coord.Digest
}

// Installed says that a fetched state is in place, behind Backend, or why not.
type Installed struct {
	Checkpoint *coord.Checkpoint
	Backend    state.Backend
	Err        error
}

// Answer is a reply to a request.
type Answer struct {
	Request *Request
	Reply   coord.Reply
}

// Effects is what one Step of a box wants done. Persist (and Roll) go to the log in the order of the
// Steps; with Sync the log is made durable before Send, Answers and Commit of this and later Steps
// become visible. The rest may be done at once.
type Effects struct {
	Persist []coord.Record
	Sync    bool
	Roll    []coord.Record // start a new log segment with these
	// Epoch, if not nil, is what the box works in from then on. Reach, if not nil, is whose members it is to be linked with: those, or
	// those of a later epoch that it is on its way to, as who it is there. What is sent after it, and by this Step, goes to them.
	Epoch   *Epoch
	Reach   *Epoch
	Send    []coord.Parcel
	Answers []Answer
	Commit  *coord.Commit // to be made durable in the background, answered by Input.Committed

	Serve     []Serve
	ServeSnap []SnapAsk
	Verify    []*bft.Held
	Install   []InstallStep
	Stable    *coord.Checkpoint // signed by a quorum now
	Offer     *coord.Checkpoint // signed by f+1 now
	Evidence  []coord.Evidence
	Handovers []*coord.Handover // to be kept, each in place of one of the same epoch
	Readings  []state.Asked
	Accused   []state.Accused
	Trust     []suspicion.Change // members whom this box suspects now, or no more
	Decided   []state.Decided    // how decisions ended
	Decisions bool               // decisions, words or documents changed
	Changes   *Changes           // what the blocks of this Step changed, when BoxConfig.Watch
	// Revised says which batches changed the revision. Own are the places in the ring of what was answered, and those from Traced on
	// to before TracedTo of what was applied.
	Revised          []trace.Revised
	Own              []uint64
	Traced, TracedTo uint64
	Wake             int64
	Fault            string
	seq              uint64 // the shell's: which Step it was
}

// Changes is what final blocks changed, for watchers: it becomes visible with the answers.
type Changes struct {
	// Revisions ascend without a gap from the one after the last Changes, unless Jump: then the state was replaced by one
	// that others signed, and what happened between is in its history.
	Revisions []kv.Revision
	Jump      bool
	// Revision is that of the state now.
	Revision uint64
}

// Visible says whether anything waits for the log.
func (e *Effects) Visible() bool {
	return len(e.Persist) > 0 || e.Roll != nil || len(e.Send) > 0 || len(e.Answers) > 0 || e.Commit != nil ||
		e.Changes != nil || e.Epoch != nil || e.Reach != nil || len(e.Readings) > 0 || len(e.Accused) > 0 || e.Decisions
}
