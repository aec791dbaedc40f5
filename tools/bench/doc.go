// Command bench measures a real site of processes on this machine, fsync on, and prints one table of figures
// beside their targets: latency of a lone client, rate of 64 clients, messages a second in full
// batches, how long writes stop when the leader or the whole site is killed, memory and idle CPU of a
// box, the codec and the size of the arm64 program. It judges nothing by time-outs: a target that is missed is
// printed as missed.
package main
