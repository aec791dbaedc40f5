package wire

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// gen makes random values of everything that travels; equal seeds make equal values.
type gen struct{ *rand.Rand }

func newGen(seed uint64) gen { return gen{rand.New(rand.NewPCG(seed, 1))} }

// num is a number of any magnitude, the corners of encodings included.
func (g gen) num() uint64 {
	switch g.IntN(8) {
	case 0:
		return 0
	case 1:
		return math.MaxUint64
	}
	return g.Uint64() >> g.IntN(64)
}

func (g gen) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint64())
	}
	return b
}

func (g gen) text(most int) string {
	b := g.bytes(g.IntN(most + 1))
	for i := range b {
		b[i] = 'a' + b[i]%26
	}
	return string(b)
}

func (g gen) hash() coord.Digest   { return coord.Digest(g.bytes(32)) }
func (g gen) sig() coord.Signature { return coord.Signature(g.bytes(64)) }
func (g gen) box() coord.BoxID     { return coord.BoxID(g.bytes(8)) }

func (g gen) batch() *coord.Batch {
	return &coord.Batch{
		Author: g.box(), Seq: g.num(), Floor: g.num(), Count: uint32(g.IntN(coord.BatchMessagesMax + 1)),
		Body: g.bytes(g.IntN(700)), Sig: g.sig(),
	}
}

func (g gen) refs(most int) []coord.BatchRef {
	rs := make([]coord.BatchRef, g.IntN(most+1))
	for i := range rs {
		rs[i] = coord.BatchRef{Author: g.box(), Seq: g.num(), Digest: g.hash()}
	}
	return rs
}

// block is a header, an empty block, or a whole one.
func (g gen) block() *coord.Block {
	b := &coord.Block{
		Epoch: g.num(), Round: g.num(), ParentRound: g.num(), Height: g.num(), Parent: g.hash(), Root: g.hash(),
	}
	switch g.IntN(3) {
	case 0:
		b.Refs = []coord.BatchRef{}
	case 1:
		b.Refs = g.refs(20)
	}
	return b
}

func (g gen) vote() *coord.Vote {
	return &coord.Vote{
		Kind: g.kind(), Epoch: g.num(), Round: g.num(), Digest: g.hash(), Voter: uint8(g.IntN(coord.MembersMax)), Sig: g.sig(),
	}
}

func (g gen) kind() coord.VoteKind { return coord.VoteKind(1 + g.IntN(5)) }

func (g gen) cert() *coord.Cert {
	c := &coord.Cert{Kind: g.kind(), Epoch: g.num(), Round: g.num(), Digest: g.hash(), Sigs: []coord.VoteSig{}}
	for range g.IntN(coord.MembersMax + 1) {
		c.Sigs = append(c.Sigs, coord.VoteSig{Voter: uint8(g.IntN(coord.MembersMax)), Level: g.num(), Sig: g.sig()})
	}
	return c
}

func (g gen) certOrNil() *coord.Cert {
	if g.IntN(3) == 0 {
		return nil
	}
	return g.cert()
}

func (g gen) certs() []*coord.Cert {
	cs := make([]*coord.Cert, g.IntN(4))
	for i := range cs {
		cs[i] = g.cert()
	}
	return cs
}

func (g gen) checkpoint() *coord.Checkpoint {
	return &coord.Checkpoint{Header: g.block(), State: g.hash(), Cert: g.certOrNil()}
}

func (g gen) members() *coord.Members {
	m := &coord.Members{Site: coord.SiteID(g.bytes(8)), Epoch: g.num(), List: make([]coord.Member, g.IntN(coord.MembersMax+1))}
	for i := range m.List {
		m.List[i] = coord.Member{
			ID: g.box(), Name: g.text(64), Key: g.bytes(1 + g.IntN(100)), Peer: g.text(100), Client: g.text(100), Native: g.text(100), Console: g.text(100),
			VotesFrom: g.num(),
		}
	}
	return m
}

func (g gen) handover() *coord.Handover {
	h := &coord.Handover{
		Members: g.members(), Header: g.block(), Next: g.members(), Sigs: g.cert().Sigs,
	}
	if g.IntN(2) == 0 {
		h.Checkpoint = g.checkpoint()
	}
	return h
}

func (g gen) final() *coord.Final { return &coord.Final{Header: g.block(), Cert: g.certOrNil()} }

// peer makes a message with the field of that name set.
func (g gen) peer(t testing.TB, field string) *coord.PeerMsg {
	m := &coord.PeerMsg{Epoch: g.num()}
	switch field {
	case "Batch":
		m.Batch = g.batch()
	case "Proposal":
		m.Proposal = &coord.Proposal{Block: g.block(), Sig: g.sig(), Proof: g.certs()}
		if g.IntN(3) > 0 {
			m.Proposal.Parent = g.block()
		}
	case "Vote":
		m.Vote = g.vote()
	case "Certs":
		m.Certs = g.certs()
	case "Status":
		m.Status = &coord.Status{
			Height: g.num(), FinalRound: g.num(), FinalDigest: g.hash(), Round: g.num(), Checkpoint: g.num(), LogFrom: g.num(),
			VotesFrom: g.num(),
		}
	case "Announce":
		m.Announce = g.refs(coord.AnnounceRefsMax)
	case "Fetch":
		m.Fetch = make([]coord.Digest, g.IntN(coord.FetchDigestsMax+1))
		for i := range m.Fetch {
			m.Fetch[i] = g.hash()
		}
	case "FetchFrom":
		v := g.num()
		m.FetchFrom = &v
	case "FetchBlock":
		v := g.hash()
		m.FetchBlock = &v
	case "Block":
		m.Block = g.block()
	case "CatchUp":
		m.CatchUp = &coord.CatchUp{Blocks: make([]*coord.Block, g.IntN(20)), Cert: g.certOrNil()}
		for i := range m.CatchUp.Blocks {
			m.CatchUp.Blocks[i] = g.block()
		}
	case "Checkpoint":
		m.Checkpoint = g.checkpoint()
	case "SnapshotAsk":
		m.SnapshotAsk = &coord.SnapshotAsk{Height: g.num(), Chunk: g.IntN(coord.SnapshotChunksMax+1) - 1}
	case "SnapshotPart":
		m.SnapshotPart = &coord.SnapshotPart{Height: g.num(), Chunk: g.IntN(coord.SnapshotChunksMax+1) - 1, Data: g.bytes(g.IntN(5000))}
		if g.IntN(2) == 0 {
			m.SnapshotPart.Checkpoint = g.checkpoint()
			m.SnapshotPart.Data = make([]byte, g.IntN(5000)) // compressible
		}
	case "Recall":
		m.Recall = &coord.Recall{Nonce: g.num()}
	case "Recalled":
		m.Recalled = &coord.Recalled{Nonce: g.num(), Round: g.num(), Votes: make([]*coord.Vote, g.IntN(coord.RecalledVotesMax+1))}
		for i := range m.Recalled.Votes {
			m.Recalled.Votes[i] = g.vote()
		}
	case "Reading":
		m.Reading = &coord.ReadVote{Digest: g.hash(), Sig: g.sig()}
	case "IndexAsk":
		nonce := g.num()
		m.IndexAsk = &nonce
	case "Index":
		m.Index = &coord.Index{Nonce: g.num(), Round: g.num()}
	case "Handover":
		m.Handover = g.handover()
	case "HandoverAsk":
		epoch := g.num()
		m.HandoverAsk = &epoch
	case "TraceAsk":
		m.TraceAsk = (*[16]byte)(g.bytes(16))
	case "Trace":
		m.Trace = &coord.TracePart{ID: [16]byte(g.bytes(16)), Records: g.bytes(g.IntN(300))}
	default:
		t.Fatalf("coord.PeerMsg has a field that this test cannot make: %s", field)
	}
	return m
}

func (g gen) record(t testing.TB, field string) *coord.Record {
	r := new(coord.Record)
	switch field {
	case "Batch":
		r.Batch = g.batch()
	case "Block":
		r.Block = g.block()
	case "Vote":
		r.Vote = g.vote()
	case "Cert":
		r.Cert = g.cert()
	case "Final":
		r.Final = g.final()
	case "Stable":
		r.Stable = g.checkpoint()
	case "Handover":
		r.Handover = g.handover()
	case "Silent":
		r.Silent = &coord.Silence{Epoch: g.num(), From: g.num()}
	default:
		t.Fatalf("coord.Record has a field that this test cannot make: %s", field)
	}
	return r
}

func (g gen) client(t testing.TB, field string) *ClientMsg {
	m, v := new(ClientMsg), g.num()
	switch field {
	case "Hello":
		m.Hello = &Hello{
			MinVersion: uint16(g.num()), MaxVersion: uint16(g.num()), Token: g.bytes(g.IntN(TokenBytesMax + 1)),
			Client: g.text(ClientNameBytesMax),
		}
	case "Welcome":
		m.Welcome = &Welcome{
			Version: uint16(g.num()), Box: g.box(), Site: coord.SiteID(g.bytes(8)), Members: make([]coord.Member, g.IntN(coord.MembersMax+1)),
			MessagesMax: uint32(g.num()), BytesMax: uint32(g.num()),
		}
		for i := range m.Welcome.Members {
			m.Welcome.Members[i] = coord.Member{
				ID: g.box(), Name: g.text(memberTextBytesMax), Key: g.bytes(g.IntN(100)), Peer: g.text(memberTextBytesMax),
				Client: g.text(memberTextBytesMax), Native: g.text(memberTextBytesMax), Console: g.text(memberTextBytesMax),
			}
		}
	case "Submit":
		m.Submit = &Submit{ID: v, Body: g.bytes(g.IntN(1000))}
		if g.IntN(2) == 0 {
			m.Submit.Trace = (*TraceContext)(g.bytes(len(TraceContext{})))
		}
	case "Answer":
		m.Answer = &Answer{
			ID: v, Code: coord.Code(g.IntN(256)), Height: g.num(), RetryAfter: time.Duration(g.IntN(1e6)) * time.Millisecond,
		}
		if g.IntN(3) > 0 {
			m.Answer.Results = g.results()
		}
	case "Ping":
		m.Ping = &v
	case "Pong":
		m.Pong = &v
	case "Error":
		m.Error = &Error{Code: coord.Code(g.IntN(256)), Text: g.text(ErrorTextBytesMax)}
	default:
		t.Fatalf("ClientMsg has a field that this test cannot make: %s", field)
	}
	return m
}

func (g gen) results() []coord.Result {
	rs := make([]coord.Result, g.IntN(200))
	revision := g.num()
	for i := range rs {
		rs[i] = coord.Result{Code: coord.Code(g.IntN(7)), Duplicate: g.IntN(4) == 0, Revision: revision, Found: g.IntN(2) == 0}
		if revision++; g.IntN(20) == 0 {
			revision = g.num()
		}
		if rs[i].Found && g.IntN(2) == 0 {
			rs[i].Value = g.bytes(g.IntN(300))
		}
	}
	return rs
}

// columns are messages of one of several habits: one session or many, equal lengths or not, small or random.
func (g gen) columns(n int) *coord.Columns {
	c := new(coord.Columns)
	keyLen, valLen, habit := g.IntN(40), g.IntN(120), g.IntN(6)
	session, seq, ms := g.num(), g.num(), int64(g.num())
	value := g.bytes(valLen)
	for range n {
		kind := coord.KindPut
		switch habit {
		case 0: // one session, counting; values that differ in a few bytes
			seq++
			for range min(valLen, 3) {
				value[g.IntN(valLen)] = byte(g.Uint64())
			}
		case 1: // everything random
			kind, session, seq, ms = coord.Kind(g.IntN(256)), g.num(), g.num(), int64(g.num())
			keyLen, value = g.IntN(200), g.bytes(g.IntN(100))
		case 2: // several sessions
			session, seq = uint64(g.IntN(4)), seq+uint64(g.IntN(3))
			value = g.bytes(valLen)
		case 3: // counts of objects
			kind, keyLen, value = coord.KindObserve, 8, nil
			seq++
		case 4: // numbers that do not fit deltas
			session, seq, ms = g.Uint64(), g.Uint64(), int64(g.Uint64())
		}
		key := g.bytes(keyLen)
		if habit == 3 {
			clear(key[:6])
		}
		c.Add(kind, session, seq, ms, key, value)
		ms += int64(g.IntN(3))
	}
	return c
}

// fields are the names of a struct's fields.
func fields(v any) (names []string) {
	t := reflect.TypeOf(v)
	for field := range t.Fields() {
		if field.Type.Kind() == reflect.Pointer || field.Type.Kind() == reflect.Slice { // not what goes with every message
			names = append(names, field.Name)
		}
	}
	return names
}
