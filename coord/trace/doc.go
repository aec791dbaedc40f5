// Package trace says where a message's time went, on every box that had a part in it.
//
// A trace is of one batch, and the context that joins its parts on different boxes is in the batch itself: unless a client brought a
// trace of its own, the trace's id is the beginning of the batch's digest, which every box knows and nobody can choose; a client's
// context travels as the last message of the batch (coord.KindTrace), signed with it. Identifiers of spans follow from the batch, the
// box and the phase, so that boxes name each other's spans without asking.
//
// While a batch is under way nothing is made but one Record of fixed size on each box, in a Ring (ring.go). When the batch is done its
// author decides whether to keep it (sample.go); only then do records become Spans (spans.go), as OpenTelemetry has them.
//
// Data comes from coord/site and goes to whoever keeps and exports it (firmware/traces). The package is pure.
package trace
