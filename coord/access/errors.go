package access

import "errors"

// Errors of names and rules.
var (
	// ErrPrincipal says that a text names no principal.
	ErrPrincipal = errors.New("access: not a principal")
	// ErrResource says that a text names no resource.
	ErrResource = errors.New("access: not a resource")
	// ErrPolicy says that a text is not a policy that may be stored, and why.
	ErrPolicy = errors.New("access: not a policy")
	// ErrRole says that a role or a grant cannot be.
	ErrRole = errors.New("access: not a role")
	// ErrDenied says that the rules do not allow it; *Denial says why.
	ErrDenied = errors.New("denied")
)

// Why a token or its proof is refused. Each is told apart; what wraps it says more.
var (
	// ErrMalformed says that bytes or a text are not a token or a proof.
	ErrMalformed = errors.New("malformed token")
	// ErrSite says that the token is for another site, or the proof for another box.
	ErrSite = errors.New("token is for another site")
	// ErrExpired says that the time of the token is over.
	ErrExpired = errors.New("token has expired")
	// ErrEarly says that the time of the token has not begun.
	ErrEarly = errors.New("token is not valid yet")
	// ErrReplayed says that the proof was used before, or is too old to know.
	ErrReplayed = errors.New("proof was used before")
	// ErrWidened says that a block of the token wants more than the one before it.
	ErrWidened = errors.New("token was attenuated too far: a block widens it")
	// ErrHolder says that who shows the token has not proved to have its key.
	ErrHolder = errors.New("not the holder of the token")
	// ErrEpoch says that the token is of another token epoch.
	ErrEpoch = errors.New("token is of another epoch")
	// ErrRevoked says that the token, or one that it was made from, is revoked.
	ErrRevoked = errors.New("token is revoked")
	// ErrIssuer says that the site does not know who issued the token, or that the signature is not theirs.
	ErrIssuer = errors.New("unknown issuer of the token")
	// ErrMayNotIssue says that the issuer may not issue tokens.
	ErrMayNotIssue = errors.New("issuer may not issue tokens")
	// ErrScope says that the token does not cover the action or the resource.
	ErrScope = errors.New("token does not cover it")
	// ErrBusy says that more tokens prove themselves at once than a box remembers.
	ErrBusy = errors.New("too many tokens are in use at once")
)
