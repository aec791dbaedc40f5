package passkey

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
)

// Limits of credentials and of what browsers send.
const (
	// BodyBytesMax is what an answer may have: some 1 KiB, 2 with RSA.
	BodyBytesMax = 16 << 10
	idBytesMax   = 512
	keyBytesMax  = 1024
	nameBytesMax = 60
	// countsMax bounds the counters that are remembered of credentials.
	countsMax = 4096
)

// Credential is a passkey as an operator's document has it.
type Credential struct {
	ID []byte `json:"id"`
	// Key is the public key, a COSE_Key (RFC 9052, section 7): ES256 or RS256.
	Key  []byte `json:"key"`
	Name string `json:"name"`
	// Domain is the name of the sites that it works for (RP ID).
	Domain  string `json:"domain"`
	Created int64  `json:"created"` // Unix seconds by the clock of the box at which it was registered
	// Count is what the authenticator counted then; most that are kept in an account of their own count nothing.
	Count uint32 `json:"count,omitempty"`
	// Synced says that the authenticator may give copies to other devices of its user.
	Synced bool `json:"synced,omitempty"`
}

// Check says whether a credential can be kept. Error: ErrRefused.
func (c *Credential) Check() error {
	switch {
	case len(c.ID) == 0 || len(c.ID) > idBytesMax:
		return fmt.Errorf("%w: an id of %d bytes", ErrRefused, len(c.ID))
	case len(c.Key) == 0 || len(c.Key) > keyBytesMax:
		return fmt.Errorf("%w: a key of %d bytes", ErrRefused, len(c.Key))
	case c.Name == "" || len(c.Name) > nameBytesMax || strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%w: give it a name of 1 to %d bytes", ErrRefused, nameBytesMax)
	case c.Domain == "" || len(c.Domain) > 253:
		return fmt.Errorf("%w: of no domain", ErrRefused)
	}
	return nil
}

// algorithms are ES256, which all have, and RS256, which is all that some Windows machines have.
var algorithms = [...]protocol.CredentialParameter{
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
}

// Party is who asks for passkeys, of one box and domain (a relying party, in WebAuthn's words). It may be used by many goroutines.
type Party struct {
	domain, site string
	now          func() time.Time
	key          [32]byte

	mu     sync.Mutex
	used   map[nonce]time.Time
	counts map[string]uint32 // by credential; what this process has seen, of those that count
}

// New makes a party for the consoles under domain, of the site named so.
func New(domain, site string, now func() time.Time) *Party {
	p := &Party{domain: domain, site: site, now: now, used: map[nonce]time.Time{}, counts: map[string]uint32{}}
	_, _ = rand.Read(p.key[:])
	return p
}

// Domain is what the credentials are for.
func (p *Party) Domain() string { return p.domain }

// Here says whether a page that was opened under host (a name, perhaps with a port) may have passkeys: nil or ErrHost.
func (p *Party) Here(host string) error {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host != p.domain && !strings.HasSuffix(host, "."+p.domain) {
		return fmt.Errorf("%w: open it as %s", ErrHost, p.domain)
	}
	return nil
}

// user is the name that an authenticator keeps a user's credential by; people do not see it.
func (p *Party) user(name string) []byte {
	h := sha256.Sum256([]byte("holdfast passkey user1\x00" + p.site + "\x00" + name))
	return h[:]
}

// Creation is the JSON that a browser's parseCreationOptionsFromJSON takes, to make a credential for an operator; session is whose page it is. known
// are the operator's credentials: the same authenticator does not make a second one.
func (p *Party) Creation(operator, session string, known []Credential) any {
	o := &protocol.PublicKeyCredentialCreationOptions{
		RelyingParty: protocol.RelyingPartyEntity{CredentialEntity: protocol.CredentialEntity{Name: "Holdfast"}, ID: p.domain},
		User:         protocol.UserEntity{CredentialEntity: protocol.CredentialEntity{Name: operator}, DisplayName: operator, ID: protocol.URLEncodedBase64(p.user(operator))},
		Challenge:    p.challenge("create", session), Parameters: algorithms[:], Timeout: int(challengeFor / time.Millisecond),
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: protocol.ResidentKeyRequired(), ResidentKey: protocol.ResidentKeyRequirementRequired,
			UserVerification: protocol.VerificationRequired,
		},
		Attestation: protocol.PreferNoAttestation,
	}
	for i := range known {
		if known[i].Domain == p.domain {
			o.CredentialExcludeList = append(o.CredentialExcludeList, protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: known[i].ID})
		}
	}
	return o
}

// Register judges the credential that a browser made for Creation's options, at a page of origin. Errors: ErrRefused, ErrBusy.
func (p *Party) Register(body []byte, origin, session, name string) (*Credential, error) {
	if len(body) > BodyBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrRefused, len(body))
	}
	r, err := protocol.ParseCredentialCreationResponseBytes(body)
	if err != nil {
		return nil, refused(err)
	}
	challenge, n, err := p.answered("create", session, r.Raw.AttestationResponse.ClientDataJSON)
	if err != nil {
		return nil, err
	}
	o := &r.Response.AttestationObject
	// Conveyance "none" leaves these two (WebAuthn 5.1.3, step 22.1); certificates would be read for nothing.
	_, certified := o.AttStatement["x5c"]
	if f := protocol.AttestationFormat(o.Format); certified || f != protocol.AttestationFormatNone && f != protocol.AttestationFormatPacked {
		return nil, fmt.Errorf("%w: its attestation is %.20q where none was asked for", ErrRefused, o.Format)
	}
	_, err = r.Verify(challenge, p.domain, []string{origin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false, true, true, nil,
		algorithms[:], protocol.AttestationPolicy{}, protocol.SignaturePolicy{})
	if err != nil {
		return nil, refused(err)
	}
	c := &Credential{
		ID: bytes.Clone(o.AuthData.AttData.CredentialID), Key: bytes.Clone(o.AuthData.AttData.CredentialPublicKey), Name: name, Domain: p.domain,
		Created: p.now().Unix(), Count: o.AuthData.Counter, Synced: o.AuthData.Flags.HasBackupEligible(),
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	if _, err := webauthncose.ParsePublicKey(c.Key); err != nil {
		return nil, refused(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return c, p.use(n)
}

// Request is the JSON that a browser's parseRequestOptionsFromJSON takes, to sign in as whoever has a credential of the domain: the browser
// asks which, and nobody learns here who has one.
func (p *Party) Request() any {
	return &protocol.PublicKeyCredentialRequestOptions{
		Challenge: p.challenge("get", ""), Timeout: int(challengeFor / time.Millisecond), RelyingPartyID: p.domain,
		UserVerification: protocol.VerificationRequired,
	}
}

// Answer is what a browser brought for Request's options, before it is judged.
type Answer struct {
	data      *protocol.ParsedCredentialAssertionData
	challenge string
	nonce     nonce
}

// Credential is the id of the credential that it says to be of.
func (a *Answer) Credential() []byte { return a.data.RawID }

// Read reads an answer. Error: ErrRefused.
func (p *Party) Read(body []byte) (*Answer, error) {
	if len(body) > BodyBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrRefused, len(body))
	}
	r, err := protocol.ParseCredentialRequestResponseBytes(body)
	if err != nil {
		return nil, refused(err)
	}
	challenge, n, err := p.answered("get", "", r.Raw.AssertionResponse.ClientDataJSON)
	if err != nil {
		return nil, err
	}
	return &Answer{r, challenge, n}, nil
}

// Judge says whether an answer, from a page of origin, was signed with the credential of an operator. Errors: ErrRefused, ErrCopied, ErrBusy.
func (p *Party) Judge(a *Answer, origin, operator string, c *Credential) error {
	if !bytes.Equal(a.data.Response.UserHandle, p.user(operator)) {
		return fmt.Errorf("%w: the authenticator has it under another name", ErrRefused)
	}
	err := a.data.Verify(a.challenge, p.domain, "", []string{origin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false, true, true, c.Key,
		protocol.SignaturePolicy{})
	if err != nil {
		return refused(err)
	}
	// Whether there may be copies is for a credential's life (WebAuthn 6.1.3).
	flags := a.data.Response.AuthenticatorData.Flags
	if flags.HasBackupEligible() != c.Synced || flags.HasBackupState() && !c.Synced {
		return fmt.Errorf("%w: it says to be of another kind than when it was registered", ErrRefused)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.use(a.nonce); err != nil {
		return err
	}
	return p.count(c, a.data.Response.AuthenticatorData.Counter)
}

// count compares a counter with what was seen here and at the registration (WebAuthn 7.2, step 22); mu is held. Other boxes' counts
// are not known: a copy is found when it signs in at the same box.
func (p *Party) count(c *Credential, now uint32) error {
	last := max(c.Count, p.counts[string(c.ID)])
	if now == 0 && last == 0 {
		return nil // it does not count
	}
	if now <= last {
		return ErrCopied
	}
	if _, known := p.counts[string(c.ID)]; !known && len(p.counts) >= countsMax {
		for k := range p.counts { // any: there are more than people can have
			delete(p.counts, k)
			break
		}
	}
	p.counts[string(c.ID)] = now
	return nil
}

// refused makes the library's errors ours; they name no secrets.
func refused(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) && e.Details != "" {
		return fmt.Errorf("%w: %s", ErrRefused, e.Details)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}
