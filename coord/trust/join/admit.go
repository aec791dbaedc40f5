package join

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
)

// Kinds of decisions about tokens. Those that admit a box are roster.Add and roster.Replace.
const (
	MakeToken   = "join.token"
	RevokeToken = "join.revoke"
)

// Limits of tokens.
const (
	// TTLSecondsMin and TTLSecondsMax bound how long a token is good: long enough to walk to a box, and not forgotten in a drawer.
	TTLSecondsMin     = 10
	TTLSecondsMax     = 30 * 86400
	TTLSecondsDefault = 3600
	// OpenMax bounds the tokens that are open at once: more than a site has boxes are somebody's mistake.
	OpenMax = 64
	// keepSeconds is for how long a token that is over or used is remembered, so that who comes with it hears why it is refused; after
	// that it is unknown. The site's clock runs as long.
	keepSeconds = 3600
	// freshSeconds is how old a request may be: an operator may take a day to give a word (coord.DecisionSecondsDefault).
	freshSeconds = coord.DecisionSecondsDefault
	// aheadSeconds is how far the clock of a box may be behind the one that told the joiner the time: ticks of blocks on their way.
	aheadSeconds = 60
	docBytesMax  = 1 << 10
)

// Doc is the document of a token, at Key. The site has its public key, never its secret.
type Doc struct {
	ID   TokenID      `json:"id"`
	Site coord.Digest `json:"-"`
	// SiteHash is Site in hexadecimal.
	SiteHash string `json:"site_hash"`
	Key      []byte `json:"key"` // PKIX DER
	// Made and NotAfter are seconds of the site's clock; in NotAfter the token is still good.
	Made     uint64 `json:"made"`
	NotAfter uint64 `json:"not_after"`
	// Name, if not empty, is the name that the box must have.
	Name string `json:"name,omitempty"`
	// Replaces, if not nil, is the box whose place the new one takes.
	Replaces *coord.BoxID `json:"replaces,omitempty"`
	// Used, if not nil, says who has joined with it.
	Used *Use `json:"used,omitempty"`
}

// Use is a box that has joined, and by which request (its digest, in hexadecimal).
type Use struct {
	Box     coord.BoxID `json:"box"`
	Request string      `json:"request"`
}

// DocKey is the key of a token's document.
func DocKey(id TokenID) string { return DocPrefix + id.String() }

// DocPrefix is what the keys of all tokens' documents begin with.
const DocPrefix = "join/"

// ParseDoc reads a document. Errors: ErrMalformed.
func ParseDoc(value []byte) (*Doc, error) {
	if len(value) > docBytesMax {
		return nil, fmt.Errorf("%w: a token's document of %d bytes", ErrMalformed, len(value))
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	d := new(Doc)
	if err := dec.Decode(d); err != nil {
		return nil, fmt.Errorf("%w: a token's document: %w", ErrMalformed, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: a token's document: something follows it", ErrMalformed)
	}
	hash, err := unhex(d.SiteHash, len(d.Site))
	if err != nil {
		return nil, fmt.Errorf("%w: a token's document: site_hash %w", ErrMalformed, err)
	}
	copy(d.Site[:], hash)
	if err := trust.CheckKey(d.Key); err != nil {
		return nil, fmt.Errorf("%w: a token's document: %w", ErrMalformed, err)
	}
	return d, nil
}

func (d *Doc) encode() ([]byte, error) {
	d.SiteHash = d.Site.String()
	return json.Marshal(d)
}

// State is what is read of a site.
type State interface {
	roster.State
	// Docs are the documents whose keys begin with prefix, ascending.
	Docs(prefix string) []coord.Doc
}

// Wish is what a token is to be good for.
type Wish struct {
	// Name, if not empty, is the name that the new box must have. Replaces, if not nil, is the box whose place it takes.
	Name     string
	Replaces *coord.BoxID
	// TTL is for how many seconds of the site's clock; 0: TTLSecondsDefault.
	TTL uint64
}

// Offer is the decision that makes the site know the token t, whose public key is public: its secret need not be here. principal is who asks, and
// nonce makes the decision different from others alike.
// Errors: ErrMalformed (a time out of range, too many open tokens), ErrReplaces, ErrName.
func Offer(st State, t *Token, public []byte, w Wish, principal string, nonce uint64) (*coord.Decision, error) {
	if err := trust.CheckKey(public); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if w.TTL == 0 {
		w.TTL = TTLSecondsDefault
	}
	if w.TTL < TTLSecondsMin || w.TTL > TTLSecondsMax {
		return nil, fmt.Errorf("%w: a token is good for %d to %d seconds", ErrMalformed, TTLSecondsMin, TTLSecondsMax)
	}
	now, members := st.Seconds(), st.Members()
	doc := &Doc{ID: t.ID, Site: t.Site, Key: public, Made: now, NotAfter: now + w.TTL, Name: w.Name, Replaces: w.Replaces}
	if w.Replaces != nil && members.Index(*w.Replaces) < 0 {
		return nil, fmt.Errorf("%w: %v", ErrReplaces, *w.Replaces)
	}
	for i := range members.List {
		if b := &members.List[i]; w.Name != "" && b.Name == w.Name && (w.Replaces == nil || *w.Replaces != b.ID) {
			return nil, fmt.Errorf("%w: %q is %v", ErrName, w.Name, b.ID)
		}
	}
	value, err := doc.encode()
	if err != nil {
		return nil, fmt.Errorf("join: offer: %w", err)
	}
	open := 0
	for _, old := range st.Docs(DocPrefix) {
		if o, err := ParseDoc(old.Value); err == nil && o.Used == nil && o.NotAfter >= now {
			open++
		}
	}
	if open >= OpenMax {
		return nil, fmt.Errorf("%w: %d tokens are open; withdraw some", ErrMalformed, open)
	}
	return &coord.Decision{
		Kind: MakeToken, Subject: t.ID.String(), Principal: principal, Nonce: nonce,
		Writes: []coord.DocWrite{{Key: DocKey(t.ID), Seconds: w.TTL + keepSeconds, Value: value}},
	}, nil
}

// CheckOffer says whether d, of kind MakeToken, makes one token that can be, and does nothing else. Errors: ErrDecision.
func CheckOffer(st State, d *coord.Decision) error {
	if len(d.Writes) != 1 {
		return fmt.Errorf("%w: it writes %d documents, not one token", ErrDecision, len(d.Writes))
	}
	w := &d.Writes[0]
	doc, err := ParseDoc(w.Value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDecision, err)
	}
	switch {
	case d.Subject != doc.ID.String():
		return fmt.Errorf("%w: it says it is about %q and makes token %v", ErrDecision, d.Subject, doc.ID)
	case w.Was != 0 || w.Key != DocKey(doc.ID) || doc.Used != nil:
		return fmt.Errorf("%w: it writes %q, which is not a new token", ErrDecision, w.Key)
	case doc.NotAfter < doc.Made || doc.NotAfter-doc.Made > TTLSecondsMax || w.Seconds != doc.NotAfter-doc.Made+keepSeconds:
		return fmt.Errorf("%w: a token is good for %d s at most, and remembered for %d more", ErrDecision, TTLSecondsMax, keepSeconds)
	case doc.NotAfter > st.Seconds()+TTLSecondsMax+aheadSeconds:
		return fmt.Errorf("%w: it is good until second %d, and now is %d", ErrDecision, doc.NotAfter, st.Seconds())
	}
	return nil
}

// Withdraw is the decision that takes a token back. Errors: ErrUnknown, ErrUsed.
func Withdraw(st State, id TokenID, principal string, nonce uint64) (*coord.Decision, error) {
	old, ok := st.Doc(DocKey(id))
	if !ok {
		return nil, fmt.Errorf("%w: %v", ErrUnknown, id)
	}
	if doc, err := ParseDoc(old.Value); err == nil && doc.Used != nil {
		return nil, fmt.Errorf("%w: by %v", ErrUsed, doc.Used.Box)
	}
	return &coord.Decision{
		Kind: RevokeToken, Subject: id.String(), Principal: principal, Nonce: nonce,
		Writes: []coord.DocWrite{{Key: old.Key, Was: old.Version}},
	}, nil
}

// CheckWithdrawal says whether d, of kind RevokeToken, takes back the one token that it says and does nothing else. Errors: ErrDecision.
func CheckWithdrawal(d *coord.Decision) error {
	if len(d.Writes) != 1 {
		return fmt.Errorf("%w: it writes %d documents where one token is to be taken back", ErrDecision, len(d.Writes))
	}
	w := &d.Writes[0]
	if id, ok := strings.CutPrefix(w.Key, DocPrefix); !ok || w.Value != nil || w.Was == 0 {
		return fmt.Errorf("%w: it writes %q, and takes back no token", ErrDecision, w.Key)
	} else if d.Subject != id {
		return fmt.Errorf("%w: it says it is about %q and takes back token %q", ErrDecision, d.Subject, id)
	}
	return nil
}

// Check says whether the site may let the box in, by the state as it is now, and gives the token's document. A box that is a
// member already by this very request is told so by ErrReplayed: it has what it asked for.
// Errors: all that Code knows of requests.
func (r *Request) Check(st State) (*Doc, error) {
	if r.Site != st.Members().Site {
		return nil, fmt.Errorf("%w: it is for site %v", ErrSite, r.Site)
	}
	raw, ok := st.Doc(DocKey(r.Token))
	if !ok {
		return nil, fmt.Errorf("%w: %v", ErrUnknown, r.Token)
	}
	doc, err := ParseDoc(raw.Value)
	if err != nil {
		return nil, err
	}
	if doc.Site != r.SiteHash {
		return nil, fmt.Errorf("%w: the token begins with another hash than the site knows it by", ErrSite)
	}
	d := r.Digest()
	if !trust.VerifyDigest(doc.Key, d, &r.TokenSig) {
		return nil, fmt.Errorf("%w: not by the token's key", ErrSignature)
	}
	if !trust.VerifyDigest(r.Box.Key, d, &r.BoxSig) {
		return nil, fmt.Errorf("%w: not by the box's own key", ErrSignature)
	}
	return doc, r.allowed(st, doc, d)
}

// allowed says whether a request that is who it says it is may be granted now.
func (r *Request) allowed(st State, doc *Doc, d coord.Digest) error {
	now := st.Seconds()
	switch {
	case doc.Used != nil && doc.Used.Request == d.String():
		return fmt.Errorf("%w: as box %v", ErrReplayed, doc.Used.Box)
	case doc.Used != nil:
		return fmt.Errorf("%w: by box %v", ErrUsed, doc.Used.Box)
	case now > doc.NotAfter:
		return fmt.Errorf("%w: %d s ago", ErrExpired, now-doc.NotAfter)
	case r.Seconds > now+aheadSeconds:
		return fmt.Errorf("%w: it is of %d s from now", ErrStale, r.Seconds-now)
	case r.Seconds+freshSeconds < now:
		return fmt.Errorf("%w: it is %d s old", ErrStale, now-r.Seconds)
	case doc.Name != "" && doc.Name != r.Box.Name:
		return fmt.Errorf("%w: the token is for %q", ErrName, doc.Name)
	}
	return nil
}

// list is the member list with the box in it.
func (r *Request) list(st State, doc *Doc) (m *coord.Members, kind string, err error) {
	if doc.Replaces == nil {
		m, err = roster.Adding(st, &r.Box)
		return m, roster.Add, refused(err)
	}
	m, err = roster.Replacing(st, *doc.Replaces, &r.Box)
	return m, roster.Replace, refused(err)
}

// refused puts the list's reasons into this package's words.
func refused(err error) error {
	for _, x := range []struct{ is, to error }{
		{roster.ErrUnknown, ErrReplaces},
		{roster.ErrKnown, ErrKnown},
		{roster.ErrRemoved, ErrRemoved},
		{roster.ErrName, ErrName},
		{roster.ErrFull, ErrFull},
		{roster.ErrMember, ErrMalformed},
	} {
		if errors.Is(err, x.is) {
			return fmt.Errorf("%w: %w", x.to, err)
		}
	}
	return err
}

// Admission is what lets a box in.
type Admission struct {
	Decision *coord.Decision // without Authority, which is the caller's to add
	Next     *coord.Members  // the list as it is afterwards
}

// Admit judges r and gives the decision that lets the box in: it writes the list and marks the token as used, in one, so that of two
// boxes that come with one token at once, wherever, one gets in.
// Errors: all that Code knows of requests.
func (r *Request) Admit(st State) (*Admission, error) {
	doc, err := r.Check(st)
	if err != nil {
		return nil, err
	}
	m, kind, err := r.list(st, doc)
	if err != nil {
		return nil, err
	}
	writes, err := roster.Writes(st, m)
	if err != nil {
		return nil, err
	}
	was, _ := st.Doc(DocKey(r.Token))
	d := r.Digest()
	doc.Used = &Use{Box: r.Box.ID, Request: d.String()}
	used, err := doc.encode()
	if err != nil {
		return nil, fmt.Errorf("join: admit: %w", err)
	}
	return &Admission{
		Next: m,
		Decision: &coord.Decision{
			Kind: kind, Subject: fmt.Sprintf("%s %v", r.Box.Name, r.Box.ID), Principal: "join:" + r.Token.String(),
			// Two boxes that propose the same request's decision propose one decision.
			Nonce:  nonceOf(d),
			Writes: append(writes, coord.DocWrite{Key: was.Key, Was: was.Version, Seconds: keepSeconds, Value: used}),
		},
	}, nil
}

func nonceOf(d coord.Digest) (n uint64) {
	for _, b := range d[:8] {
		n = n<<8 | uint64(b)
	}
	return n
}

// CheckAdmission is what a box asks before it gives its word for d, which carries the encoded request that raw is: whether by the state
// as this box has it the request may be granted and d does that and nothing else. Who asks for d cannot change what it does: it is
// made again here, and compared.
// Errors: ErrDecision, and all that Code knows of requests.
func CheckAdmission(st State, d *coord.Decision, raw []byte) error {
	r, err := DecodeRequest(raw)
	if err != nil {
		return err
	}
	a, err := r.Admit(st)
	if err != nil {
		return err
	}
	want := a.Decision
	if d.Kind != want.Kind || d.Subject != want.Subject || d.Principal != want.Principal || d.Nonce != want.Nonce ||
		d.Reason != want.Reason || d.Seconds > coord.DecisionSecondsDefault || len(d.Writes) != len(want.Writes) {
		return fmt.Errorf("%w: it is not the decision of the request", ErrDecision)
	}
	for i := range want.Writes {
		w := &want.Writes[i]
		if !slices.ContainsFunc(d.Writes, func(x coord.DocWrite) bool {
			return x.Key == w.Key && x.Was == w.Was && x.Seconds == w.Seconds && bytes.Equal(x.Value, w.Value)
		}) {
			return fmt.Errorf("%w: it does not write %q as the request wants", ErrDecision, w.Key)
		}
	}
	return nil
}
