package bft

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

const tms = int64(time.Millisecond)

// rig is a site of cores on a network without delay or loss, except where a test says so.
type rig struct {
	t     *testing.T
	n     int
	now   int64
	cores []*Core
	logs  [][]coord.Record
	got   [][]coord.Digest // delivered batches by core
	done  []map[uint64]bool
	down  []bool
	// drop, when set, says which messages are lost.
	drop func(from, to int, m *coord.PeerMsg) bool
	// twist, when set, changes what a core sends.
	twist    func(from, to int, m *coord.PeerMsg) *coord.PeerMsg
	inbox    []parcel
	term     uint64
	verifies []int
	// votesFrom is box 3's.
	votesFrom uint64
	// nonce, when not 0, makes boxes ask when they start, each start with the next.
	nonce  uint64
	nonces [7]uint64
	sent   []*coord.Vote
	// watch, when set, is shown what each core wants.
	watch func(i int, rd *Ready)
}

type parcel struct {
	from, to int
	msg      *coord.PeerMsg
}

// rigKeys sign with a hash that everybody can compute; liars in these tests do not forge.
type rigKeys struct {
	r  *rig
	id int
}

func (k rigKeys) SignVote(kind coord.VoteKind, epoch, round uint64, d coord.Digest) (s coord.Signature) {
	a := coord.VoteBytes(coord.SiteID{}, kind, epoch, round, d)
	h := sha256.Sum256(append(a[:], byte(k.id)))
	copy(s[:], h[:])
	return s
}

func (k rigKeys) VerifyVote(v *coord.Vote) bool {
	k.r.verifies[k.id]++
	return rigKeys{k.r, int(v.Voter)}.SignVote(v.Kind, v.Epoch, v.Round, v.Digest) == v.Sig
}

func newRig(t *testing.T, n int, term uint64) *rig {
	r := &rig{
		t: t, n: n, term: term, now: 1, cores: make([]*Core, n), logs: make([][]coord.Record, n), got: make([][]coord.Digest, n),
		done: make([]map[uint64]bool, n), down: make([]bool, n), verifies: make([]int, n),
	}
	for i := range n {
		r.done[i] = map[uint64]bool{}
	}
	for i := range n {
		r.boot(i)
	}
	return r
}

func member(i int) coord.BoxID { return coord.BoxID{byte(i + 1)} }

func (r *rig) config(i int) Config {
	c := Config{
		Self: i, Epoch: 1, TermRounds: r.term, Timeout: 500 * tms, LeaderDown: 150 * tms, Retransmit: 250 * tms, IdleStatus: 1000 * tms,
		FetchDelay: 16 * tms, Starve: 4000 * tms, DepthMax: 8, BlockBytes: 1 << 20, PendingMax: 64, Keys: rigKeys{r, i},
		Done: func(a coord.BoxID, seq uint64) bool { return r.done[i][uint64(a[0])<<32|seq] },
	}
	if i == 3 {
		c.VotesFrom = r.votesFrom
	}
	c.Nonce = r.nonces[i]
	for k := range r.n {
		c.Members = append(c.Members, member(k))
	}
	return c
}

func (r *rig) boot(i int) {
	r.t.Helper()
	if r.nonce != 0 {
		r.nonce++
		r.nonces[i] = r.nonce
	}
	c, err := New(r.config(i), &coord.Block{Epoch: 1}, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.done[i] = map[uint64]bool{}
	r.got[i] = nil
	for k := range r.logs[i] {
		c.Replay(&r.logs[i][k])
	}
	c.Start()
	r.cores[i], r.down[i] = c, false
	r.step(i, Input{})
}

func (r *rig) step(i int, in Input) Ready {
	r.t.Helper()
	rd := r.cores[i].Step(in, r.now)
	if rd.Fault != "" {
		r.t.Fatalf("core %d: %s", i, rd.Fault)
	}
	if r.watch != nil {
		r.watch(i, &rd)
	}
	voted := false
	for k := range rd.Persist {
		voted = voted || rd.Persist[k].Vote != nil || rd.Persist[k].Silent != nil
	}
	if voted != rd.Sync {
		r.t.Fatalf("core %d: a vote and Sync go together: vote %v, sync %v", i, voted, rd.Sync)
	}
	r.logs[i] = append(r.logs[i], rd.Persist...)
	for _, d := range rd.Deliver {
		for _, b := range d.Block.Refs {
			r.got[i] = append(r.got[i], b.Digest)
			r.done[i][uint64(b.Author[0])<<32|b.Seq] = true
		}
	}
	for _, o := range rd.Send {
		if v := o.Msg.Vote; v != nil {
			r.sent = append(r.sent, v)
		}
		for to := range r.n {
			if to != i && (o.To == coord.ToAll || o.To == to) {
				m := o.Msg
				if r.twist != nil {
					m = r.twist(i, to, m)
				}
				if m != nil && (r.drop == nil || !r.drop(i, to, m)) {
					r.inbox = append(r.inbox, parcel{i, to, m})
				}
			}
		}
	}
	for _, h := range rd.Verify {
		r.step(i, Input{Checked: &Checked{Digest: h.Digest, OK: h.Batch.Sig == coord.Signature{}}})
	}
	for _, s := range rd.Serve {
		r.serve(i, s)
	}
	return rd
}

// serve gives final blocks from the log.
func (r *rig) serve(i int, s Serve) {
	if !s.Blocks {
		for k := range r.logs[i] {
			if b := r.logs[i][k].Batch; b != nil {
				for _, d := range s.Batches {
					if b.Digest(coord.SiteID{}) == d {
						r.inbox = append(r.inbox, parcel{i, s.To, &coord.PeerMsg{Batch: b}})
					}
				}
			}
		}
		return
	}
	blocks := map[coord.Digest]*coord.Block{}
	var u coord.CatchUp
	for k := range r.logs[i] {
		if b := r.logs[i][k].Block; b != nil {
			blocks[b.Digest()] = b
		}
		if f := r.logs[i][k].Final; f != nil && f.Header.Height > s.After {
			if b := blocks[f.Header.Digest()]; b != nil {
				u.Blocks = append(u.Blocks, b)
				if f.Cert != nil {
					u.Cert = f.Cert
					break
				}
			}
		}
	}
	if u.Cert != nil {
		r.inbox = append(r.inbox, parcel{i, s.To, &coord.PeerMsg{CatchUp: &u}})
	}
}

// settle delivers until nothing is under way, and says how many hops that took.
func (r *rig) settle() (hops int) {
	r.t.Helper()
	for ; len(r.inbox) > 0; hops++ {
		if hops > 1000 {
			r.t.Fatal("messages never end")
		}
		now := r.inbox
		r.inbox = nil
		for _, p := range now {
			if r.down[p.to] || r.down[p.from] {
				continue
			}
			if b := p.msg.Batch; b != nil {
				d := b.Digest(coord.SiteID{})
				wanted, _ := r.cores[p.to].WantsBatch(d)
				if b.Author == member(p.from) || wanted {
					r.step(p.to, Input{From: p.from, Batch: b, BatchDigest: d, Verified: b.Sig == coord.Signature{}})
				}
				continue
			}
			r.step(p.to, Input{From: p.from, Msg: p.msg})
		}
	}
	return hops
}

// wait lets time pass in steps of a millisecond.
func (r *rig) wait(d time.Duration) {
	r.t.Helper()
	for end := r.now + int64(d); r.now < end; {
		r.now += tms
		for i := range r.n {
			if !r.down[i] {
				r.step(i, Input{})
			}
		}
		r.settle()
	}
}

// submit makes a batch at core i.
func (r *rig) submit(i int, seq uint64) coord.Digest {
	r.t.Helper()
	b := &coord.Batch{Author: member(i), Seq: seq, Count: 1, Body: []byte{byte(i), byte(seq)}}
	d := b.Digest(coord.SiteID{})
	r.step(i, Input{From: i, Batch: b, BatchDigest: d, Verified: true})
	return d
}

// wantEverywhere: each running core delivered exactly these batches in one order.
func (r *rig) wantEverywhere(ds ...coord.Digest) {
	r.t.Helper()
	for i := range r.n {
		if r.down[i] {
			continue
		}
		if len(r.got[i]) != len(ds) {
			r.t.Fatalf("core %d delivered %d batches, want %d: %v", i, len(r.got[i]), len(ds), r.cores[i])
		}
		for _, d := range ds {
			found := false
			for _, g := range r.got[i] {
				found = found || g == d
			}
			if !found {
				r.t.Fatalf("core %d did not deliver %s", i, d.Short())
			}
		}
		for k := range r.got[i] {
			if first := r.firstUp(); r.got[i][k] != r.got[first][k] {
				r.t.Fatalf("cores %d and %d delivered in different orders", i, first)
			}
		}
	}
}

func (r *rig) firstUp() int {
	for i := range r.n {
		if !r.down[i] {
			return i
		}
	}
	return 0
}
