package site

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

// Request is one client's messages, numbered by its session. Site.Submit takes it over:
// the caller does not touch Cols again.
type Request struct {
	Cols *coord.Columns
	// Trace is the client's trace, if it brought one.
	Trace trace.Context
	// Done is called exactly once, from a goroutine of the site; it must not block.
	Done func(coord.Reply)

	at int64 // when it was submitted, by the site's clock; 0: not known
}

// View is what a box shows of itself and its site at one moment. It is immutable.
type View struct {
	ID      coord.BoxID  `json:"id"`
	Index   int          `json:"index"`
	Name    string       `json:"name"`
	Site    coord.SiteID `json:"site"`
	Epoch   uint64       `json:"epoch"`
	Version string       `json:"version"`
	Started time.Time    `json:"started"`
	Taken   time.Time    `json:"taken"`
	N       int          `json:"n"`
	F       int          `json:"f"`
	Quorum  int          `json:"quorum"`
	Members []MemberView `json:"members"`
	Leader  coord.BoxID  `json:"leader"`
	Round   uint64       `json:"round"`
	Term    uint64       `json:"term"`
	Height  uint64       `json:"height"` // applied
	Final   coord.Digest `json:"final"`
	// Revision of the key-value state; Applied counts messages that took effect,
	// Duplicates those that were dropped because they had before.
	Revision   uint64 `json:"revision"`
	Applied    uint64 `json:"applied"`
	Duplicates uint64 `json:"duplicates"`
	// Rate is messages applied a second over the last 5 s.
	Rate float64 `json:"rate"`
	// Pending is batches known and not yet final; Inflight is requests waiting for their answer.
	Pending  int `json:"pending"`
	Inflight int `json:"inflight"`
	// Checkpoint is the height of the newest state signed by a quorum, LogFrom the lowest height in the log.
	Checkpoint uint64 `json:"checkpoint"`
	LogFrom    uint64 `json:"log_from"`
	// Serving says that writes are being ordered as far as this box can tell; Verdict is one
	// sentence for a person.
	Serving bool   `json:"serving"`
	Verdict string `json:"verdict"`
	// Asking: the box has started and waits for the others to say which votes of it they know; it does
	// not vote before.
	Asking bool `json:"asking"`
	// Removed: this box is no member of the site any more. It orders nothing, and shows what it has.
	Removed bool `json:"removed,omitempty"`
	// RemovedBy says by which decision, in words that follow "removed".
	RemovedBy string `json:"removed_by,omitempty"`
	// Full, when not empty, says what waits for space on the box's disk; it goes on by itself when there is some.
	Full string `json:"full,omitempty"`
	// Fault, when not empty, says why this box has stopped voting.
	Fault  string      `json:"fault,omitempty"`
	Blocks []BlockView `json:"blocks"` // newest first, at most 32
	// Audit is how far the audit logs are protected, nil when nobody told (Site.TellAudit).
	Audit *AuditView `json:"audit,omitempty"`
	// Trust is what this box thinks of each member, in their order.
	Trust []TrustView `json:"trust"`
	// Decisions are open, by ascending id, at most 64; Decided is how others ended, newest first, at most 16.
	Decisions []DecisionView `json:"decisions"`
	Decided   []Outcome      `json:"decided"`
	// Counters since start, for /metrics.
	Counters Counters `json:"counters"`
}

// MemberView is one member as this box sees it.
type MemberView struct {
	coord.Member
	Index int  `json:"index"`
	Self  bool `json:"self"`
	Up    bool `json:"up"` // its link is up (always for Self)
	// Height and Round are what it last said of itself; Heard is when anything last came from it.
	Height uint64        `json:"height"`
	Round  uint64        `json:"round"`
	Heard  time.Time     `json:"heard"`
	RTT    time.Duration `json:"rtt"`
	// Since is when Up last changed. Silences is how often it was silent for longer than Timeout, which adapts; in Stalls
	// of these it was heard again on the same connection.
	Since    time.Time     `json:"since"`
	Silences uint64        `json:"silences"`
	Stalls   uint64        `json:"stalls"`
	Timeout  time.Duration `json:"timeout"`
	// Control is how many messages came from it since this box started that are not bulk, Bulk the bytes of those that are.
	Control uint64 `json:"control"`
	Bulk    uint64 `json:"bulk"`
	// Suspect counts things it said that did not hold.
	Suspect uint64 `json:"suspect"`
	// Twins, when not 0, is how often two machines were seen to use its identity at a time, since this box started.
	Twins uint64 `json:"twins"`
}

// Label is what people call the member: its name, or its id.
func (m *MemberView) Label() string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID.String()
}

// BlockView is one final block in short.
type BlockView struct {
	Height   uint64       `json:"height"`
	Round    uint64       `json:"round"`
	Digest   coord.Digest `json:"digest"`
	Leader   coord.BoxID  `json:"leader"`
	Batches  int          `json:"batches"`
	Messages int          `json:"messages"`
	Time     time.Time    `json:"time"` // when this box applied it
}

// Counters count since the process started.
type Counters struct {
	Blocks         uint64 `json:"blocks"`
	EmptyBlocks    uint64 `json:"empty_blocks"`
	Batches        uint64 `json:"batches"`
	OwnBatches     uint64 `json:"own_batches"`
	PayloadBytes   uint64 `json:"payload_bytes"` // of the batches' bodies
	Requests       uint64 `json:"requests"`
	Refused        uint64 `json:"refused"` // requests answered with CodeBusy
	Syncs          uint64 `json:"syncs"`   // fdatasync of the log
	LogBytes       uint64 `json:"log_bytes"`
	SentBytes      uint64 `json:"sent_bytes"`
	ReceivedBytes  uint64 `json:"received_bytes"`
	SentMessages   uint64 `json:"sent_messages"`
	DroppedSends   uint64 `json:"dropped_sends"`
	BadMessages    uint64 `json:"bad_messages"`
	SignedVotes    uint64 `json:"signed_votes"`
	Verified       uint64 `json:"verified"` // signatures checked
	EmptyVotes     uint64 `json:"empty_votes"`
	LeaderChanges  uint64 `json:"leader_changes"`
	Evidence       uint64 `json:"evidence"`
	ConflictCommit uint64 `json:"conflicting_commits"` // must stay 0
	Snapshots      uint64 `json:"snapshots"`           // states fetched from others
	// Starved is the time for which this box was stopped or without a processor.
	Starved time.Duration `json:"starved"`
	// LatencySum and LatencyCount are of own batches: closed to applied.
	LatencySum   time.Duration `json:"latency_sum"`
	LatencyCount uint64        `json:"latency_count"`
	// LatencyBuckets counts own batches by LatencyBounds (the last is beyond all).
	LatencyBuckets [len(LatencyBounds) + 1]uint64 `json:"latency_buckets"`
}

// LatencyBounds are upper bounds of Counters.LatencyBuckets.
var LatencyBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond, 8 * time.Millisecond,
	16 * time.Millisecond, 32 * time.Millisecond, 64 * time.Millisecond, 128 * time.Millisecond,
	256 * time.Millisecond, 512 * time.Millisecond, time.Second, 2 * time.Second, 8 * time.Second,
}

// Count is one observed object and how often it was accessed.
type Count struct {
	Object uint64 `json:"object"`
	Count  uint64 `json:"count"`
}

// Top is the site's counters as one box has them.
type Top struct {
	Total    uint64  `json:"total"`
	Distinct uint64  `json:"distinct"`
	Top      []Count `json:"top"`
}

// LogBlock is one committed block with its messages, for people and tools.
type LogBlock struct {
	Block  *coord.Block
	Digest coord.Digest
	// Members are those of the block's epoch, nil when this box does not know them any more; Leader is then zero.
	Members *coord.Members
	Leader  coord.BoxID
	Cert    *coord.Cert // nil: final through a descendant's certificate
	Batches []*coord.Batch
}

// LeaderName is what the leader was called in the block's epoch, its id when it had no name; empty: it is not known.
func (b *LogBlock) LeaderName() string {
	if b.Members == nil {
		return ""
	}
	if i := b.Members.Index(b.Leader); i >= 0 && b.Members.List[i].Name != "" {
		return b.Members.List[i].Name
	}
	return b.Leader.String()
}
