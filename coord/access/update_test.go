package access

import (
	"crypto/ecdsa"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/rollout"
)

// headOf is a bundle's head that a test's key has signed.
func headOf(t *testing.T, key *ecdsa.PrivateKey) *release.Head {
	t.Helper()
	f, err := release.Describe(strings.NewReader("a kernel"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := release.Sign(&release.Manifest{Version: "1.2", Board: "b", Arch: "arm64", Kernel: f, Initrd: f}, key)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func updateDecision(t *testing.T, st *fakeState, p *rollout.Plan, head []byte) *coord.Decision {
	t.Helper()
	writes, err := rollout.Writes(st, p, head)
	if err != nil {
		t.Fatal(err)
	}
	return &coord.Decision{Kind: p.Last.What.Kind(), Subject: "1.2", Made: st.seconds, Seen: st.count, Writes: writes}
}

func byBox(t *testing.T, st *fakeState, d *coord.Decision, box string) *coord.Decision {
	t.Helper()
	m := member(t, box)
	d.Principal = Box + ":" + m.ID.String()
	if err := AsBox(d, st.members.Site, m.ID, testSigner(t, box)); err != nil {
		t.Fatal(err)
	}
	return d
}

func byOperator(t *testing.T, st *fakeState, d *coord.Decision, name string) *coord.Decision {
	t.Helper()
	d.Principal = Operator + ":" + name
	if err := AsOperator(d, st.members.Site, name, testSigner(t, name)); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestASitesUpdateIsBegunByWhoMayAndEachStepIsSaidByItsBox(t *testing.T) {
	st := newState(t)
	j := &Judge{TermRounds: 1000}
	want := func(what string, d *coord.Decision, w Word) {
		t.Helper()
		if got := j.Judge(st, d, testNow); got.Word != w {
			t.Errorf("%s: %v, because %s", what, got.Word, got.Why)
		}
	}
	head := headOf(t, testKey(t, "signs"))
	start := func(h *release.Head) *coord.Decision {
		p, err := rollout.New(nil, st.members, h.ID(), h.Version, "", rollout.RulesDefault, st.seconds)
		if err != nil {
			t.Fatal(err)
		}
		return updateDecision(t, st, p, h.Bytes())
	}
	want("firmware while nobody signs", byOperator(t, st, start(head), "olaf"), No)
	public, err := release.MarshalKey(&testKey(t, "signs").PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	trust := func() *coord.Decision {
		return &coord.Decision{Kind: rollout.KindKey, Subject: "x", Made: st.seconds, Seen: st.count, Writes: []coord.DocWrite{{Key: rollout.DocKey + "first", Value: []byte(public.String())}}}
	}
	want("a key from who may not", byOperator(t, st, trust(), "olaf"), No)
	want("a key", byOperator(t, st, trust(), "ann"), Yes)
	st.apply(t, trust())
	gone := &coord.Decision{Kind: rollout.KindKey, Subject: "x", Made: st.seconds, Seen: st.count, Writes: []coord.DocWrite{{Key: rollout.DocKey + "first", Was: st.docs[rollout.DocKey+"first"].Version}}}
	want("the last key goes", byOperator(t, st, gone, "ann"), No)

	want("firmware of a stranger", byOperator(t, st, start(headOf(t, testKey(t, "stranger"))), "olaf"), No)
	want("firmware from who may look", byOperator(t, st, start(head), "vera"), No)
	want("firmware that nobody asks for", start(head), Wait)
	want("firmware", byOperator(t, st, start(head), "olaf"), Yes)
	st.apply(t, start(head))

	plan := func() *rollout.Plan {
		p, err := rollout.Read(st)
		if err != nil || p == nil {
			t.Fatal(err)
		}
		return p
	}
	step := func(w rollout.What, box string) *coord.Decision {
		e := rollout.Event{What: w, Second: st.seconds}
		if box != "" {
			e.Box = member(t, box).ID
		}
		p, err := plan().Apply(e, rollout.Site{Members: st.members, Clock: true})
		if err != nil {
			t.Fatal(err)
		}
		return updateDecision(t, st, p, nil)
	}
	want("a box begins", byBox(t, st, step(rollout.Begin, "box-a"), "box-a"), Yes)
	want("another says that it begins", byBox(t, st, step(rollout.Begin, "box-a"), "box-b"), No)
	want("an operator says that it begins", byOperator(t, st, step(rollout.Begin, "box-a"), "ann"), Wait)
	out := step(rollout.Begin, "box-a")
	for i := range out.Writes {
		if w := &out.Writes[i]; w.Key == rollout.DocPlan {
			w.Value = []byte(strings.Replace(string(w.Value), `"step":"waits"`, `"step":"good"`, 1))
		}
	}
	want("a step that does not follow", byBox(t, st, out, "box-a"), No)
	st.apply(t, step(rollout.Begin, "box-a"))
	want("it is good", byBox(t, st, step(rollout.Well, "box-a"), "box-a"), Yes)
	want("a pause from who may look", byOperator(t, st, step(rollout.Pause, ""), "vera"), No)
	want("a pause", byOperator(t, st, step(rollout.Pause, ""), "olaf"), Yes)
	want("a way back", byOperator(t, st, step(rollout.Undo, ""), "olaf"), Yes)
}
