// Package sim drives a whole site from one seed: every box is a real site.Box (ordering, batches, state,
// sessions, catch-up, snapshots) on a simulated disk, network and clock, with clients that number and
// retry like real ones. One goroutine, no wall clock, no map order: the same seed gives the same run, event
// for event (Report.Digest shows it).
//
// A trial has two parts: a time of faults (crashes, power loss of the whole site, partitions, loss,
// duplication, delay, reorder, slow disks, up to f liars), then everything heals and all that clients
// ever asked must be done, once, on every honest box, within HealMax. What is checked all the time is
// listed in check.go.
package sim
