// Command targets measures the four lines that the product was asked to move (message overhead, coordination latency, failure
// detection, CPU), before and after, in one run with the sites in turn. "After" is the product. "Before" is the same site with what
// moves them switched off: each message is a batch of its own, its body is JSON and not compressed, nothing waits for others to come,
// the signature of every vote and batch is checked once as it arrives, and a silent box is away after ten seconds. The boxes
// are this program again, so that the product's own has no such switches.
//
// What counts goes by the product's own metrics (bytes) and by the kernel (CPU time); the loads are tools/bench/load's, but for the
// open loop at a fixed rate.
package main
