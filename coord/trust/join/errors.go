package join

import "errors"

// Why a token, a request or a puzzle is refused. Code gives each a word that travels.
var (
	// ErrToken says that a text is not a token.
	ErrToken = errors.New("not a join token")
	// ErrMalformed says that bytes are not what they should be, or beyond a limit.
	ErrMalformed = errors.New("malformed request")
	// ErrSite says that the token or the request is for another site.
	ErrSite = errors.New("another site's token")
	// ErrUnknown says that the site has no such token: it never had, it was withdrawn, or it is long over.
	ErrUnknown = errors.New("unknown token")
	// ErrUndecided says that the site has not decided on the token yet.
	ErrUndecided = errors.New("token is not decided yet")
	// ErrUsed says that another box has joined with the token.
	ErrUsed = errors.New("token is used")
	// ErrExpired says that the token's time is over.
	ErrExpired = errors.New("token has expired")
	// ErrReplayed says that this very request was granted before.
	ErrReplayed = errors.New("request was granted before")
	// ErrStale says that the request was made too long ago, or in the future, by the site's clock.
	ErrStale = errors.New("request is not of now")
	// ErrSignature says that a signature is not by the key that it should be by.
	ErrSignature = errors.New("bad signature")
	// ErrName says that another box has the name, or that the token is for another one.
	ErrName = errors.New("name cannot be used")
	// ErrKnown says that the key is a member's.
	ErrKnown = errors.New("key is a member already")
	// ErrRemoved says that the key was removed from the site; it needs a new one.
	ErrRemoved = errors.New("key was removed from the site")
	// ErrReplaces says that the box that the token replaces is not a member any more.
	ErrReplaces = errors.New("box to be replaced is not a member")
	// ErrFull says that the site has as many boxes as it may.
	ErrFull = errors.New("site is full")
	// ErrDecision says that a decision does not write what the request that it carries asks for.
	ErrDecision = errors.New("decision is not what was asked for")

	// ErrWork says that a puzzle is not solved, or not one of this box's.
	ErrWork = errors.New("no proof of work")
	// ErrLate says that a puzzle is too old, or was used.
	ErrLate = errors.New("puzzle is over")
)

// codes are the words for refusals that travel and stand in the audit log.
var codes = []struct {
	word string
	err  error
}{
	{"malformed", ErrMalformed},
	{"wrong-site", ErrSite},
	{"unknown-token", ErrUnknown},
	{"undecided-token", ErrUndecided},
	{"used-token", ErrUsed},
	{"expired-token", ErrExpired},
	{"replayed", ErrReplayed},
	{"stale", ErrStale},
	{"bad-signature", ErrSignature},
	{"bad-name", ErrName},
	{"known-key", ErrKnown},
	{"removed-key", ErrRemoved},
	{"replaced-gone", ErrReplaces},
	{"full", ErrFull},
	{"bad-decision", ErrDecision},
	{"no-work", ErrWork},
	{"late-work", ErrLate},
}

// Code is the word for a refusal, "" for an error that is none of this package's.
func Code(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.word
		}
	}
	return ""
}

// Refusal is the error that a word stands for, nil if it is none that is known.
func Refusal(word string) error {
	for _, c := range codes {
		if c.word == word {
			return c.err
		}
	}
	return nil
}
