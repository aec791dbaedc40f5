package main

import (
	"regexp"
	"strings"
)

var lease = regexp.MustCompile(` lease:-?\d+`)

// difference is one that is meant: docs/etcd.md says the same to users.
type difference struct {
	name, why string
	is        func(kind, left, right string) bool
}

// known is all of them.
var known = []difference{
	{
		name: "users and roles are not kept",
		why:  "who may do what is the site's to say",
		is: func(kind, _, right string) bool {
			return kind == "auth" && strings.Contains(right, "Unimplemented")
		},
	},
	{
		name: "keys only with their lease",
		why:  "as etcd 3.6 has it; 3.7 leaves the lease out",
		is: func(kind, left, right string) bool {
			return (kind == "range" || kind == "txn") && lease.ReplaceAllString(left, "") == lease.ReplaceAllString(right, "")
		},
	},
	{
		name: "another box leads",
		why:  "etcd here is one node",
		is: func(kind, _, right string) bool {
			return kind == "move-leader" && strings.Contains(right, "not leader")
		},
	},
}
