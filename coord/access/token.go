package access

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-edge/holdfast/coord"
)

// Limits of tokens. They bound what a box spends on one before it knows whose it is.
const (
	// BlocksMax bounds the chain: each block costs the verification of a signature.
	BlocksMax = 8
	// TokenBytesMax bounds an encoded token, and TokenTextMax its text: what fits into a header of a request.
	TokenBytesMax = 3 << 10
	TokenTextMax  = len(tokenPrefix) + (TokenBytesMax*8+5)/6
	// scopeListMax bounds the actions, and the resources, of one block; scopeTextMax one of them.
	scopeListMax = 32
	scopeTextMax = 256
	// tokenNoteMax bounds what is written on a token for people.
	tokenNoteMax = 64
	// TokenSecondsMax bounds how long a token is good: what is revoked by its time needs no other help.
	TokenSecondsMax = 366 * 86400

	tokenPrefix  = "hf1."
	tokenVersion = 1
	rootBlock    = 1
	nextBlock    = 2
	flagBound    = 1
	flagDecision = 2
)

// Block is one link of a token. What is zero in a block after the first is as in the block before.
type Block struct {
	// Of the first block only.
	Site   coord.SiteID
	Epoch  uint64 // the site's token epoch
	Nonce  [8]byte
	Issuer string // a principal: its key signs the first block

	// Holder is the key that proves possession of the token as far as this block, and signs the next block.
	Holder PublicKey
	// Bound says that the holder keeps that key. Otherwise its private half travels with the token: whoever has the text is the holder.
	Bound bool
	// NotBefore and NotAfter are Unix seconds; the token is good in NotAfter.
	NotBefore, NotAfter uint64
	// Actions are names, an area with its verbs left open ("kv.*"), or "*". Resources are as Resource.String writes them, an asterisk at the
	// end leaving open what follows ("key:cache/*"), or "*". Both ascending and each once.
	Actions, Resources []string
	// Decision, if not nil, is the digest of the only decision that the token may be used for.
	Decision *coord.Digest
	Note     string // for people

	sig    coord.Signature
	digest coord.Digest
}

// Token is a capability: see Block. It is immutable.
type Token struct {
	blocks []Block
	secret []byte // the private half of the last Holder, unless Bound
}

// Blocks are the token's blocks, first to last. The caller must not change them.
func (t *Token) Blocks() []Block { return t.blocks }

// ID names the token.
func (t *Token) ID() TokenID { return idOf(t.blocks[len(t.blocks)-1].digest) }

// IDs are the ids of the token and of those that it was made from, the first one first. To revoke one is to revoke all after it.
func (t *Token) IDs() []TokenID {
	ids := make([]TokenID, len(t.blocks))
	for i := range t.blocks {
		ids[i] = idOf(t.blocks[i].digest)
	}
	return ids
}

// ResourceOfToken is "token:" and the id of a token's text, for the record of its refusal: what it says of itself, proved or not. Empty: it is no token.
func ResourceOfToken(text string) string {
	t, err := ParseToken(text)
	if err != nil {
		return ""
	}
	return t.String()
}

// Carries says whether the holder's key travels with the token.
func (t *Token) Carries() bool { return t.secret != nil }

// Secret is the key that travels with the token, or nil.
func (t *Token) Secret() *PrivateKey {
	if t.secret == nil {
		return nil
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), t.secret)
	if err != nil {
		return nil
	}
	k, err := NewPrivateKey(key)
	if err != nil {
		return nil
	}
	return k
}

func idOf(d coord.Digest) TokenID {
	h := digestOf("holdfast tokenid", d[:])
	return TokenID(h[:16])
}

// Issue makes a token of its first block and the issuer's key. With b.Bound false, holder is the key that travels with it; with b.Bound true it
// is nil. What is for the caller to choose by chance (Nonce, holder) comes from the caller.
// Errors: ErrMalformed, or the signer's.
func Issue(b Block, issuer Signer, holder *ecdsa.PrivateKey) (*Token, error) {
	t := new(Token)
	return t.with(&b, issuer, holder)
}

// Attenuate adds a block that narrows the token. by is the holder's key; nil is the one that travels with the token. holder is as in Issue; a
// bound token stays bound, and a Holder that is zero stays who it is.
// Errors: ErrWidened, ErrMalformed, ErrHolder if by is missing, or the signer's.
func (t *Token) Attenuate(b Block, by Signer, holder *ecdsa.PrivateKey) (*Token, error) {
	last := &t.blocks[len(t.blocks)-1]
	if by == nil {
		k := t.Secret()
		if k == nil {
			return nil, fmt.Errorf("%w: its key does not travel with it, so the holder's is needed", ErrHolder)
		}
		by = k
	}
	if b.Holder == (PublicKey{}) && holder == nil && last.Bound {
		b.Holder, b.Bound = last.Holder, true
	}
	if len(t.blocks) >= BlocksMax {
		return nil, fmt.Errorf("%w: more than %d blocks", ErrMalformed, BlocksMax)
	}
	return t.with(&b, by, holder)
}

// with is the token with one more block.
func (t *Token) with(b *Block, by Signer, holder *ecdsa.PrivateKey) (*Token, error) {
	next := &Token{blocks: append(slices.Clone(t.blocks), *b)}
	b = &next.blocks[len(next.blocks)-1]
	b.Actions, b.Resources = ascending(b.Actions), ascending(b.Resources)
	if (holder == nil) != b.Bound {
		return nil, fmt.Errorf("%w: either the holder keeps the key or it travels with the token", ErrMalformed)
	}
	if holder != nil {
		raw, err := holder.Bytes()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		next.secret = raw
		if b.Holder, err = PublicKeyOf(&holder.PublicKey); err != nil {
			return nil, err
		}
	}
	if err := next.chain(); err != nil {
		return nil, err
	}
	if err := b.names(); err != nil {
		return nil, err
	}
	var err error
	if b.sig, err = by.SignDigest(b.digest); err != nil {
		return nil, fmt.Errorf("access: sign token: %w", err)
	}
	if n := len(next.Append(nil)); n > TokenBytesMax {
		return nil, fmt.Errorf("%w: %d bytes where %d can be", ErrMalformed, n, TokenBytesMax)
	}
	return next, nil
}

func ascending(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// chain computes the digests and checks that each block is well-formed and narrower than the one before.
// Errors: ErrMalformed, ErrWidened.
func (t *Token) chain() error {
	var before coord.Digest
	for i := range t.blocks {
		b := &t.blocks[i]
		if err := b.check(i == 0); err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrMalformed, i, err)
		}
		b.digest = digestOf("holdfast token1", before[:], b.append(nil, i == 0))
		before = b.digest
	}
	for i := 1; i < len(t.blocks); i++ {
		if err := t.narrows(i); err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrWidened, i, err)
		}
	}
	return nil
}

// names says whether what the block names exists here: a box accepts what it does not know, for a newer release may, but nobody should issue it.
func (b *Block) names() error {
	for _, a := range b.Actions {
		area, open := strings.CutSuffix(a, ".*")
		_, known := ParseAction(a)
		_, isArea := namedActions(area)
		if a != "*" && !known && !(open && isArea) {
			return fmt.Errorf("%w: there is no action %q", ErrMalformed, a)
		}
	}
	for _, r := range b.Resources {
		if _, ok := parsePattern(r); !ok {
			return fmt.Errorf("%w: no resource %q; write key:PREFIX*, box:ID, site or *", ErrMalformed, r)
		}
	}
	return nil
}

// check says what is wrong with a block by itself.
func (b *Block) check(root bool) error {
	for _, list := range [][]string{b.Actions, b.Resources} {
		if len(list) > scopeListMax {
			return fmt.Errorf("%d actions or resources where %d can be", len(list), scopeListMax)
		}
		for i, s := range list {
			if !printable(s, scopeTextMax) || s == "" || i > 0 && s <= list[i-1] {
				return fmt.Errorf("action or resource %.40q: not text, too long or not in order", s)
			}
		}
	}
	switch {
	case !printable(b.Note, tokenNoteMax):
		return fmt.Errorf("note of %d bytes where %d of text can be", len(b.Note), tokenNoteMax)
	case !root:
		return nil
	case !printable(b.Issuer, PrincipalBytesMax) || CheckPrincipal(b.Issuer) != nil:
		return fmt.Errorf("issuer %.40q", b.Issuer)
	case len(b.Actions) == 0 || len(b.Resources) == 0 || b.NotAfter == 0:
		return fmt.Errorf("the first block says what may be done, on what and until when")
	case b.NotBefore == 0 || b.NotAfter < b.NotBefore || b.NotAfter-b.NotBefore > TokenSecondsMax:
		return fmt.Errorf("a time from %d to %d; at most %d s", b.NotBefore, b.NotAfter, TokenSecondsMax)
	}
	return nil
}

func printable(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// narrows says how block i wants more than those before it.
func (t *Token) narrows(i int) error {
	b := &t.blocks[i]
	e := t.effective(i)
	switch {
	case e.Bound && !b.Bound:
		return fmt.Errorf("the holder keeps the key and this block lets it travel")
	case b.NotBefore != 0 && b.NotBefore < e.NotBefore:
		return fmt.Errorf("it begins %d s earlier", e.NotBefore-b.NotBefore)
	case b.NotAfter > e.NotAfter:
		return fmt.Errorf("it ends %d s later", b.NotAfter-e.NotAfter)
	case b.NotAfter != 0 && b.NotAfter < max(b.NotBefore, e.NotBefore):
		return fmt.Errorf("it ends before it begins")
	case e.Decision != nil && b.Decision != nil && *b.Decision != *e.Decision:
		return fmt.Errorf("it is for another decision")
	}
	for _, a := range b.Actions {
		if !slices.ContainsFunc(e.Actions, func(of string) bool { return wider(of, a) }) {
			return fmt.Errorf("action %q", a)
		}
	}
	for _, r := range b.Resources {
		if !slices.ContainsFunc(e.Resources, func(of string) bool { return wider(of, r) }) {
			return fmt.Errorf("resource %q", r)
		}
	}
	return nil
}

// wider says whether everything that fits b fits a, where an asterisk at the end leaves open what follows.
func wider(a, b string) bool {
	p, open := strings.CutSuffix(a, "*")
	return a == b || open && strings.HasPrefix(b, p)
}

// effective is what blocks 0 to n-1 say together.
func (t *Token) effective(n int) Block {
	e := t.blocks[0]
	for i := 1; i < n; i++ {
		b := &t.blocks[i]
		e.Holder, e.Bound = b.Holder, b.Bound
		if b.NotBefore != 0 {
			e.NotBefore = b.NotBefore
		}
		if b.NotAfter != 0 {
			e.NotAfter = b.NotAfter
		}
		if len(b.Actions) > 0 {
			e.Actions = b.Actions
		}
		if len(b.Resources) > 0 {
			e.Resources = b.Resources
		}
		if b.Decision != nil {
			e.Decision = b.Decision
		}
		if b.Note != "" {
			e.Note = b.Note
		}
	}
	return e
}

// Effective is what the token says as a whole. The caller must not change it.
func (t *Token) Effective() Block { return t.effective(len(t.blocks)) }

// append appends the body of a block, which its digest is over:
//
//	kind: 1 the first, 2 another
//	(the first:) site 8 | epoch | nonce 8 | issuer
//	flags: 1 bound, 2 decision | holder 33 | not before | not after |
//	actions: how many, each | resources: how many, each | (decision 32) | note
//
// Numbers are uvarints in their shortest form, texts a uvarint length and bytes.
func (b *Block) append(dst []byte, root bool) []byte {
	if root {
		dst = append(append(dst, rootBlock), b.Site[:]...)
		dst = append(binary.AppendUvarint(dst, b.Epoch), b.Nonce[:]...)
		dst = appendText(dst, b.Issuer)
	} else {
		dst = append(dst, nextBlock)
	}
	var flags byte
	if b.Bound {
		flags |= flagBound
	}
	if b.Decision != nil {
		flags |= flagDecision
	}
	dst = append(append(dst, flags), b.Holder[:]...)
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, b.NotBefore), b.NotAfter)
	for _, list := range [][]string{b.Actions, b.Resources} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for _, s := range list {
			dst = appendText(dst, s)
		}
	}
	if b.Decision != nil {
		dst = append(dst, b.Decision[:]...)
	}
	return appendText(dst, b.Note)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// Append appends the encoding:
//
//	version, 1 | how many blocks | each: length of the body (uvarint), body, signature 64 | 1 and the key 32 that travels with it, or 0
func (t *Token) Append(dst []byte) []byte {
	dst = append(dst, tokenVersion, byte(len(t.blocks)))
	for i := range t.blocks {
		body := t.blocks[i].append(nil, i == 0)
		dst = append(binary.AppendUvarint(dst, uint64(len(body))), body...)
		dst = append(dst, t.blocks[i].sig[:]...)
	}
	if t.secret == nil {
		return append(dst, 0)
	}
	return append(append(dst, 1), t.secret...)
}

// String names the token. It is no secret, so that a log that is handed a token keeps none.
func (t *Token) String() string { return TokenOf + ":" + t.ID().String() }

// GoString is String.
func (t *Token) GoString() string { return t.String() }

// Text is the token as text: hf1. and base64url. If the key travels with the token it is a secret.
func (t *Token) Text() string {
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(t.Append(nil))
}

// ParseToken reads what Text wrote, and nothing else.
// Errors: ErrMalformed, ErrWidened. Signatures and time are not looked at: Rules.Verify does.
func ParseToken(s string) (*Token, error) {
	text, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok || len(s) > TokenTextMax {
		return nil, fmt.Errorf("%w: %d characters that do not begin with %s", ErrMalformed, len(s), tokenPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: not base64url", ErrMalformed)
	}
	return DecodeToken(b)
}

// DecodeToken reads what Append wrote, and nothing else. Errors: as ParseToken.
func DecodeToken(b []byte) (*Token, error) {
	r := reader{b: b}
	version, n := r.byte(), int(r.byte())
	if len(b) > TokenBytesMax || version != tokenVersion || n < 1 || n > BlocksMax {
		return nil, fmt.Errorf("%w: %d bytes of version %d with %d blocks", ErrMalformed, len(b), version, n)
	}
	t := &Token{blocks: make([]Block, n)}
	for i := range t.blocks {
		body := r.take(r.number())
		if err := t.blocks[i].decode(body, i == 0); err != nil {
			return nil, fmt.Errorf("%w: block %d", err, i)
		}
		copy(t.blocks[i].sig[:], r.take(64))
	}
	switch r.byte() {
	case 0:
	case 1:
		t.secret = bytes.Clone(r.take(32))
	default:
		r.bad = true
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: cut, or something follows it", ErrMalformed)
	}
	if err := t.chain(); err != nil {
		return nil, err
	}
	if t.blocks[n-1].Bound && t.secret != nil {
		return nil, fmt.Errorf("%w: its key travels with it and should not", ErrMalformed)
	}
	return t, nil
}

func (b *Block) decode(body []byte, root bool) error {
	r := reader{b: body}
	kind := r.byte()
	if root {
		copy(b.Site[:], r.take(8))
		b.Epoch = r.number()
		copy(b.Nonce[:], r.take(8))
		b.Issuer = r.text(PrincipalBytesMax)
	}
	flags := r.byte()
	copy(b.Holder[:], r.take(33))
	b.NotBefore, b.NotAfter = r.number(), r.number()
	for _, list := range []*[]string{&b.Actions, &b.Resources} {
		n := r.number()
		if n > scopeListMax {
			r.bad = true
			break
		}
		for range n {
			*list = append(*list, r.text(scopeTextMax))
		}
	}
	b.Bound = flags&flagBound != 0
	if flags&flagDecision != 0 {
		b.Decision = new(coord.Digest)
		copy(b.Decision[:], r.take(sha256.Size))
	}
	b.Note = r.text(tokenNoteMax)
	if r.bad || len(r.b) > 0 || flags > flagBound|flagDecision || root != (kind == rootBlock) || !root && kind != nextBlock {
		return ErrMalformed
	}
	return nil
}

// reader reads fields and remembers whether one was not there.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) number() uint64 {
	n, w := binary.Uvarint(r.b)
	if w <= 0 || w > 1 && r.b[w-1] == 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[w:]
	return n
}

func (r *reader) text(most uint64) string {
	n := r.number()
	if n > most {
		r.bad, r.b = true, nil
		return ""
	}
	return string(r.take(n))
}
