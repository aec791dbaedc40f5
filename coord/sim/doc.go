// Package sim drives a whole site from one seed: every box is a real site.Box (ordering, batches, state,
// sessions, catch-up, snapshots) on a simulated disk, network and clock, with clients that number and
// retry like real ones. One goroutine, no wall clock, no map order: the same seed gives the same run, event
// for event (Report.Digest shows it).
//
// A trial has two parts: a time of faults, then everything heals and all that clients ever asked must be done,
// once, on every honest box, within HealMax. The faults are a Plan, drawn from the seed by the generators of
// faults.go, or written down (scenarios). Up to f boxes lie or have a disk that forgets. What is checked
// all the time is listed in invariants.go. A plan that breaks something can be made smaller (Shrink).
package sim
