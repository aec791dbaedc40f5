// Node runs one real etcd, with etcd's own flags: what the other programs here compare with.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
