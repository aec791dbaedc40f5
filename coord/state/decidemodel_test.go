package state

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// parliament is what decisions promise, in maps and without thought for cost.
type parliament struct {
	members []coord.BoxID
	epoch   uint64
	block   bool // this block changed the members
	docs    map[string]modelDoc
	open    map[coord.Digest]*modelOpen
	done    map[coord.Digest]Outcome
	version uint64
	clock   uint64
	ticks   map[coord.BoxID]bool
	refused map[coord.BoxID][]uint64 // by proposer: when
}

type modelDoc struct {
	version, ends uint64
	value         string
}

type modelOpen struct {
	by   coord.BoxID
	d    *coord.Decision
	ends uint64
	word map[coord.BoxID]bool
}

func (p *parliament) member(id coord.BoxID) bool { return slices.Contains(p.members, id) }

func (p *parliament) fresh(d *coord.Decision) bool {
	for _, w := range d.Writes {
		if p.docs[w.Key].version != w.Was {
			return false
		}
	}
	return true
}

func (p *parliament) propose(by coord.BoxID, d *coord.Decision) {
	id := d.Digest(coord.SiteID{1})
	if !p.member(by) || p.done[id] != 0 {
		return
	}
	if p.open[id] == nil {
		has := 0
		for _, o := range p.open {
			if o.by == by {
				has++
			}
		}
		for _, at := range p.refused[by] {
			if at == p.clock {
				has++
			}
		}
		if !p.fresh(d) || has >= OpenOfOneMax {
			return
		}
		p.open[id] = &modelOpen{by, d, p.clock + d.Seconds + 1, map[coord.BoxID]bool{}}
	}
	p.say(by, id, true)
}

func (p *parliament) say(by coord.BoxID, id coord.Digest, yes bool) {
	o := p.open[id]
	if !p.member(by) || o == nil || o.word[by] {
		return
	}
	o.word[by] = yes
	p.settle()
}

func (p *parliament) settle() {
	for again := true; again; {
		again = false
		ids := make([]coord.Digest, 0, len(p.open))
		for id := range p.open {
			ids = append(ids, id)
		}
		slices.SortFunc(ids, func(a, b coord.Digest) int { return bytes.Compare(a[:], b[:]) })
		for _, id := range ids {
			o, yes, no := p.open[id], 0, 0
			for by, w := range o.word {
				switch {
				case !p.member(by):
				case w:
					yes++
				default:
					no++
				}
			}
			n := len(p.members)
			how := Outcome(0)
			switch {
			case !p.fresh(o.d) || p.block && o.d.Writes[0].Key == coord.DocMembers:
				how = Stale
			case yes >= n-(n-1)/3:
				how = TookEffect
			case no > (n-1)/3:
				how = Refused
			}
			if how == 0 {
				continue
			}
			p.done[id] = how
			delete(p.open, id)
			if how == Refused {
				p.refused[o.by] = append(p.refused[o.by], p.clock)
			}
			if how == TookEffect {
				p.effect(o.d)
			}
			again = true
			break
		}
	}
}

func (p *parliament) effect(d *coord.Decision) {
	p.version++
	for _, w := range d.Writes {
		if w.Value == nil {
			delete(p.docs, w.Key)
			continue
		}
		doc := modelDoc{version: p.version, value: string(w.Value)}
		if w.Seconds > 0 {
			doc.ends = p.clock + w.Seconds + 1
		}
		p.docs[w.Key] = doc
		if w.Key != coord.DocMembers {
			continue
		}
		var m coord.Members
		if err := json.Unmarshal(w.Value, &m); err != nil {
			panic(err)
		}
		p.members, p.block, p.epoch = nil, true, p.epoch+1
		for i := range m.List {
			p.members = append(p.members, m.List[i].ID)
		}
		clear(p.ticks)
		for _, o := range p.open {
			for by := range o.word {
				if !p.member(by) {
					delete(o.word, by)
				}
			}
		}
	}
}

func (p *parliament) tick(by coord.BoxID, to uint64) {
	if to != p.clock+1 || !p.member(by) && p.epoch > 1 {
		return
	}
	if p.ticks[by] {
		return
	}
	p.ticks[by] = true
	if len(p.ticks) <= (len(p.members)-1)/3 {
		return
	}
	p.clock++
	clear(p.ticks)
	for id, o := range p.open {
		if o.ends <= p.clock {
			p.done[id] = Expired
			delete(p.open, id)
		}
	}
	ended := false
	for k, d := range p.docs {
		if d.ends > 0 && d.ends <= p.clock {
			delete(p.docs, k)
			ended = true
		}
	}
	if ended {
		p.version++
		p.settle()
	}
}

// compare wants the machine to have what the model has.
func (p *parliament) compare(t *testing.T, m *Machine) {
	t.Helper()
	if m.DocsVersion() != p.version || m.Seconds() != p.clock || m.Members().Epoch != p.epoch || m.Members().N() != len(p.members) {
		t.Fatalf("version %d clock %d epoch %d, want %d %d %d", m.DocsVersion(), m.Seconds(), m.Members().Epoch, p.version, p.clock, p.epoch)
	}
	docs := m.Docs("")
	if len(docs) != len(p.docs) {
		t.Fatalf("%d documents, want %d", len(docs), len(p.docs))
	}
	for _, d := range docs {
		if w := p.docs[d.Key]; w.value != string(d.Value) || w.version != d.Version || w.ends != d.Ends {
			t.Fatalf("%+v, want %+v", d, w)
		}
	}
	opens := m.Open()
	if len(opens) != len(p.open) {
		t.Fatalf("%d open, want %d", len(opens), len(p.open))
	}
	for _, o := range opens {
		w := p.open[o.ID]
		if w == nil || w.ends != o.Ends || len(o.Yes)+len(o.No) != len(w.word) || slices.ContainsFunc(o.Yes, func(b coord.BoxID) bool { return !w.word[b] }) {
			t.Fatalf("%+v, want %+v", o, w)
		}
	}
	for _, d := range m.Decided() {
		if p.done[d.ID] != d.Outcome {
			t.Fatalf("%+v, want %v", d, p.done[d.ID])
		}
	}
}

// Boxes, of which the members are some, propose, say yes and no, tick and change the members at random. The machine does what the
// model says, and a second one that is restarted all the time comes to the same bytes.
func TestDecisionsAreAsTheModelSaysOnEveryBox(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 14))
			p := &parliament{
				members: memberIDs(1, 4), epoch: 1, docs: map[string]modelDoc{}, open: map[coord.Digest]*modelOpen{},
				done: map[coord.Digest]Outcome{}, ticks: map[coord.BoxID]bool{}, refused: map[coord.BoxID][]uint64{},
			}
			rule := Rule{BytesMin: 1 << 30, GapBlocks: 1 << 30}
			steady, shaky := newRig(t), newRig(t)
			set := func(r *rig) { r.m.SetRule(rule); r.m.SetSite(siteOf(memberIDs(1, 4)...), coord.BoxID{}) }
			set(steady)
			set(shaky)
			seqs := map[coord.BoxID]uint64{}
			keys := []string{"a", "b", "c", coord.DocMembers}
			var made []*coord.Decision
			decision := func() *coord.Decision {
				if len(made) > 0 && rng.IntN(3) == 0 {
					return made[rng.IntN(len(made))]
				}
				d := &coord.Decision{Kind: "x.y", Seconds: 1 + rng.Uint64N(30), Nonce: uint64(len(made))}
				for _, i := range rng.Perm(len(keys))[:1+rng.IntN(2)] {
					w := coord.DocWrite{Key: keys[i], Was: p.docs[keys[i]].version, Seconds: rng.Uint64N(3) * 7}
					switch {
					case keys[i] == coord.DocMembers:
						ids := memberIDs(1, 8)
						rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
						w = membersOf(w.Was, ids[:1+rng.IntN(7)]...).Writes[0]
						d.Writes = nil // alone, so that the model need not look for it
					case rng.IntN(5) == 0 && w.Was > 0:
						w.Value, w.Seconds = nil, 0
					default:
						w.Value = fmt.Appendf(nil, "%d", rng.Uint64())
					}
					d.Writes = append(d.Writes, w)
					if keys[i] == coord.DocMembers {
						break
					}
				}
				made = append(made, d)
				return d
			}
			for range 2000 {
				p.block = false
				var in []batchIn
				for range rng.IntN(4) {
					by := coord.BoxID{byte(1 + rng.IntN(8))}
					var cols *coord.Columns
					switch rng.IntN(10) {
					case 0:
						d := decision()
						cols = message(coord.KindDecide, "", AppendProposal(nil, d))
						p.propose(by, d)
					case 1, 2, 3, 4, 5, 6, 7:
						if len(made) == 0 {
							continue
						}
						id, yes := made[len(made)-1-rng.IntN(min(len(made), 8))].Digest(coord.SiteID{1}), rng.IntN(5) > 0
						cols = message(coord.KindDecide, "", AppendWord(nil, id, yes))
						p.say(by, id, yes)
					default:
						to := p.clock + 1
						cols = message(coord.KindTick, "", kv.AppendNumber(nil, to))
						p.tick(by, to)
					}
					seqs[by]++
					in = append(in, batchIn{by, seqs[by], cols})
				}
				applyTo(steady.m, in)
				applyTo(shaky.m, in)
				if err := cmp.Or(steady.m.Err(), shaky.m.Err()); err != nil {
					t.Fatal(err)
				}
				p.compare(t, steady.m)
				if rng.IntN(8) == 0 {
					shaky.commit()
					shaky.restart()
					set(shaky)
					p.compare(t, shaky.m)
				}
			}
			steady.commit()
			shaky.commit()
			if !bytes.Equal(dump(t, steady.back), dump(t, shaky.back)) {
				t.Fatal("the boxes' states differ")
			}
			if p.epoch < 3 || len(p.done) < 40 {
				t.Fatalf("the trial shows nothing: epoch %d, %d decided", p.epoch, len(p.done))
			}
		})
	}
}
