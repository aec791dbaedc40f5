// Package join is how a new box comes into a site: the token that an operator carries to it, the request that it makes with
// the token, and the puzzle that the joining port asks of strangers.
//
// A token is text of one line. Its secret never travels: it is the seed of a P-256 key, whose public half is in the site's state (the
// document join/ID), and the joiner signs its request with that key and with the key that it will be known by. So every box can verify
// a request and none, not even one that lies, can make one. The token also carries the hash of the site's keys: what the
// joiner believes about the site begins there, and goes on only with the signatures of f+1 members of each epoch (Follow).
//
// A token is good for one box: the decision that admits the box writes the members and marks the token as used, both or neither.
//
// Everything here is pure: time, chance and the site's documents come from outside. What does the talking is firmware/joining.
package join
