// Package access says who may do what in a site, and why.
//
// Rules are made of the site's documents (roles, grants, Cedar policies, operators, settings) and answer whether a principal may do an
// action on a resource. Policies are Cedar's (cedarpolicy.com); what they say about keys is compiled into tables, and cedar-go is asked
// for what the tables do not cover and is the reference for all of it. Every answer names the policy that decided.
//
// A Token is a capability: a chain of signed blocks that says what its holder may do, for how long, with which key. Anybody who holds
// it can narrow it offline and any box can verify it offline; nobody can widen it, and it is worth no more than what its issuer may do at the
// moment it is used.
//
// Judge says for a coord.Decision whether a box should give its word by itself: whether it writes what its kind says and nothing else, and
// whether its Authority convinces.
//
// Everything here is pure: documents, keys and the time come from outside, what comes out is an answer. What it reads of a site is
// what coord/state has applied; who asks is firmware (console, client API, command line) and coord/site, through the box.
package access
