package link

import "errors"

// Errors of this package, to be told apart with errors.Is. Those of one connection go to the log and into the
// counters; Run and New return the first three.
var (
	// ErrConfig says that a Config cannot be.
	ErrConfig = errors.New("bad configuration")
	// ErrRan says that Run was called before: a Link runs once.
	ErrRan = errors.New("ran already")
	// ErrListener says that the listener failed for good.
	ErrListener = errors.New("listener failed")

	// ErrStranger says that the other side's key is not the expected member's.
	ErrStranger = errors.New("not a member's key")
	// ErrHello says that the other side is of another site or version.
	ErrHello = errors.New("does not belong here")
	// ErrFrame says that a frame is malformed, too large, or not expected there.
	ErrFrame = errors.New("bad frame")
	// ErrSilent says that nothing was heard for Config.Dead.
	ErrSilent = errors.New("silent")
	// ErrReplaced says that a newer connection of the same peer took over.
	ErrReplaced = errors.New("replaced by a newer connection")
	// ErrRefused says that the other side ended the connection and gave a reason.
	ErrRefused = errors.New("refused by the other side")
	// ErrGuest says that a box that is not a member has had what a guest gets.
	ErrGuest = errors.New("not a member of the site any more")
	// ErrHeldOff says that a peer is kept out for a while, for what it sent or because it has a twin.
	ErrHeldOff = errors.New("held off")
)
