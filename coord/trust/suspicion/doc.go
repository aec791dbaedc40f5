// Package suspicion scores how odd the other boxes behave. It is the opposite of evidence (coord.Finding, trust.CheckFinding): evidence is two
// signatures that anybody can check, holds forever and may expel; suspicion is one box's opinion, fades, and expels nobody. It moves
// who leads (Aside) and raises an alarm.
//
// All is pure: events and the time go in, scores come out. One goroutine owns a Watch. A detector either cannot accuse an honest box as
// long as its assumption holds (clock, wrong state, volume, bad signatures), or bounds how often it does (late proposals, unanswered
// challenges: a cumulative sum test). docs/trust.md has the assumptions and the figures.
//
// What a box cannot know, it must not feed: a bad signature counts against who sent it over its own link, never against the
// one that it names; a challenge counts only while the link is up; a box without a set clock has no offset.
package suspicion
