// Command targets measures the four lines that the product was asked to move (message overhead, coordination latency, failure
// detection, CPU), before and after, in one run with the sites in turn. "After" is the product. "Before" is the same site with what
// moves them switched off: each message is a batch of its own, its body is JSON and not compressed, nothing waits for others to come,
// the signature of every vote and batch is checked as it arrives, and a silent box is away after ten seconds. The boxes
// are this program again, so that the product's own has no such switches.
package main
