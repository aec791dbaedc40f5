// Package archtest holds the rules of the tree as tests: which package may import which, and that every
// package says what it is for.
package archtest
