package link

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// A guest is a box that is not a member of our set and has a reason to speak with us: one that was a member and does not know that it is
// not any more, or one that is a member of a later set than ours. Who is behind is to be told, so only what tells it goes to
// and comes from a guest, little of it, and not for long.

const (
	// guestTime is how long a guest's connection may last: it is told within milliseconds.
	guestTime = 30 * time.Second
	// guestVisitsMax is how many connections of one former member are served within guestMemory: it may be cut off in between, and restart.
	guestVisitsMax = 4
	guestMemory    = time.Minute
	// guestMessagesMax bounds the messages of one guest's connection that are looked at: what a box says first is where it is, and a
	// handover for each epoch that we missed. The rest is read and thrown away, up to guestBytesMax.
	guestMessagesMax = 256
	guestBytesMax    = 8 << 20
	// newcomersMax and newcomersPerAddress bound connections of keys that we do not know and that say that they are of a later epoch,
	// newcomersPerSecond how often one address may say so. Anybody can. Above, the oldest makes room.
	newcomersMax        = 8
	newcomersPerAddress = 4
	newcomersPerSecond  = 4
	// newcomerFrameBytesMax bounds a frame of one: a handover with two sets of coord.MembersMax members.
	newcomerFrameBytesMax = 256 << 10
	// newcomerReadBytes is its reader's buffer: nothing for whoever may be anybody.
	newcomerReadBytes = 1 << 10
)

// standing is what a peer is to us.
type standing uint8

const (
	member standing = iota
	former
	newcomer
)

// mayTell says whether a message may go to a peer: to a guest, how its epoch ended, and what it lacks up to there.
func (p *peer) mayTell(m *coord.PeerMsg) bool {
	return p.kind == member || m.Status != nil || m.Handover != nil ||
		p.kind == former && (m.CatchUp != nil || m.Batch != nil || m.Block != nil)
}

// maySay says whether a message from a peer is handed on: of a guest where it is, what it asks for of the above, and handovers, which prove
// themselves.
func (p *peer) maySay(m *coord.PeerMsg) bool {
	return p.kind == member || m.Status != nil || m.Handover != nil || m.HandoverAsk != nil ||
		p.kind == former && (m.FetchFrom != nil || m.FetchBlock != nil || m.Fetch != nil)
}

// greetNewcomer reads what a box whose key is in no set that we know says of itself. Only one of our site that is in a later epoch stays.
func (l *Link) greetNewcomer(c *inbound, id coord.BoxID) error {
	ours := l.roster.Load().hello
	theirs, err := readHello(c.in)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStranger, err)
	}
	if _, err := agree(&ours, &theirs, id); err != nil {
		return fmt.Errorf("%w: %w", ErrStranger, err)
	}
	if theirs.epoch <= ours.epoch {
		err := fmt.Errorf("%w: box %s in epoch %d", ErrStranger, id, ours.epoch)
		c.dismiss(err.Error())
		return err
	}
	p := l.newPeer(&coord.Member{ID: id}, newcomer)
	p.log = l.log // its name is its own choice: it gets no log of its own
	c.peer, c.hello, c.greeted = p, theirs, true
	return nil
}

// visit says whether one more connection of a former member is served; p.mu is held.
func (p *peer) visit(now time.Time) error {
	if now.Sub(p.visited) > guestMemory {
		p.visited, p.visits = now, 0
	}
	if p.visits++; p.visits > guestVisitsMax {
		return fmt.Errorf("%w: box %s, and it has been told", ErrGuest, p.id)
	}
	return nil
}

// guestMessage says whether a message from a guest is to be looked at, or that it has said too much.
func (c *inbound) guestMessage(size int) (look bool, err error) {
	if c.guestBytes += size; c.guestBytes > guestBytesMax {
		return false, fmt.Errorf("%w: box %s says more than a guest may", ErrGuest, c.peer.id)
	}
	c.guestMessages++
	return c.guestMessages <= guestMessagesMax, nil
}

// dismiss ends c and tells the other side's operator why.
func (c *inbound) dismiss(why string) {
	c.once.Do(func() { close(c.replaced) })
	_ = c.raw.SetWriteDeadline(time.Now().Add(c.link.cfg.Drain)) // all of this is a courtesy
	_, _ = c.tls.Write(appendRefusal(nil, why))
	_ = c.raw.Close()
}

// hold runs a connection, and makes a new one beside it when our own key or the peer's address has changed: then it gives the new one, and
// what waited was written before. Else it gives why the connection ended.
func (l *Link) hold(ctx context.Context, p *peer, c *outbound) (next *outbound, err error) {
	var end context.CancelFunc
	if p.kind == former {
		ctx, end = context.WithTimeout(ctx, guestTime)
	} else {
		ctx, end = context.WithCancel(ctx)
	}
	defer end()
	done := make(chan error, 1)
	go func() { done <- c.run(ctx) }()
	wait := l.newBackoff()
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	again.Stop()
	for {
		select {
		case err := <-done:
			return nil, err
		case <-p.renew:
		case <-p.kick: // it may have come to know our new key
		case <-again.C:
		}
		if !l.outdated(p, c) {
			continue
		}
		n, err := l.connect(ctx, p)
		switch {
		case err == nil && c.as != n.as && n.epoch < l.roster.Load().hello.epoch:
			// It does not know our new key yet: to it, the old connection is the better one.
			_ = n.raw.Close()
			fallthrough
		case err != nil:
			again.Reset(wait.next())
			continue
		}
		c.queue.divert(n.queue) // what is sent from now on waits until c has written the rest
		p.sending.CompareAndSwap(c, n)
		end()
		<-done
		return n, nil
	}
}

// outdated says whether a connection was made with another key of ours, or to another address, than now.
func (l *Link) outdated(p *peer, c *outbound) bool {
	return c.as != l.roster.Load().hello.box || c.address != p.member.Load().Peer
}
