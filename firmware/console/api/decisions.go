package api

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// Decisions answers /api/v1/decisions.
type Decisions struct {
	Open []site.DecisionView `json:"open"`
	// Ended is how others ended, newest first.
	Ended []site.Outcome `json:"ended"`
}

// Decision answers /api/v1/decisions/{id}: it is open, with what it writes, or it ended.
type Decision struct {
	Open *site.DecisionView `json:"open,omitempty"`
	// Documents are what an open one writes.
	Documents []DecisionDocument `json:"documents,omitempty"`
	// Authority is what is said for it, as each proposer put it.
	Authority []Bytes       `json:"authority,omitempty"`
	Ended     *site.Outcome `json:"ended,omitempty"`
}

// DecisionDocument is a document as it is and as it would be.
type DecisionDocument struct {
	Key string `json:"key"`
	// Now and Next are nothing when there is none.
	Now  Bytes `json:"now,omitempty"`
	Next Bytes `json:"next,omitempty"`
}

// Proposal is what a box is asked to propose; it fills in the versions of the documents as it has them.
type Proposal struct {
	Kind    string          `json:"kind"` // area.verb
	Subject string          `json:"subject"`
	Reason  string          `json:"reason"`
	Seconds uint64          `json:"seconds,omitempty"` // for how long words count, 0: a day
	Writes  []ProposalWrite `json:"writes"`
}

// ProposalWrite sets a document to a text, or removes it when Value is nil.
type ProposalWrite struct {
	Key     string  `json:"key"`
	Value   *string `json:"value"`
	Seconds uint64  `json:"seconds,omitempty"`
}

// ErrProposal says that a text is not a proposal.
var ErrProposal = errors.New("not a proposal")

// ReadProposal reads the JSON of a proposal. Errors: ErrProposal.
func ReadProposal(text string) (*Proposal, error) {
	p := new(Proposal)
	if err := json.Unmarshal([]byte(text), p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProposal, err)
	}
	if len(p.Writes) == 0 {
		return nil, fmt.Errorf("%w: it writes nothing", ErrProposal)
	}
	return p, nil
}

// Decision makes the decision of a proposal, for a principal and on the documents as they are. nonce makes it differ from all others.
func (p *Proposal) Decision(principal string, nonce uint64, docs *state.Machine) *coord.Decision {
	d := &coord.Decision{Kind: p.Kind, Subject: p.Subject, Principal: principal, Reason: p.Reason, Seconds: p.Seconds, Nonce: nonce}
	for _, w := range p.Writes {
		doc, _ := docs.Doc(w.Key)
		x := coord.DocWrite{Key: w.Key, Was: doc.Version, Seconds: w.Seconds}
		if w.Value != nil {
			x.Value = []byte(*w.Value)
		}
		d.Writes = append(d.Writes, x)
	}
	return d
}
