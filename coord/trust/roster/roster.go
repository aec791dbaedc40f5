// Package roster is how a site's list of boxes changes: what may be added, taken away or put in another's place, which documents that
// writes, and what it does to how many boxes may lie and how many must be there. Pure: the site's documents come from outside.
//
// The order of the list is part of what a site agrees on. Adding appends, removing closes the gap, replacing and a new key keep the
// place. A key that was removed never comes back: the document removed/ID remembers its box's name.
package roster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// The kinds of decisions that change the list.
const (
	Add     = "member.add"
	Remove  = "member.remove"
	Replace = "member.replace"
	Rotate  = "member.rotate" // a box has a new key
	Edit    = "member.edit"   // a name or addresses, nothing else
)

// Errors of this package.
var (
	// ErrUnknown says that there is no such box in the site.
	ErrUnknown = errors.New("no such box in the site")
	// ErrName says that another box has the name.
	ErrName = errors.New("another box has this name")
	// ErrKnown says that the key is a member's.
	ErrKnown = errors.New("key is a member's already")
	// ErrRemoved says that the key was removed from the site.
	ErrRemoved = errors.New("key was removed from the site; the box needs a new one")
	// ErrFull says that there are as many boxes as may be.
	ErrFull = errors.New("site is full")
	// ErrLast says that a site has at least one box.
	ErrLast = errors.New("the last box of a site stays")
	// ErrMember says that what is to be a member cannot be one.
	ErrMember = errors.New("bad member")
	// ErrChanged says that the list has changed since it was read.
	ErrChanged = errors.New("the site's boxes have changed meanwhile; try again")
	// ErrDecision says that a decision about members does not write what its kind says.
	ErrDecision = errors.New("bad decision about members")
)

// State is what is read of a site (coord/state.Machine has it).
type State interface {
	// Doc is a document as the state has it now.
	Doc(key string) (coord.Doc, bool)
	// Members is the list now; it is not changed.
	Members() *coord.Members
	// Seconds is the site's clock.
	Seconds() uint64
}

// DocRemoved is the key of the document that says that a box was removed.
func DocRemoved(id coord.BoxID) string { return "removed/" + id.String() }

// Gone is the document of a removed box.
type Gone struct {
	Name  string `json:"name"`
	Epoch uint64 `json:"epoch"` // the first one without it
}

// Find is the place of the box that people call name: its name, its whole id, or as much of the id's beginning as only one has.
// Errors: ErrUnknown.
func Find(m *coord.Members, name string) (int, error) {
	found := -1
	for i := range m.List {
		b := &m.List[i]
		if b.Name == name || b.ID.String() == name {
			return i, nil
		}
		if len(name) >= 4 && len(name) < 16 && b.ID.String()[:len(name)] == name {
			if found >= 0 {
				return -1, fmt.Errorf("%w: two begin with %q", ErrUnknown, name)
			}
			found = i
		}
	}
	if found < 0 {
		return -1, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	return found, nil
}

// Adding is the list with b at its end.
// Errors: ErrFull, ErrName, ErrKnown, ErrRemoved, ErrMember.
func Adding(st State, b *coord.Member) (*coord.Members, error) {
	m := next(st)
	if len(m.List) >= coord.MembersMax {
		return nil, fmt.Errorf("%w: %d boxes", ErrFull, len(m.List))
	}
	m.List = append(m.List, *b)
	return m, fits(st, m, len(m.List)-1)
}

// Removing is the list without the box id.
// Errors: ErrUnknown, ErrLast.
func Removing(st State, id coord.BoxID) (*coord.Members, error) {
	m, i, err := nextOf(st, id)
	if err != nil {
		return nil, err
	}
	if len(m.List) == 1 {
		return nil, ErrLast
	}
	m.List = slices.Delete(m.List, i, i+1)
	return m, nil
}

// Replacing is the list with b in the place of the box old. b may have the name of the old one.
// Errors: ErrUnknown, ErrName, ErrKnown, ErrRemoved, ErrMember.
func Replacing(st State, old coord.BoxID, b *coord.Member) (*coord.Members, error) {
	m, i, err := nextOf(st, old)
	if err != nil {
		return nil, err
	}
	m.List[i] = *b
	return m, fits(st, m, i)
}

// Rotating is the list with another key for the box id.
// Errors: ErrUnknown, ErrKnown, ErrRemoved, ErrMember.
func Rotating(st State, id coord.BoxID, public []byte) (*coord.Members, error) {
	m, i, err := nextOf(st, id)
	if err != nil {
		return nil, err
	}
	m.List[i].Key, m.List[i].ID = bytes.Clone(public), coord.BoxIDOf(public)
	return m, fits(st, m, i)
}

// Editing is the list with another name or other addresses for the box id: what edit does to it, nothing of its key.
// Errors: ErrUnknown; ErrMember, also for a name that another box has.
func Editing(st State, id coord.BoxID, edit func(b *coord.Member)) (*coord.Members, error) {
	m, i, err := nextOf(st, id)
	if err != nil {
		return nil, err
	}
	was := m.List[i]
	edit(&m.List[i])
	m.List[i].ID, m.List[i].Key, m.List[i].VotesFrom = was.ID, was.Key, 0
	if err := trust.CheckMembers(m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMember, err)
	}
	return m, nil
}

// nextOf is next, and the place of a box in it. Both are of one list: the site may go on to another at any time.
func nextOf(st State, id coord.BoxID) (*coord.Members, int, error) {
	m := next(st)
	i := m.Index(id)
	if i < 0 {
		return nil, -1, fmt.Errorf("%w: %v", ErrUnknown, id)
	}
	return m, i, nil
}

// next is a copy of the list for the epoch to come.
func next(st State) *coord.Members {
	now := st.Members()
	m := &coord.Members{Site: now.Site, Epoch: now.Epoch + 1, List: slices.Clone(now.List)}
	for i := range m.List {
		m.List[i].VotesFrom = 0 // nobody has voted in an epoch that has not begun
	}
	return m
}

// fits says whether the box at place i of m can be there.
func fits(st State, m *coord.Members, i int) error {
	b := &m.List[i]
	if st.Members().Index(b.ID) >= 0 {
		return fmt.Errorf("%w: %v", ErrKnown, b.ID)
	}
	if _, ok := st.Doc(DocRemoved(b.ID)); ok {
		return fmt.Errorf("%w: %v", ErrRemoved, b.ID)
	}
	for j := range m.List {
		if j != i && m.List[j].Name == b.Name {
			return fmt.Errorf("%w: %q is %v", ErrName, b.Name, m.List[j].ID)
		}
	}
	if b.VotesFrom != 0 {
		return fmt.Errorf("%w: votes_from is not for a new epoch", ErrMember)
	}
	if err := trust.CheckMembers(m); err != nil {
		return fmt.Errorf("%w: %w", ErrMember, err)
	}
	return nil
}

// Writes are the documents that make the list m of the one now: the list, and a mark for each key that goes.
// Errors: ErrChanged.
func Writes(st State, m *coord.Members) ([]coord.DocWrite, error) {
	list, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("roster: %w", err)
	}
	// The version is read before the list: one that is newer than m was made of would let m undo what came between.
	was := version(st, coord.DocMembers)
	now := st.Members()
	if m.Epoch != now.Epoch+1 {
		return nil, fmt.Errorf("%w: epoch %d began, %d was to be next", ErrChanged, now.Epoch, m.Epoch)
	}
	w := []coord.DocWrite{{Key: coord.DocMembers, Was: was, Value: list}}
	for i := range now.List {
		b := &now.List[i]
		if m.Index(b.ID) >= 0 {
			continue
		}
		gone, err := json.Marshal(Gone{Name: b.Name, Epoch: m.Epoch})
		if err != nil {
			return nil, fmt.Errorf("roster: %w", err)
		}
		key := DocRemoved(b.ID)
		w = append(w, coord.DocWrite{Key: key, Was: version(st, key), Value: gone})
	}
	return w, nil
}

// Subject is what a decision of a kind of this package is about, in the words that it must use: operators read it in lists, so it must not be
// another box, or another change, than what the decision writes.
func Subject(kind string, now, next *coord.Members) string {
	gone, come := differ(now, next), differ(next, now)
	switch {
	case kind == Edit:
		for i := range now.List {
			if b := &now.List[i]; next.Index(b.ID) == i && same(now.List[i:i+1], next.List[i:i+1]) != nil {
				return b.Name + " " + b.ID.String()
			}
		}
	case kind == Add && come != nil:
		return come.Name + " " + come.ID.String()
	case kind == Remove && gone != nil:
		return gone.Name + " " + gone.ID.String()
	case kind == Replace && gone != nil && come != nil:
		return fmt.Sprintf("%s %v by %v", gone.Name, gone.ID, come.ID)
	case kind == Rotate && gone != nil && come != nil:
		return fmt.Sprintf("%s %v is %v", gone.Name, gone.ID, come.ID)
	}
	return ""
}

// differ is the first box of a that is not in b; nil: none.
func differ(a, b *coord.Members) *coord.Member {
	for i := range a.List {
		if b.Index(a.List[i].ID) < 0 {
			return &a.List[i]
		}
	}
	return nil
}

func version(st State, key string) uint64 {
	d, _ := st.Doc(key)
	return d.Version
}

// Check says whether d, of one of this package's kinds, writes what its kind says and nothing else, and says what it is about (Subject). It is what every box
// asks before it gives its word, whoever wants it. Documents that also names by its keys are for others to judge.
// Errors: ErrDecision.
func Check(st State, d *coord.Decision, also ...string) error {
	m, err := Written(d)
	if err != nil {
		return err
	}
	now := st.Members()
	kind, err := kindOf(st, now, m)
	if err != nil {
		return err
	}
	// A new box with the name and the addresses of the old one looks like a new key: what differs is who may ask for it.
	if kind != d.Kind && !(kind == Rotate && d.Kind == Replace) {
		return fmt.Errorf("%w: it says %s and is %s", ErrDecision, d.Kind, kind)
	}
	if subject := Subject(d.Kind, now, m); d.Subject != subject {
		return fmt.Errorf("%w: it says it is about %q and is about %q", ErrDecision, d.Subject, subject)
	}
	want, err := Writes(st, m)
	if err != nil {
		return err
	}
	for i := range d.Writes {
		w := &d.Writes[i]
		if slices.Contains(also, w.Key) {
			continue
		}
		j := slices.IndexFunc(want, func(x coord.DocWrite) bool { return x.Key == w.Key })
		// The list was judged as it was read: another release may write it with other spaces.
		if j < 0 || want[j].Was != w.Was || w.Seconds != 0 || w.Value == nil || w.Key != coord.DocMembers && !bytes.Equal(want[j].Value, w.Value) {
			return fmt.Errorf("%w: it writes %q, or writes it otherwise than %s does", ErrDecision, w.Key, d.Kind)
		}
		want = slices.Delete(want, j, j+1)
	}
	if len(want) > 0 {
		return fmt.Errorf("%w: it does not write %q", ErrDecision, want[0].Key)
	}
	return nil
}

// Written is the list that d writes, as boxes read it (coord.DecodeMembers): fields of later releases are passed over. Error: ErrDecision.
func Written(d *coord.Decision) (*coord.Members, error) {
	i := slices.IndexFunc(d.Writes, func(w coord.DocWrite) bool { return w.Key == coord.DocMembers })
	if i < 0 {
		return nil, fmt.Errorf("%w: it writes no members", ErrDecision)
	}
	m := new(coord.Members)
	if err := json.Unmarshal(d.Writes[i].Value, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDecision, err)
	}
	return m, nil
}

// kindOf is which kind of change makes m of now.
func kindOf(st State, now, m *coord.Members) (string, error) {
	if m.Site != now.Site || m.Epoch != now.Epoch+1 {
		return "", fmt.Errorf("%w: epoch %d of site %v after epoch %d of %v", ErrDecision, m.Epoch, m.Site, now.Epoch, now.Site)
	}
	if err := trust.CheckMembers(m); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDecision, err)
	}
	switch len(m.List) - len(now.List) {
	case 1:
		if err := same(now.List, m.List[:len(now.List)]); err != nil {
			return "", err
		}
		return Add, within(fits(st, m, len(now.List)))
	case -1:
		i := 0
		for i < len(m.List) && same(now.List[i:i+1], m.List[i:i+1]) == nil {
			i++
		}
		return Remove, same(now.List[i+1:], m.List[i:])
	case 0:
		return kindOfOne(st, now, m)
	}
	return "", fmt.Errorf("%w: from %d to %d boxes; one at a time", ErrDecision, len(now.List), len(m.List))
}

// kindOfOne is which kind of change of one box makes m of now.
func kindOfOne(st State, now, m *coord.Members) (string, error) {
	var places []int
	for i := range m.List {
		if same(now.List[i:i+1], m.List[i:i+1]) != nil {
			places = append(places, i)
		}
	}
	if len(places) != 1 {
		return "", fmt.Errorf("%w: it changes %d boxes; one at a time", ErrDecision, len(places))
	}
	i := places[0]
	was, is := now.List[i], m.List[i]
	if was.ID == is.ID {
		is.Name, is.Peer, is.Client, is.Native, is.Console = was.Name, was.Peer, was.Client, was.Native, was.Console
		return Edit, same([]coord.Member{was}, []coord.Member{is})
	}
	if err := within(fits(st, m, i)); err != nil {
		return "", err
	}
	is.ID, is.Key = was.ID, was.Key
	if same([]coord.Member{was}, []coord.Member{is}) == nil {
		return Rotate, nil
	}
	return Replace, nil
}

func within(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDecision, err)
	}
	return nil
}

// same says whether the boxes are alike. VotesFrom does not count: it is of the former epoch.
func same(a, b []coord.Member) error {
	if len(a) != len(b) {
		return fmt.Errorf("%w: %d boxes are not %d", ErrDecision, len(a), len(b))
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.ID != y.ID || x.Name != y.Name || !bytes.Equal(x.Key, y.Key) || x.Peer != y.Peer || x.Client != y.Client || x.Native != y.Native || x.Console != y.Console {
			return fmt.Errorf("%w: it changes %q too", ErrDecision, x.Name)
		}
	}
	return nil
}
