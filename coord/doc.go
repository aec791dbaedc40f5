// Package coord holds the words that every part of a site's coordination shares:
// who a box is, what a message, a batch, a block, a vote and a certificate are, and
// what one box may say to another. It has data and arithmetic only: no goroutine, no
// clock, no I/O and no encoding (coord/wire encodes, store keeps, coord/bft decides).
//
// Sizes: n boxes of a site are its members, up to f = floor((n-1)/3) of them may lie,
// and a quorum is n - f. Byte slices in these types belong to whoever made the value;
// receivers that keep one past the call copy it unless a comment says otherwise.
package coord
