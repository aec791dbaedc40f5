// Command etcdhist judges whether servers of the etcd v3 API keep etcd's promises while they are killed, stopped and
// cut off from each other. It knows nothing but the API.
//
//	go -C tools/etcdhist run . -endpoints ...                         from the root: it is a module of its own
//	etcdhist -endpoints a:p,b:p,c:p -time 30s -seed 7 [-hook CMD]     run, judge, report
//	etcdhist -check FILE                                              judge a saved history again
//
// Workers (load.go) run seeded random operations over a few keys, each on a connection of its own; watchers (watch.go)
// follow the whole key space; both write down what they asked, what came back, and when (history.go). Meanwhile CMD is
// run through sh with an argument, at seeded moments (hook.go):
//
//	kill I | start I | stop I | cont I | partition I | split I J | heal
//
// I counts the endpoints from 0. kill is SIGKILL and start starts that box again; heal ends every partition. CMD returns
// when it is done; any other end than 0 fails the run.
//
// The servers must be this run's alone: another writer's revisions are explained by no operation here.
//
// Two judges share the model of a key space (model.go) and nothing else. The first (replay.go, reads.go, leases.go,
// watched.go) takes the order of the writes from their revisions and checks everything against the states that follow.
// The second (search.go) gives windows of the history, and its beginning without any help of the first, to porcupine.
//
// What a real etcd 3.6 does and is not blamed for: a transaction without operations is read without the quorum, and
// events that come after a cancel was asked for may lack prev_kv. What it is blamed for: after SIGSTOP and SIGCONT a
// former leader may end leases that its successor has renewed.
package main
