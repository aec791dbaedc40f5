// Package alarms tells people what is wrong with a box and its site. Rules in the syntax of Prometheus's rule files, those that ship
// (builtin.yaml) and the site's own, are evaluated on the box against its own history of metrics, so that alarms need nothing but
// the box. An alarm is pending until it has lasted, fires, and is resolved when it has been away for long enough; that survives a restart, and so does
// what is still to be told. Receivers are Alertmanager, a webhook, ntfy and syslog, each with a bounded queue of its own (Outbox).
//
// What decides is pure: Engine (states), Silences, Book (whom to tell what), Voice (which box speaks for its site). Service is
// the shell around them. docs/alarms.md is for people.
package alarms
