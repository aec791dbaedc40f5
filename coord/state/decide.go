package state

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// A decision is proposed by a member and open until a quorum of the members has said yes, more than f have said no, a document that
// it writes has changed, or its time is over. The state counts words and compares versions; whether a decision should be is judged by
// every box for itself (coord/site). So f boxes that lie can neither have one take effect nor keep one from it, and no reason that
// a box may have for its word can make two boxes differ.

// Outcome is how a decision ended; the numbers are stored.
type Outcome uint8

// The outcomes.
const (
	TookEffect Outcome = 1
	Refused    Outcome = 2 // more than f members said no
	Stale      Outcome = 3 // another decision changed a document that it writes
	Expired    Outcome = 4
	NoRoom     Outcome = 5 // a quorum said yes, and the documents have no room for it
)

// String is one or two words.
func (o Outcome) String() string {
	switch o {
	case TookEffect:
		return "took effect"
	case Refused:
		return "refused"
	case Stale:
		return "stale"
	case Expired:
		return "expired"
	case NoRoom:
		return "no room"
	}
	return "unknown"
}

// MarshalText makes JSON show an Outcome as its String.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (o *Outcome) UnmarshalText(b []byte) error {
	for *o = TookEffect; *o <= NoRoom; *o++ {
		if o.String() == string(b) {
			return nil
		}
	}
	return fmt.Errorf("state: %q is no outcome of a decision", b)
}

// OpenDecision is a decision that members may give their word on.
type OpenDecision struct {
	ID coord.Digest
	// Decision is as it was proposed first, by By; immutable, as are Others: the same with what other proposers said for it.
	Decision *coord.Decision
	By       coord.BoxID
	Others   []*coord.Decision
	// Yes and No are the members that gave their word, ascending.
	Yes, No []coord.BoxID
	// Ends is the second of the site's clock in which its time is over.
	Ends uint64
}

// Decided is how a decision ended.
type Decided struct {
	ID        coord.Digest  `json:"id"`
	Kind      string        `json:"kind"`
	Subject   string        `json:"subject"`
	Principal string        `json:"principal"`
	By        coord.BoxID   `json:"by"` // the box that proposed it first
	Outcome   Outcome       `json:"outcome"`
	Height    uint64        `json:"height"`
	Second    uint64        `json:"second"` // of the site's clock
	Yes       []coord.BoxID `json:"yes"`    // ascending
	No        []coord.BoxID `json:"no"`
	// Number counts decisions from 1 in the order in which they ended.
	Number uint64 `json:"number"`
	// Decision is there in what TakeDecided gives only.
	Decision *coord.Decision `json:"-"`

	free uint64 // the second until which it counts against who proposed it; 0: it does not
}

// open is a decision that is open.
type open struct {
	id        coord.Digest
	ends      uint64
	proposals []proposal // in the order in which they came
	yes, no   []coord.BoxID
}

// proposal is a decision as a box proposed it: of one decision they differ in what they say for it.
type proposal struct {
	by    coord.BoxID
	d     *coord.Decision
	bytes int
}

func (o *open) decision() *coord.Decision { return o.proposals[0].d }

// siteTable is what the site has decided and is deciding about itself.
type siteTable struct {
	docs docTable
	open []*open // by ascending id
	// took and failed are the last decidedMax outcomes of each sort, oldest first: apart, for a box that lies can have many fail.
	took, failed []*Decided
	number       uint64 // of the last outcome

	members      *coord.Members // as the document has it; nil: there is none
	epoch, since uint64         // of members: its number, and the height of the block that wrote it
	next         *coord.Members // members, if the block being applied or the last one wrote it

	dirty   map[string]struct{} // keys of SpaceSite
	news    []Decided           // since the last TakeDecided
	changes uint64              // of anything here, since New
}

func newSiteTable() siteTable {
	return siteTable{docs: docTable{m: map[string]*coord.Doc{}}, dirty: map[string]struct{}{}}
}

func (t *siteTable) find(id coord.Digest) (at int, o *open) {
	at, found := slices.BinarySearchFunc(t.open, id, func(o *open, id coord.Digest) int { return bytes.Compare(o.id[:], id[:]) })
	if found {
		o = t.open[at]
	}
	return at, o
}

func (t *siteTable) decided(id coord.Digest) *Decided {
	for _, list := range [...][]*Decided{t.took, t.failed} {
		for _, d := range list {
			if d.ID == id {
				return d
			}
		}
	}
	return nil
}

// timed says whether something waits for the site's clock.
func (t *siteTable) timed(now uint64) bool {
	return len(t.open) > 0 || t.docs.timed > 0 || slices.ContainsFunc(t.failed, func(d *Decided) bool { return d.free > now })
}

// decide applies a KindDecide message.
func (m *Machine) decide(value []byte) (coord.Code, Refusal) {
	ms := m.memberSet()
	if ms == nil || ms.Index(m.author) < 0 {
		return coord.CodeBad, RefuseAuthor
	}
	w, err := DecodeWord(value)
	if err != nil {
		return coord.CodeBad, RefuseMalformed
	}
	if w.Proposed != nil {
		return m.propose(ms, w.Proposed, len(value))
	}
	_, o := m.site.find(w.ID)
	switch {
	case o != nil:
		return m.give(o, w.Yes)
	case m.site.decided(w.ID) != nil:
		return coord.CodeBad, RefuseDone
	}
	return coord.CodeBad, RefuseUnknown
}

// propose opens a decision, or adds the author's proposal to one that is open.
func (m *Machine) propose(ms *coord.Members, d *coord.Decision, size int) (coord.Code, Refusal) {
	t, id, p := &m.site, d.Digest(ms.Site), proposal{m.author, d, size}
	at, o := t.find(id)
	if o != nil {
		same := func(q proposal) bool { return bytes.Equal(q.d.Authority, d.Authority) }
		own := slices.IndexFunc(o.proposals, func(q proposal) bool { return q.by == m.author })
		switch {
		case slices.ContainsFunc(o.proposals, same):
		case own >= 0 && m.mayPropose(0, size-o.proposals[own].bytes):
			o.proposals[own] = p
			m.touch(proposalKey(id, p.by))
		case own < 0 && m.mayPropose(1, size):
			o.proposals = append(o.proposals, p)
			m.touch(proposalKey(id, p.by))
		}
		return m.give(o, true)
	}
	if t.decided(id) != nil {
		return coord.CodeBad, RefuseDone
	}
	for i := range d.Writes {
		w := &d.Writes[i]
		if w.Key != coord.DocMembers {
			continue
		}
		if next, err := coord.DecodeMembers(w.Value); err != nil || next.Site != ms.Site || w.Seconds > 0 {
			return coord.CodeBad, RefuseMembers
		}
	}
	ends := m.endOf(d)
	switch {
	case d.Made > m.meta.clock || ends <= m.meta.clock:
		return coord.CodeBad, RefuseOver
	case d.Seen > t.docs.version || d.Seen > 0 && t.docs.version-d.Seen >= coord.DecisionSeenMax || !t.docs.is(d.Writes):
		return coord.CodeBad, RefuseStale
	case !t.docs.room(d.Writes):
		return coord.CodeBad, RefuseRoom
	case len(t.open) >= openMax || !m.mayPropose(1, size):
		return coord.CodeBusy, RefuseFull
	}
	o = &open{id: id, ends: ends, proposals: []proposal{p}}
	t.open = slices.Insert(t.open, at, o)
	m.touch(proposalKey(id, p.by))
	return m.give(o, true)
}

// endOf is the second in which the time of a decision that is proposed now is over.
func (m *Machine) endOf(d *coord.Decision) uint64 {
	from, lasts := m.meta.clock, d.Seconds
	if d.Made > 0 {
		from = d.Made
	}
	if lasts == 0 {
		lasts = coord.DecisionSecondsDefault
	}
	return from + min(max(lasts, m.rule.DecisionSeconds), coord.DecisionSecondsMax) + 1
}

// mayPropose says whether the author may have so many more open, of so many bytes.
func (m *Machine) mayPropose(count, size int) bool {
	for _, o := range m.site.open {
		for i := range o.proposals {
			if p := &o.proposals[i]; p.by == m.author {
				count, size = count+1, size+p.bytes
			}
		}
	}
	for _, d := range m.site.failed {
		if d.By == m.author && d.free > m.meta.clock {
			count++
		}
	}
	return count <= OpenOfOneMax && size <= openBytesOfOneMax
}

// give counts the author's word. A yes stands; a no may become one.
func (m *Machine) give(o *open, yes bool) (coord.Code, Refusal) {
	at := func(list []coord.BoxID) (int, bool) {
		return slices.BinarySearchFunc(list, m.author, func(a, b coord.BoxID) int { return bytes.Compare(a[:], b[:]) })
	}
	y, said := at(o.yes)
	n, saidNo := at(o.no)
	switch {
	case said && !yes:
		return coord.CodeBad, RefuseTaken
	case said || saidNo && !yes:
		return coord.CodeOK, NotRefused
	case yes:
		o.yes = slices.Insert(o.yes, y, m.author)
		if saidNo {
			o.no = slices.Delete(o.no, n, n+1)
		}
	default:
		o.no = slices.Insert(o.no, n, m.author)
	}
	m.touch(wordsKey(o.id))
	m.settle()
	return coord.CodeOK, NotRefused
}

// settle ends every decision that is decided, by ascending id, until none is: an effect may make others stale, and a change of members
// counts the words again.
func (m *Machine) settle() {
	t := &m.site
	for i := 0; i < len(t.open); {
		o := t.open[i]
		n := m.memberSet().N()
		switch {
		case !t.docs.is(o.decision().Writes) || t.next != nil && writesMembers(o.decision()):
			m.end(o, Stale) // the second change of members in a block too: nobody has seen the first one yet
		case len(o.yes) >= coord.Quorum(n) && !t.docs.room(o.decision().Writes):
			m.end(o, NoRoom)
		case len(o.yes) >= coord.Quorum(n):
			m.end(o, TookEffect)
			m.write(o.decision())
		case len(o.no) > coord.MaxFaulty(n):
			m.end(o, Refused)
		default:
			i++
			continue
		}
		i = 0
	}
}

func writesMembers(d *coord.Decision) bool {
	return slices.ContainsFunc(d.Writes, func(w coord.DocWrite) bool { return w.Key == coord.DocMembers })
}

// write carries a decision out.
func (m *Machine) write(d *coord.Decision) {
	t := &m.site
	t.docs.version++
	m.touch(siteScalars)
	for i := range d.Writes {
		w := &d.Writes[i]
		m.touch(docKey(w.Key))
		if w.Value == nil {
			t.docs.put(w.Key, nil)
			continue
		}
		doc := &coord.Doc{Key: w.Key, Version: t.docs.version, Value: w.Value}
		if w.Seconds > 0 {
			doc.Ends = m.meta.clock + min(w.Seconds, docSecondsMax) + 1
		}
		t.docs.put(w.Key, doc)
		if w.Key == coord.DocMembers {
			m.newMembers(w.Value)
		}
	}
}

// newMembers begins an epoch. Words of boxes that are no members any more are forgotten, and all ticks: of fewer boxes those that
// said so may be enough, and nobody would say it again.
func (m *Machine) newMembers(value []byte) {
	t := &m.site
	next, err := coord.DecodeMembers(value)
	if err != nil { // it was checked when it was proposed
		m.fail(damaged(coord.SpaceSite, []byte(docKey(coord.DocMembers)), err))
		return
	}
	next.Epoch = m.memberSet().Epoch + 1
	t.members, t.next, t.epoch, t.since = next, next, next.Epoch, m.meta.height
	gone := func(id coord.BoxID) bool { return next.Index(id) < 0 }
	m.meta.voted = m.meta.voted[:0]
	for _, o := range t.open {
		words := len(o.yes) + len(o.no)
		o.yes, o.no = slices.DeleteFunc(o.yes, gone), slices.DeleteFunc(o.no, gone)
		if len(o.yes)+len(o.no) != words {
			m.touch(wordsKey(o.id))
		}
	}
}

// end closes a decision and remembers how it ended.
func (m *Machine) end(o *open, how Outcome) {
	t, d := &m.site, o.decision()
	at, _ := t.find(o.id)
	t.open = slices.Delete(t.open, at, at+1)
	for i := range o.proposals {
		m.touch(proposalKey(o.id, o.proposals[i].by))
	}
	m.touch(wordsKey(o.id))
	t.number++
	m.touch(siteScalars)
	e := &Decided{
		ID: o.id, Kind: d.Kind, Subject: d.Subject, Principal: d.Principal, By: o.proposals[0].by, Outcome: how,
		Height: m.meta.height, Second: m.meta.clock, Yes: o.yes, No: o.no, Number: t.number, Decision: d,
	}
	list := &t.failed
	switch how {
	case TookEffect:
		list = &t.took
	case Refused:
		e.free = m.meta.clock + m.rule.DecisionSeconds + 1
	}
	t.news = append(t.news, *e)
	e.Decision = nil
	*list = append(*list, e)
	m.touch(decidedKey(e))
	if len(*list) > decidedMax {
		m.touch(decidedKey((*list)[0]))
		*list = slices.Delete(*list, 0, 1)
	}
}

// passed ends what the site's clock has ended.
func (m *Machine) passed() {
	t, now := &m.site, m.meta.clock
	for i := 0; i < len(t.open); {
		if o := t.open[i]; o.ends <= now {
			m.end(o, Expired)
			continue
		}
		i++
	}
	keys := t.docs.ended(now)
	if len(keys) == 0 {
		return
	}
	t.docs.version++
	m.touch(siteScalars)
	for _, k := range keys {
		t.docs.put(k, nil)
		m.touch(docKey(k))
	}
	m.settle()
}

// Open lists the open decisions by ascending id.
func (m *Machine) Open() []OpenDecision {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]OpenDecision, 0, len(m.site.open))
	for _, o := range m.site.open {
		out = append(out, o.show())
	}
	return out
}

func (o *open) show() OpenDecision {
	s := OpenDecision{
		ID: o.id, Decision: o.decision(), By: o.proposals[0].by, Yes: slices.Clone(o.yes), No: slices.Clone(o.no), Ends: o.ends,
	}
	for _, p := range o.proposals[1:] {
		s.Others = append(s.Others, p.d)
	}
	return s
}

// Decision is one decision: open, or how it ended; neither when this box does not know it, or forgot it.
func (m *Machine) Decision(id coord.Digest) (*OpenDecision, *Decided) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, o := m.site.find(id); o != nil {
		s := o.show()
		return &s, nil
	}
	if d := m.site.decided(id); d != nil {
		c := *d
		return nil, &c
	}
	return nil, nil
}

// Decided lists how decisions ended, the newest first: the last 128 that took effect and the last 128 others.
func (m *Machine) Decided() []Decided {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]Decided, 0, len(m.site.took)+len(m.site.failed))
	for _, list := range [...][]*Decided{m.site.took, m.site.failed} {
		for _, d := range list {
			out = append(out, *d)
		}
	}
	slices.SortFunc(out, func(a, b Decided) int { return int(b.Number) - int(a.Number) })
	return out
}

// TakeDecided gives how decisions ended since the last call, in order. It is immutable.
func (m *Machine) TakeDecided() []Decided {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.site.news
	m.site.news = nil
	return n
}

// SiteChanges grows whenever a decision, a word or a document comes or goes. It counts from New and is no part of the state.
func (m *Machine) SiteChanges() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.site.changes
}
