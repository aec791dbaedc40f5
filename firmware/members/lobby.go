package members

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

// ErrTurnedAway says that an operator on this box does not want the box.
var ErrTurnedAway = errors.New("an operator turned it away")

// Guest is a box that waits for this box's operator. Its request was found good.
type Guest struct {
	ID    coord.BoxID  `json:"id"`
	Name  string       `json:"name"`
	Peer  string       `json:"peer"`
	Token join.TokenID `json:"token"`
	From  string       `json:"from"`
	// WallMs is its own clock, Unix milliseconds: a new box may not know the time.
	WallMs uint64 `json:"wall_ms"`
}

// Lobby is where boxes wait for an operator, when the site wants one to approve. How many may wait is bounded by the tokens that are
// open: each has one request here.
type Lobby struct {
	mu     sync.Mutex
	guests map[join.TokenID]*guest
}

type guest struct {
	Guest
	said chan error // takes one word
}

// NewLobby makes an empty lobby.
func NewLobby() *Lobby { return &Lobby{guests: map[join.TokenID]*guest{}} }

// Wait waits until the operator has said yes to r (nil). Another request with the same token, or of the same box, takes its place.
// Errors: ErrTurnedAway, or of ctx.
func (l *Lobby) Wait(ctx context.Context, r *join.Request, from string) error {
	g := &guest{Guest{ID: r.Box.ID, Name: r.Box.Name, Peer: r.Box.Peer, Token: r.Token, From: from, WallMs: r.WallMs}, make(chan error, 1)}
	l.mu.Lock()
	for token, old := range l.guests {
		if token == r.Token || old.ID == r.Box.ID {
			delete(l.guests, token)
			old.said <- fmt.Errorf("%w: another request came with its token, or with another token", ErrTurnedAway)
		}
	}
	l.guests[r.Token] = g
	l.mu.Unlock()
	select {
	case err := <-g.said:
		return err
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.guests[r.Token] == g {
			delete(l.guests, r.Token)
		}
		return ctx.Err()
	}
}

// Say is the operator's word on the guest whose id it is. Errors: ErrUnknownGuest.
func (l *Lobby) Say(id coord.BoxID, yes bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for token, g := range l.guests {
		if g.ID != id {
			continue
		}
		delete(l.guests, token)
		var word error
		if !yes {
			word = ErrTurnedAway
		}
		g.said <- word
		return nil
	}
	return fmt.Errorf("%w: %v", ErrUnknownGuest, id)
}

// ErrUnknownGuest says that no such box waits here.
var ErrUnknownGuest = errors.New("no such box waits at this one")

// Guests are those who wait, by name.
func (l *Lobby) Guests() []Guest {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []Guest{}
	for _, g := range l.guests {
		list = append(list, g.Guest)
	}
	slices.SortFunc(list, func(a, b Guest) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	return list
}
