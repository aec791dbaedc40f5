package main

import (
	"fmt"
	"strings"
)

// mutants of the safety rules: what is dropped, the constant that drops it, and the smallest bounds
// (K, rounds, contents) that show it.
var mutants = []struct {
	name, define        string
	k, rounds, contents int
	equivalent          bool
}{
	{"a quorum is 2 of 4", "M_QUORUM", 1, 2, 2, false},
	{"a block vote forgotten at restart", "M_FORGETVOTE", 1, 2, 2, false},
	{"the parent need not be notarized", "M_PARENT", 1, 2, 2, false},
	{"a certificate without digest", "M_NODIGEST", 1, 2, 2, false},
	{"a finalize vote for a block that is not notarized", "M_FINUNNOTARIZED", 1, 2, 2, false},
	{"an empty vote at or below the own finalize vote", "M_EMPTYAFTERFIN", 2, 3, 1, false},
	{"a finalize vote at or above the own empty level", "M_FINAFTEREMPTY", 2, 3, 1, false},
	{"a finalize vote above, but not at, the own empty level", "M_FINABOVEEMPTY", 2, 3, 1, false},
	{"a gap without an empty certificate", "M_GAP", 2, 3, 1, false},
	{"a gap of which only the first term is covered", "M_GAPFIRSTONLY", 1, 3, 1, false},
	{"an empty certificate's level is its lowest, or not compared", "M_LEVELANY", 2, 3, 1, false},
	{"an empty certificate of votes of other terms", "M_OTHERTERM", 1, 3, 1, false},
	{"equivalent: a gap ends inside a term", "M_GAPINSIDE", 2, 3, 1, true},
	{"equivalent: two finalize votes a round", "M_FINTWICE", 1, 2, 2, true},
	{"equivalent: several empty votes a term", "M_EMPTIES", 2, 3, 1, true},
}

// rules of agree.smt2 that z3 must need.
var needed = []string{"quorum", "once", "parent", "gap", "sameterm", "level", "exclusion", "finalize"}

func list(long bool) []check {
	var cs []check
	agree := func(k, rounds, contents int, ordered bool) {
		m := safety(k, rounds, contents)
		name := fmt.Sprintf("agreement n=4: K=%d, %d rounds, %d contents", k, rounds, contents)
		if ordered {
			m.defines = append(m.defines, "ORDERED=1")
			name += ", ordered"
		}
		cs = append(cs, check{name: name, want: holds, spin: m})
	}
	agree(1, 2, 2, false)
	agree(2, 3, 1, true)
	if long {
		agree(1, 3, 1, true)
		agree(2, 3, 1, false)
		agree(1, 3, 1, false)
		agree(2, 4, 1, true)
	}
	for _, m := range mutants {
		s := safety(m.k, m.rounds, m.contents)
		s.defines = append(s.defines, m.define+"=1")
		c := check{name: "mutant: " + m.name, want: violated, spin: s}
		if m.equivalent {
			c.want = holds
			s.defines = append(s.defines, "ORDERED=1") // its guards are symmetric and monotone too
		}
		cs = append(cs, c)
	}
	liveness := func(name, rule, want string, k, rounds, firstLeader, pre, silent int) {
		m := live(rounds)
		m.defines = []string{
			rule + "=1", fmt.Sprintf("K=%d", k), fmt.Sprintf("R=%d", rounds), fmt.Sprintf("FIRST=%d", firstLeader),
			fmt.Sprintf("PRE=%d", pre), fmt.Sprintf("SILENT=%d", silent),
		}
		cs = append(cs, check{
			name: fmt.Sprintf("liveness n=4: %s, K=%d, %d rounds, leader %d first, %d untimely", name, k, rounds, firstLeader, pre),
			want: want, spin: m,
		})
	}
	for f := range 3 {
		liveness("terms", "RULE_TERMS", holds, 2, 4, f, 0, 4)
	}
	liveness("terms", "RULE_TERMS", holds, 1, 2, 3, 0, 2)
	liveness("a leader stays while it succeeds", "RULE_STAYS", violated, 1, 3, 3, 0, 3)
	if long {
		liveness("terms", "RULE_TERMS", holds, 2, 4, 3, 0, 4)
		for f := range 4 {
			liveness("terms", "RULE_TERMS", holds, 2, 6, f, 1, 6)
		}
	}
	cs = append(cs, check{name: "z3: two quorums of n-f share an honest box", want: holds, smt: quorums("(- n f)")},
		check{name: "z3 mutant: quorums of n-f-1", want: violated, smt: quorums("(- n f 1)")},
		check{name: "z3: agreement for any n, rounds, blocks, terms, levels", want: holds, smt: agreement})
	for _, rule := range needed {
		cs = append(cs, check{name: "z3 mutant: without " + rule, want: violated, smt: without(rule)})
	}
	return cs
}

func safety(k, rounds, contents int) *spinModel {
	blocks := 1
	for range rounds {
		blocks *= 1 + contents
	}
	m := &spinModel{
		rules: safetyRules, invariant: "agree()", depthMax: 1000,
		defines: []string{fmt.Sprintf("K=%d", k), fmt.Sprintf("R=%d", rounds), fmt.Sprintf("VAR=%d", contents)},
		proc: fmt.Sprintf("byte V[%d]; byte E[%d]; byte F[%d];\nc_code { \\#include \"m.h\"\n}\nactive proctype site() { do\n",
			blocks, rounds+1, blocks),
	}
	for i := range 3 {
		for b := 1; b < blocks; b++ {
			m.act("ordr(rnd(%[2]d)) && can_vote(%[1]d,%[2]d) -> now.V[%[2]d] |= 1<<%[1]d", i, b)
			m.act("ordr(rnd(%[2]d)) && can_fin(%[1]d,%[2]d) -> now.F[%[2]d] |= 1<<%[1]d", i, b)
		}
		for r := 1; r <= rounds; r++ {
			m.act("ordr(%[2]d) && can_empty(%[1]d,%[2]d) -> now.E[%[2]d] |= 1<<%[1]d", i, r)
		}
	}
	return m
}

func live(rounds int) *spinModel {
	blocks := rounds*4 + 1
	m := &spinModel{
		rules: liveRules, invariant: "good()", depthMax: 100000,
		proc: fmt.Sprintf("byte cur[3]; byte last[3]; byte ld[3]; byte P[%[1]d]; byte V[%[1]d]; byte KN[%[1]d]; byte F[%[1]d]; "+
			"byte E[%[2]d]; byte KE[%[2]d];\nc_code { \\#include \"m.h\"\n}\nactive proctype site() {\n"+
			"c_code { int j; for (j = 0; j < 3; j++) { now.cur[j] = 1; now.ld[j] = FIRST; } for (j = 0; j < NBL; j++) now.P[j] = 255; };\ndo\n",
			blocks, rounds+2),
	}
	for i := range 3 {
		m.act("f_prop(%[1]d) -> d_prop(%[1]d)", i)
		m.act("f_learnE(%[1]d) || b_learnE(%[1]d) -> d_learnE(%[1]d)", i)
		m.act("f_time(%[1]d) -> d_time(%[1]d)", i)
		for b := 1; b < blocks; b++ {
			m.act("f_vote(%[1]d,%[2]d) || b_vote(%[1]d,%[2]d) -> now.V[%[2]d] |= 1<<%[1]d", i, b)
			m.act("f_learnN(%[1]d,%[2]d) || b_learnN(%[1]d,%[2]d) -> d_learnN(%[1]d,%[2]d)", i, b)
		}
	}
	for b := 4; b < blocks; b += 4 {
		for p := 0; p <= b-4; p++ {
			m.act("b_prop(%[1]d,%[2]d) -> now.P[%[1]d] = %[2]d", b, p)
		}
	}
	return m
}

func (m *spinModel) act(format string, args ...any) {
	m.actions = append(m.actions, fmt.Sprintf(format, args...))
}

// quorums of size q of n boxes, f of them lying, n >= 3f+1: x is how many two of them share.
func quorums(q string) string {
	return "(declare-const n Int) (declare-const f Int) (declare-const x Int)\n" +
		"(assert (>= f 0)) (assert (>= n (+ (* 3 f) 1)))\n" +
		"(assert (>= x (- (* 2 " + q + ") n))) (assert (<= x f)) (assert (>= x 0))\n(check-sat)\n"
}

// without leaves out one rule of agree.smt2.
func without(rule string) string {
	var keep []string
	for line := range strings.Lines(agreement) {
		if !strings.HasSuffix(strings.TrimSpace(line), ";"+rule) {
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "")
}
