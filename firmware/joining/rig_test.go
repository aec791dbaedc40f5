package joining_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/firmware/joining"
)

// fakeSite is a site whose boxes are all in this process: what is admitted takes effect when hold lets it.
type fakeSite struct {
	keys []*trust.Identity // by place
	hold chan struct{}     // nil: at once

	mu       sync.Mutex
	docs     map[string]coord.Doc
	members  *coord.Members
	past     []join.Past
	now      uint64
	versions uint64
	down     []coord.BoxID
	words    joining.Words
	open     int
	refusal  error
	// undecided is how the decision about a token that is not known stands.
	undecided string
	// overtaken is how many decisions are overtaken by others.
	overtaken int
	records   []audit.Record
}

func (s *fakeSite) Doc(key string) (coord.Doc, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.docs[key]
	return d, ok
}

func (s *fakeSite) Docs(prefix string) (list []coord.Doc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, d := range s.docs {
		if strings.HasPrefix(k, prefix) {
			list = append(list, d)
		}
	}
	return list
}

func (s *fakeSite) Members() *coord.Members {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members
}

func (s *fakeSite) Seconds() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *fakeSite) Past() ([]join.Past, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.past), nil
}

func (s *fakeSite) Up(id coord.BoxID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.Contains(s.down, id)
}

func (s *fakeSite) Undecided(join.TokenID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.undecided
}

func (s *fakeSite) Words(*coord.Decision) joining.Words {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.words
}

func (s *fakeSite) Open(join.TokenID, *coord.Decision) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func (s *fakeSite) openOf(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = n
}

func (s *fakeSite) record(_ context.Context, r audit.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, r)
	return nil
}

func (s *fakeSite) recorded(outcome audit.Outcome, policy string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.records, func(r audit.Record) bool { return r.Outcome == outcome && r.Policy == policy })
}

func (s *fakeSite) Approve(context.Context, *join.Request, string) error { return nil }

func (s *fakeSite) Admit(ctx context.Context, d *coord.Decision, request []byte) error {
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.refusal != nil {
		return s.refusal
	}
	if s.overtaken > 0 {
		s.overtaken--
		return joining.ErrOvertaken
	}
	if err := join.CheckAdmission(s, d, request); err != nil {
		return err
	}
	s.decide(d)
	r, err := join.DecodeRequest(request)
	if err != nil {
		return err
	}
	s.begin(append(slices.Clone(s.Members().List), r.Box))
	return nil
}

func (s *fakeSite) decide(d *coord.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions++
	for _, w := range d.Writes {
		s.docs[w.Key] = coord.Doc{Key: w.Key, Version: s.versions, Value: w.Value}
	}
}

// begin begins an epoch; the boxes of the one before sign it.
func (s *fakeSite) begin(list []coord.Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members
	next := &coord.Members{Site: m.Site, Epoch: m.Epoch + 1, List: list}
	step := join.Step{Block: coord.Digest{byte(m.Epoch)}, Height: m.Epoch, Next: next}
	for v, key := range s.keys {
		sig := key.SignVote(m.Site, coord.VoteEpoch, m.Epoch, step.Height, coord.HandoverDigest(step.Block, next.Digest()))
		step.Sigs = append(step.Sigs, join.StepSig{Voter: uint8(v), Sig: sig})
	}
	s.past, s.members = append(s.past, join.Past{Members: m, Step: step}), next
}

func newBox(t testing.TB) *trust.Identity {
	t.Helper()
	id, err := trust.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newSite(t testing.TB, n int) *fakeSite {
	t.Helper()
	s := &fakeSite{docs: map[string]coord.Doc{}, now: 1000}
	s.members = &coord.Members{Site: coord.SiteID{1, 2, 3}, Epoch: 1}
	for i := range n {
		id := newBox(t)
		s.keys = append(s.keys, id)
		s.members.List = append(s.members.List, coord.Member{ID: id.ID(), Name: fmt.Sprint("box-", i), Key: id.PublicKey(), Peer: "127.0.0.1:1"})
	}
	return s
}

func (s *fakeSite) token(t testing.TB) *join.Token {
	t.Helper()
	tok, err := join.NewToken(join.SiteHash(s.Members()), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.decide(s.offer(t, tok))
	return tok
}

// offer is the decision that makes the site know a token.
func (s *fakeSite) offer(t testing.TB, tok *join.Token) *coord.Decision {
	t.Helper()
	d, err := join.Offer(s, tok, public(t, tok), join.Wish{}, "operator:ann", 1)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// port serves the joining port of box 0 until the test ends.
func port(t testing.TB, s *fakeSite, bits int, edit ...func(*joining.Config)) (*joining.Server, string) {
	t.Helper()
	c := joining.Config{
		Certificate: s.keys[0].Certificate(), Site: s, Bits: bits, Random: rand.Reader, Record: s.record,
		Logger: quiet(),
	}
	for _, e := range edit {
		e(&c)
	}
	srv, err := joining.New(c)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := srv.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); all.Wait() })
	return srv, l.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ask is what a new box called name asks, listening for probes.
func ask(t testing.TB, tok *join.Token, name string, servers ...string) joining.Ask {
	t.Helper()
	l := listen(t)
	return joining.Ask{
		Token: tok, Servers: servers, Key: newBox(t), Listener: l, Random: rand.Reader, Workers: runtime.GOMAXPROCS(0),
		Box: coord.Member{Name: name, Peer: l.Addr().String()},
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// public is the public half of a token.
func public(t testing.TB, tok *join.Token) []byte {
	t.Helper()
	k, err := tok.Key()
	if err != nil {
		t.Fatal(err)
	}
	return k.PublicKey()
}
