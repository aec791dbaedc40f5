package box

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/console"
	"github.com/holdfast-edge/holdfast/firmware/joining"
	"github.com/holdfast-edge/holdfast/firmware/members"
	"github.com/holdfast-edge/holdfast/store"
)

// door is where members come and go: the joining port, and the desk of operators who change the list.
type door struct {
	s     *site.Site
	base  *store.Base
	lobby *members.Lobby
}

func newDoor(s *site.Site, base *store.Base) *door {
	return &door{s, base, members.NewLobby()}
}

// desk is what operators ask.
func (d *door) desk(c *config.Config, who *identity, power *authority) *members.Desk {
	return members.New(members.Config{
		Site: d, Random: rand.Reader, Lobby: d.lobby, Listen: joinAddress(c, who),
		Self:    func() coord.BoxID { return d.s.View().ID },
		NextKey: func() ([]byte, error) { return who.nextKey(c) },
		Decide: func(ctx context.Context, by *console.Caller, dec *coord.Decision) error {
			asks := by.By
			if dec.Kind == roster.Rotate { // both keys are here, and convince the other boxes without an operator there
				asks.Sign = func(dec *coord.Decision) error {
					return access.AsRotation(dec, who.members.Site, boxSigner{who.key}, boxSigner{who.next.Load()})
				}
			}
			return power.decide(ctx, dec, asks)
		},
	})
}

// joinAddress is the joining port as a new box may reach it: where it listens, with the host of the peer address when it listens everywhere.
func joinAddress(c *config.Config, who *identity) string {
	host, port, err := net.SplitHostPort(c.Join.Listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, _, err = net.SplitHostPort(who.member.Peer); err != nil {
			return ""
		}
	}
	return net.JoinHostPort(host, port)
}

// port is the joining port's server.
func (d *door) port(c *config.Config, who *identity, l *ledger, log *slog.Logger) (*joining.Server, error) {
	return joining.New(joining.Config{
		Certificate: who.key.Certificate(), Site: d, Bits: c.Join.ProofOfWork, Random: rand.Reader, Record: l.Record, Logger: log,
	})
}

func (d *door) Doc(key string) (coord.Doc, bool) { return d.s.State().Doc(key) }
func (d *door) Docs(prefix string) []coord.Doc   { return d.s.State().Docs(prefix) }
func (d *door) Members() *coord.Members          { return d.s.State().Members() }
func (d *door) Seconds() uint64                  { return d.s.State().Seconds() }

// Up says whether the box is reached now.
func (d *door) Up(id coord.BoxID) bool {
	v := d.s.View()
	for i := range v.Members {
		if v.Members[i].ID == id {
			return v.Members[i].Up
		}
	}
	return false
}

// Past is the ends of the epochs that the box has kept.
func (d *door) Past() ([]join.Past, error) {
	kept, err := d.base.Handovers()
	if err != nil {
		return nil, err
	}
	past := make([]join.Past, 0, len(kept))
	for _, h := range kept {
		past = append(past, join.PastOf(h))
	}
	return past, nil
}

// Approve has this box's operator say yes, where the site wants that: to propose is to give this box's word.
func (d *door) Approve(ctx context.Context, r *join.Request, from string) error {
	if access.Setting(d, access.SettingJoins) == access.JoinsToken {
		return nil
	}
	err := d.lobby.Wait(ctx, r, from)
	if errors.Is(err, members.ErrTurnedAway) {
		err = fmt.Errorf("%w: %w", joining.ErrNotGranted, err)
	}
	return err
}

// Admit proposes what lets a box in.
func (d *door) Admit(ctx context.Context, dec *coord.Decision, request []byte) error {
	if err := access.WithRequest(dec, request); err != nil {
		return err
	}
	_, err := d.s.Decide(ctx, dec)
	for _, x := range []struct{ is, to error }{
		{site.ErrStale, joining.ErrOvertaken},
		{site.ErrBusy, joining.ErrBusy},
		{site.ErrStopped, joining.ErrBusy},
		{site.ErrRefused, joining.ErrNotGranted},
		{site.ErrExpired, joining.ErrNotGranted},
		{site.ErrNoRoom, joining.ErrNotGranted},
		{site.ErrDecision, joining.ErrNotGranted},
	} {
		if errors.Is(err, x.is) {
			return fmt.Errorf("%w: %w", x.to, err)
		}
	}
	return err
}

// Undecided says how the decision about a token stands.
func (d *door) Undecided(t join.TokenID) string {
	open, _ := d.s.Decisions()
	for i := range open {
		if o := &open[i]; o.Kind == join.MakeToken && o.Subject == t.String() {
			return fmt.Sprintf("%d of %d words are given; operators on other boxes approve it with `holdfast decision approve %s`", len(o.Yes), o.Needed, o.ID.Short())
		}
	}
	return ""
}

// Open is how many decisions but d this box has proposed that would use up a token.
func (d *door) Open(token join.TokenID, but *coord.Decision) int {
	st, self, n := d.s.State(), d.s.View().ID, 0
	id := but.Digest(st.Members().Site)
	for _, o := range st.Open() {
		uses := slices.ContainsFunc(o.Decision.Writes, func(w coord.DocWrite) bool { return w.Key == join.DocKey(token) })
		if o.ID != id && o.By == self && uses {
			n++
		}
	}
	return n
}

// Words is who has given its word so far.
func (d *door) Words(dec *coord.Decision) (w joining.Words) {
	st := d.s.State()
	open, done := st.Decision(dec.Digest(st.Members().Site))
	switch {
	case open != nil:
		w.Yes, w.No = open.Yes, open.No
	case done != nil:
		w.Yes, w.No = done.Yes, done.No
	}
	return w
}
