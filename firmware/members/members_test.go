package members_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
	"github.com/holdfast-edge/holdfast/firmware/console"
	"github.com/holdfast-edge/holdfast/firmware/members"
)

// fakeSite is a site in which every decision takes effect.
type fakeSite struct {
	t       *testing.T
	docs    map[string]coord.Doc
	members *coord.Members
	down    []coord.BoxID
	decided []*coord.Decision
	waits   bool
	lobby   *members.Lobby
	acts    []*console.Act
}

func (s *fakeSite) Doc(key string) (coord.Doc, bool) { d, ok := s.docs[key]; return d, ok }
func (s *fakeSite) Members() *coord.Members          { return s.members }
func (s *fakeSite) Seconds() uint64                  { return 100 }
func (s *fakeSite) Up(id coord.BoxID) bool           { return !slices.Contains(s.down, id) }

func (s *fakeSite) Docs(prefix string) (list []coord.Doc) {
	for k, d := range s.docs {
		if strings.HasPrefix(k, prefix) {
			list = append(list, d)
		}
	}
	return list
}

func (s *fakeSite) decide(_ context.Context, _ *console.Caller, d *coord.Decision) error {
	s.t.Helper()
	check := func() error { return roster.Check(s, d) }
	switch d.Kind {
	case join.MakeToken:
		check = func() error { return join.CheckOffer(s, d) }
	case join.RevokeToken:
		check = func() error { return join.CheckWithdrawal(d) }
	}
	if err := check(); err != nil {
		s.t.Errorf("%s would not be given a word: %v", d.Kind, err)
	}
	s.decided = append(s.decided, d)
	if s.waits {
		return fmt.Errorf("%w: box-1, box-2", console.ErrLater)
	}
	for _, w := range d.Writes {
		s.docs[w.Key] = coord.Doc{Key: w.Key, Version: uint64(len(s.decided)), Value: w.Value}
		if w.Value == nil {
			delete(s.docs, w.Key)
		}
	}
	return nil
}

func key(t *testing.T) []byte {
	t.Helper()
	id, err := trust.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id.PublicKey()
}

func newDesk(t *testing.T, n int) (*fakeSite, func(path string, p console.Params) (*members.Answer, error)) {
	t.Helper()
	s := &fakeSite{t: t, lobby: members.NewLobby(), docs: map[string]coord.Doc{}, members: &coord.Members{Site: coord.SiteID{1}, Epoch: 1}}
	for i := range n {
		k := key(t)
		s.members.List = append(s.members.List, coord.Member{ID: coord.BoxIDOf(k), Name: fmt.Sprint("box-", i), Key: k, Peer: "10.0.0.1:7400"})
	}
	next := key(t)
	d := members.New(members.Config{
		Site: s, Decide: s.decide, Random: rand.Reader, Listen: "10.0.0.1:7500",
		Lobby: s.lobby,
		Self:  func() coord.BoxID { return s.members.List[0].ID }, NextKey: func() ([]byte, error) { return next, nil },
	})
	s.acts = d.Acts()
	return s, func(path string, p console.Params) (*members.Answer, error) {
		t.Helper()
		for _, a := range s.acts {
			if a.Path == path {
				got, err := a.Run(t.Context(), &console.Caller{Principal: "operator:ann"}, p)
				if got == nil {
					return nil, err
				}
				return got.(*members.Answer), err
			}
		}
		t.Fatalf("there is no %s", path)
		return nil, nil
	}
}

func TestChangesAreWeighedBeforeTheyAreAskedFor(t *testing.T) {
	k := base64.StdEncoding.EncodeToString(key(t))
	entry := func(more console.Params) console.Params {
		p := console.Params{"name": "new", "peer": "10.0.0.9:7400", "key": k}
		maps.Copy(p, more)
		return p
	}
	for _, tc := range []struct {
		name, path string
		boxes      int
		down       []int
		p          console.Params
		refused    string // empty: done
	}{
		{"4 to 3", "/site/remove", 4, nil, console.Params{"box": "box-3"}, "refused unless --force"},
		{"4 to 3 with force", "/site/remove", 4, nil, console.Params{"box": "box-3", "force": "true"}, ""},
		{"what locks, with force", "/site/remove", 4, []int{3}, console.Params{"box": "box-0", "force": "true"}, "not even to undo this"},
		{"5 to 4", "/site/remove", 5, nil, console.Params{"box": "box-3"}, ""},
		{"1 to 2 by hand", "/site/add", 1, nil, entry(nil), "refused unless --force"},
		{"1 to 2 by hand with force", "/site/add", 1, nil, entry(console.Params{"force": "true"}), ""},
		{"4 to 5", "/site/add", 4, nil, entry(nil), ""},
		{"a name that is taken", "/site/add", 4, nil, entry(console.Params{"name": "box-1"}), "another box has this name"},
		{"a key that is none", "/site/add", 4, nil, entry(console.Params{"key": "AAAA"}), "bad member"},
		{"no key", "/site/add", 4, nil, console.Params{"name": "x", "peer": "x:1"}, "public key"},
		{"a stranger", "/site/remove", 4, nil, console.Params{"box": "nobody"}, "no such box"},
		{"the last one", "/site/remove", 1, nil, console.Params{"box": "box-0"}, "last box"},
		{"a lost one", "/site/replace", 4, []int{2}, console.Params{"box": "box-2", "key": k}, ""},
		{"an address that it has", "/site/edit", 4, nil, console.Params{"box": "box-2", "peer": "10.0.0.1:7400"}, "change nothing"},
		{"a new address", "/site/edit", 4, nil, console.Params{"box": "box-2", "peer": "10.0.0.8:7400"}, ""},
		{"an address that is none", "/site/edit", 4, nil, console.Params{"box": "box-2", "peer": "nowhere"}, "bad member"},
		{"a new key", "/site/rotate-key", 4, nil, console.Params{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, do := newDesk(t, tc.boxes)
			for _, i := range tc.down {
				s.down = append(s.down, s.members.List[i].ID)
			}
			a, err := do(tc.path, tc.p)
			if tc.refused != "" {
				if !errors.Is(err, console.ErrBad) || !strings.Contains(err.Error(), tc.refused) || len(s.decided) > 0 {
					t.Fatalf("%v, %d decisions; want %q", err, len(s.decided), tc.refused)
				}
				return
			}
			if err != nil || !a.Done || a.Advice == nil || len(s.decided) != 1 || s.decided[0].Principal != "operator:ann" {
				t.Fatalf("%+v, %v", a, err)
			}
			if forced := tc.p["force"] == "true"; forced != (s.decided[0].Reason == "forced") {
				t.Errorf("reason %q", s.decided[0].Reason)
			}
		})
	}
}

func TestAskingWhatAChangeDoesChangesNothing(t *testing.T) {
	s, do := newDesk(t, 4)
	a, err := do("/site/remove", console.Params{"box": "box-3", "check": "true"})
	if err != nil || a.Done || a.Advice.Verdict != roster.Forced || len(s.decided) > 0 {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestWhatWaitsForOthersSaysSo(t *testing.T) {
	s, do := newDesk(t, 5)
	s.waits = true
	if a, err := do("/site/remove", console.Params{"box": "box-3"}); !errors.Is(err, console.ErrLater) || a == nil || a.Done {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestATokenMadeElsewhereKeepsItsSecretThere(t *testing.T) {
	s, do := newDesk(t, 4)
	tok, err := join.NewToken(join.SiteHash(s.members), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, _ := tok.Key()
	p := console.Params{
		"id": tok.ID.String(), "site_hash": tok.Site.String(), "key": base64.StdEncoding.EncodeToString(k.PublicKey()), "ttl": "60", "replaces": "box-2",
	}
	a, err := do("/site/join-token", p)
	if err != nil || a.Token != "" || a.NotAfter != 160 || a.Listen != "10.0.0.1:7500" {
		t.Fatalf("%+v, %v", a, err)
	}
	if doc, err := join.ParseDoc(s.docs[join.DocKey(tok.ID)].Value); err != nil || *doc.Replaces != s.members.List[2].ID {
		t.Fatalf("%+v, %v", doc, err)
	}
	if _, err := do("/site/withdraw", console.Params{"id": tok.ID.String()}); err != nil || len(s.docs) != 0 {
		t.Fatalf("not taken back: %v", err)
	}
	if _, err := do("/site/withdraw", console.Params{"id": tok.ID.String()}); !errors.Is(err, console.ErrBad) {
		t.Fatalf("twice: %v", err)
	}
	a, err = do("/site/join-token", console.Params{}) // the box makes one itself, for a page
	if err != nil {
		t.Fatal(err)
	}
	if got, err := join.ParseToken(a.Token); err != nil || got.ID.String() != a.ID || got.Site != tok.Site {
		t.Fatalf("%v, %v", got, err)
	}
	for name, edit := range map[string]func(p console.Params){
		"an old list's hash": func(p console.Params) { p["site_hash"] = strings.Repeat("0", 64) },
		"half a hash":        func(p console.Params) { p["site_hash"] = p["site_hash"][:32] },
		"no id":              func(p console.Params) { p["id"] = "x" },
		"no key":             func(p console.Params) { p["key"] = "x" },
		"another key":        func(p console.Params) { p["key"] = "AAAA" },
		"no time":            func(p console.Params) { p["ttl"] = "soon" },
		"too short":          func(p console.Params) { p["ttl"] = "1" },
		"nobody's place":     func(p console.Params) { p["replaces"] = "nobody" },
	} {
		q := console.Params{}
		maps.Copy(q, p)
		edit(q)
		if _, err := do("/site/join-token", q); !errors.Is(err, console.ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestToLetInABoxThatTakesAPlaceIsToReplace(t *testing.T) {
	s, do := newDesk(t, 4)
	old := s.members.List[2].ID
	var admit *console.Act
	for _, a := range s.acts {
		if a.Path == "/site/admit" {
			admit = a
		}
	}
	for name, replaces := range map[string]*coord.BoxID{"a place of its own": nil, "another's": &old} {
		id := coord.BoxID{7, 0xab, byte(len(name))}
		p := console.Params{"box": strings.ToUpper(id.String())}
		if got := admit.ActionOf(p); got != roster.Add {
			t.Errorf("nobody waits: %s", got)
		}
		fields := console.Params{}
		if replaces != nil {
			fields["replaces"] = replaces.String()
		}
		a, err := do("/site/join-token", fields)
		if err != nil {
			t.Fatal(err)
		}
		var token join.TokenID
		if err := token.UnmarshalText([]byte(a.ID)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		said := make(chan error, 1)
		go func() {
			said <- s.lobby.Wait(ctx, &join.Request{Token: token, Box: coord.Member{ID: id}}, "10.0.0.9:1")
		}()
		for len(s.lobby.Guests()) == 0 {
			runtime.Gosched()
		}
		action, on := roster.Add, ""
		if replaces != nil {
			action, on = roster.Replace, "box:"+old.String()
		}
		if got, what := admit.ActionOf(p), admit.Resource(p); got != action || what != on {
			t.Errorf("%s: asks for %s on %q", name, got, what)
		}
		cancel()
		<-said
	}
}

func TestABoxWaitsForTheOperatorsWord(t *testing.T) {
	s, do := newDesk(t, 4)
	ask := func(ctx context.Context, id byte) chan error {
		said := make(chan error, 1)
		go func() {
			said <- s.lobby.Wait(ctx, &join.Request{Token: join.TokenID{9}, Box: coord.Member{ID: coord.BoxID{id}, Name: "new"}}, "10.0.0.9:1")
		}()
		for !slices.ContainsFunc(s.lobby.Guests(), func(g members.Guest) bool { return g.ID == coord.BoxID{id} }) {
			runtime.Gosched()
		}
		return said
	}
	first := ask(t.Context(), 1)
	second := ask(t.Context(), 2) // with the same token
	if err := <-first; !errors.Is(err, members.ErrTurnedAway) {
		t.Fatalf("two with one token: %v", err)
	}
	if _, err := do("/site/admit", console.Params{"box": coord.BoxID{1}.String()}); !errors.Is(err, console.ErrBad) {
		t.Fatalf("one that does not wait: %v", err)
	}
	if _, err := do("/site/admit", console.Params{"box": coord.BoxID{2}.String()}); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	third := ask(t.Context(), 3)
	if _, err := do("/site/refuse", console.Params{"box": coord.BoxID{3}.String()}); err != nil {
		t.Fatal(err)
	}
	if err := <-third; !errors.Is(err, members.ErrTurnedAway) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	fourth := ask(ctx, 4)
	cancel()
	if err := <-fourth; !errors.Is(err, context.Canceled) || len(s.lobby.Guests()) > 0 {
		t.Fatal(err)
	}
}
