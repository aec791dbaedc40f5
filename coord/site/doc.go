// Package site is one box's running coordinator. Box is its pure half: one Step that takes
// what came in (messages of other boxes, requests of clients, time) and gives back what
// to write, send and answer, so that coord/sim can drive whole boxes from a seed. Site is
// the shell: one goroutine owns the Box, one writes the log, links and clients hand
// their input to the owner through a bounded queue.
package site
