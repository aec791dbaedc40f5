package site

import (
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
)

// KeysOf gives what a box signs and checks with among members, and its place there. A box may have two identities, around a change of
// its key; it speaks as the one that is a member. self is -1 when none is: the keys then check and do not sign.
type KeysOf func(members *coord.Members) (keys Keys, self int, err error)

// Epoch is a member set that a box works in, its place there (-1: none any more), and what it signs and checks with. It is immutable.
type Epoch struct {
	Members *coord.Members
	Self    int
	Keys    Keys
}

// Me is the box's name in the epoch; zero when it is no member.
func (e *Epoch) Me() (id coord.BoxID) {
	if e.Self >= 0 {
		id = e.Members.List[e.Self].ID
	}
	return id
}

func (f KeysOf) epoch(members *coord.Members) (*Epoch, error) {
	keys, self, err := f(members)
	if err != nil {
		return nil, fmt.Errorf("site: keys of epoch %d: %w", members.Epoch, err)
	}
	return &Epoch{members, self, keys}, nil
}

// parcel puts a box's name on what the core says to a member.
func (e *Epoch) parcel(o coord.Out) coord.Parcel {
	p := coord.Parcel{Msg: o.Msg}
	if o.To != coord.ToAll {
		p.To = e.Members.List[o.To].ID
	}
	return p
}

// places are what the box has applied and what it claims (0: nothing), as readers count them. Who has applied the end of an epoch is in
// the next one for them, so that they ask its members.
func (b *Box) places() (applied, claim uint64) {
	epoch := b.ep.Members.Epoch
	if round, ok := b.core.Claim(); ok {
		claim = placeOf(epoch, round)
	}
	return placeOf(epoch, b.lastFinal.Header.Round), claim
}
