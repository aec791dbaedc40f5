// Package operators knows the people who run a site: who they are, by a password, and which of their browsers are logged in.
//
// An operator is a document of the site (operator/NAME) with a P-256 key. The private half is sealed with a key that argon2id
// (RFC 9106) makes of the password, so any box can log an operator in, holds the key while the session lasts, and signs with it
// what the operator decides: the other boxes check that signature and need not trust this one.
//
// It promises: a wrong name and a wrong password look alike; guessing is slowed for the source, for the name and for the whole box
// (one hash at a time, a bounded queue), a flood cannot lock out a browser that has logged in before, nor the box's own socket; and
// everything it remembers is bounded.
//
// What it cannot do: a box that lies sees the passwords that are typed into it, and whoever has the documents of a site can try
// passwords against the sealed keys at their own leisure. docs/operators.md says what follows from that.
package operators

import "errors"

// Errors of this package.
var (
	// ErrWrong says that the name or the password is wrong, or the operator is disabled; nobody is told which.
	ErrWrong = errors.New("wrong name or password")
	// ErrWait says that there were too many failures: *Wait says how long.
	ErrWait = errors.New("too many failures")
	// ErrBusy says that too many others are logging in at this moment.
	ErrBusy = errors.New("too many others are logging in; try again in a moment")
	// ErrCode says that the setup code is wrong.
	ErrCode = errors.New("wrong setup code")
	// ErrDone says that there is an operator already.
	ErrDone = errors.New("this site has an operator; log in, or ask one to add you")
	// ErrName says that a name cannot be an operator's.
	ErrName = errors.New("not a name for an operator")
	// ErrPassword says that a password is too weak, and why.
	ErrPassword = errors.New("choose another password")
	// ErrDocument says that bytes are not an operator's document.
	ErrDocument = errors.New("operators: not an operator's document")
	// ErrNoSession says that nobody is logged in with this.
	ErrNoSession = errors.New("not logged in, or the session has ended")
	// ErrUnknown says that there is no such operator.
	ErrUnknown = errors.New("no such operator")
	// ErrLocked says that a session began with a passkey, which cannot sign what an operator decides.
	ErrLocked = errors.New("you signed in with a passkey, which cannot decide for the site: give your password first, at /unlock")
	// ErrNoPasskeys says that this box takes no passkeys.
	ErrNoPasskeys = errors.New("this box takes no passkeys; console.passkeys names the domain that they are for")
	// ErrPasskey says that an operator has no such passkey.
	ErrPasskey = errors.New("no such passkey")
	// ErrConfig says that a Config cannot work.
	ErrConfig = errors.New("operators: bad configuration")
)
