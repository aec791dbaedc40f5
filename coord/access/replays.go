package access

import (
	"fmt"
	"slices"
	"sync"
)

const (
	// replayTokensMax bounds the issued tokens whose proofs a box remembers, and replayEach the proofs of each and all that were made from it:
	// 8 MB at most.
	replayTokensMax = 1024
	replayEach      = 64
	// replayOfIssuerMax is how many of those tokens one issuer may have: whoever issues as many as they like keeps nobody else's from being used.
	replayOfIssuerMax = replayTokensMax / 4
)

// Replays remembers proofs so that each is good once. The zero value is ready; it may be used by many goroutines.
//
// Its memory is bounded: of each issued token and all that were made from it, it keeps the newest proofs, and refuses those older than what it
// has forgotten. What is forgotten is always of the holder that takes the most room among those that were given a token by the same holder: a
// holder who floods, by proofs or by narrowing, is refused alone.
type Replays struct {
	mu      sync.Mutex
	since   uint64 // Unix milliseconds: when the memory begins; what was used before is not known
	tokens  map[TokenID]*proofs
	issuers map[string]int // how many tokens are of each
}

// proofs are those of a token's holder, and of the tokens that were made from it.
type proofs struct {
	issuer string // of an issued token
	newest uint64 // of an issued token: the time of the newest proof
	all    int    // how many there are here and below
	own    []seenProof
	made   map[TokenID]*proofs
	// At or below floor nothing of the holder's own is known any more; at or below others, nothing of tokens that are not in made.
	floor, others uint64
}

type seenProof struct {
	timeMs uint64
	nonce  [16]byte
}

// take notes a proof of the last of ids, which are the issued token's and those made from it. Errors: ErrReplayed, ErrBusy.
func (r *Replays) take(issuer string, ids []TokenID, p *Proof, nowMs uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.TimeMs < r.since && r.since <= nowMs { // a clock that was set back since knows nothing of before
		return fmt.Errorf("%w, perhaps: it is of before this box started; make another", ErrReplayed)
	}
	of := r.tokens[ids[0]]
	if of == nil {
		full := func() bool { return len(r.tokens) >= replayTokensMax || r.issuers[issuer] >= replayOfIssuerMax }
		if full() {
			r.forget(nowMs)
		}
		if full() {
			return ErrBusy
		}
		if r.tokens == nil {
			r.tokens, r.issuers = map[TokenID]*proofs{}, map[string]int{}
		}
		of = &proofs{issuer: issuer}
		r.tokens[ids[0]] = of
		r.issuers[issuer]++
	}
	if !of.take(ids[1:], seenProof{p.TimeMs, p.Nonce}) {
		return ErrReplayed
	}
	of.newest = max(of.newest, p.TimeMs)
	if of.all > replayEach {
		of.forget()
	}
	return nil
}

// take notes a proof, and says whether it is new.
func (n *proofs) take(ids []TokenID, p seenProof) (fresh bool) {
	switch {
	case len(ids) == 0:
		if p.timeMs <= n.floor || slices.Contains(n.own, p) {
			return false
		}
		at := len(n.own)
		for at > 0 && n.own[at-1].timeMs > p.timeMs {
			at--
		}
		n.own = slices.Insert(n.own, at, p)
	case n.made[ids[0]] != nil:
		if !n.made[ids[0]].take(ids[1:], p) {
			return false
		}
	case p.timeMs <= n.others:
		return false
	default:
		of := &proofs{floor: n.others, others: n.others}
		of.take(ids[1:], p)
		if n.made == nil {
			n.made = map[TokenID]*proofs{}
		}
		n.made[ids[0]] = of
	}
	n.all++
	return true
}

// forget forgets the oldest proof of whoever takes the most room.
func (n *proofs) forget() {
	var id TokenID
	var most *proofs
	for i, of := range n.made {
		if of.all > len(n.own) && (most == nil || of.all > most.all) {
			id, most = i, of
		}
	}
	n.all--
	if most == nil && len(n.own) > 0 {
		n.floor = n.own[0].timeMs
		n.own = slices.Delete(n.own, 0, 1)
		return
	}
	most.forget()
	if most.all == 0 {
		n.others = max(n.others, most.floor, most.others)
		delete(n.made, id)
	}
}

// forget drops the tokens whose proofs are all too old to be taken again.
func (r *Replays) forget(nowMs uint64) {
	for id, of := range r.tokens {
		if of.newest+ProofWindowMs < nowMs {
			delete(r.tokens, id)
			if r.issuers[of.issuer]--; r.issuers[of.issuer] == 0 {
				delete(r.issuers, of.issuer)
			}
		}
	}
}
