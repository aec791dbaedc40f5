package site

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// findingsMax bounds the evidence that waits for the disk; more is dropped, a liar will lie again.
const findingsMax = 64

// onEvidence tells of two votes that exclude each other and has them kept.
func (s *Site) onEvidence(e *coord.Evidence) {
	ms := s.box.ep.Members
	if e.A.Epoch != ms.Epoch {
		return // of the epoch that this very Step ended
	}
	m := &ms.List[e.A.Voter]
	terms := s.box.cfg.Tuning.TermRounds
	rule, at := coord.Conflict(&e.A, &e.B, terms)
	s.log.Warn("a member signed two things that exclude each other; see `holdfast debug evidence`",
		"box", m.ID, "name", m.Name, "verdict", rule.String(), "at", at, "a", e.A.Digest.Short(), "b", e.B.Digest.Short())
	f := &coord.Finding{
		Found: time.Now().UTC(), Site: ms.Site, Box: m.ID, Name: m.Name, Key: m.Key,
		TermRounds: terms, Evidence: *e,
	}
	if s.findings.len() < findingsMax {
		s.findings.put(f)
	}
	if s.o.Alarm != nil {
		s.o.Alarm(&Alarm{Box: m.ID, Name: m.Name, Proof: f})
	}
}

// keepEvidence writes findings behind everything else: a box that cannot goes on without them.
func (s *Site) keepEvidence() {
	for _, f := range s.findings.take() {
		if _, err := s.o.Base.KeepEvidence(f); err != nil {
			s.log.Warn("evidence was not kept", "box", f.Box, "err", err)
		}
	}
}

// Evidence is what the box has kept of the others' lies, also from before it started.
func (s *Site) Evidence() (*coord.Exhibit, error) { return s.o.Base.Evidence() }
