// Package passkey is how a browser's authenticator shows whose it is: the two ceremonies of WebAuthn (W3C, Web Authentication level 3), to
// register a credential and to sign in with one. It makes the options that browsers ask for, and judges what they bring back; where
// credentials are kept, and what they open, is for firmware/operators. The only importer of go-webauthn.
//
// It promises: an answer is good for one challenge, which this process made at most two minutes ago, and once; it comes from a page of
// the domain, with the user verified by the authenticator; a credential is ES256 or RS256, and nothing is asked or believed about who built the
// authenticator (attestation "none", or by the credential itself). What is not answered is not remembered, so a flood of questions
// costs no memory.
package passkey

import "errors"

// Errors of this package.
var (
	// ErrRefused says that an answer is not good, and why.
	ErrRefused = errors.New("the passkey is refused")
	// ErrUnknown says that nobody registered a credential.
	ErrUnknown = errors.New("nobody has registered this passkey here")
	// ErrCopied says that a credential's counter did not grow: two authenticators seem to have it.
	ErrCopied = errors.New("the passkey's counter did not grow: another device seems to have a copy of it; remove it")
	// ErrBusy says that too many have signed in at this moment.
	ErrBusy = errors.New("too many others are signing in; try again in a moment")
	// ErrHost says that a page has no passkeys, because it was not opened under their domain.
	ErrHost = errors.New("passkeys work under the console's own host name only")
)
