package access

import (
	"bytes"
	"os"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
)

func TestMembersChangeAsTheirKindSaysAndByWhoMay(t *testing.T) {
	r := newRig(t)
	list := func(kind, by string, m *coord.Members, err error) *coord.Decision {
		if err != nil {
			t.Fatal(err)
		}
		w, err := roster.Writes(r, m)
		if err != nil {
			t.Fatal(err)
		}
		return r.signed(&coord.Decision{Kind: kind, Subject: roster.Subject(kind, r.members, m), Principal: by, Made: 1, Seen: 1, Writes: w})
	}
	newBox := member(t, "box-e")
	added, err := roster.Adding(r, &newBox)
	r.want("add", list("member.add", "operator:olaf", added, err), Yes, "operator:olaf may")
	r.want("add, by a viewer", list("member.add", "operator:vera", added, err), No, "no policy permits")
	r.want("add, called an edit", list("member.edit", "operator:olaf", added, err), No, "is member.add")
	removed, err := roster.Removing(r, r.members.List[2].ID)
	r.want("remove", list("member.remove", "operator:olaf", removed, err), Yes, "")
	sneaky := list("member.remove", "operator:olaf", removed, err)
	sneaky.Writes = append(sneaky.Writes, coord.DocWrite{Key: "policy/x", Value: []byte("x")})
	r.want("remove and a policy", r.signed(sneaky), No, "policy/x")
	replaced, err := roster.Replacing(r, r.members.List[2].ID, &newBox)
	r.want("replace", list("member.replace", "operator:olaf", replaced, err), Yes, "")
	box := func(i int) string { return Box + ":" + r.members.List[i].ID.String() }
	edited, err := roster.Editing(r, r.members.List[2].ID, func(b *coord.Member) { b.Peer = "elsewhere:1" })
	r.want("edit", list("member.edit", "operator:olaf", edited, err), Yes, "")
	r.want("edit by the box itself", list("member.edit", box(2), edited, err), Yes, "the box itself")
	// Operators read in lists what a decision is about: a box that lies there moves one box in the name of another.
	misnamed := list("member.edit", "operator:olaf", edited, err)
	misnamed.Subject = r.members.List[3].Name + " " + r.members.List[3].ID.String()
	r.want("edit, said to be of another box", r.signed(misnamed), No, "it says it is about")
	r.want("edit by another box", list("member.edit", box(1), edited, err), No, "no policy permits")

	// Fields of a later release are passed over, by the state and by the judge alike: it is asked about the box that goes.
	later := func(d *coord.Decision) *coord.Decision {
		for i := range d.Writes {
			if d.Writes[i].Key == coord.DocMembers {
				d.Writes[i].Value = append([]byte(`{"later":1,`), d.Writes[i].Value[1:]...)
			}
		}
		return r.signed(d)
	}
	r.want("edit by the box itself, with more in it", later(list("member.edit", box(2), edited, err)), Yes, "the box itself")
	r.set("policy/keep", `forbid (principal, action == Action::"member.remove", resource == Box::"`+r.members.List[2].ID.String()+`");`)
	r.want("remove against a policy, with more in it", later(list("member.remove", "operator:olaf", removed, nil)), No, "policy/keep")
	delete(r.docs, "policy/keep")

	rotated, err := roster.Rotating(r, r.members.List[2].ID, testPublic(t, "box-c2"))
	rotate := func(old, next string) *coord.Decision {
		d := list("member.rotate", box(2), rotated, err)
		d.Authority = nil
		if err := AsRotation(d, r.members.Site, testSigner(t, old), testSigner(t, next)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	r.want("rotate", rotate("box-c", "box-c2"), Yes, "the box itself")
	r.want("rotate without the new key", rotate("box-c", "box-c"), Wait, "its new key")
	r.want("rotate without the old key", rotate("box-c2", "box-c2"), Wait, "the box's key")
	r.set("policy/p", `forbid (principal, action == Action::"member.rotate", resource == Box::"`+r.members.List[2].ID.String()+`");`)
	r.want("rotate against a policy", rotate("box-c", "box-c2"), No, "policy/p")
}

// A token that replaces a box is as good as the right to replace it: who makes it has that, and what forbids the one forbids the other.
func TestATokenThatReplacesAsksForTheRightToReplace(t *testing.T) {
	r := newRig(t)
	old := r.members.List[2].ID
	token, err := join.NewToken(join.SiteHash(r.members), bytes.NewReader(bytes.Repeat([]byte{5}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.Key()
	if err != nil {
		t.Fatal(err)
	}
	offer := func(who string) *coord.Decision {
		d, err := join.Offer(r, token, key.PublicKey(), join.Wish{Replaces: &old}, who, 1)
		if err != nil {
			t.Fatal(err)
		}
		d.Made = r.seconds
		return r.signed(d)
	}
	const desk = `permit (principal == Operator::"vera", action == Action::"join.token", resource);`
	r.set("policy/desk", desk)
	r.want("by who may make tokens only", offer("operator:vera"), No, "member.replace")
	r.want("by an operator", offer("operator:olaf"), Yes, "operator:olaf may")
	keep := `forbid (principal, action == Action::"member.replace", resource == Box::"` + old.String() + `");`
	r.set("policy/keep", keep)
	r.want("where it is forbidden", offer("operator:olaf"), No, "policy/keep")
	delete(r.docs, "policy/keep")
	made := offer("operator:olaf")
	r.apply(t, made)
	id, err := trust.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	q := &join.Request{
		Site: r.members.Site, SiteHash: token.Site, Token: token.ID, Seconds: r.seconds,
		Box: coord.Member{ID: id.ID(), Name: "box-e", Key: id.PublicKey(), Peer: "box-e:7400"},
	}
	if err := q.Sign(token, id); err != nil {
		t.Fatal(err)
	}
	admit, err := q.Admit(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := WithRequest(admit.Decision, q.Append(nil)); err != nil {
		t.Fatal(err)
	}
	r.want("a box that comes with it", admit.Decision, Yes, "a good token")
	r.set("policy/keep", keep)
	r.want("where it is forbidden since", admit.Decision, No, "policy/keep")
}

func TestABoxJoinsByAGoodRequest(t *testing.T) {
	r := newRig(t)
	token, err := join.NewToken(join.SiteHash(r.members), bytes.NewReader(bytes.Repeat([]byte{5}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.Key()
	if err != nil {
		t.Fatal(err)
	}
	offer, err := join.Offer(r, token, key.PublicKey(), join.Wish{}, "operator:olaf", 1)
	if err != nil {
		t.Fatal(err)
	}
	offer.Made = r.seconds
	r.want("a token by a viewer", r.signed(&coord.Decision{Kind: offer.Kind, Subject: offer.Subject, Principal: "operator:vera", Made: 1, Writes: offer.Writes}), No, "no policy permits")
	r.want("a token", r.signed(offer), Yes, "operator:olaf may")
	misnamed := *offer
	misnamed.Subject = "0000000000000000"
	r.want("a token, said to be another", r.signed(&misnamed), No, "it says it is about")
	r.apply(t, offer)
	withdraw, err := join.Withdraw(r, token.ID, "operator:olaf", 1)
	if err != nil {
		t.Fatal(err)
	}
	withdraw.Made = r.seconds
	r.want("taking it back", r.signed(withdraw), Yes, "operator:olaf may")
	withdraw.Subject = "0000000000000000"
	r.want("taking it back, said to be another", r.signed(withdraw), No, "it says it is about")
	withdraw.Subject = token.ID.String()
	withdraw.Writes = append(withdraw.Writes, coord.DocWrite{Key: join.DocPrefix + "0000000000000001", Was: 1})
	r.want("taking back more than it says", r.signed(withdraw), No, "2 documents")
	id, err := trust.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	q := &join.Request{
		Site: r.members.Site, SiteHash: token.Site, Token: token.ID, Seconds: r.seconds,
		Box: coord.Member{ID: id.ID(), Name: "box-e", Key: id.PublicKey(), Peer: "box-e:7400"},
	}
	if err := q.Sign(token, id); err != nil {
		t.Fatal(err)
	}
	admit, err := q.Admit(r)
	if err != nil {
		t.Fatal(err)
	}
	d := admit.Decision
	r.want("without its request", d, No, "join/")
	if err := WithRequest(d, q.Append(nil)); err != nil {
		t.Fatal(err)
	}
	r.want("with it", d, Yes, "a good token")
	r.set(SettingJoins, `{"approve":"operator"}`)
	r.want("where an operator approves", d, Wait, "an operator")
	delete(r.docs, SettingJoins)
	r.set("policy/closed", `forbid (principal, action == Action::"member.add", resource);`)
	r.want("where a policy forbids it", d, No, "policy/closed")
	delete(r.docs, "policy/closed")
	more := *d
	more.Writes = append(append([]coord.DocWrite(nil), d.Writes...), coord.DocWrite{Key: "grant/operator:eve", Value: []byte(adminGrant)})
	r.want("with more than it asked for", &more, No, "not the decision of the request")
	bad := *q
	bad.Box.Peer = "elsewhere:1"
	forged := *d
	forged.Authority = nil
	if err := WithRequest(&forged, bad.Append(nil)); err != nil {
		t.Fatal(err)
	}
	r.want("with another's signature", &forged, Wait, "signature")

	withdraw, err = join.Withdraw(r, token.ID, "operator:olaf", 2)
	if err != nil {
		t.Fatal(err)
	}
	r.want("withdrawn", r.signed(withdraw), Yes, "")
	withdraw.Writes[0].Key = "policy/x"
	r.want("a withdrawal of something else", r.signed(withdraw), No, "policy/x")
	r.apply(t, d)
	if r.members.N() != 5 {
		t.Fatal("the box is no member")
	}
	r.want("once more", d, Wait, "")
}

func TestAProvenLieExpelsWhereTheSiteSaysSo(t *testing.T) {
	data, err := os.ReadFile("../trust/testdata/evidence.json")
	if err != nil {
		t.Fatal(err)
	}
	x, err := coord.ReadExhibit(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	f := &x.Findings[0]
	r := newRig(t)
	r.judge.TermRounds = f.TermRounds
	r.members.Site = f.Site
	r.members.List[3].Key, r.members.List[3].ID = f.Key, f.Box
	expel := func(i int, f *coord.Finding) *coord.Decision {
		m, err := roster.Removing(r, r.members.List[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		w, err := roster.Writes(r, m)
		if err != nil {
			t.Fatal(err)
		}
		d := &coord.Decision{Kind: "member.remove", Subject: roster.Subject(roster.Remove, r.members, m), Principal: "box:" + r.members.List[0].ID.String(), Writes: w}
		if err := WithEvidence(d, f); err != nil {
			t.Fatal(err)
		}
		return d
	}
	r.want("an operator must approve", expel(3, f), Wait, "it is proved that")
	r.set(SettingExpulsion, `{"mode":"automatic"}`)
	r.want("automatic", expel(3, f), Yes, "it is proved that")
	r.set("policy/keep", `forbid (principal, action == Action::"member.remove", resource == Box::"`+f.Box.String()+`");`)
	r.want("where a policy keeps it", expel(3, f), No, "policy/keep")
	delete(r.docs, "policy/keep")
	r.want("another box", expel(2, f), Wait, "evidence is against")
	bad := *f
	bad.B = bad.A
	r.want("no lie", expel(3, &bad), Wait, "proves nothing")
	bad = *f
	bad.TermRounds++
	r.want("other terms", expel(3, &bad), Wait, "terms")
	r.set(SettingExpulsion, `{"mode":"sometimes"}`)
	r.want("a setting that cannot be read", expel(3, f), Wait, "it is proved that")
}
