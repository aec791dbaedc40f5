package sim

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// Identity signs for real.
type Identity = *trust.Identity

// An identity is a number in a trial. A machine has one, or two once its key was changed; twins are two machines with one. What boxes
// say names members by their place in an epoch, which is not the same.

// newIdentity makes the next one and gives its number.
func (s *Sim) newIdentity() int {
	id := len(s.ids)
	name := coord.BoxID{byte(id + 1), 0xb0}
	if s.o.Identities != nil {
		name = s.o.Identities[id].ID()
	}
	s.ids = append(s.ids, name)
	s.numbers[name] = id
	return id
}

// member is an identity as a member set has it.
func (s *Sim) member(id int) coord.Member {
	m := coord.Member{ID: s.ids[id], Name: "box-" + string(rune('a'+id))}
	if s.o.Identities != nil {
		m.Key = s.o.Identities[id].PublicKey()
		m.Peer = "10.0.0.1:7400"
	}
	return m
}

// number is that of the member at a place of an epoch, or -1.
func (s *Sim) number(epoch uint64, place int) int {
	ms := s.epochs[epoch]
	if ms == nil || place < 0 || place >= ms.N() {
		return -1
	}
	return s.numbers[ms.List[place].ID]
}

// place is where a machine is in an epoch, -1 if it is no member.
func (s *Sim) place(m *machine, ms *coord.Members) int {
	for _, id := range m.ids {
		if i := ms.Index(s.ids[id]); i >= 0 {
			return i
		}
	}
	return -1
}

// is says whether a machine goes by that name.
func (s *Sim) is(m *machine, name coord.BoxID) bool {
	for _, id := range m.ids {
		if s.ids[id] == name {
			return true
		}
	}
	return false
}

// keys signs with a keyed hash: what a box can sign only it can sign, and checking is cheap. With Options.Identities it
// signs as the product does.
type keys struct {
	s       *Sim
	id      int // -1: checks only
	members *coord.Members
	check   *trust.Verifier
}

func (s *Sim) keysOf(m *machine) site.KeysOf {
	return func(ms *coord.Members) (site.Keys, int, error) {
		k, self := keys{s: s, id: -1, members: ms}, s.place(m, ms)
		if self >= 0 {
			k.id = s.numbers[ms.List[self].ID]
		}
		if s.o.Identities != nil {
			v, err := trust.NewVerifier(ms)
			if err != nil {
				return nil, 0, err
			}
			k.check = v
		}
		return k, self, nil
	}
}

func tag(id int, what []byte) (s coord.Signature) {
	var a [8 + 8 + coord.VoteBytesLen]byte
	copy(a[:], "sim key")
	binary.BigEndian.PutUint64(a[8:], uint64(id))
	d := sha256.Sum256(a[:16+copy(a[16:], what)])
	copy(s[:], d[:])
	return s
}

func (k keys) SignVote(kind coord.VoteKind, epoch, round uint64, d coord.Digest) coord.Signature {
	if k.check != nil {
		return k.s.o.Identities[k.id].SignVote(k.members.Site, kind, epoch, round, d)
	}
	a := coord.VoteBytes(k.members.Site, kind, epoch, round, d)
	return tag(k.id, a[:])
}

func (k keys) VerifyVote(v *coord.Vote) bool {
	if k.check != nil {
		return k.check.VerifyVote(v)
	}
	if int(v.Voter) >= k.members.N() {
		return false
	}
	a := coord.VoteBytes(k.members.Site, v.Kind, v.Epoch, v.Round, v.Digest)
	return tag(k.s.numbers[k.members.List[v.Voter].ID], a[:]) == v.Sig
}

func (k keys) SignBatch(b *coord.Batch) coord.Signature {
	if k.check != nil {
		c := *b
		k.s.o.Identities[k.id].SignBatch(k.members.Site, &c)
		return c.Sig
	}
	d := b.Digest(k.members.Site)
	return tag(k.id, d[:])
}

func (k keys) VerifyBatch(b *coord.Batch) bool {
	if k.check != nil {
		return k.check.VerifyBatch(b)
	}
	d := b.Digest(k.members.Site)
	i := k.members.Index(b.Author)
	return i >= 0 && tag(k.s.numbers[b.Author], d[:]) == b.Sig
}
