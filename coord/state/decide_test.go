package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// council is a machine of a site whose members 1 to n order one message a block, and any other box too.
type council struct {
	*rig
	seqs map[coord.BoxID]uint64
}

func newCouncil(t testing.TB, n int) *council {
	c := &council{rig: newRig(t), seqs: map[coord.BoxID]uint64{}}
	c.found(n)
	return c
}

func (c *council) found(n int) { c.m.SetSite(siteOf(memberIDs(1, n)...), coord.BoxID{}) }

func memberIDs(from, to int) (ids []coord.BoxID) {
	for i := from; i <= to; i++ {
		ids = append(ids, coord.BoxID{byte(i)})
	}
	return ids
}

// say orders messages of boxes in one block and gives how each was taken.
func (c *council) say(said ...voice) (out []coord.Result) {
	c.t.Helper()
	c.begin()
	for _, s := range said {
		c.seqs[s.by]++
		kind := s.kind
		if kind == 0 {
			kind = coord.KindDecide
		}
		res, ok := c.m.Batch(s.by, c.seqs[s.by], c.seqs[s.by]-1, message(kind, "", s.value), nil)
		if !ok {
			c.t.Fatal("a batch took no effect")
		}
		out = append(out, slices.Clone(res)...)
	}
	c.m.End()
	if err := c.m.Err(); err != nil {
		c.t.Fatal(err)
	}
	return out
}

type voice struct {
	by    coord.BoxID
	value []byte
	kind  coord.Kind
}

func proposes(by int, d *coord.Decision) voice {
	return voice{by: coord.BoxID{byte(by)}, value: AppendProposal(nil, d)}
}

func says(by int, id coord.Digest, yes bool) voice {
	return voice{by: coord.BoxID{byte(by)}, value: AppendWord(nil, id, yes)}
}

func (c *council) propose(by int, d *coord.Decision) (coord.Digest, Refusal) {
	c.t.Helper()
	return d.Digest(coord.SiteID{1}), RefusalOf(&c.say(proposes(by, d))[0])
}

func (c *council) word(by int, id coord.Digest, yes bool) Refusal {
	c.t.Helper()
	return RefusalOf(&c.say(says(by, id, yes))[0])
}

// pass lets seconds pass by the site's clock.
func (c *council) pass(seconds int) {
	c.t.Helper()
	for range seconds {
		now, _ := c.m.Clock()
		var all []voice
		for _, m := range c.m.Members().List {
			all = append(all, voice{m.ID, kv.AppendNumber(nil, now+1), coord.KindTick})
		}
		c.say(all...)
	}
}

// outcome is how a decision ended; 0: it is open, or unknown.
func (c *council) outcome(id coord.Digest) Outcome {
	if _, d := c.m.Decision(id); d != nil {
		return d.Outcome
	}
	return 0
}

func (c *council) want(id coord.Digest, want Outcome) {
	c.t.Helper()
	if got := c.outcome(id); got != want {
		c.t.Fatalf("the decision %v, want %v", got, want)
	}
}

func setting(key, value string, was uint64) *coord.Decision {
	return &coord.Decision{Kind: "setting.change", Writes: []coord.DocWrite{{Key: key, Was: was, Value: []byte(value)}}}
}

func (c *council) doc(key string) string {
	d, ok := c.m.Doc(key)
	if !ok {
		return "none"
	}
	return string(d.Value)
}

func TestADecisionTakesEffectWithTheWordOfAQuorumAndNotBefore(t *testing.T) {
	for n := 1; n <= 13; n++ {
		c := newCouncil(t, n)
		id, why := c.propose(1, setting("a", "x", 0))
		if why != NotRefused {
			t.Fatal(why)
		}
		for by := 2; by <= coord.Quorum(n); by++ {
			if c.outcome(id) != 0 || c.doc("a") != "none" {
				t.Fatalf("n=%d: %v with %d words", n, c.outcome(id), by-1)
			}
			if why := c.word(by, id, true); why != NotRefused {
				t.Fatal(why)
			}
			c.word(by, id, true) // saying it again adds nothing
		}
		c.want(id, TookEffect)
		if d, _ := c.m.Doc("a"); string(d.Value) != "x" || d.Version != 1 || c.m.DocsVersion() != 1 || len(c.m.Open()) != 0 {
			t.Fatalf("n=%d: %+v", n, d)
		}
		told := c.m.TakeDecided()
		if len(told) != 1 || told[0].ID != id || len(told[0].Yes) != coord.Quorum(n) || told[0].Decision == nil || c.m.TakeDecided() != nil {
			t.Fatalf("told %+v", told)
		}
	}
}

func TestAnOutcomeIsReadBack(t *testing.T) {
	for o := TookEffect; o <= NoRoom; o++ {
		text, _ := o.MarshalText()
		var got Outcome
		if err := got.UnmarshalText(text); err != nil || got != o {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	if err := new(Outcome).UnmarshalText([]byte("unknown")); err == nil {
		t.Error("an unknown outcome is read")
	}
}

func TestMoreThanFMembersRefuseADecision(t *testing.T) {
	for n := 2; n <= 13; n++ {
		c := newCouncil(t, n)
		id, _ := c.propose(n, setting("a", "x", 0))
		for by := 1; by <= coord.MaxFaulty(n)+1; by++ {
			c.want(id, 0)
			c.word(by, id, false)
		}
		c.want(id, Refused)
		if why := c.word(n, id, true); why != RefuseDone {
			t.Fatal(why)
		}
	}
}

func TestAYesStandsAndANoMayBecomeOne(t *testing.T) {
	c := newCouncil(t, 4)
	id, _ := c.propose(1, setting("a", "x", 0))
	if why := c.word(1, id, false); why != RefuseTaken {
		t.Fatal(why)
	}
	c.word(2, id, false)
	if o, _ := c.m.Decision(id); len(o.Yes) != 1 || len(o.No) != 1 {
		t.Fatalf("%+v", o)
	}
	c.word(2, id, true)
	if o, _ := c.m.Decision(id); len(o.Yes) != 2 || len(o.No) != 0 {
		t.Fatalf("%+v", o)
	}
	c.word(3, id, true)
	c.want(id, TookEffect)
}

func TestOnlyMembersHaveAWord(t *testing.T) {
	c := newCouncil(t, 4)
	if _, why := c.propose(5, setting("a", "x", 0)); why != RefuseAuthor || len(c.m.Open()) != 0 {
		t.Fatal(why)
	}
	id, _ := c.propose(1, setting("a", "x", 0))
	for by := 5; by < 9; by++ {
		if why := c.word(by, id, by%2 == 0); why != RefuseAuthor {
			t.Fatal(why)
		}
	}
	c.want(id, 0)
	if why := c.word(1, coord.Digest{1}, true); why != RefuseUnknown {
		t.Fatal(why)
	}
	for _, junk := range [][]byte{nil, {0}, {1}, {2, 3}, append(AppendWord(nil, id, true), 0), AppendWord(nil, id, true)[:33]} {
		if r := c.say(voice{by: coord.BoxID{2}, value: junk}); RefusalOf(&r[0]) != RefuseMalformed || r[0].Code != coord.CodeBad {
			t.Fatalf("%x: %v", junk, r)
		}
	}
}

func TestADecisionOnADocumentThatChangedIsStaleAtOnce(t *testing.T) {
	c := newCouncil(t, 1)
	c.propose(1, setting("a", "first", 0))
	c.found(4) // as of now four are asked
	late, _ := c.propose(1, setting("a", "late", 1))
	other, _ := c.propose(2, setting("b", "x", 0))
	two := setting("b", "y", 0)
	two.Writes = append(two.Writes, coord.DocWrite{Key: "a", Was: 1})
	both, _ := c.propose(2, two)
	now, _ := c.propose(3, setting("a", "second", 1))
	c.word(1, now, true)
	c.word(2, now, true)
	c.want(now, TookEffect)
	c.want(late, Stale)
	c.want(both, Stale)
	c.want(other, 0)
	if c.doc("a") != "second" || c.doc("b") != "none" {
		t.Fatal(c.doc("a"), c.doc("b"))
	}
	for _, was := range []uint64{0, 1, 3} {
		if _, why := c.propose(1, setting("a", "again", was)); why != RefuseStale {
			t.Fatalf("was %d: %v", was, why)
		}
	}
}

// A decision that is signed once must not be made to count twice by whoever has its bytes.
func TestADecisionTakesEffectOnce(t *testing.T) {
	c := newCouncil(t, 1)
	c.propose(1, setting("x", "x", 0)) // stamped with no change seen, a decision would count as one without a stamp
	grant := setting("grant", "ann", 0)
	c.m.Stamp(grant)
	id, _ := c.propose(1, grant)
	c.want(id, TookEffect)
	c.propose(1, &coord.Decision{Kind: "grant.revoke", Writes: []coord.DocWrite{{Key: "grant", Was: 2}}})
	if c.doc("grant") != "none" {
		t.Fatal(c.doc("grant"))
	}
	if _, why := c.propose(1, grant); why != RefuseDone {
		t.Fatal(why)
	}
	for i := range uint64(2 * coord.DecisionSeenMax) { // until nobody remembers it
		c.propose(1, &coord.Decision{Kind: "x.y", Nonce: i})
	}
	if _, d := c.m.Decision(id); d != nil {
		t.Fatal("it is remembered for ever")
	}
	if _, why := c.propose(1, grant); why != RefuseStale {
		t.Fatal(why)
	}
}

func TestADecisionEndsWithItsTime(t *testing.T) {
	c := newCouncil(t, 4)
	if _, runs := c.m.Clock(); runs {
		t.Fatal("the clock runs and nothing waits for it")
	}
	d := setting("a", "x", 0)
	d.Seconds = 100
	id, _ := c.propose(1, d)
	short, _ := c.propose(2, &coord.Decision{Kind: "x.y", Seconds: 1})
	if _, runs := c.m.Clock(); !runs {
		t.Fatal("the clock stands")
	}
	c.pass(coord.DecisionSecondsMin)
	c.want(short, 0) // at least a minute
	c.pass(1)
	c.want(short, Expired)
	c.pass(100 - coord.DecisionSecondsMin - 1)
	c.want(id, 0)
	c.pass(1)
	c.want(id, Expired)
	if c.doc("a") != "none" {
		t.Fatal(c.doc("a"))
	}
	if _, runs := c.m.Clock(); runs {
		t.Fatal("the clock runs on")
	}

	// With Made the time is that of its signing, whoever holds it back.
	held := setting("a", "x", 0)
	held.Seconds = 100
	c.m.Stamp(held)
	c.propose(1, &coord.Decision{Kind: "x.y", Nonce: 1})
	c.pass(99)
	id, _ = c.propose(2, held)
	c.pass(2)
	c.want(id, Expired)
	held.Nonce = 1
	if _, why := c.propose(2, held); why != RefuseOver {
		t.Fatal(why)
	}
	held.Made = c.m.Seconds() + 1
	if _, why := c.propose(2, held); why != RefuseOver {
		t.Fatalf("made in the future: %v", why)
	}
}

func TestADocumentEndsWithItsTime(t *testing.T) {
	c := newCouncil(t, 1)
	c.propose(1, &coord.Decision{Kind: "join.open", Writes: []coord.DocWrite{{Key: "join/1", Value: []byte("t"), Seconds: 10}, {Key: "keep", Value: []byte("k")}}})
	c.found(4)
	use, _ := c.propose(1, &coord.Decision{Kind: "join.use", Writes: []coord.DocWrite{{Key: "join/1", Was: 1}}})
	d, _ := c.m.Doc("join/1")
	if d.Ends != 11 {
		t.Fatalf("%+v", d)
	}
	c.pass(10)
	if c.doc("join/1") != "t" {
		t.Fatal("it ended early")
	}
	before := c.m.DocsVersion()
	c.pass(1)
	if c.doc("join/1") != "none" || c.doc("keep") != "k" || c.m.DocsVersion() != before+1 {
		t.Fatal(c.doc("join/1"), c.doc("keep"))
	}
	c.want(use, Stale)
}

func TestDocumentsAreListedByPrefix(t *testing.T) {
	c := newCouncil(t, 1)
	for i, k := range []string{"role/b", "role/a", "roles", "grant/x", "role/c"} {
		c.propose(1, setting(k, fmt.Sprint(i), 0))
	}
	c.propose(1, &coord.Decision{Kind: "role.drop", Writes: []coord.DocWrite{{Key: "role/b", Was: 1}}})
	var keys []string
	for _, d := range c.m.Docs("role/") {
		keys = append(keys, d.Key)
	}
	if !slices.Equal(keys, []string{"role/a", "role/c"}) || len(c.m.Docs("")) != 4 || len(c.m.Docs("z")) != 0 {
		t.Fatal(keys)
	}
}

func TestABoxThatProposesTooMuchLeavesRoomForOthers(t *testing.T) {
	c := newCouncil(t, 4)
	made := uint64(0)
	next := func(by int) (coord.Digest, Refusal) {
		made++
		return c.propose(by, &coord.Decision{Kind: "x.y", Nonce: made})
	}
	var ids []coord.Digest
	for range OpenOfOneMax {
		id, why := next(1)
		if why != NotRefused {
			t.Fatal(why)
		}
		ids = append(ids, id)
	}
	if _, why := next(1); why != RefuseFull {
		t.Fatal(why)
	}
	if _, why := next(2); why != NotRefused {
		t.Fatal(why)
	}
	// One that is refused counts for a minute more.
	c.word(2, ids[0], false)
	c.word(3, ids[0], false)
	c.want(ids[0], Refused)
	if _, why := next(1); why != RefuseFull {
		t.Fatal(why)
	}
	c.pass(coord.DecisionSecondsMin + 1)
	if _, why := next(1); why != NotRefused {
		t.Fatal(why)
	}
	// And so does their size.
	big := func(nonce uint64) *coord.Decision {
		return &coord.Decision{Kind: "x.big", Nonce: nonce, Authority: make([]byte, 100<<10)}
	}
	for i := range uint64(5) {
		if _, why := c.propose(3, big(i)); why != NotRefused {
			t.Fatal(why)
		}
	}
	if _, why := c.propose(3, big(9)); why != RefuseFull {
		t.Fatal(why)
	}
}

func TestDocumentsHaveABoundAndCanAlwaysBeRemoved(t *testing.T) {
	c := newCouncil(t, 1)
	value := string(make([]byte, coord.DocBytesMax))
	n := DocsBytesMax / (coord.DocBytesMax + 8)
	for i := range n {
		if _, why := c.propose(1, setting(fmt.Sprintf("big/%04d", i), value, 0)); why != NotRefused {
			t.Fatal(i, why)
		}
	}
	if _, why := c.propose(1, setting("one/more", value, 0)); why != RefuseRoom {
		t.Fatal(why)
	}
	if _, why := c.propose(1, &coord.Decision{Kind: "x.y", Writes: []coord.DocWrite{{Key: "big/0000", Was: 1}}}); why != NotRefused {
		t.Fatal(why)
	}
	// Two that fit alone and not together: the second finds no room when its words are complete.
	c.found(4)
	a, _ := c.propose(1, setting("a", value, 0))
	b, _ := c.propose(1, setting("b", value, 0))
	for by := 2; by <= 3; by++ {
		c.word(by, a, true)
		c.word(by, b, true)
	}
	c.want(a, TookEffect)
	c.want(b, NoRoom)
}

// Whoever sees a decision before it is ordered could propose it first, without what convinces the others.
func TestWhatEachProposerSaysForADecisionIsKept(t *testing.T) {
	c := newCouncil(t, 4)
	bare, signed, odd := setting("a", "x", 0), setting("a", "x", 0), setting("a", "x", 0)
	signed.Authority, odd.Authority = []byte("signed"), []byte("odd")
	id, _ := c.propose(4, bare)
	c.propose(1, signed)
	c.propose(4, odd) // in place of what it said before
	o, _ := c.m.Decision(id)
	if string(o.Decision.Authority) != "odd" || len(o.Others) != 1 || string(o.Others[0].Authority) != "signed" || len(o.Yes) != 2 {
		t.Fatalf("%+v", o)
	}
	c.commit()
	before := c.m.Open()
	c.restart()
	if got := c.m.Open(); !reflect.DeepEqual(got, before) {
		t.Fatalf("%+v\n%+v", got, before)
	}
}

// What every box can prove every box proposes, each with its own proof.
func TestTheSameDecisionOfAllBoxesHasOneEffect(t *testing.T) {
	c := newCouncil(t, 4)
	var all []voice
	for by := range 4 {
		d := membersOf(0, memberIDs(1, 3)...)
		d.Authority = []byte{byte(by)}
		all = append(all, proposes(by+1, d))
	}
	res := c.say(all...)
	for i, want := range []Refusal{NotRefused, NotRefused, NotRefused, RefuseAuthor} { // the fourth has just been removed
		if got := RefusalOf(&res[i]); got != want {
			t.Errorf("box %d: %v, want %v", i+1, got, want)
		}
	}
	if _, why := c.propose(2, membersOf(0, memberIDs(1, 3)...)); why != RefuseDone {
		t.Error(why)
	}
	if told := c.m.TakeDecided(); len(told) != 1 || told[0].Outcome != TookEffect || c.m.Members().Epoch != 2 || c.m.DocsVersion() != 1 {
		t.Errorf("%+v", told)
	}
}

func membersOf(was uint64, ids ...coord.BoxID) *coord.Decision {
	b, err := json.Marshal(siteOf(ids...))
	if err != nil {
		panic(err)
	}
	return &coord.Decision{Kind: "member.change", Writes: []coord.DocWrite{{Key: coord.DocMembers, Was: was, Value: b}}}
}

func TestWritingTheMembersBeginsAnEpoch(t *testing.T) {
	c := newCouncil(t, 4)
	if ms := c.m.Members(); ms.Epoch != 1 || c.m.NextMembers() != nil || c.m.MembersSince() != 0 {
		t.Fatalf("%+v", ms)
	}
	waits, _ := c.propose(4, setting("a", "x", 0))
	c.word(3, waits, true)
	refused, _ := c.propose(1, setting("b", "x", 0))
	c.word(4, refused, false)
	id, _ := c.propose(1, membersOf(0, memberIDs(1, 3)...))
	c.word(2, id, true)
	res := c.say(
		voice{coord.BoxID{4}, kv.AppendNumber(nil, 1), coord.KindTick}, says(3, id, true), // box 4 is no member any more
		says(4, waits, true), voice{coord.BoxID{4}, kv.AppendNumber(nil, 1), coord.KindTick},
	)
	if RefusalOf(&res[2]) != RefuseAuthor {
		t.Fatalf("%+v", res)
	}
	next, height := c.m.NextMembers(), c.m.Height()
	if next == nil || next != c.m.Members() || next.Epoch != 2 || next.N() != 3 || c.m.MembersSince() != height {
		t.Fatalf("%+v", next)
	}
	// Words are counted anew: box 4's are gone, and of three members all must say yes.
	if o, _ := c.m.Decision(waits); len(o.Yes) != 1 {
		t.Fatalf("%+v", o)
	}
	if o, _ := c.m.Decision(refused); len(o.No) != 0 {
		t.Fatalf("%+v", o)
	}
	c.word(1, waits, true)
	if c.m.NextMembers() != nil {
		t.Fatal("the epoch ends again")
	}
	c.want(waits, 0)
	c.word(2, waits, true)
	c.want(waits, TookEffect)

	c.commit()
	c.restart()
	c.m.SetSite(siteOf(memberIDs(1, 9)...), coord.BoxID{})
	if ms := c.m.Members(); !reflect.DeepEqual(ms, next) || c.m.MembersSince() != height {
		t.Fatalf("after a restart %+v", ms)
	}
}

// A smaller site needs fewer words: what has them by then takes effect with the change.
func TestAChangeOfMembersCountsTheWordsAgain(t *testing.T) {
	c := newCouncil(t, 7)
	id, _ := c.propose(1, setting("a", "x", 0))
	for by := 2; by <= 4; by++ {
		c.word(by, id, true)
	}
	c.want(id, 0) // 5 of 7
	no, _ := c.propose(1, setting("b", "x", 0))
	c.word(2, no, false)
	c.word(3, no, false)
	c.want(no, 0) // 2 may lie
	less, _ := c.propose(1, membersOf(0, memberIDs(1, 4)...))
	for by := 2; by <= 5; by++ {
		c.word(by, less, true)
	}
	c.want(less, TookEffect)
	c.want(id, TookEffect)
	c.want(no, Refused)
}

func TestOneChangeOfMembersTakesEffectInABlock(t *testing.T) {
	c := newCouncil(t, 1)
	a, b, after := membersOf(0, memberIDs(1, 1)...), membersOf(0, memberIDs(1, 2)...), membersOf(1, memberIDs(1, 3)...)
	c.say(proposes(1, a), proposes(1, b), proposes(1, after))
	if ms := c.m.Members(); ms.Epoch != 2 || ms.N() != 1 {
		t.Fatalf("%+v", ms)
	}
	c.want(after.Digest(coord.SiteID{1}), Stale)
	after.Nonce++
	if _, why := c.propose(1, after); why != NotRefused || c.m.Members().N() != 3 || c.m.Members().Epoch != 3 {
		t.Fatal(why)
	}
}

func TestAMemberSetThatNoSiteCanHaveIsRefused(t *testing.T) {
	c := newCouncil(t, 1)
	write := func(value []byte, seconds uint64) Refusal {
		_, why := c.propose(1, &coord.Decision{Kind: "member.change", Writes: []coord.DocWrite{{Key: coord.DocMembers, Value: value, Seconds: seconds}}})
		return why
	}
	for name, edit := range map[string]func(m *coord.Members){
		"of nobody":       func(m *coord.Members) { m.List = nil },
		"another site's":  func(m *coord.Members) { m.Site[0]++ },
		"a box twice":     func(m *coord.Members) { m.List[1].ID = m.List[0].ID },
		"a name twice":    func(m *coord.Members) { m.List[1].Name = m.List[0].Name },
		"no name":         func(m *coord.Members) { m.List[1].Name = "" },
		"a name in lines": func(m *coord.Members) { m.List[1].Name = "a\nb" },
		"a key of one":    func(m *coord.Members) { m.List[1].Key = []byte("key") },
		"a key of none":   func(m *coord.Members) { m.List[0].Key = []byte("key") },
		"too many": func(m *coord.Members) {
			for i := range coord.MembersMax {
				m.List = append(m.List, coord.Member{ID: coord.BoxID{9, byte(i)}, Name: fmt.Sprint(i)})
			}
		},
	} {
		m := siteOf(memberIDs(1, 4)...)
		edit(m)
		b, _ := json.Marshal(m)
		if why := write(b, 0); why != RefuseMembers {
			t.Errorf("%s: %v", name, why)
		}
	}
	good, _ := json.Marshal(siteOf(memberIDs(1, 1)...))
	if write(nil, 0) != RefuseMembers || write([]byte("{"), 0) != RefuseMembers || write(good, 60) != RefuseMembers {
		t.Error("a site may have no members")
	}
	if why := write(good, 0); why != NotRefused {
		t.Error(why)
	}
}

func FuzzDecodeWord(f *testing.F) {
	f.Add(AppendWord(nil, coord.Digest{1, 2}, true))
	f.Add(AppendWord(nil, coord.Digest{}, false))
	f.Add(AppendProposal(nil, setting("a", "x", 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := DecodeWord(b)
		if err != nil {
			return
		}
		again := AppendWord(nil, w.ID, w.Yes)
		if w.Proposed != nil {
			again = AppendProposal(nil, w.Proposed)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("read %x, wrote %x", b, again)
		}
	})
}
