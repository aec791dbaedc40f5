package site_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// rename makes a site of four begin its next epoch by a decision of box i: a member gets another name.
func (r *rig) rename(i int, name string, boxes ...int) {
	r.t.Helper()
	now := r.boxes[i].site.State()
	next := *now.Members()
	next.List = append([]coord.Member(nil), next.List...)
	next.List[3].Name = name
	value, err := json.Marshal(&next)
	if err != nil {
		r.t.Fatal(err)
	}
	was, _ := now.Doc(coord.DocMembers)
	d := &coord.Decision{
		Kind: "members.edit", Subject: name, Principal: "operator:ann",
		Writes: []coord.DocWrite{{Key: coord.DocMembers, Was: was.Version, Value: value}},
	}
	if o, err := r.decide(i, d); err != nil || o.Outcome != state.TookEffect {
		r.t.Fatalf("%+v %v", o, err)
	}
	r.inEpoch(next.Epoch+1, boxes...)
}

func (r *rig) inEpoch(epoch uint64, boxes ...int) {
	r.t.Helper()
	for _, i := range boxes {
		r.eventually("a box is in the next epoch", func() bool { return r.view(i).Epoch == epoch })
	}
}

// What a handover carries besides the members' word is not covered by that.
func TestAHandoverIsTakenWithoutWhatALiarAddedToIt(t *testing.T) {
	for _, tt := range []struct {
		name string
		add  func(h *coord.Handover)
	}{
		{"another state", func(h *coord.Handover) {
			h.Checkpoint = &coord.Checkpoint{Header: h.Header, State: coord.Digest{9}, Cert: &coord.Cert{Kind: coord.VoteCheckpoint}}
		}},
		{"a state that nobody signed", func(h *coord.Handover) {
			if h.Checkpoint != nil {
				h.Checkpoint = &coord.Checkpoint{Header: h.Header, State: h.Checkpoint.State}
			}
		}},
		{"signatures of the state that are bad, and in another order", func(h *coord.Handover) {
			if c := h.Checkpoint; c != nil && c.Cert != nil && len(c.Cert.Sigs) > 1 {
				p, x := *c, *c.Cert
				x.Sigs = append([]coord.VoteSig(nil), x.Sigs...)
				for i := range 4 {
					if !voted(x.Sigs, i) {
						x.Sigs = append(x.Sigs, coord.VoteSig{Voter: uint8(i)})
					}
				}
				slices.Reverse(x.Sigs)
				p.Cert, h.Checkpoint = &x, &p
			}
		}},
		{"bad signatures", func(h *coord.Handover) {
			for i := range 4 {
				if len(h.Sigs) < 4 && !voted(h.Sigs, i) {
					h.Sigs = append(h.Sigs, coord.VoteSig{Voter: uint8(i)})
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctestSite(t, 4, func(r *rig) {
				r.judges = func(int, *state.Machine, *coord.Decision) site.Judgement { return site.Judgement{Word: site.Yes} }
				r.hub.lie = func(from int, m *coord.PeerMsg) *coord.PeerMsg {
					if from != 3 || m.Handover == nil || len(m.Handover.Sigs) < 2 {
						return m
					}
					l, h := *m, *m.Handover
					h.Sigs = append([]coord.VoteSig(nil), h.Sigs...)
					tt.add(&h)
					l.Handover = &h
					return &l
				}
			}, func(r *rig) {
				r.session(1, 1)
				for i := range 3 {
					r.hub.setCut(0, i+1, true)
				}
				r.rename(1, "three", 1, 2, 3)
				r.must(1, r.put(1, "a", "x"))
				r.hub.setCut(0, 3, false)
				r.inEpoch(2, 0)
				time.Sleep(3 * time.Second)
				r.hub.setCut(0, 1, false)
				r.hub.setCut(0, 2, false)
				r.reads(0, "a", "x")
				for i := range 3 {
					if v := r.view(i); v.Fault != "" {
						t.Errorf("box %d: %s", i, v.Fault)
					}
					for _, h := range r.kept(i) {
						if !sound(h.Sigs) || len(h.Sigs) < 2 {
							t.Errorf("box %d kept signatures of %v", i, voters(h.Sigs))
						}
						if c := h.Checkpoint; c != nil && (c.State == coord.Digest{9} || c.Cert == nil || !sound(c.Cert.Sigs)) {
							t.Errorf("box %d kept the state %+v", i, c)
							if c.Cert != nil {
								t.Errorf("signed by %v", voters(c.Cert.Sigs))
							}
						}
					}
				}
				r.restart(0)
				r.must(0, r.put(1, "a", "y"))
			})
		})
	}
}

func (r *rig) kept(i int) []*coord.Handover {
	hs, _ := r.boxes[i].base.Handovers()
	return hs
}

// On a site that rests after a change of members a read waits for no block.
func TestReadsGoOnAfterAChangeOfMembers(t *testing.T) {
	synctestSite(t, 4, func(r *rig) {
		r.judges = func(int, *state.Machine, *coord.Decision) site.Judgement { return site.Judgement{Word: site.Yes} }
	}, func(r *rig) {
		r.rename(1, "three", 0, 1, 2, 3)
		time.Sleep(time.Second) // boxes that begin an epoch ask the others first
		for i := range r.boxes {
			ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
			place, err := r.boxes[i].site.Index(ctx)
			if err == nil {
				err = r.boxes[i].site.Reached(ctx, place)
			}
			if cancel(); err != nil {
				t.Errorf("box %d at height %d: %v", i, r.view(i).Height, err)
			}
		}
	})
}

// A box whose log is lost does not know what it signed in the epochs that it may have been in, and not only in the one that its state is of.
func TestABoxThatLostItsLogIsSilentInTheNextEpochToo(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(b *box)
	}{
		{"with the state of the end of an epoch", func(b *box) {
			h := *b.base.handovers[0]
			h.Sigs = h.Sigs[:1] // as it was committed with that state
			b.base.handovers[0] = &h
		}},
		{"with its state", func(b *box) { b.base = newMemBase() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctestSite(t, 4, func(r *rig) {
				r.judges = func(int, *state.Machine, *coord.Decision) site.Judgement { return site.Judgement{Word: site.Yes} }
			}, func(r *rig) {
				r.rename(1, "three", 0, 1, 2, 3)
				time.Sleep(time.Second)
				if err := r.stop(0); err != nil {
					t.Fatal(err)
				}
				b := r.boxes[0]
				b.log = newMemLog(r.members.Site)
				if err := errors.Join(b.log.Append([]coord.Record{{Silent: &coord.Silence{From: coord.SilentUnknown}}}), b.log.Sync()); err != nil {
					t.Fatal(err)
				}
				tt.lose(b)
				r.hub.setCut(0, 2, true)
				r.hub.setCut(0, 3, true)
				r.start(0)
				r.inEpoch(2, 0)
				if v := r.view(0); v.Members[0].VotesFrom != coord.SilentUnknown {
					t.Errorf("it votes from round %d", v.Members[0].VotesFrom)
				}
				r.hub.setCut(0, 2, false)
				r.hub.setCut(0, 3, false)
				r.session(0, 1)
				r.must(0, r.put(1, "a", "x"))
			})
		})
	}
}

// sound says that whoever signed did it once and well, in order.
func sound(sigs []coord.VoteSig) bool {
	for k := range sigs {
		if sigs[k].Sig == (coord.Signature{}) || k > 0 && sigs[k-1].Voter >= sigs[k].Voter {
			return false
		}
	}
	return len(sigs) > 0
}

func voters(sigs []coord.VoteSig) (vs []uint8) {
	for k := range sigs {
		vs = append(vs, sigs[k].Voter)
	}
	return vs
}

func voted(sigs []coord.VoteSig, i int) bool {
	for k := range sigs {
		if int(sigs[k].Voter) == i {
			return true
		}
	}
	return false
}

// Who led a block, and whose signatures make it final, are of its epoch's list and not of the one of now.
func TestABlockOfAnEarlierEpochNamesTheMembersOfThat(t *testing.T) {
	synctestSite(t, 4, func(r *rig) {
		r.judges = func(int, *state.Machine, *coord.Decision) site.Judgement { return site.Judgement{Word: site.Yes} }
	}, func(r *rig) {
		was := r.members.List[3].Name
		for _, b := range r.boxes {
			b.log.mu.Lock()
			b.log.keeps = true
			b.log.mu.Unlock()
		}
		r.session(0, 1)
		r.must(0, r.put(1, "a", "x"))
		r.rename(1, "three", 0, 1, 2, 3)
		r.must(0, r.put(1, "a", "y"))
		names := map[uint64]string{1: was, 2: "three"}
		seen := map[uint64]int{}
		err := r.boxes[0].site.Log(1, 0, func(b *site.LogBlock) error {
			epoch := b.Block.Epoch
			seen[epoch]++
			if b.Members == nil || b.Members.Epoch != epoch || b.Members.List[3].Name != names[epoch] || b.LeaderName() != b.Members.List[b.Members.Index(b.Leader)].Name {
				t.Errorf("height %d of epoch %d is of %+v, led by %q", b.Block.Height, epoch, b.Members, b.LeaderName())
			}
			one, _, err := r.boxes[0].site.Block(b.Block.Height)
			if err == nil && (one.Members != b.Members || one.Leader != b.Leader) {
				t.Errorf("height %d alone is led by %v of %+v", b.Block.Height, one.Leader, one.Members)
			}
			return err
		})
		if err != nil || seen[1] == 0 || seen[2] == 0 {
			t.Error(seen, err)
		}
	})
}
