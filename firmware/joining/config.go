package joining

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

// tokenFileBytesMax bounds what is read of a token file: a token and white space.
const tokenFileBytesMax = 1 << 10

// ErrEntry says that a configuration does not say how the others know or reach the box.
var ErrEntry = errors.New("the box's entry in the list is not complete")

// ErrInSite says that a box is in a site already.
var ErrInSite = errors.New("the box is in a site already")

// Entry is how a box wants to be listed: what is given, and where that is empty what its configuration says, without its key.
// Errors: ErrEntry, config.ErrValue.
func Entry(c *config.Config, given coord.Member) (*coord.Member, error) {
	native, err := c.NativeListen()
	if err != nil {
		return nil, err
	}
	m := given
	if m.Name == "" {
		m.Name = c.Name
	}
	for _, f := range []struct {
		to     *string
		listen string
	}{{&m.Peer, c.Peer.Listen}, {&m.Client, c.Client.Listen}, {&m.Native, native}, {&m.Console, c.Console.Listen}} {
		if *f.to == "" {
			*f.to = reachable(f.listen, c.Join.Address)
			if config.Loopback(*f.to) && !config.Loopback(m.Peer) && f.to != &m.Peer {
				*f.to = "" // nothing to boxes on other machines
			}
		}
	}
	switch {
	case m.Name == "":
		return nil, fmt.Errorf("%w: it has no name", ErrEntry)
	case m.Peer == "":
		return nil, fmt.Errorf("%w: nothing says where the other boxes reach it", ErrEntry)
	}
	return &m, nil
}

// reachable is a listen address as others may use it: one without a host, or with all of the machine's, says nothing to them, unless
// the machine's address is known.
func reachable(listen, address string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if address == "" {
			return ""
		}
		return net.JoinHostPort(address, port)
	}
	return listen
}

// ListenPeer listens where the site will look for a box that wants to join. Where something listens already it is nil: the box itself, most
// likely, and if not the site says so.
func ListenPeer(ctx context.Context, c *config.Config, m *coord.Member) (net.Listener, error) {
	at := c.Peer.Listen
	if at == "" {
		at = m.Peer
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("joining: listen where other boxes reach this one: %w; set peer.listen if its peer address is none of this machine", err)
	}
	return l, nil
}

// Ready is an Ask of the box that c configures, with all but Token and Servers.
func Ready(ctx context.Context, c *config.Config, key Signer, m *coord.Member) (Ask, error) {
	l, err := ListenPeer(ctx, c, m)
	return Ask{
		Key: key, Box: *m, Listener: l, Random: rand.Reader, Workers: runtime.GOMAXPROCS(0),
		Wall: func() uint64 { return uint64(max(time.Now().UnixMilli(), 0)) },
	}, err
}

// Found makes a site whose only box is m, with key, and writes its site.json. A directory that has a site is left as it is: ErrInSite.
func Found(c *config.Config, key Signer, m coord.Member) (*coord.Members, error) {
	if _, err := os.Stat(filepath.Join(c.DataDir, trust.SiteFile)); err == nil {
		return nil, fmt.Errorf("%w: %s has %s", ErrInSite, c.DataDir, trust.SiteFile)
	}
	m.Key = key.PublicKey()
	m.ID = coord.BoxIDOf(m.Key)
	members := &coord.Members{Epoch: 1, List: []coord.Member{m}}
	if _, err := io.ReadFull(rand.Reader, members.Site[:]); err != nil {
		return nil, fmt.Errorf("joining: found: %w", err)
	}
	return members, trust.SaveMembers(c.DataDir, members)
}

// FromConfig joins with the token and the servers of c's [join], writes site.json, and returns; it does nothing where they are
// not set. It tells how it stands. Errors: those of Join, ErrEntry, or what the file system says.
func FromConfig(ctx context.Context, c *config.Config, key Signer, tell func(Progress)) error {
	if c.Join.TokenFile == "" {
		return nil
	}
	t, err := readTokenFile(c.Join.TokenFile)
	if err != nil {
		return err
	}
	return With(ctx, c, key, t, c.Join.Servers, coord.Member{}, tell)
}

// With joins with a token at servers as given and c's configuration say, and writes site.json. Errors: as FromConfig.
func With(ctx context.Context, c *config.Config, key Signer, t *join.Token, servers []string, given coord.Member, tell func(Progress)) error {
	m, err := Entry(c, given)
	if err != nil {
		return err
	}
	a, err := Ready(ctx, c, key, m)
	if err != nil {
		return err
	}
	a.Token, a.Servers, a.Tell = t, servers, tell
	members, err := Join(ctx, a)
	if err != nil {
		return err
	}
	return trust.SaveMembers(c.DataDir, members)
}

func readTokenFile(path string) (*join.Token, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("joining: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, tokenFileBytesMax))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("joining: %w", err)
	}
	t, err := join.ParseToken(string(b))
	if err != nil {
		return nil, fmt.Errorf("joining: %s: %w", path, err)
	}
	return t, nil
}

// String says to people how a join stands.
func (p *Progress) String() string {
	switch {
	case p.Again != nil:
		return fmt.Sprintf("%v; again in %v", p.Again, p.In)
	case p.Puzzle > 0:
		return fmt.Sprintf("solving a puzzle of %d bits", p.Puzzle)
	case p.Solved > 0:
		return fmt.Sprintf("solved after %v", p.Solved.Round(time.Millisecond))
	case p.Site != nil:
		return fmt.Sprintf("the token's site is %v, epoch %d, %v", p.Site.Site, p.Site.Epoch, roster.SumsOf(p.Site.N()))
	case p.Waits != nil:
		w := p.Waits
		line := fmt.Sprintf("waiting for approval: %d of %d words", len(w.Yes), w.Need)
		if len(w.Missing) > 0 {
			line += ", missing " + quoted(w.Missing)
		}
		if len(w.No) > 0 {
			line += ", against it " + quoted(w.No)
		}
		return line
	}
	return ""
}

// quoted makes names from outside safe for a terminal.
func quoted(names []string) string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, strings.Trim(fmt.Sprintf("%+.64q", n), `"`))
	}
	return strings.Join(out, ", ")
}
