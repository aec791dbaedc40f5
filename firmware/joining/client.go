package joining

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

const (
	dialMax = 5 * time.Second
	// quietMax is how long a box may say nothing while a joiner waits: it says something each sayAgain, but while the members sign.
	quietMax = chainMax + 15*time.Second
	// searchTries is how many hashes are tried before a worker looks whether it is to stop: some 10 ms.
	searchTries = 1 << 15
	// againMin and againMax bound the pause before a box that failed is asked again; it doubles.
	againMin = 500 * time.Millisecond
	againMax = 15 * time.Second
)

// Progress is what a joiner may tell people. One field is set.
type Progress struct {
	// Puzzle is the zero bits that the box asks for, and Solved how long finding them took.
	Puzzle int
	Solved time.Duration
	// Site is the site's newest member set, as the token proves it.
	Site  *coord.Members
	Waits *Waits
	// Again is why the next try is made, in so long.
	Again error
	In    time.Duration
}

// Signer is the new box's key (coord/trust.Identity).
type Signer interface {
	join.Signer
	Certificate() tls.Certificate
}

// Ask is what a box asks for. All fields are required but Tell, Listener and Wall.
type Ask struct {
	Token *join.Token
	// Servers are the joining ports of boxes of the site; one is enough.
	Servers []string
	Key     Signer
	// Box is the new member: its name and addresses.
	Box coord.Member
	// Listener is at the box's peer address: the site wants to see that it reaches it. Join closes it. It may be nil when something else
	// answers there with the box's key.
	Listener net.Listener
	Random   io.Reader
	Workers  int           // goroutines that solve puzzles
	Wall     func() uint64 // Unix milliseconds
	Tell     func(p Progress)
}

// Join asks the site to let the box in until it is in, is refused, or ctx ends. It believes no single box: what it gives back is
// proved by the token and by the members' signatures.
// Errors: those of coord/trust/join, ErrReach, ErrLocked, ErrNotGranted, ErrLiar, or of ctx.
func Join(ctx context.Context, a Ask) (*coord.Members, error) {
	if len(a.Servers) == 0 {
		return nil, fmt.Errorf("joining: %w: no address of a box of the site", ErrProtocol)
	}
	if a.Tell == nil {
		a.Tell = func(Progress) {}
	}
	j := &joiner{Ask: a}
	if _, err := io.ReadFull(a.Random, j.nonce[:]); err != nil {
		return nil, fmt.Errorf("joining: %w", err)
	}
	if a.Listener != nil {
		var probes sync.WaitGroup
		defer probes.Wait()
		defer func() { _ = a.Listener.Close() }()
		probes.Go(func() { answerProbes(ctx, a.Listener, a.Key) })
	}
	pause, refusals := againMin, 0
	for try := 0; ; try++ {
		m, err := j.once(ctx, a.Servers[try%len(a.Servers)])
		if err == nil {
			return m, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("joining: %w (last: %w)", context.Cause(ctx), err)
		}
		// A refusal is one box's word, and it may lie: it counts when all say so, one after the other.
		if refusals++; !final(err) {
			refusals = 0
		}
		if refusals >= len(a.Servers) {
			return nil, err
		}
		if errors.Is(err, join.ErrStale) {
			j.request = nil // it waited too long; a new one is as good
		}
		a.Tell(Progress{Again: err, In: pause})
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		if (try+1)%len(a.Servers) == 0 {
			pause = min(2*pause, againMax)
		}
	}
}

// final says whether asking again is of no use.
func final(err error) bool {
	if errors.Is(err, join.ErrUndecided) || errors.Is(err, join.ErrStale) || errors.Is(err, join.ErrLate) || errors.Is(err, join.ErrWork) || errors.Is(err, ErrBusy) {
		return false
	}
	return errors.Is(err, ErrLiar) || errors.Is(err, ErrReach) || errors.Is(err, ErrLocked) || errors.Is(err, ErrNotGranted) || join.Code(err) != ""
}

type joiner struct {
	Ask
	nonce   [16]byte
	request []byte // made once: a second connection brings the same
}

// once is one try at one box.
func (j *joiner) once(ctx context.Context, server string) (*coord.Members, error) {
	s, err := j.work(ctx, server)
	if err != nil {
		return nil, err
	}
	raw, err := dial(ctx, server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = raw.Close() }()
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	_ = raw.SetDeadline(time.Now().Add(talkMax))
	if err := show(raw, s); err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol},
		InsecureSkipVerify: true, // the key is judged by the chain, in talk
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("joining: %s: %w", server, err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != protocol {
		return nil, fmt.Errorf("joining: %w: %s speaks something else", ErrProtocol, server)
	}
	return j.talk(conn, coord.BoxIDOf(state.PeerCertificates[0].RawSubjectPublicKeyInfo), state.PeerCertificates[0].RawSubjectPublicKeyInfo)
}

func dial(ctx context.Context, server string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialMax}
	conn, err := d.DialContext(ctx, "tcp", server)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("joining: nothing listens at %s: does the box run, and is that listen of [join] in its configuration? %w", server, err)
	case err != nil:
		return nil, fmt.Errorf("joining: %s is not reached: is the address right, and does a firewall let the port through? %w", server, err)
	}
	return conn, nil
}

// noJoiningPort says what to do about an address where something else listens.
const noJoiningPort = "gives no puzzle, so it is no joining port; that is listen of [join] in that box's configuration (`holdfast site join-token` prints it)"

// work gets a puzzle and solves it.
func (j *joiner) work(ctx context.Context, server string) (*join.Solution, error) {
	conn, err := dial(ctx, server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // it was only to read
	_ = conn.SetDeadline(time.Now().Add(dialMax))
	var b [join.ChallengeBytes]byte
	if _, err := io.WriteString(conn, askFor); err != nil {
		return nil, fmt.Errorf("joining: %s: %w", server, err)
	}
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return nil, fmt.Errorf("joining: %s %s: %w", server, noJoiningPort, err)
	}
	c, err := join.ParseChallenge(b[:])
	if err != nil {
		return nil, fmt.Errorf("joining: %w: %s %s", ErrProtocol, server, noJoiningPort)
	}
	j.Tell(Progress{Puzzle: c.Bits()})
	began := time.Now()
	s, err := solve(ctx, &c, max(j.Workers, 1))
	if err == nil {
		j.Tell(Progress{Solved: max(time.Since(began), 1)})
	}
	return s, err
}

// solve looks for a solution with some goroutines.
func solve(ctx context.Context, c *join.Challenge, workers int) (*join.Solution, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan join.Solution, workers)
	var all sync.WaitGroup
	defer all.Wait()
	for i := range uint64(workers) {
		all.Go(func() {
			for at := i; ctx.Err() == nil; {
				s, next, ok := c.Search(at, uint64(workers), searchTries)
				if ok {
					found <- s
					cancel()
					return
				}
				at = next
			}
		})
	}
	all.Wait()
	select {
	case s := <-found:
		return &s, nil
	default:
		return nil, fmt.Errorf("joining: solve: %w", context.Cause(ctx))
	}
}

// show brings the solution and reads what the box makes of it.
func show(conn net.Conn, s *join.Solution) error {
	if _, err := conn.Write(append([]byte(solved), s[:]...)); err != nil {
		return fmt.Errorf("joining: %w", err)
	}
	var is [1]byte
	if _, err := io.ReadFull(conn, is[:]); err != nil {
		return fmt.Errorf("joining: no answer to the solution: %w", err)
	}
	switch is[0] {
	case goOn:
		return nil
	case late:
		return fmt.Errorf("joining: %w", join.ErrLate)
	case busy:
		return fmt.Errorf("joining: %w", ErrBusy)
	}
	return fmt.Errorf("joining: %w", join.ErrWork)
}

// talk asks a box whose key is server, within TLS.
func (j *joiner) talk(conn net.Conn, id coord.BoxID, key []byte) (*coord.Members, error) {
	if err := writeFrame(conn, append(append([]byte{}, j.Token.Site[:]...), j.Token.ID[:]...)); err != nil {
		return nil, err
	}
	first, err := readAnswer(conn)
	if err != nil {
		return nil, err
	}
	m, err := j.believe(first)
	if err != nil {
		return nil, err
	}
	if i := m.Index(id); i < 0 || string(m.List[i].Key) != string(key) {
		return nil, fmt.Errorf("joining: %w: its key, of %v, is none of the members'", ErrLiar, id)
	}
	j.Tell(Progress{Site: m})
	if err := j.sign(m.Site, first.Seconds); err != nil {
		return nil, err
	}
	if err := writeFrame(conn, j.request); err != nil {
		return nil, err
	}
	for {
		_ = conn.SetReadDeadline(time.Now().Add(quietMax))
		a, err := readAnswer(conn)
		if err != nil {
			return nil, err
		}
		if a.Waits != nil {
			j.Tell(Progress{Waits: a.Waits})
			continue
		}
		m, err := j.believe(a)
		if err != nil {
			return nil, err
		}
		if i := m.Index(coord.BoxIDOf(j.Key.PublicKey())); i < 0 || string(m.List[i].Key) != string(j.Key.PublicKey()) {
			return nil, fmt.Errorf("joining: %w: it says that the box is in, and the members do not", ErrLiar)
		}
		return m, nil
	}
}

// believe takes a chain that the token and the members' signatures prove, and gives the set that it leads to.
func (j *joiner) believe(a *Answer) (*coord.Members, error) {
	if a.Code != "" {
		return nil, errorOf(a)
	}
	if a.Chain == nil {
		return nil, fmt.Errorf("joining: %w: an answer that says nothing", ErrProtocol)
	}
	if err := a.Chain.Check(j.Token.Site); err != nil {
		return nil, fmt.Errorf("joining: %w: %w", ErrLiar, err)
	}
	return a.Chain.Last(), nil
}

// sign makes the request, unless it was made before.
func (j *joiner) sign(site coord.SiteID, seconds uint64) error {
	if j.request != nil {
		return nil
	}
	r := &join.Request{Site: site, Box: j.Box, Seconds: seconds, Nonce: j.nonce}
	if j.Wall != nil {
		r.WallMs = j.Wall()
	}
	if err := r.Sign(j.Token, j.Key); err != nil {
		return err
	}
	j.request = r.Append(nil)
	return nil
}

// answerProbes shows the box's key to whoever connects, until the listener is closed.
func answerProbes(ctx context.Context, l net.Listener, key Signer) {
	config := &tls.Config{Certificates: []tls.Certificate{key.Certificate()}, MinVersion: tls.VersionTLS13}
	places := make(chan struct{}, 8) // more wait in the kernel's queue
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			defer func() { _ = conn.Close() }() // nothing is said
			_ = conn.SetDeadline(time.Now().Add(reachMax))
			_ = tls.Server(conn, config).HandshakeContext(ctx) // who it is does not matter
		})
	}
}
