// Command detect measures the failure detector on a real site of processes, both of its numbers in one run: how long the
// other boxes need to see that one is killed or stopped, and how often they call one silent that only stalls, or
// that shares the processors with busy programs. And how long writes stop when the leader is killed.
//
// The times are the boxes' own: each says in its status since when it holds what it holds.
package main
