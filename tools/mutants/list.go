package main

// Mutant is one deliberate fault: in File, Old, which stands there once, becomes New.
type Mutant struct {
	Name, What     string
	File, Old, New string
	// Seed is one that is known to kill it: it is tried first. 0: none is.
	Seed uint64
	// Liar is who shows it, for faults that only matter against one kind of liar; empty: all kinds.
	Liar string
	// Epochs says that only sites whose members change show it.
	Epochs bool
	Also   []edit // more of the same fault, in the same file
}

type edit struct{ old, new string }

const (
	votes      = "coord/bft/votes.go"
	certs      = "coord/bft/certs.go"
	rounds     = "coord/bft/rounds.go"
	prove      = "coord/bft/prove.go"
	recall     = "coord/bft/recall.go"
	final      = "coord/bft/final.go"
	pool       = "coord/bft/pool.go"
	core       = "coord/bft/core.go"
	retransmit = "coord/bft/retransmit.go"
	checkpoint = "coord/bft/checkpoint.go"
	live       = "coord/bft/live.go"
	box        = "coord/site/box.go"
	own        = "coord/site/own.go"
	handover   = "coord/handover.go"
	epoch      = "coord/site/epoch.go"
	ends       = "coord/site/handover.go"
	snapshot   = "coord/site/snapshot.go"
	apply      = "coord/state/apply.go"
	boxes      = "coord/state/boxes.go"
	decide     = "coord/state/decide.go"
	docs       = "coord/state/docs.go"
)

// mutants is the list; the order is that of the table in docs/mutants.md.
var mutants = []Mutant{
	// What a box signs.
	{
		Name: "notarize-not-written", What: "a vote to notarize is sent and not written", File: votes,
		Old: "	c.persist(coord.Record{Vote: v})\n	c.rd.Sync = true\n", New: "	if k != coord.VoteNotarize {\n		c.persist(coord.Record{Vote: v})\n	}\n	c.rd.Sync = true\n",
	},
	{
		Name: "finalize-not-written", What: "a vote to finalize is sent and not written", File: votes,
		Old: "	c.persist(coord.Record{Vote: v})\n	c.rd.Sync = true\n", New: "	if k != coord.VoteFinalize {\n		c.persist(coord.Record{Vote: v})\n	}\n	c.rd.Sync = true\n",
	},
	{
		Name: "empty-not-written", What: "an empty vote is sent and not written", File: votes,
		Old: "	c.persist(coord.Record{Vote: v})\n	c.rd.Sync = true\n", New: "	if k != coord.VoteEmpty {\n		c.persist(coord.Record{Vote: v})\n	}\n	c.rd.Sync = true\n",
	},
	{
		Name: "no-sync", What: "a vote is sent before it is durable", File: votes,
		Old: "	c.rd.Sync = true\n", New: "",
	},
	{
		Name: "replay-ignores-votes", What: "a restart forgets the votes of the log", File: core,
		Old: "		c.put(v)\n		if b := c.blocks", New: "		if b := c.blocks",
	},
	{
		Name: "roll-drops-votes", What: "a new log segment does not carry the live votes", File: live,
		Old: "	return append(recs, c.liveVotes()...)\n", New: "	_ = c.liveVotes\n	return recs\n",
	},
	{
		Name: "empty-below-finalize", What: "an empty vote at a round that the box voted to finalize", File: prove,
		Old: "return max(c.proven+1, c.finTop+1, c.first(c.term(c.cur)))", New: "return max(c.first(c.term(c.cur)), min(c.proven, c.finTop))",
	},
	{
		Name: "finalize-above-empty", What: "a finalize vote at or above the own empty level", File: rounds,
		Old: "if e := ts.empties[c.cfg.Self]; e.has && r >= e.round {", New: "if e := ts.empties[c.cfg.Self]; e.has && r > e.round+1000 {",
	},
	{
		Name: "late-empty-too-low", What: "a late empty vote ignores the finalize votes of its term", File: prove,
		Old: "		if c.term(r) == t && (rs.proven || rs.fins[c.cfg.Self].has) {", New: "		if c.term(r) == t && rs == nil {",
	},
	{
		Name: "votes-twice-a-round", What: "a box votes for each proposal of a round", File: rounds,
		Old: "rs == nil || rs.prop == nil || rs.votes[c.cfg.Self].has || !c.mayVote(c.cur)", New: "rs == nil || rs.prop == nil || (rs.votes[c.cfg.Self].has && rs.votes[c.cfg.Self].digest == rs.propDigest) || !c.mayVote(c.cur)",
		Also: []edit{{"		if rs := c.round(b.Round); rs.prop == nil {", "		if rs := c.round(b.Round); true {"}},
	},

	// What a box believes.
	{
		Name: "quorum-short", What: "a quorum is one vote short", File: core,
		Old: "q: coord.Quorum(n),", New: "q: coord.Quorum(n) - 1,",
	},
	{
		Name: "digest-not-compared", What: "votes are counted without comparing digests", File: votes,
		Old: "		if slots[i].has && slots[i].digest == v.Digest {", New: "		if slots[i].has {",
	},
	{
		Name: "not-distinct", What: "one member's signature counts several times in a certificate", File: certs,
		Old: "int(s.Voter) >= c.n || seen&(1<<s.Voter) != 0", New: "int(s.Voter) >= c.n",
	},
	{
		Name: "signatures-not-checked", What: "the signatures of a certificate are not checked", File: certs,
		Old: "		if !c.verify(&coord.Vote{Kind: x.Kind, Epoch: x.Epoch, Round: r, Digest: x.Digest, Voter: s.Voter, Sig: s.Sig}) {", New: "		if r == 0 {",
	},
	{
		Name: "digest-not-in-signature", What: "a certificate's digest is not part of what is checked", File: certs,
		Old: "	if c.same(x) {\n		c.strengthen(from, x, bound)", New: "	if rs := c.rounds[x.Round]; rs != nil && rs.notar != nil && x.Kind != coord.VoteEmpty {\n		return true\n	}\n	if c.same(x) {\n		c.strengthen(from, x, bound)",
	},
	{
		Name: "epoch-not-compared", What: "a certificate of another epoch is believed", Liar: "historian", File: certs,
		Old: " || x.Epoch != c.cfg.Epoch || x.Round == 0 ||", New: " || x.Round == 0 ||",
		Also: []edit{{"Epoch: x.Epoch, Round: r, Digest: x.Digest, Voter: s.Voter, Sig: s.Sig}", "Epoch: c.cfg.Epoch, Round: r, Digest: x.Digest, Voter: s.Voter, Sig: s.Sig}"}},
	},
	{
		Name: "rounds-kept", What: "old rounds are never forgotten", File: final,
		Old: "			delete(c.rounds, r)\n		} else if rs.fin", New: "			continue\n		} else if rs.fin",
	},
	{
		Name: "blocks-kept", What: "old blocks are never forgotten", File: final,
		Old: "			delete(c.blocks, d)\n", New: "			_ = d\n",
	},
	{
		Name: "never-stable", What: "no checkpoint lets the log be cut", File: checkpoint,
		Old: "		if len(x.Sigs) >= c.q {\n			c.ckpt.stable", New: "		if len(x.Sigs) > c.n {\n			c.ckpt.stable",
	},
	{
		Name: "one-claim", What: "one box's word is taken for a certificate", File: certs,
		Old: "	need := c.f + 1\n", New: "	need := 1\n",
	},
	{
		Name: "empty-level-lowest", What: "an empty certificate takes the lowest of its levels", File: votes,
		Old: "Round: sigs[c.q-1].Level, Sigs: sigs", New: "Round: sigs[0].Level, Sigs: sigs",
	},
	{
		Name: "level-unproven", What: "an empty certificate counts without the notarization below its level", File: certs,
		Seed: 141,
		Old:  "ts.end.Round <= max(p+1, c.first(t))", New: "ts.end.Round > 0",
	},
	{
		Name: "parent-unproven", What: "a proposal's proof need not be of its parent", Liar: "usurper", File: rounds,
		Old: "	case len(xs) == 0 || xs[0].Kind == coord.VoteEmpty || xs[0].Round != b.ParentRound || xs[0].Digest != b.Parent:", New: "	case len(xs) == 0:",
	},
	{
		Name: "gap-uncovered", What: "the rounds between parent and block need no empty certificates", Liar: "usurper", File: rounds,
		Old: "	if b.Round != parent+1 {\n", New: "	if b.Round == 0 {\n",
	},
	{
		Name: "catch-up-unlinked", What: "the hash chain of a catch-up is not followed", Liar: "historian", File: final,
		Seed: 2402,
		Old:  "		if b == nil || b.Digest() != next || !b.Whole() {", New: "		if b == nil || len(next) == 0 {",
	},
	{
		Name: "catch-up-believed", What: "the certificate of a catch-up is not judged", File: final,
		Old: "	if !c.believe(from, u.Cert, true) {", New: "	if c.believe(from, u.Cert, true); u.Cert.Round == 0 {",
	},
	{
		Name: "checkpoint-of-one", What: "a state that one box signed is trusted", Liar: "forger", File: handover,
		Old: "x.Distinct(n, verify) > MaxFaulty(n)", New: "x.Distinct(n, verify) > 0",
	},
	{
		Name: "chunk-not-compared", What: "a piece of a fetched state is taken unseen", Liar: "historian", File: snapshot,
		Seed: 169,
		Old:  "		if d := sha256.Sum256(p.Data); string(d[:]) != string(s.manifest[32*p.Chunk:32*p.Chunk+32]) {", New: "		if d := sha256.Sum256(p.Data); len(d) == 0 {",
	},
	{
		Name: "manifest-not-compared", What: "the manifest of a fetched state is taken unseen", File: snapshot,
		Old: "len(p.Data) == 0 && p.Chunk >= 0 || p.Chunk < 0 && sha256.Sum256(p.Data) != s.cp.State", New: "len(p.Data) == 0 && p.Chunk >= 0",
	},

	// Going on.
	{
		Name: "no-retransmission", What: "nothing is sent twice", File: retransmit,
		Old: "	c.repeatCheckpoint()\n	if !c.work() && !c.myEmpty().has {", New: "	c.repeatCheckpoint()\n	if c.now > 0 {",
	},
	{
		Name: "no-timer", What: "a silent leader is never given up", File: rounds,
		Old: "	if c.now >= at {\n		c.sawNoProposal()\n		c.castEmpty()", New: "	if c.now >= at && at == 0 {\n		c.sawNoProposal()\n		c.castEmpty()",
	},
	{
		Name: "no-timer-after-restart", What: "a restarted box has no timer until something is final", File: rounds,
		Seed: 113,
		Old:  "	if c.armedAt == 0 {\n		c.armedAt = c.now", New: "	if c.armedAt == 0 && c.finalAt == 0 && c.final.Height > 0 {\n		return\n	}\n	if c.armedAt == 0 {\n		c.armedAt = c.now",
	},
	{
		Name: "no-back-off", What: "the time-out does not grow with failed terms", File: rounds,
		Seed: 17,
		Old:  "func (c *Core) timeout() int64 { return c.cfg.Timeout << c.backoff() }", New: "func (c *Core) timeout() int64 { return c.cfg.Timeout + 0*c.backoff() }",
	},
	{
		Name: "depth-bound-in-a-new-term", What: "the depth bound holds up the block that makes the others final", File: rounds,
		Old: "c.final.Height+c.cfg.DepthMax && c.term(parent.Round) == c.term(c.cur) {", New: "c.final.Height+c.cfg.DepthMax {",
	},
	{
		Name: "claims-what-is-final", What: "a box that is asked how far it is names the last block that it delivered", File: recall,
		Seed: 1,
		Old:  "return max(c.finTop, c.hiRound), until == 0", New: "return c.final.Round, until == 0",
	},
	{
		Name: "starving-ignored", What: "a batch that a leader never orders does not end its term", Liar: "starver", File: pool,
		Old: "		return since + c.cfg.Starve\n	}\n	return 0", New: "	}\n	return 0",
	},
	{
		Name: "unverified-batches", What: "a leader proposes batches whose authors' signatures it did not check", Liar: "poisoner", File: pool,
		Old: "		if !h.verified && h.Batch.Author != c.cfg.Members[c.cfg.Self] {", New: "		if h == nil {",
	},
	{
		Name: "votes-without-batches", What: "a box votes for a block whose batches it does not hold", File: rounds,
		Old: "	if !c.holdAll(rs.prop, c.Leader(c.cur), false) {", New: "	if c.holdAll(rs.prop, c.Leader(c.cur), false); rs.prop == nil {",
	},
	{
		Name: "batches-not-fetched", What: "missing batches are never asked for", File: pool,
		Old: "	for _, nd := range c.dueNeeds() {", New: "	for range 0 {\n		var nd *need\n",
	},
	{
		Name: "done-not-swept", What: "what took effect otherwise stays pending", File: pool,
		Old: "		if h.pending && c.cfg.Done(h.Batch.Author, h.Batch.Seq) {", New: "		if h == nil {",
	},

	// A log that is not whole.
	{
		Name: "never-asks", What: "a box that starts does not ask what it signed", File: recall,
		Seed: 303,
		Old:  "	c.recall.asking = c.cfg.Nonce != 0 || c.recall.from == coord.SilentUnknown\n", New: "	c.recall.asking = c.recall.from == coord.SilentUnknown\n",
	},
	{
		Name: "answers-ignored", What: "votes that the others show are ignored", File: recall,
		Seed: 637,
		Old:  "		if c.recall.from != coord.SilentUnknown {\n			c.forget()\n		}\n", New: "",
	},
	{
		Name: "one-answer", What: "one answer is enough", File: recall,
		Old: "	if k < c.q-1 {", New: "	if k < 1 {",
	},
	{
		Name: "no-step-aside", What: "nobody ends a term early for a box with amnesia", File: rounds,
		Old: "	if c.stepsAside() ||", New: "	if c.stepsAside() && c.n == 0 ||",
	},

	// The state and its clients.
	{
		Name: "session-not-checked", What: "a message that took effect takes effect again", File: apply,
		Old: "	case s.seen.has(seq):\n		return m.again(kind, s, seq, key)\n	case seq-s.seen.floor > SessionAheadMax || !s.seen.add(seq, sessionSpansMax):", New: "	case seq-s.seen.floor > SessionAheadMax || (!s.seen.has(seq) && !s.seen.add(seq, sessionSpansMax)):",
	},
	{
		Name: "batch-again", What: "a batch is applied each time that it is ordered", File: boxes,
		Old: "	case seq == 0 || b != nil && b.seen.has(seq):\n		return batchDone", New: "	case seq == 0:\n		return batchDone\n	case b != nil && b.seen.has(seq):\n		return batchNew",
	},
	{
		Name: "answers-too-early", What: "a client is told before its batch is final", File: own,
		Old: "	b.own[bt.Seq] = &ownBatch{digest: d, requests: rs, closedAt: b.now, takenAt: b.takenAt}\n", New: "	for _, r := range rs {\n		b.answer(r, coord.Reply{Height: b.st.Height() + 1})\n	}\n	b.own[bt.Seq] = &ownBatch{digest: d, closedAt: b.now, takenAt: b.takenAt}\n",
	},
	{
		Name: "applies-while-fetching", What: "blocks are applied while the state is being replaced", File: snapshot,
		Seed: 114,
		Old:  "func (b *Box) frozen() bool { return b.snap != nil && b.snap.complete }", New: "func (b *Box) frozen() bool { return b.snap != nil && b.snap.complete && b.me == coord.BoxID{} }",
	},
	{
		Name: "snapshot-source-stuck", What: "a member that does not answer is asked for a state for ever", File: snapshot,
		Old: "		s.from = (s.from + 1) % len(s.peers)\n", New: "",
	},

	// What the site decides about itself.
	{
		Name: "decision-quorum-short", What: "a decision takes effect one word early", File: decide,
		Old: "		case len(o.yes) >= coord.Quorum(n):\n", New: "		case len(o.yes) >= coord.Quorum(n)-1:\n",
	},
	{
		Name: "decision-refused-early", What: "f boxes are enough to refuse a decision", File: decide,
		Old: "		case len(o.no) > coord.MaxFaulty(n):", New: "		case len(o.no) > 0 && len(o.no) >= coord.MaxFaulty(n):",
	},
	{
		Name: "decision-not-compared", What: "a decision writes a document that changed since it was made", File: docs,
		Old: "		if v != writes[i].Was {", New: "		if v < writes[i].Was {",
	},
	{
		Name: "decision-twice", What: "a decision that took effect may be proposed again", File: decide,
		Old: "	if t.decided(id) != nil {\n", New: "	if d := t.decided(id); d != nil && d.Outcome != TookEffect {\n",
	},
	{
		Name: "decision-word-again", What: "a box's yes counts each time that it says so", File: decide,
		Old: "	case said || saidNo && !yes:\n", New: "	case saidNo && !yes:\n",
	},
	{
		Name: "decision-word-of-strangers", What: "boxes that are no members have a word", Epochs: true, File: decide,
		Old: "	if ms == nil || ms.Index(m.author) < 0 {\n", New: "	if ms == nil {\n",
	},
	{
		Name: "decision-word-of-before", What: "words of boxes that are no members any more still count", Epochs: true, File: decide,
		Old: "		o.yes, o.no = slices.DeleteFunc(o.yes, gone), slices.DeleteFunc(o.no, gone)\n", New: "		_ = gone\n",
	},

	// How one epoch follows another.
	{
		Name: "void-applied", What: "blocks above the end of an epoch are applied", Epochs: true, File: box,
		Old: "	if b.ends != nil {\n		b.void(d)\n		return\n	}\n", New: "",
	},
	{
		Name: "epoch-before-durable", What: "a box signs the end of an epoch before its state there is durable", Epochs: true, File: box,
		Old: "b.fx.Commit.Handover, b.ends.durable = b.handover(), committing", New: "b.ends.h = b.handover()\n		b.fx.Commit.Handover, b.ends.durable = b.ends.h, committed",
	},
	{
		Name: "epoch-not-written", What: "a box goes on to the next epoch and does not write it down", Epochs: true, File: epoch,
		Old: "	b.fx.Persist, b.fx.Sync = append(b.fx.Persist, coord.Record{Handover: e.h}), true\n", New: "",
		Also: []edit{{"	b.rollNow = !b.out\n", ""}},
	},
	{
		Name: "epoch-left-alone", What: "a box goes on to the next epoch by itself, so that others may be left without a quorum", Epochs: true, File: epoch,
		Old: "if len(e.h.Sigs) <= coord.MaxFaulty(b.ep.Members.N()) {", New: "if len(e.h.Sigs) == 0 {",
	},
	{
		Name: "handover-of-one", What: "one member's word for the end of an epoch is enough", Epochs: true, Liar: "forger", File: handover,
		Old: "x.Distinct(h.Members.N(), verify) > MaxFaulty(h.Members.N())", New: "x.Distinct(h.Members.N(), verify) > 0",
	},
	{
		Name: "handover-without-members", What: "what is signed at the end of an epoch does not name the next members", Epochs: true, Liar: "historian", File: handover,
		Old: "	copy(a[48:], next[:])\n", New: "",
	},
	{
		Name: "handover-by-anybody", What: "a handover says itself who may sign it", Epochs: true, Liar: "historian", File: ends,
		Old: "	if h.Members.Digest() != from.Members.Digest() {\n		return false\n	}\n", New: "	if epoch, err := b.cfg.KeysOf.epoch(h.Members); err == nil {\n		from = epoch\n	}\n",
	},
	{
		Name: "handover-unseen", What: "what comes with a handover that holds is kept unseen", Epochs: true, Liar: "historian", File: ends,
		Old: "	h = proven(h, from.Keys.VerifyVote)\n", New: "",
	},
	{
		Name: "laggard-not-told", What: "a box in an epoch that is over is not told", Epochs: true, File: ends,
		Old: "	b.tellHandover(box, m.Epoch)\n	v :=", New: "	v :=",
	},
	{
		Name: "root-not-known", What: "a new epoch's first block needs a certificate, which nobody has", Epochs: true, File: rounds,
		Old: "	case b.Parent == c.root:\n", New: "	case b.Parent == c.root && c.cfg.Epoch == 1:\n",
	},
	{
		Name: "joiner-blind", What: "a box that joins takes part before it has a state", Epochs: true, File: epoch,
		Old: "Keys: ep.Keys, Blank: blank,", New: "Keys: ep.Keys, Blank: false,",
	},
	{
		Name: "reached-by-old-members", What: "a box on its way to a later epoch is linked to the old members only", Epochs: true, File: ends,
		Old: "		if next.Self >= 0 {\n			b.fx.Reach = next\n		}\n", New: "",
	},
}
