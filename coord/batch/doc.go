// Package batch decides when the messages that a box gathered become a batch. It is pure: times come in as
// monotonic nanoseconds, nothing runs by itself, and coord/site, its owner, asks Ready after whatever it did and
// wakes up at Deadline.
//
// # The rule
//
// A batch costs about the same however full it is (a signature, n-1 verifications, a place in a block: 0.4 ms of
// CPU over four boxes against 3 us a message), so waiting saves work and costs time. The open batch closes
//
//   - at once, when no batch of ours is on its way: a lone message never waits;
//   - when a batch of ours has become final: what gathered while it was on its way leaves together. This
//     clocks itself; a fixed timer in its place cut a trial's throughput to a sixth;
//   - when it has as many messages as the target, or bytes as Policy.TargetBytes;
//   - when its oldest message has waited for the linger: so that a round trip much longer than usual, or
//     a message just behind a batch, does not cost a whole round trip.
//
// Clients who wait for each answer come back together when a batch of theirs is answered. Where seven of ten of the messages
// answered were followed by another within half a round trip, the open batch waits for as many as came back lately, so
// long at most, and then leaves with all of them: without that half of the clients ride in one batch, half in the
// next, for ever. Who comes at times of his own is soon known not to come back, and not waited for.
//
// At most Policy.InflightMax batches are on their way; then the open one gathers up to coord's limits,
// and after that Add refuses, which is the site's back-pressure to clients.
//
// # Load, target and linger
//
// Load is the messages on their way and gathered, averaged over Policy.LoadWindow, over
// Policy.FullMessages. By Little's law that is arrival rate times round trip: it rises with either, and does not depend
// on how the messages are cut into batches, so that the target does not feed back into the load that
// chose it. Below 30% the target is 10 messages, above 80% it is 200, between it is 100; a level is left only
// when the load is 5% beyond its border. Linger is a share of the round trip (smoothed as TCP does),
// larger at higher levels, at most 50 ms.
package batch
