package state

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// The keys of SpaceSite begin with a letter that says what they hold; docs/state.md draws them.
const (
	siteScalars  = "s"
	siteDoc      = 'd'
	siteProposal = 'o'
	siteWords    = 'w'
	siteDecided  = 'r'
)

func docKey(key string) string { return string(siteDoc) + key }

func proposalKey(id coord.Digest, by coord.BoxID) string {
	return string(siteProposal) + string(id[:]) + string(by[:])
}

func wordsKey(id coord.Digest) string { return string(siteWords) + string(id[:]) }

// decidedKey has 1 for what took effect, and 0 for all else.
func decidedKey(d *Decided) string {
	return string(siteDecided) + string(rune(flag(d.Outcome == TookEffect))) + string(key64(d.Number))
}

// touch says that the entry of a key has changed, come or gone.
func (m *Machine) touch(key string) {
	m.site.dirty[key] = struct{}{}
	m.site.changes++
}

// take appends what changed since the last take, by ascending key.
func (t *siteTable) take(out []coord.Change) []coord.Change {
	keys := make([]string, 0, len(t.dirty))
	for k := range t.dirty {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	clear(t.dirty)
	for _, k := range keys {
		out = append(out, coord.Change{Space: coord.SpaceSite, Key: []byte(k), Value: t.value(k)})
	}
	return out
}

// value is what is stored of a key, nil for one that is gone.
func (t *siteTable) value(key string) []byte {
	rest := key[1:]
	switch key[0] {
	case siteScalars[0]:
		return t.appendScalars(nil)
	case siteDoc:
		if d := t.docs.m[rest]; d != nil {
			return appendDoc(nil, d)
		}
	case siteWords:
		if _, o := t.find(coord.Digest([]byte(rest))); o != nil {
			return appendWords(nil, o.yes, o.no)
		}
	case siteProposal:
		_, o := t.find(coord.Digest([]byte(rest[:32])))
		if o == nil {
			return nil
		}
		for i := range o.proposals {
			if p := &o.proposals[i]; string(p.by[:]) == rest[32:] {
				return appendOpen(nil, i, o.ends, p.d)
			}
		}
	case siteDecided:
		list := t.failed
		if rest[0] == 1 {
			list = t.took
		}
		for _, d := range list {
			if string(key64(d.Number)) == rest[1:] {
				return appendDecided(nil, d)
			}
		}
	}
	return nil
}

func (t *siteTable) appendScalars(b []byte) []byte {
	b = append(b, format)
	for _, v := range [...]uint64{t.docs.version, t.number, t.epoch, t.since} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendDoc(b []byte, d *coord.Doc) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(append(b, format), d.Version), d.Ends)
	return append(b, d.Value...)
}

func decodeDoc(b []byte) (*coord.Doc, error) {
	r := newReader(b)
	d := &coord.Doc{Version: r.uvarint(), Ends: r.uvarint()}
	r.check(d.Version > 0 && len(r.b) <= coord.DocBytesMax)
	d.Value, r.b = append([]byte{}, r.b...), nil
	return d, r.end("document")
}

// appendOpen has the place among the decision's proposals, in which they came.
func appendOpen(b []byte, place int, ends uint64, d *coord.Decision) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(append(b, format), uint64(place)), ends)
	return d.Append(b)
}

func decodeOpen(b []byte) (place int, ends uint64, d *coord.Decision, err error) {
	r := newReader(b)
	p := r.uvarint()
	ends = r.uvarint()
	r.check(p < openMax)
	if r.err == nil {
		d, err = coord.DecodeDecision(r.b)
		r.b = nil
		r.check(err == nil)
	}
	return int(p), ends, d, r.end("open decision")
}

func appendBoxes(b []byte, ids []coord.BoxID) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for i := range ids {
		b = append(b, ids[i][:]...)
	}
	return b
}

func (r *reader) boxes() (ids []coord.BoxID) {
	for range r.count(coord.MembersMax, len(coord.BoxID{})) {
		ids = append(ids, coord.BoxID(r.bytes(len(coord.BoxID{}))))
	}
	for i := 1; i < len(ids); i++ {
		r.check(string(ids[i-1][:]) < string(ids[i][:]))
	}
	return ids
}

func appendWords(b []byte, yes, no []coord.BoxID) []byte {
	return appendBoxes(appendBoxes(append(b, format), yes), no)
}

func decodeWords(b []byte) (yes, no []coord.BoxID, err error) {
	r := newReader(b)
	yes, no = r.boxes(), r.boxes()
	for i := range yes {
		r.check(!slices.Contains(no, yes[i]))
	}
	return yes, no, r.end("words")
}

func appendDecided(b []byte, d *Decided) []byte {
	b = append(append(append(b, format), byte(d.Outcome)), d.ID[:]...)
	b = append(b, d.By[:]...)
	for _, v := range [...]uint64{d.Height, d.Second, d.free} {
		b = binary.AppendUvarint(b, v)
	}
	for _, s := range [...]string{d.Kind, d.Subject, d.Principal} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return appendBoxes(appendBoxes(b, d.Yes), d.No)
}

func decodeDecided(b []byte) (*Decided, error) {
	r := newReader(b)
	d := new(Decided)
	r.check(len(r.b) > 1+len(d.ID)+len(d.By))
	if r.err == nil {
		d.Outcome = Outcome(r.bytes(1)[0])
		d.ID, d.By = coord.Digest(r.bytes(len(d.ID))), coord.BoxID(r.bytes(len(d.By)))
	}
	r.check(d.Outcome >= TookEffect && d.Outcome <= NoRoom)
	for _, v := range [...]*uint64{&d.Height, &d.Second, &d.free} {
		*v = r.uvarint()
	}
	for _, s := range [...]*string{&d.Kind, &d.Subject, &d.Principal} {
		*s = string(r.bytes(r.count(len(b), 1)))
	}
	d.Yes, d.No = r.boxes(), r.boxes()
	return d, r.end("decided")
}

// loadSite takes one entry of SpaceSite; they come by ascending key.
func (m *Machine) loadSite(k, v []byte) (err error) {
	t := &m.site
	if len(k) == 0 {
		return ErrDamaged
	}
	rest := string(k[1:])
	switch {
	case string(k) == siteScalars:
		r := newReader(v)
		for _, n := range [...]*uint64{&t.docs.version, &t.number, &t.epoch, &t.since} {
			*n = r.uvarint()
		}
		return r.end("site")
	case k[0] == siteDoc && len(rest) > 0:
		d, err := decodeDoc(v)
		if err != nil {
			return err
		}
		d.Key = rest
		t.docs.put(rest, d)
		return nil
	case k[0] == siteProposal && len(rest) == 32+8:
		return t.loadOpen(coord.Digest(k[1:33]), coord.BoxID(k[33:]), v)
	case k[0] == siteWords && len(rest) == 32:
		_, o := t.find(coord.Digest(k[1:]))
		if o == nil {
			return ErrDamaged
		}
		o.yes, o.no, err = decodeWords(v)
		return err
	case k[0] == siteDecided && len(rest) == 1+8 && rest[0] <= 1:
		d, err := decodeDecided(v)
		if err != nil {
			return err
		}
		d.Number = binary.BigEndian.Uint64(k[2:])
		list := &t.failed
		if rest[0] == 1 {
			list = &t.took
		}
		if flag(d.Outcome == TookEffect) != uint64(rest[0]) || len(*list) >= decidedMax {
			return ErrDamaged
		}
		*list = append(*list, d)
		return nil
	}
	return fmt.Errorf("%w: no such entry", ErrDamaged)
}

func (t *siteTable) loadOpen(id coord.Digest, by coord.BoxID, v []byte) error {
	place, ends, d, err := decodeOpen(v)
	if err != nil {
		return err
	}
	at, o := t.find(id)
	if o == nil {
		o = &open{id: id, ends: ends}
		t.open = slices.Insert(t.open, at, o)
	}
	for len(o.proposals) <= place {
		o.proposals = append(o.proposals, proposal{})
	}
	if o.proposals[place].d != nil || o.ends != ends {
		return ErrDamaged
	}
	o.proposals[place] = proposal{by, d, 1 + len(d.Append(nil))}
	return nil
}

// loadedSite judges what loadSite took as a whole.
func (m *Machine) loadedSite() error {
	t := &m.site
	for _, o := range t.open {
		if slices.ContainsFunc(o.proposals, func(p proposal) bool { return p.d == nil }) {
			return damaged(coord.SpaceSite, []byte(wordsKey(o.id)), ErrDamaged)
		}
	}
	d := t.docs.m[coord.DocMembers]
	if d == nil {
		return nil
	}
	ms, err := coord.DecodeMembers(d.Value)
	if err != nil {
		return damaged(coord.SpaceSite, []byte(docKey(coord.DocMembers)), fmt.Errorf("%w: %w", ErrDamaged, err))
	}
	ms.Epoch = t.epoch
	t.members = ms
	return nil
}

// siteBytes is about what the documents and open decisions take in storage.
func (t *siteTable) siteBytes() uint64 {
	n := t.docs.bytes
	for _, o := range t.open {
		for i := range o.proposals {
			n += o.proposals[i].bytes
		}
	}
	return uint64(n)
}

// shortest is the least number of digits that a person may type of a decision's id.
const shortest = 4

// FindDecision gives the id that begins with the digits in prefix, if exactly one decision, open or ended, has it.
func (m *Machine) FindDecision(prefix string) (id coord.Digest, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(prefix) < shortest {
		return id, false
	}
	n := 0
	see := func(x coord.Digest) {
		if strings.HasPrefix(x.String(), strings.ToLower(prefix)) {
			id, n = x, n+1
		}
	}
	for _, o := range m.site.open {
		see(o.id)
	}
	for _, list := range [...][]*Decided{m.site.took, m.site.failed} {
		for _, d := range list {
			see(d.ID)
		}
	}
	return id, n == 1
}
