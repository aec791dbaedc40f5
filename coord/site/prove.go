package site

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/state"
)

const (
	// provingMax bounds the proofs that a box gathers at a time.
	provingMax = 64
	// earlyMax bounds, for each member, the signatures that came before this box applied the block.
	earlyMax = 64
)

// ErrBusy: too much of this is under way; try again.
var ErrBusy = errors.New("site: busy")

// ReadKeys sign and check proven reads; the Keys of a BoxConfig have them where these are wanted.
type ReadKeys interface {
	SignReading(d coord.Digest) coord.Signature
	VerifyReading(voter int, d coord.Digest, sig *coord.Signature) bool
}

// prover gathers the signatures of proven reads.
type prover struct {
	mu      sync.Mutex
	byNonce map[string]*proving
	byHash  map[coord.Digest]*proving
	early   map[coord.BoxID][]coord.ReadVote // by box, oldest first

	// heads are of audit logs, headOrder their digests, oldest first.
	heads     map[coord.Digest]*signing
	headOrder []coord.Digest
}

// signing is a head whose signatures are being gathered, among the members of the epoch that accepted it.
type signing struct {
	ep   *Epoch
	head *audit.SignedHead
}

type proving struct {
	ep    *Epoch // in which the question was ordered
	proof coord.ReadProof
	hash  coord.Digest
	done  chan struct{} // closed when the proof is whole
}

// Prove asks the whole site what a key is: the question is ordered, every box signs what it has at that place, and a quorum of
// equal signatures is the proof. nonce must be new and of coord.NonceBytesMin to NonceBytesMax bytes. Errors: ErrBusy, ErrStopped,
// ctx's (fewer than a quorum of boxes answer alike).
func (s *Site) Prove(ctx context.Context, key, nonce []byte) (*coord.ReadProof, error) {
	p := &proving{done: make(chan struct{})}
	s.prover.mu.Lock()
	_, twice := s.prover.byNonce[string(nonce)]
	if full := len(s.prover.byNonce) >= provingMax; full || twice {
		s.prover.mu.Unlock()
		return nil, fmt.Errorf("site: prove: %w", ErrBusy)
	}
	s.prover.byNonce[string(nonce)] = p
	s.prover.mu.Unlock()
	defer func() {
		s.prover.mu.Lock()
		delete(s.prover.byNonce, string(nonce))
		delete(s.prover.byHash, p.hash)
		s.prover.mu.Unlock()
	}()
	cols := new(coord.Columns)
	cols.Add(coord.KindProve, 0, 0, 0, key, nonce)
	reply := make(chan coord.Reply, 1)
	s.Submit(&Request{Cols: cols, Done: func(r coord.Reply) { reply <- r }})
	for {
		select {
		case r := <-reply:
			switch r.Code {
			case coord.CodeOK:
			case coord.CodeBusy, coord.CodeFull:
				return nil, fmt.Errorf("site: prove: %w: %v", ErrBusy, r.Code)
			case coord.CodeStopping:
				return nil, fmt.Errorf("site: prove: %w", ErrStopped)
			default:
				return nil, fmt.Errorf("site: prove: %v", r.Code)
			}
			reply = nil
		case <-p.done:
			return &p.proof, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("site: prove: no quorum of boxes said the same in time: %w", ctx.Err())
		}
	}
}

// answerReading signs what this box has for the box that asks.
func (s *Site) answerReading(r *state.Asked) {
	ep := s.ep.Load()
	keys, ok := ep.Keys.(ReadKeys)
	if !ok || ep.Self < 0 {
		return
	}
	if r.Head != nil {
		s.signHead(keys, r)
		return
	}
	m := ep.Members
	d := r.Reading.Digest(m.Site, m.Epoch)
	v := coord.ReadVote{Digest: d, Sig: keys.SignReading(d)}
	to := m.Index(r.Author)
	if to != ep.Self {
		if to >= 0 {
			s.links.Send(coord.Parcel{To: r.Author, Msg: &coord.PeerMsg{Epoch: m.Epoch, Reading: &v}})
		}
		return
	}
	s.prover.mu.Lock()
	defer s.prover.mu.Unlock()
	p := s.prover.byNonce[string(r.Reading.Nonce)]
	if p == nil || p.hash != (coord.Digest{}) {
		return
	}
	p.ep, p.hash, p.proof = ep, d, coord.ReadProof{Site: m.Site, Epoch: m.Epoch, Reading: r.Reading}
	s.prover.byHash[d] = p
	s.signs.ask(d, r.Reading.Height, "to sign a proven read", s.now())
	s.count(p, to, &v)
	s.prover.eachEarly(ep, d, func(i int, v *coord.ReadVote) {
		s.signs.signed(m.List[i].ID, d)
		s.count(p, i, v)
	})
}

// eachEarly calls fn for the signatures over d that members of an epoch gave early; mu is held.
func (p *prover) eachEarly(ep *Epoch, d coord.Digest, fn func(member int, v *coord.ReadVote)) {
	for i := range ep.Members.List {
		list := p.early[ep.Members.List[i].ID]
		for j := range list {
			if list[j].Digest == d {
				fn(i, &list[j])
			}
		}
	}
}

// onReading takes another box's signature, on its link's goroutine.
func (s *Site) onReading(from coord.BoxID, v *coord.ReadVote) {
	s.prover.mu.Lock()
	defer s.prover.mu.Unlock()
	s.signs.signed(from, v.Digest)
	if p := s.prover.byHash[v.Digest]; p != nil {
		s.count(p, p.ep.Members.Index(from), v)
		return
	}
	if x := s.prover.heads[v.Digest]; x != nil {
		s.countHead(v.Digest, x.ep.Members.Index(from), v)
		return
	}
	if len(s.prover.early) > 2*coord.MembersMax { // of members of long ago
		clear(s.prover.early)
	}
	list := append(s.prover.early[from], *v)
	s.prover.early[from] = list[max(0, len(list)-earlyMax):]
}

// count adds a signature if it is good; prover.mu is held.
func (s *Site) count(p *proving, from int, v *coord.ReadVote) {
	n := p.ep.Members.N()
	if from < 0 || len(p.proof.Sigs) >= coord.Quorum(n) {
		return
	}
	for i := range p.proof.Sigs {
		if int(p.proof.Sigs[i].Voter) == from {
			return
		}
	}
	if k, ok := p.ep.Keys.(ReadKeys); !ok || !k.VerifyReading(from, v.Digest, &v.Sig) {
		s.signs.bad(p.ep.Members.List[from].ID)
		return
	}
	p.proof.Sigs = append(p.proof.Sigs, coord.ReadSig{Voter: uint8(from), Sig: v.Sig})
	if len(p.proof.Sigs) == coord.Quorum(n) {
		close(p.done)
	}
}
