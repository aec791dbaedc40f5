package site

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// headsMax bounds the heads of audit logs, of each member, whose signatures are being gathered.
const headsMax = 4

// OrderAudit orders the head of this box's audit log. When the site accepted it every box signs that for all others, and
// Options.Audit gets it with a quorum of signatures, here and elsewhere; so it does when a head comes from another box. Errors: ErrBusy,
// ErrStopped, audit.ErrHead (it does not follow AuditTop: the site has it that the log was another one), ctx's.
func (s *Site) OrderAudit(ctx context.Context, h *audit.Head) error {
	cols := new(coord.Columns)
	cols.Add(coord.KindAudit, 0, 0, 0, nil, h.Append(nil))
	reply := make(chan coord.Reply, 1)
	s.Submit(&Request{Cols: cols, Done: func(r coord.Reply) { reply <- r }})
	select {
	case r := <-reply:
		code := r.Code
		if code == coord.CodeOK && len(r.Results) == 1 {
			code = r.Results[0].Code
		}
		switch code {
		case coord.CodeOK:
			return nil
		case coord.CodeBusy, coord.CodeFull:
			return fmt.Errorf("site: order the audit log's head: %w: %v", ErrBusy, code)
		case coord.CodeStopping:
			return fmt.Errorf("site: order the audit log's head: %w", ErrStopped)
		}
		return fmt.Errorf("site: order the audit log's head: %w: the site refuses it: %v", audit.ErrHead, code)
	case <-ctx.Done():
		return fmt.Errorf("site: order the audit log's head: %w", ctx.Err())
	}
}

// AuditView is how far the audit logs of this box and of the others are covered by heads that the site signed.
type AuditView struct {
	// Records is how many this box's log has, Covered how many of them a head is of.
	Records int64 `json:"records"`
	Covered int64 `json:"covered"`
	// HeadAge is for how long the oldest record that no head covers has been there; 0: all are covered. Late: that is too long.
	HeadAge time.Duration `json:"head_age_ns"`
	Late    bool          `json:"late"`
	// Overdue are members that are here and have ordered no head for too long.
	Overdue []coord.BoxID `json:"overdue,omitempty"`
}

// TellAudit puts v into the Views from now on; it is kept and not to be changed.
func (s *Site) TellAudit(v *AuditView) { s.audited.Store(v) }

// AuditTop is the last head of this box's audit log that the site accepted, as far as this box has applied it.
func (s *Site) AuditTop() audit.Top {
	return s.State().AuditTop(s.ep.Load().Me())
}

// signHead signs a head that took effect, for all.
func (s *Site) signHead(keys ReadKeys, a *state.Asked) {
	ep := s.ep.Load()
	m := ep.Members
	h := audit.Accepted(m.Site, m.Epoch, a.Reading.Height, a.Head)
	d := h.Digest()
	v := coord.ReadVote{Digest: d, Sig: keys.SignReading(d)}
	s.links.Send(coord.Parcel{Msg: &coord.PeerMsg{Epoch: m.Epoch, Reading: &v}})
	p := &s.prover
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heads[d] != nil {
		return
	}
	p.heads[d] = &signing{ep, h}
	s.signs.ask(d, h.Height, "to sign the head of an audit log", s.now())
	p.headOrder = append(p.headOrder, d)
	if len(p.headOrder) > headsMax*m.N() {
		delete(p.heads, p.headOrder[0])
		p.headOrder = p.headOrder[1:]
	}
	s.countHead(d, ep.Self, &v)
	p.eachEarly(ep, d, func(i int, v *coord.ReadVote) {
		s.signs.signed(m.List[i].ID, d)
		s.countHead(d, i, v)
	})
}

// countHead adds a signature if it is good, and gives the head away when it has a quorum of them; prover.mu is held.
func (s *Site) countHead(d coord.Digest, from int, v *coord.ReadVote) {
	x := s.prover.heads[d]
	if x == nil {
		return
	}
	h, q := x.head, coord.Quorum(x.ep.Members.N())
	if from < 0 || len(h.Sigs) >= q {
		return
	}
	for i := range h.Sigs {
		if int(h.Sigs[i].Voter) == from {
			return
		}
	}
	if k, ok := x.ep.Keys.(ReadKeys); !ok || !k.VerifyReading(from, d, &v.Sig) {
		s.signs.bad(x.ep.Members.List[from].ID)
		return
	}
	if h.Sigs = append(h.Sigs, coord.ReadSig{Voter: uint8(from), Sig: v.Sig}); len(h.Sigs) == q && s.o.Audit != nil {
		s.o.Audit(h)
	}
}
