// Command etcdclients points clients that others wrote, unchanged, at a list of etcd endpoints and says of each thing
// that they do whether it worked. It knows the etcd v3 API and nothing of who serves it: what passes against a real
// etcd (-own-etcd 3) is what has to pass against a site.
//
// The clients, and the rows they give:
//
//	ctl3.4/...  etcdctl of Debian bookworm (package etcd-client)
//	ctl3.6/...  etcdctl of the module proxy, in the version of go.mod
//	http/...    the JSON gateway under /v3/, /version and /health
//	conc/...    clientv3 and clientv3/concurrency: mutex, election, STM, leases and watches, while boxes are killed
//	patroni/... Debian's Patroni and PostgreSQL with the endpoints as its etcd3, through failover, switchover and the
//	            loss of boxes; needs root, because PostgreSQL refuses to run as root
//
// Boxes are killed by -kill CMD. It is run by the shell with two arguments, `down I` and later `up I`, where I counts
// the endpoints from 0, and has to end when that is done. One box is down at a time; the next goes down only when the
// last one answers a linearizable read again. A command that restarts a box by itself may ignore `up`. With -own-etcd
// the tool kills its own processes with SIGKILL. Without either, the same rows run with nothing killed and say so.
//
// A row that a site refuses on purpose is named by -differs; it has to fail then. Keys are put below a prefix that is
// new in each run, but rows compact, defragment and move the leader, so the endpoints must be nobody else's.
//
// It is a module of its own so that etcd's server, etcdctl and drivers stay out of the product's dependencies:
//
//	go -C tools/etcdclients run . -own-etcd 3
//	go -C tools/etcdclients run . -endpoints 127.0.0.1:2379,127.0.0.1:2479 -kill 'sh /path/box.sh' -only conc,patroni
package main
