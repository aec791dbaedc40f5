// Package joining is the port at which a new box asks to be let into a site, and the new box's side of it. What is asked and how it is
// judged is coord/trust/join; this package does the talking.
//
// The port is one of its own because strangers reach it. The console speaks plain HTTP on loopback, the links between boxes end with
// whoever is no member; here a stranger is heard, so everything that it can make the box do comes after a proof of work, and
// the proof comes before TLS: a handshake costs a signature, a wrong proof one hash.
//
// One connection asks for a puzzle and ends. The next one brings the solution, makes TLS 1.3 with the box's identity, and asks:
//
//	joiner                                   box
//	"HFJOIN1?"                            ->
//	                                      <- challenge, 34 bytes; the box closes
//	"HFJOIN1!" solution, 42 bytes         ->
//	                                      <- one byte, 0: go on (else why not; the box closes)
//	TLS 1.3 handshake (the box is the server)
//	frame: site hash 32, token id 8       ->
//	                                      <- frame: Answer with Chain: how the token's epoch became today's
//	(checks the chain, and that the key of the TLS server is a member's)
//	frame: request (join.Request)         ->
//	                                      <- frames: Answer with Waits: who has given its word, who is missing
//	                                      <- frame: Answer with Chain, whose last set lists the joiner
//
// A frame is its length in 4 bytes, big-endian, and so many bytes. Answers are JSON. A refusal is an Answer with Code, and the end.
//
// Every connection has a deadline for all of it up to a granted request, so who sends a byte a second is cut like who sends none. The
// connections without a proof are bounded, and the oldest of them goes when a new one comes: a flood takes from itself.
package joining
