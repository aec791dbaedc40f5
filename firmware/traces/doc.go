// Package traces keeps and tells traces of batches: it is told by coord/site which ones to keep, asks the other boxes for their parts,
// writes them to store.Traces, exports each box's own part by OTLP over HTTP, and answers the console (List, Show, Why).
//
// Nothing here holds up the ordering: what coord/site hands over goes into bounded queues, and what does not fit is dropped and counted.
package traces
