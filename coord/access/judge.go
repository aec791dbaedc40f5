package access

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
)

// Word is what a box thinks of a decision by itself; the numbers are coord/site's.
type Word uint8

// The words.
const (
	// Wait: an operator on this box must say.
	Wait Word = iota
	// Yes: its authority convinces.
	Yes
	// No: it is wrong, whoever else asks for it.
	No
)

// String is the word.
func (w Word) String() string { return [...]string{"wait", "yes", "no"}[min(w, No)] }

// Judgement is a word and the reason, for people.
type Judgement struct {
	Word Word
	Why  string
}

// Judge says whether a box should give its word for decisions. It is immutable and may be used by many goroutines.
type Judge struct {
	// TermRounds is the site's rounds a term, which evidence is judged by.
	TermRounds uint64
	// Founding is the document of the operator that the site was founded with, as this box has it on disk; nil: none. It counts, as an admin,
	// while the site has no operator.
	Founding []byte
}

// errWrong is what a decision is that no box should agree to, whoever asks.
var errWrong = errors.New("it does not do what its kind says")

// errLocksOut is what a decision is that does what it says, and leaves nobody who could undo it.
var errLocksOut = errors.New("nobody would be left who may say who may do what")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errWrong, fmt.Sprintf(format, args...))
}

// Judge looks at what a decision writes, at who asks for it and at what they may do, by the state as this box has it. now is this box's clock,
// Unix seconds: the time of tokens is judged by it.
//
// No is only for what is wrong in itself: writes that are not those of its kind, a site without anybody who could mend it, something that
// who asks for it, as is proved, may not do. Where nothing is proved it is Wait.
func (j *Judge) Judge(st State, d *coord.Decision, now uint64) Judgement {
	c, err := j.newCase(st, d, now)
	if err == nil {
		err = c.judge()
	}
	return judgement(c, err)
}

func judgement(c *judging, err error) Judgement {
	switch {
	case err == nil:
		return Judgement{Yes, c.why}
	case isNo(err):
		return Judgement{No, err.Error()}
	}
	return Judgement{Wait, err.Error()}
}

// As is Judge for a decision that nothing proves yet, as if c asked for it, of whom the box has made sure itself: because c asks at this
// box, or is about to give this box's word. No says that c may not, or that it is wrong in itself.
func (j *Judge) As(st State, d *coord.Decision, now uint64, c *Credentials) Judgement {
	x, err := j.newCase(st, d, now)
	if err == nil {
		x.as, err = x.rules.actorOf(c, d, now)
	}
	if err == nil {
		err = x.judge()
	}
	return judgement(x, err)
}

func isNo(err error) bool {
	return errors.Is(err, errWrong) || errors.Is(err, errLocksOut) || errors.Is(err, ErrDenied) || errors.Is(err, roster.ErrDecision) || errors.Is(err, join.ErrDecision)
}

// errWait is why a decision waits although it is in order.
var errWait = errors.New("an operator on this box must approve it")

// judging is one decision before a judge.
type judging struct {
	*Judge
	bare  State // without the founding operator
	st    State
	d     *coord.Decision
	a     *Authority
	now   uint64
	rules *Rules
	as    *actor // who asks, where that is known without a proof
	why   string // of a yes
}

func (j *Judge) newCase(st State, d *coord.Decision, now uint64) (*judging, error) {
	a, err := DecodeAuthority(d.Authority)
	if err != nil {
		return nil, err
	}
	seen := WithFounding(st, j.Founding)
	return &judging{Judge: j, bare: st, st: seen, d: d, a: a, now: now, rules: RulesOf(seen)}, nil
}

// judge says why not yes.
func (c *judging) judge() error {
	kind, ok := ParseAction(c.d.Kind)
	if !ok {
		return fmt.Errorf("this release does not know the kind %q", c.d.Kind)
	}
	switch kind {
	case MemberAdd, MemberReplace, MemberRemove, MemberRotate, MemberEdit:
		return c.judgeMember(kind)
	case JoinToken:
		return c.judgeOffer()
	case JoinRevoke:
		return c.judgeJoinRevoke()
	case UpdateSite, UpdatePause, UpdateResume, UpdateRollback, UpdateStep:
		return c.judgeUpdate(kind)
	case UpdateKey:
		return c.judgeUpdateKey()
	}
	err := c.judgeRights(kind)
	if isNo(err) {
		return err
	}
	return cmp.Or(c.leavesAdmins(), err)
}

// byRight is nil if who asks for the decision is proved and may do it on all of these.
func (c *judging) byRight(kind Action, on ...Resource) error {
	who, err := c.who()
	if err != nil {
		return err
	}
	return c.may(who, kind, on...)
}

func (c *judging) may(who *actor, kind Action, on ...Resource) error {
	for _, r := range on {
		v := who.decide(kind, r)
		if err := v.Err(); err != nil {
			return err
		}
		c.why = fmt.Sprintf("%s may: %s", who.principal, v.Reason())
	}
	return nil
}

// who is the actor; a signature without a time would be good for ever, where nothing that it writes exists before.
func (c *judging) who() (*actor, error) {
	if c.as != nil {
		return c.as, nil
	}
	who, err := c.rules.actor(c.a, c.d, c.st.Members().Site, c.now)
	if err != nil {
		return nil, err
	}
	fresh := slices.ContainsFunc(c.d.Writes, func(w coord.DocWrite) bool { return w.Was == 0 })
	if fresh && c.d.Made == 0 && c.d.Seen == 0 && c.st.Seconds() > signedWithoutTime {
		return nil, errors.New("it does not say when it was made, so its signature could be used again")
	}
	return who, nil
}

// signedWithoutTime is for how many seconds after a site began its decisions may be of second 0.
const signedWithoutTime = 600

// judgeMember judges the list of boxes: by a request to join, by evidence, by the box itself or by who may.
func (c *judging) judgeMember(kind Action) error {
	if c.a.Join != nil && (kind == MemberAdd || kind == MemberReplace) {
		return c.judgeJoin(kind)
	}
	if err := roster.Check(c.st, c.d); err != nil {
		return err
	}
	now, next := c.st.Members(), c.next()
	gone, come := coord.BoxID{}, coord.BoxID{}
	for i := range now.List {
		if next.Index(now.List[i].ID) < 0 {
			gone = now.List[i].ID
		}
	}
	for i := range next.List {
		if now.Index(next.List[i].ID) < 0 {
			come = next.List[i].ID
		}
	}
	switch {
	case kind == MemberRemove && c.a.Evidence != nil:
		return c.judgeExpulsion(now, gone)
	case kind == MemberRotate && c.a.Rotate != nil:
		return c.judgeRotation(now, next, gone, come)
	case kind == MemberAdd:
		return c.byRight(kind, Site())
	case kind == MemberEdit:
		gone = edited(now, next)
		if c.a.Box != nil && c.a.Box.ID == gone {
			return c.byItself(kind, gone)
		}
	}
	return c.byRight(kind, BoxOf(gone))
}

// next is the list that the decision writes, as roster.Check and join.CheckAdmission have read it.
func (c *judging) next() *coord.Members {
	m, err := roster.Written(c.d)
	if err != nil {
		return new(coord.Members)
	}
	return m
}

func edited(now, next *coord.Members) coord.BoxID {
	for i := range now.List {
		if i >= len(next.List) {
			break
		}
		a, b := now.List[i], next.List[i]
		if a.Name != b.Name || a.Peer != b.Peer || a.Client != b.Client || a.Native != b.Native || a.Console != b.Console {
			return a.ID
		}
	}
	return coord.BoxID{}
}

func (c *judging) judgeJoin(kind Action) error {
	if err := join.CheckAdmission(c.st, c.d, c.a.Join); err != nil {
		return err
	}
	// Nobody whom policies know asks for it, so none need permit it; but what they forbid to the new box is not done.
	if err := c.joinForbids(kind); err != nil {
		return err
	}
	if Setting(c.st, SettingJoins) == JoinsOperator {
		return fmt.Errorf("its request to join is good; %s has an operator approve it: %w", SettingJoins, errWait)
	}
	c.why = "a good token to join"
	return nil
}

// joinForbids says which policy forbids that the box comes in, or takes the place of the one that goes.
func (c *judging) joinForbids(kind Action) error {
	now, next, on := c.st.Members(), c.next(), Site()
	var come coord.BoxID
	for i := range next.List {
		if now.Index(next.List[i].ID) < 0 {
			come = next.List[i].ID
		}
	}
	if kind == MemberReplace {
		for i := range now.List {
			if next.Index(now.List[i].ID) < 0 {
				on = BoxOf(now.List[i].ID)
			}
		}
	}
	if v := c.rules.Decide(Box+":"+come.String(), kind, on); !v.Allowed && v.Policy != "" {
		return v.Err()
	}
	return nil
}

// judgeOffer judges a new token. One that replaces a box is as good as replacing it, so who makes it must be allowed to.
func (c *judging) judgeOffer() error {
	if err := join.CheckOffer(c.st, c.d); err != nil {
		return err
	}
	doc, err := join.ParseDoc(c.d.Writes[0].Value)
	if err != nil {
		return wrong("%v", err)
	}
	if doc.Replaces != nil {
		if err := c.byRight(MemberReplace, BoxOf(*doc.Replaces)); err != nil {
			return err
		}
	}
	return c.byRight(JoinToken, Site())
}

func (c *judging) judgeExpulsion(now *coord.Members, gone coord.BoxID) error {
	if err := proves(c.a.Evidence, now, gone, c.TermRounds); err != nil {
		return err
	}
	// Proof needs no policy that permits it; but a box that a policy keeps is kept.
	if v := c.rules.Decide(Box+":"+gone.String(), MemberRemove, BoxOf(gone)); !v.Allowed && v.Policy != "" {
		return v.Err()
	}
	if Setting(c.st, SettingExpulsion) != ExpulsionAutomatic {
		return fmt.Errorf("it is proved that %v lied: %w", gone, errWait)
	}
	c.why = fmt.Sprintf("it is proved that %v lied", gone)
	return nil
}

func (c *judging) judgeRotation(now, next *coord.Members, gone, come coord.BoxID) error {
	digest := c.d.Digest(now.Site)
	for _, s := range []struct {
		what string
		key  []byte
		sig  *coord.Signature
	}{
		{"the box's key", now.List[max(0, now.Index(gone))].Key, &c.a.Rotate.Old},
		{"its new key", next.List[max(0, next.Index(come))].Key, &c.a.Rotate.New},
	} {
		key, err := parseKey(s.key)
		if err != nil || !verify(key, digest, s.sig) {
			return fmt.Errorf("it is not signed with %s", s.what)
		}
	}
	return c.forbids(MemberRotate, gone)
}

// byItself is a member's word about itself.
func (c *judging) byItself(kind Action, id coord.BoxID) error {
	if _, err := c.who(); err != nil {
		return err
	}
	return c.forbids(kind, id)
}

// forbids: what a box may do to itself needs no policy that permits it, but one may forbid it.
func (c *judging) forbids(kind Action, id coord.BoxID) error {
	if v := c.rules.Decide(Box+":"+id.String(), kind, BoxOf(id)); !v.Allowed && v.Policy != "" {
		return v.Err()
	}
	c.why = "the box itself asks for it"
	return nil
}

func (c *judging) judgeJoinRevoke() error {
	if err := join.CheckWithdrawal(c.d); err != nil {
		return err
	}
	return c.byRight(JoinRevoke, Site())
}

// after is the state as it would be.
type after struct {
	State
	writes []coord.DocWrite
}

// Doc is a document as it would be.
func (s after) Doc(key string) (coord.Doc, bool) {
	for i := range s.writes {
		if w := &s.writes[i]; w.Key == key {
			return coord.Doc{Key: key, Value: w.Value}, w.Value != nil
		}
	}
	return s.State.Doc(key)
}

// Docs are the documents as they would be, in order.
func (s after) Docs(prefix string) []coord.Doc {
	list := slices.DeleteFunc(slices.Clone(s.State.Docs(prefix)), func(d coord.Doc) bool {
		return slices.ContainsFunc(s.writes, func(w coord.DocWrite) bool { return w.Key == d.Key })
	})
	for i := range s.writes {
		if w := &s.writes[i]; strings.HasPrefix(w.Key, prefix) && w.Value != nil {
			list = append(list, coord.Doc{Key: w.Key, Value: w.Value})
		}
	}
	slices.SortFunc(list, func(a, b coord.Doc) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// founded is a state with the operator that the site was founded with.
type founded struct {
	State
	docs []coord.Doc
}

// WithFounding is a state as it is judged by: while it has no operator, the one whose document founding is counts as one, and as an admin.
func WithFounding(st State, founding []byte) State {
	if len(founding) == 0 || hasOperators(st) {
		return st
	}
	name, value, ok := foundingOperator(founding)
	if !ok {
		return st
	}
	return founded{st, []coord.Doc{
		{Key: DocGrant + Operator + ":" + name, Value: []byte(adminGrant)},
		{Key: DocOperator + name, Value: value},
	}}
}

// Doc finds the founding operator's documents too.
func (s founded) Doc(key string) (coord.Doc, bool) {
	for _, d := range s.docs {
		if d.Key == key {
			if old, ok := s.State.Doc(key); ok {
				return old, true
			}
			return d, true
		}
	}
	return s.State.Doc(key)
}

// Docs lists the founding operator's documents too.
func (s founded) Docs(prefix string) []coord.Doc {
	list := slices.Clone(s.State.Docs(prefix))
	for _, d := range s.docs {
		if strings.HasPrefix(d.Key, prefix) && !slices.ContainsFunc(list, func(x coord.Doc) bool { return x.Key == d.Key }) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b coord.Doc) int { return strings.Compare(a.Key, b.Key) })
	return list
}
