// Package supervise is the program as PID 1 of an appliance: it mounts what a kernel has, loads the modules that the machine's
// devices ask for, checks, grows and mounts the data partition, connects the machine, sets its clock and its names, and runs the
// coordinator, which is a process of its own: what ends that is written down, and it is started again. The hardware's watchdog is
// fed as long as the coordinator answers. Where the data cannot be used, or the coordinator does not come up, a console of its
// own says why and offers what can be done; the machine does not start again and again.
//
// What is decided is in functions that take their input; what they decide from and act on is named in Machine. docs/boot.md tells it in order.
package supervise
