// Package rollout is how a site gets a new release, as a pure state machine over ordered documents: one box at a time, who leads comes last, the
// first failure stops it, and it can be paused, gone on with and undone.
//
// The plan is a document. Each step is a decision that writes the next plan; every box works out from the plan before and the event in the next
// one whether that is what follows (Check), so none can make a step that is not the next one, for another box, or two at a time. A box
// speaks for itself only: it says that it begins, that it is good, or why it is not. Nobody can see whether it told the truth: a box that
// lies about its own release is one that lies (f of them may).
//
// A second document, DocClock, is written with each step and ends by itself, by the site's clock: when it is gone and the plan waits for a
// box, that box is late, and any box may say so.
package rollout
