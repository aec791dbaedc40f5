// Command chaos runs real holdfast processes as a site, breaks them in the ways of the fault matrix, and says of every
// row whether what was promised held and how long the site needed.
//
// Each scenario is a site of its own: boxes as `holdfast run`, joined by proxies in user space (wire.go) that hold,
// delay or lose what goes from one box to another; clients of coord/client under load (load.go); a fault (rows.go);
// and then the checks (check.go): every client history is linearizable, all boxes have the same blocks, what was
// acknowledged is in them exactly once, nobody is accused.
//
// As root everything happens in namespaces of processes, networks and mounts that this run made and that end with it,
// so nothing can be left behind however it ends. Without root it runs on loopback, and rows that need root are skipped.
package main
