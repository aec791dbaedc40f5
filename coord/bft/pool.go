package bft

import (
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// need is a batch that a block names and that we do not hold.
type need struct {
	ref       coord.BatchRef
	since     int64
	certified bool // the block is notarized or final: f+1 honest boxes hold the batch
	at        int64
	to        int
	claimedBy int   // who says to hold it: announced or proposed it
	askedAt   int64 // when that one was asked; 0: not
}

// needsMax bounds what a box asks for on the word of others (certified needs come on top).
const needsMax = 4 * coord.BlockRefsMax

// pool is the batches that a box holds and that are not final yet.
type pool struct {
	held      map[coord.Digest]*Held
	order     []*Held // pending ones, oldest first
	perAuthor []int
	pending   int
	need      map[coord.Digest]*need
	wake      int64 // when the next need is due; 0: none
	window    int
}

// onBatch takes a batch's bytes. It counts when it came over its author's own link, when
// its signature holds, or when a certified block names it.
func (c *Core) onBatch(from int, b *coord.Batch, d coord.Digest, verified bool) {
	i, member := c.index[b.Author]
	if h := c.pool.held[d]; h != nil {
		if verified && !h.verified {
			h.verified, c.progressed = true, true
		}
		return
	}
	nd := c.pool.need[d]
	certified := nd != nil && nd.certified // perhaps by a box that is not a member any more
	if !certified && (!member || (from != i && !verified)) {
		return
	}
	if !certified && (c.cfg.Done(b.Author, b.Seq) || c.pool.perAuthor[i] >= c.cfg.PendingMax) {
		return
	}
	c.sawGiven(from, nd)
	h := c.keepBatch(b, d, verified)
	h.direct = member && from == i
	c.persist(coord.Record{Batch: b})
	if from == c.cfg.Self {
		c.send(coord.ToAll, &coord.PeerMsg{Batch: b})
	} else if c.leads() {
		c.check(h)
	}
	c.progressed = true
}

// WantsBatch says whether the core has a use for a batch that did not come from its author, so that
// its signature is worth checking.
func (c *Core) WantsBatch(d coord.Digest) (wanted, certified bool) {
	nd := c.pool.need[d]
	return nd != nil, nd != nil && nd.certified
}

func (c *Core) keepBatch(b *coord.Batch, d coord.Digest, verified bool) *Held {
	if h := c.pool.held[d]; h != nil {
		return h
	}
	h := &Held{Batch: b, Digest: d, verified: verified, since: c.now}
	c.pool.held[d] = h
	delete(c.pool.need, d)
	if i, ok := c.index[b.Author]; ok && !c.cfg.Done(b.Author, b.Seq) {
		h.pending = true
		c.pool.order = append(c.pool.order, h)
		c.pool.perAuthor[i]++
		c.pool.pending++
	}
	return h
}

// check asks for the author's signature to be checked, once.
func (c *Core) check(h *Held) {
	if !h.verified && !h.checking {
		h.checking = true
		c.rd.Verify = append(c.rd.Verify, h)
	}
}

func (c *Core) onChecked(k Checked) {
	h := c.pool.held[k.Digest]
	if h == nil {
		return
	}
	h.checking = false
	if k.OK {
		h.verified, c.progressed = true, true
		return
	}
	// The author sent us something that nobody else will take: forget it, unless a block needs it.
	c.bad(c.index[h.Batch.Author])
	if h.direct {
		c.sawBadSignature(c.index[h.Batch.Author], "a batch")
	}
	c.unpend(h)
}

func (c *Core) unpend(h *Held) {
	if h.pending {
		h.pending = false
		c.pool.pending--
		c.pool.perAuthor[c.index[h.Batch.Author]]--
	}
}

// drop forgets a batch that is final now.
func (c *Core) drop(d coord.Digest) {
	if h := c.pool.held[d]; h != nil {
		c.unpend(h)
		delete(c.pool.held, d)
	}
	delete(c.pool.need, d)
}

// sweep removes from the queue what is not pending any more, and what took effect another way.
func (c *Core) sweep() {
	var inChain map[coord.Digest]struct{}
	keep := c.pool.order[:0]
	for _, h := range c.pool.order {
		if h.pending && c.cfg.Done(h.Batch.Author, h.Batch.Seq) {
			c.unpend(h)
		}
		if h.pending {
			keep = append(keep, h)
			continue
		}
		if inChain == nil {
			inChain = c.inChain()
		}
		if _, used := inChain[h.Digest]; !used {
			delete(c.pool.held, h.Digest)
		}
	}
	clear(c.pool.order[len(keep):])
	c.pool.order = keep
}

// inChain is the digests in the blocks that are known and not final, whatever their branch.
func (c *Core) inChain() map[coord.Digest]struct{} {
	m := map[coord.Digest]struct{}{}
	for _, b := range c.blocks {
		for i := range b.Refs {
			m[b.Refs[i].Digest] = struct{}{}
		}
	}
	return m
}

// choose picks the oldest verified batches that the chain ending in parent does not have, and gives their bytes.
func (c *Core) choose(parent *coord.Block) (refs []coord.BatchRef, size int) {
	if c.pool.pending == 0 {
		return nil, 0
	}
	used := map[coord.Digest]struct{}{}
	for b := parent; b != nil && b.Height > c.final.Height; b = c.blocks[b.Parent] {
		for i := range b.Refs {
			used[b.Refs[i].Digest] = struct{}{}
		}
	}
	for _, h := range c.pool.order {
		if !h.pending {
			continue
		}
		if _, ok := used[h.Digest]; ok {
			continue
		}
		if !h.verified && h.Batch.Author != c.cfg.Members[c.cfg.Self] {
			c.check(h)
			continue
		}
		if len(refs) > 0 && size+len(h.Batch.Body) > c.cfg.BlockBytes || len(refs) >= coord.BlockRefsMax {
			break
		}
		size += len(h.Batch.Body)
		refs = append(refs, coord.BatchRef{Author: h.Batch.Author, Seq: h.Batch.Seq, Digest: h.Digest})
	}
	return refs, size
}

// holdAll says whether we hold all batches of a block that did not take effect yet, and notes what is
// missing. certified: the block is final, so its batches are taken whatever their signatures.
func (c *Core) holdAll(b *coord.Block, hint int, certified bool) bool {
	all := true
	for i := range b.Refs {
		r := &b.Refs[i]
		if c.pool.held[r.Digest] != nil || c.cfg.Done(r.Author, r.Seq) {
			continue // a batch that took effect is not needed again
		}
		all = false
		c.requireBatch(*r, hint, certified)
	}
	return all
}

func (c *Core) requireBatch(r coord.BatchRef, hint int, certified bool) {
	nd := c.pool.need[r.Digest]
	if nd == nil {
		if !certified && len(c.pool.need) >= needsMax {
			return
		}
		if hint == c.cfg.Self {
			hint = c.index[r.Author]
		}
		nd = &need{ref: r, since: c.now, at: c.now + c.cfg.FetchDelay, to: hint, claimedBy: hint}
		c.pool.need[r.Digest] = nd
	}
	nd.certified = nd.certified || certified
}

// forgetNeeds drops what nobody gave us in time and no certified block names; who still has it
// announces it again.
func (c *Core) forgetNeeds() {
	for d, nd := range c.pool.need {
		done := c.cfg.Done(nd.ref.Author, nd.ref.Seq)
		if (!nd.certified && c.now-nd.since > 2*c.cfg.Retransmit) || done {
			delete(c.pool.need, d)
			if !done {
				c.sawNotGiven(nd)
			}
		}
	}
}

// fetch asks for what is missing and due, from one member after the other.
func (c *Core) fetch() {
	c.pool.wake = 0
	if w := &c.want; w.digest != (coord.Digest{}) {
		if c.blocks[w.digest] != nil && c.blocks[w.digest].Height > c.final.Height || w.digest == c.finalDigest {
			*w = want{}
		} else if c.now >= w.at {
			d := w.digest
			c.send(c.other(&w.to), &coord.PeerMsg{FetchBlock: &d})
			w.at = c.now + c.cfg.Retransmit/2
		}
		if w.digest != (coord.Digest{}) {
			c.pool.wake = w.at
		}
	}
	if len(c.pool.need) == 0 {
		return
	}
	var due [coord.MembersMax][]coord.Digest
	for _, nd := range c.dueNeeds() {
		to := c.other(&nd.to)
		if len(due[to]) < coord.FetchDigestsMax {
			due[to] = append(due[to], nd.ref.Digest)
			nd.at = c.now + c.cfg.Retransmit/2
			if to == nd.claimedBy && nd.askedAt == 0 {
				nd.askedAt = c.now
			}
		}
	}
	for to := range due {
		if len(due[to]) > 0 {
			c.send(to, &coord.PeerMsg{Fetch: due[to]})
		}
	}
	for _, nd := range c.pool.need {
		if c.pool.wake == 0 || nd.at < c.pool.wake {
			c.pool.wake = nd.at
		}
	}
}

// dueNeeds is in the order of digests, so that a run depends on its inputs alone.
func (c *Core) dueNeeds() []*need {
	var due []*need
	for _, nd := range c.pool.need {
		if c.now >= nd.at {
			due = append(due, nd)
		}
	}
	slices.SortFunc(due, func(a, b *need) int { return slices.Compare(a.ref.Digest[:], b.ref.Digest[:]) })
	return due
}

// other is the member at *to, or the next that is not us and up; *to moves on.
func (c *Core) other(to *int) int {
	for range c.n {
		t := *to % c.n
		*to = t + 1
		if t != c.cfg.Self && !c.down[t] {
			return t
		}
	}
	t := *to % c.n
	if t == c.cfg.Self {
		t = (t + 1) % c.n
	}
	*to = t + 1
	return t
}

// onFetch serves batches: those that wait from memory, others from the log.
func (c *Core) onFetch(from int, ds []coord.Digest) {
	if len(ds) > coord.FetchDigestsMax {
		c.bad(from)
		return
	}
	var old []coord.Digest
	for _, d := range ds {
		if h := c.pool.held[d]; h != nil {
			c.send(from, &coord.PeerMsg{Batch: h.Batch})
		} else {
			old = append(old, d)
		}
	}
	if len(old) > 0 {
		c.rd.Serve = append(c.rd.Serve, Serve{To: from, Batches: old})
	}
}

// onAnnounce: what others hold and we do not is fetched, so that every honest box can vote for
// it and every honest leader propose it.
func (c *Core) onAnnounce(from int, refs []coord.BatchRef) {
	if len(refs) > coord.AnnounceRefsMax {
		c.bad(from)
		return
	}
	for _, r := range refs {
		i, ok := c.index[r.Author]
		if !ok || c.pool.held[r.Digest] != nil || c.pool.perAuthor[i] >= c.cfg.PendingMax || c.cfg.Done(r.Author, r.Seq) {
			continue
		}
		c.requireBatch(r, from, false)
		if nd := c.pool.need[r.Digest]; nd != nil {
			nd.to = from
		}
	}
}

// starving is when the oldest verified batch has waited too long for this leader, 0 if none waits.
// A batch is first announced to the leader, who can then fetch it; so an honest leader orders it in time.
func (c *Core) starving() int64 {
	if c.leads() {
		return 0
	}
	for _, h := range c.pool.order {
		if !h.pending {
			continue
		}
		since := max(h.since, c.termAt)
		if !h.verified {
			if c.now < since+c.cfg.Starve/2 {
				return since + c.cfg.Starve // checked by then
			}
			c.check(h)
			if h.checking {
				continue
			}
		}
		return since + c.cfg.Starve
	}
	return 0
}
