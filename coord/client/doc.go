// Package client is the Go client of a site's native stream: it puts, gets, deletes and
// observes through any of the site's boxes, and fails over between them.
//
// What it promises: a message that was acknowledged took effect exactly once, however
// often it was sent. The client opens a session with the site (a random number), numbers
// its messages in it, and sends a message again under the same number, to another box,
// when a box does not answer in time, is overloaded, stops, or loses its connection; the
// site applies a number once, in whatever order numbers come. When a call gives up (its
// context ends) the message may have taken effect or not; it cannot any more once the
// client has used up its number with a read, which it does in the background.
//
// An ordinary client trusts the box that answers it.
//
// Data flow: a call numbers its messages (session.go), encodes them once, and tries boxes
// in turn (work.go) over one connection a box (conn.go), on which requests are pipelined
// and answers matched by id; an answer that comes after its try was given up is ignored.
package client
