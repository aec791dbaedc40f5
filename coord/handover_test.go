package coord

import "testing"

func handoverOf(n int) *Handover {
	set := func(epoch uint64) *Members {
		ms := &Members{Site: SiteID{1}, Epoch: epoch}
		for i := range n {
			ms.List = append(ms.List, Member{ID: BoxID{byte(i + 1)}, Name: string(rune('a' + i)), Peer: "10.0.0.1:7400"})
		}
		return ms
	}
	return &Handover{Members: set(1), Header: &Block{Epoch: 1, Round: 9, Height: 7}, Next: set(2)}
}

// signs makes the signatures of some members; verify takes those.
func (h *Handover) signs(voters ...uint8) {
	for _, v := range voters {
		s := VoteSig{Voter: v}
		d := h.Digest()
		copy(s.Sig[:], d[:])
		s.Sig[63] = v
		h.Sigs = append(h.Sigs, s)
	}
}

func verifies(v *Vote) bool {
	return v.Kind == VoteEpoch && Digest(v.Sig[:32]) == v.Digest && v.Sig[63] == v.Voter
}

func TestAHandoverNeedsMoreThanFOfTheMembersWhoOrderedIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		voters []uint8
		want   bool
	}{
		{"nobody", 4, nil, false},
		{"f", 4, []uint8{2}, false},
		{"f+1", 4, []uint8{0, 3}, true},
		{"one twice", 4, []uint8{1, 1}, false},
		{"one that there is not", 4, []uint8{1, 4}, false},
		{"all", 4, []uint8{0, 1, 2, 3}, true},
		{"more than all", 4, []uint8{0, 1, 2, 3, 3}, false},
		{"the only box", 1, []uint8{0}, true},
		{"f of seven", 7, []uint8{5, 6}, false},
		{"f+1 of seven", 7, []uint8{4, 5, 6}, true},
	} {
		h := handoverOf(c.n)
		h.signs(c.voters...)
		if got := h.Signed(verifies); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// What is signed names the block that ends the epoch, and all of the next members.
func TestNothingOfAHandoverCanBeChangedUnderItsSignatures(t *testing.T) {
	for name, change := range map[string]func(h *Handover){
		"the height":        func(h *Handover) { h.Header.Height++ },
		"the block":         func(h *Handover) { h.Header.Root[3]++ },
		"a member's key":    func(h *Handover) { h.Next.List[1].Key = []byte{1} },
		"a member's name":   func(h *Handover) { h.Next.List[1].Name = "x" },
		"an address":        func(h *Handover) { h.Next.List[2].Peer = "10.0.0.2:7400" },
		"a text moved":      func(h *Handover) { h.Next.List[2].Client, h.Next.List[2].Peer = h.Next.List[2].Peer, "" },
		"a member less":     func(h *Handover) { h.Next.List = h.Next.List[:3] },
		"the order":         func(h *Handover) { l := h.Next.List; l[0], l[1] = l[1], l[0] },
		"the epoch":         func(h *Handover) { h.Next.Epoch++ },
		"the site":          func(h *Handover) { h.Next.Site[0]++ },
		"when one may vote": func(h *Handover) { h.Next.List[0].VotesFrom = 5 },
	} {
		h := handoverOf(4)
		h.signs(0, 1, 2, 3)
		if change(h); h.Signed(verifies) {
			t.Errorf("%s was changed, and it holds", name)
		}
	}
}

func TestAHandoverLeadsFromOneEpochOfASiteToTheNext(t *testing.T) {
	if !handoverOf(4).Fits() {
		t.Fatal("a good one does not fit")
	}
	for name, spoil := range map[string]func(h *Handover){
		"another site":              func(h *Handover) { h.Next.Site[0]++ },
		"an epoch left out":         func(h *Handover) { h.Next.Epoch++ },
		"a block of another epoch":  func(h *Handover) { h.Header.Epoch++ },
		"no block":                  func(h *Handover) { h.Header = nil },
		"nobody follows":            func(h *Handover) { h.Next.List = nil },
		"no next members":           func(h *Handover) { h.Next = nil },
		"before the first block":    func(h *Handover) { h.Header.Height = 0 },
		"more members than can be":  func(h *Handover) { h.Members.List = make([]Member, MembersMax+1) },
		"nobody knows who ended it": func(h *Handover) { h.Members = nil },
	} {
		h := handoverOf(4)
		if spoil(h); h.Fits() {
			t.Errorf("%s: it fits", name)
		}
	}
}
