package wire

import (
	"bytes"
	"fmt"
	"math"

	"github.com/holdfast-edge/holdfast/coord"
)

const peerVersion = 2 // 1 had no epoch in the envelope

// The types of messages between boxes; the numbers are part of the wire: never reuse one.
const (
	peerNothing      = 0 // of a PeerMsg without content; nobody decodes it
	peerBatch        = 1
	peerProposal     = 2
	peerVote         = 3
	peerCerts        = 4
	peerStatus       = 5
	peerAnnounce     = 6
	peerFetch        = 7
	peerFetchFrom    = 8
	peerFetchBlock   = 9
	peerBlock        = 10
	peerCatchUp      = 11
	peerCheckpoint   = 12
	peerSnapshotAsk  = 13
	peerSnapshotPart = 14
	peerRecall       = 15
	peerRecalled     = 16
	peerReading      = 17
	peerIndexAsk     = 18
	peerIndex        = 19
	peerHandover     = 20
	peerHandoverAsk  = 21
	peerTraceAsk     = 22 // from link.versionTrace on
	peerTrace        = 23
)

const (
	// peerFields is an envelope: version, type, epoch, content.
	peerFields = 4

	proposalFields     = 4
	statusFields       = 7
	catchUpFields      = 2
	snapshotAskFields  = 2
	snapshotPartFields = 4
	recalledFields     = 3
	readingFields      = 2
	indexFields        = 2
	traceFields        = 2

	// snapshotDataBytesMax bounds the data of a SnapshotPart: a manifest is the largest.
	snapshotDataBytesMax = hashBytes * coord.SnapshotChunksMax
	// peerSqueezeBytesMin: catch-ups and snapshot parts from this size on are compressed if it gains. Below,
	// they are digests and signatures, which never gain.
	peerSqueezeBytesMin = 1 << 10
)

// AppendPeer appends the encoding of m. Where m's lists are beyond coord's limits, nobody
// will decode it.
func AppendPeer(dst []byte, m *coord.PeerMsg) []byte {
	at := len(dst)
	dst = pack(append(dst, flagRaw), func(p *packer) { p.peer(m) })
	if m.CatchUp == nil && m.SnapshotPart == nil || len(dst)-at < peerSqueezeBytesMin {
		return dst
	}
	if out, ok := squeezed(nil, dst[at+1:]); ok {
		dst[at] = flagSnappy
		dst = append(dst[:at+1], out...)
	}
	return dst
}

func (p *packer) peer(m *coord.PeerMsg) {
	head := func(typ uint64) {
		p.array(peerFields)
		p.uint(peerVersion)
		p.uint(typ)
		p.uint(m.Epoch)
	}
	switch {
	case m.Batch != nil:
		head(peerBatch)
		p.batch(m.Batch)
	case m.Proposal != nil:
		head(peerProposal)
		p.proposal(m.Proposal)
	case m.Vote != nil:
		head(peerVote)
		p.vote(m.Vote)
	case m.Certs != nil:
		head(peerCerts)
		p.certs(m.Certs)
	case m.Status != nil:
		head(peerStatus)
		p.status(m.Status)
	case m.Announce != nil:
		head(peerAnnounce)
		p.refs(m.Announce)
	case m.Fetch != nil:
		head(peerFetch)
		p.digests(m.Fetch)
	case m.FetchFrom != nil:
		head(peerFetchFrom)
		p.uint(*m.FetchFrom)
	case m.FetchBlock != nil:
		head(peerFetchBlock)
		p.bin(m.FetchBlock[:])
	case m.Block != nil:
		head(peerBlock)
		p.block(m.Block)
	case m.CatchUp != nil:
		head(peerCatchUp)
		p.catchUp(m.CatchUp)
	case m.Checkpoint != nil:
		head(peerCheckpoint)
		p.checkpoint(m.Checkpoint)
	case m.SnapshotAsk != nil:
		head(peerSnapshotAsk)
		p.array(snapshotAskFields)
		p.uint(m.SnapshotAsk.Height)
		p.chunk(m.SnapshotAsk.Chunk)
	case m.SnapshotPart != nil:
		head(peerSnapshotPart)
		p.snapshotPart(m.SnapshotPart)
	case m.Recall != nil:
		head(peerRecall)
		p.uint(m.Recall.Nonce)
	case m.Recalled != nil:
		head(peerRecalled)
		p.recalled(m.Recalled)
	case m.Reading != nil:
		head(peerReading)
		p.array(readingFields)
		p.bin(m.Reading.Digest[:])
		p.bin(m.Reading.Sig[:])
	case m.IndexAsk != nil:
		head(peerIndexAsk)
		p.uint(*m.IndexAsk)
	case m.Index != nil:
		head(peerIndex)
		p.array(indexFields)
		p.uint(m.Index.Nonce)
		p.uint(m.Index.Round)
	case m.Handover != nil:
		head(peerHandover)
		p.handover(m.Handover)
	case m.HandoverAsk != nil:
		head(peerHandoverAsk)
		p.uint(*m.HandoverAsk)
	case m.TraceAsk != nil:
		head(peerTraceAsk)
		p.bin(m.TraceAsk[:])
	case m.Trace != nil:
		head(peerTrace)
		p.array(traceFields)
		p.bin(m.Trace.ID[:])
		p.bin(m.Trace.Records)
	default:
		head(peerNothing)
		p.null()
	}
}

// DecodePeer decodes one message; it shares no memory with b. In what it returns exactly one field is
// set, and pointers that coord does not call optional are not nil (Proposal.Parent, CatchUp.Cert and Checkpoint.Cert
// may be). Nothing else is known of it: digests, signatures and indexes are the receiver's to judge.
func DecodePeer(b []byte) (*coord.PeerMsg, error) {
	raw, err := unsqueeze(nil, b, coord.FrameBytesMax)
	if err != nil {
		return nil, fmt.Errorf("wire: peer message: %w", err)
	}
	m := new(coord.PeerMsg)
	if err := unpack(raw, func(u *unpacker) { u.peer(m) }); err != nil {
		return nil, fmt.Errorf("wire: peer message: %w", err)
	}
	return m, nil
}

func (u *unpacker) version(known uint64) {
	if v := u.uint(math.MaxUint64); u.err == nil && v != known {
		u.fail(fmt.Errorf("%w: %d", ErrVersion, v))
	}
}

func (u *unpacker) peer(m *coord.PeerMsg) {
	u.tuple(peerFields)
	u.version(peerVersion)
	typ := u.uint(math.MaxUint64)
	m.Epoch = u.uint(math.MaxUint64)
	switch typ {
	case peerBatch:
		m.Batch = u.batch()
	case peerProposal:
		m.Proposal = u.proposal()
	case peerVote:
		m.Vote = u.vote()
	case peerCerts:
		m.Certs = u.certs()
	case peerStatus:
		m.Status = u.status()
	case peerAnnounce:
		m.Announce = u.refs(coord.AnnounceRefsMax)
	case peerFetch:
		m.Fetch = u.digests()
	case peerFetchFrom:
		v := u.uint(math.MaxUint64)
		m.FetchFrom = &v
	case peerFetchBlock:
		m.FetchBlock = new(coord.Digest)
		u.fixed(m.FetchBlock[:])
	case peerBlock:
		m.Block = u.block()
	case peerCatchUp:
		m.CatchUp = u.catchUp()
	case peerCheckpoint:
		m.Checkpoint = u.checkpoint()
	case peerSnapshotAsk:
		u.tuple(snapshotAskFields)
		m.SnapshotAsk = &coord.SnapshotAsk{Height: u.uint(math.MaxUint64), Chunk: u.chunk()}
	case peerSnapshotPart:
		m.SnapshotPart = u.snapshotPart()
	case peerRecall:
		m.Recall = &coord.Recall{Nonce: u.uint(math.MaxUint64)}
	case peerRecalled:
		m.Recalled = u.recalled()
	case peerReading:
		m.Reading = new(coord.ReadVote)
		u.tuple(readingFields)
		u.fixed(m.Reading.Digest[:])
		u.fixed(m.Reading.Sig[:])
	case peerIndexAsk:
		nonce := u.uint(math.MaxUint64)
		m.IndexAsk = &nonce
	case peerIndex:
		u.tuple(indexFields)
		m.Index = &coord.Index{Nonce: u.uint(math.MaxUint64), Round: u.uint(math.MaxUint64)}
	case peerHandover:
		m.Handover = u.handover()
	case peerHandoverAsk:
		epoch := u.uint(math.MaxUint64)
		m.HandoverAsk = &epoch
	case peerTraceAsk:
		m.TraceAsk = new([16]byte)
		u.fixed(m.TraceAsk[:])
	case peerTrace:
		u.tuple(traceFields)
		m.Trace = new(coord.TracePart)
		u.fixed(m.Trace.ID[:])
		m.Trace.Records = bytes.Clone(u.bin(coord.TracePartBytesMax))
	default:
		u.fail(fmt.Errorf("%w: %d", ErrType, typ))
	}
}

func (p *packer) proposal(m *coord.Proposal) {
	p.array(proposalFields)
	p.block(m.Block)
	p.bin(m.Sig[:])
	p.block(m.Parent)
	p.certs(m.Proof)
}

func (u *unpacker) proposal() *coord.Proposal {
	m := new(coord.Proposal)
	u.tuple(proposalFields)
	m.Block = u.block()
	u.fixed(m.Sig[:])
	if !u.absent() {
		m.Parent = u.block()
	}
	m.Proof = u.certs()
	return m
}

func (p *packer) status(s *coord.Status) {
	p.array(statusFields)
	p.uint(s.Height)
	p.uint(s.FinalRound)
	p.bin(s.FinalDigest[:])
	p.uint(s.Round)
	p.uint(s.Checkpoint)
	p.uint(s.LogFrom)
	p.uint(s.VotesFrom)
}

func (u *unpacker) status() *coord.Status {
	s := new(coord.Status)
	u.tuple(statusFields)
	s.Height = u.uint(math.MaxUint64)
	s.FinalRound = u.uint(math.MaxUint64)
	u.fixed(s.FinalDigest[:])
	s.Round = u.uint(math.MaxUint64)
	s.Checkpoint = u.uint(math.MaxUint64)
	s.LogFrom = u.uint(math.MaxUint64)
	s.VotesFrom = u.uint(math.MaxUint64)
	return s
}

func (p *packer) recalled(m *coord.Recalled) {
	p.array(recalledFields)
	p.uint(m.Nonce)
	p.uint(m.Round)
	p.array(len(m.Votes))
	for _, v := range m.Votes {
		p.vote(v)
	}
}

func (u *unpacker) recalled() *coord.Recalled {
	m := new(coord.Recalled)
	u.tuple(recalledFields)
	m.Nonce = u.uint(math.MaxUint64)
	m.Round = u.uint(math.MaxUint64)
	m.Votes = make([]*coord.Vote, u.array(coord.RecalledVotesMax))
	for i := range m.Votes {
		if m.Votes[i] = u.vote(); u.err != nil {
			return nil
		}
	}
	return m
}

func (p *packer) digests(ds []coord.Digest) {
	p.binLen(hashBytes * len(ds))
	for i := range ds {
		p.b = append(p.b, ds[i][:]...)
	}
}

func (u *unpacker) digests() []coord.Digest {
	v, n := u.list(hashBytes, coord.FetchDigestsMax)
	ds := make([]coord.Digest, n)
	for i := range ds {
		ds[i] = coord.Digest(v[i*hashBytes:][:hashBytes])
	}
	return ds
}

func (p *packer) catchUp(m *coord.CatchUp) {
	p.array(catchUpFields)
	p.array(len(m.Blocks))
	for _, b := range m.Blocks {
		p.block(b)
	}
	p.cert(m.Cert)
}

func (u *unpacker) catchUp() *coord.CatchUp {
	m := new(coord.CatchUp)
	u.tuple(catchUpFields)
	m.Blocks = make([]*coord.Block, u.array(coord.CatchUpBlocksMax))
	for i := range m.Blocks {
		if m.Blocks[i] = u.block(); u.err != nil {
			return nil
		}
	}
	m.Cert = u.certOrNil()
	return m
}

// chunk writes -1, the manifest, as 0 and chunk i as i+1.
func (p *packer) chunk(i int) { p.uint(uint64(i + 1)) }

func (u *unpacker) chunk() int { return int(u.uint(coord.SnapshotChunksMax)) - 1 }

func (p *packer) snapshotPart(m *coord.SnapshotPart) {
	p.array(snapshotPartFields)
	p.uint(m.Height)
	p.chunk(m.Chunk)
	p.checkpoint(m.Checkpoint)
	p.bin(m.Data)
}

func (u *unpacker) snapshotPart() *coord.SnapshotPart {
	m := &coord.SnapshotPart{}
	u.tuple(snapshotPartFields)
	m.Height = u.uint(math.MaxUint64)
	m.Chunk = u.chunk()
	if !u.absent() {
		m.Checkpoint = u.checkpoint()
	}
	m.Data = bytes.Clone(u.bin(snapshotDataBytesMax))
	return m
}
