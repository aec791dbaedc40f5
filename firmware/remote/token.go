package remote

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
)

// What the environment says of boxes that are asked over the network.
const (
	// TokenEnv has the capability token that they are shown (docs/operators.md), and a proof behind it after a space where somebody made one.
	TokenEnv = "HOLDFAST_TOKEN"
	// TokenKeyEnv names the file with the private key of the token's holder, for a token whose key does not travel with it.
	TokenKeyEnv = "HOLDFAST_TOKEN_KEY"
	// CAEnv names a file with the certificates, PEM, that https consoles are known by, beside the system's.
	CAEnv = "HOLDFAST_CA"
)

// keyBytesMax bounds what is read of a key's file: a P-256 key in PEM form has 241 bytes.
const keyBytesMax = 4 << 10

// ErrToken says that the token at hand cannot be shown.
var ErrToken = errors.New("token cannot be used")

// Token is what this machine's programs show to boxes: a token, and what proves that they may. The zero value shows nothing.
type Token struct {
	text, proof string
	token       *access.Token // nil: of a form that this release does not know, for the box to judge
	key         access.Signer // nil: the key travels with the token, or a proof was given
}

// FromEnv is the token of the environment. What no box would take is refused here.
// Errors: ErrToken.
func FromEnv() (*Token, error) {
	t := new(Token)
	switch f := strings.Fields(os.Getenv(TokenEnv)); len(f) {
	case 0:
		return t, nil
	case 1:
		t.text = f[0]
	case 2:
		t.text, t.proof = f[0], f[1]
	default:
		return nil, fmt.Errorf("remote: %w: %s has %d words; it is a token, or a token and a proof", ErrToken, TokenEnv, len(f))
	}
	parsed, err := access.ParseToken(t.text)
	if err != nil {
		return t, nil
	}
	t.token = parsed
	file := os.Getenv(TokenKeyEnv)
	switch {
	case t.proof != "" || parsed.Carries():
		return t, nil
	case file == "":
		return nil, fmt.Errorf("remote: %w: it is bound to a key: name the file of the holder's private key in %s, and each call proves that you have it", ErrToken, TokenKeyEnv)
	}
	key, err := ReadKey(file)
	if err != nil {
		return nil, fmt.Errorf("remote: %w: %s: %w", ErrToken, TokenKeyEnv, err)
	}
	if key.Public() != parsed.Effective().Holder {
		return nil, fmt.Errorf("remote: %w: %s is another key than the token's holder has; `holdfast token inspect` shows whose it needs", ErrToken, file)
	}
	t.key = key
	return t, nil
}

// Show is the token and, where its holder keeps the key, a proof for one use, at the box whose id it is (zero: at any of the site).
// Errors: the key's.
func (t *Token) Show(to coord.BoxID) (text, proof string, err error) {
	if t.key == nil {
		return t.text, t.proof, nil
	}
	p := &access.Proof{Audience: to, TimeMs: uint64(time.Now().UnixMilli())}
	_, _ = rand.Read(p.Nonce[:]) // never fails
	if err := p.Sign(t.token, t.key); err != nil {
		return "", "", fmt.Errorf("remote: %w: %w", ErrToken, err)
	}
	return t.text, p.String(), nil
}

// Native is what a box's native port is shown: the token, and a proof behind a space.
func (t *Token) Native(to coord.BoxID) ([]byte, error) {
	text, proof, err := t.Show(to)
	return []byte(strings.TrimSpace(text + " " + proof)), err
}

// None says that there is no token.
func (t *Token) None() bool { return t.text == "" }

// ReadKey reads a private key, PEM PKCS #8, as `holdfast token keygen` writes it.
func ReadKey(file string) (*access.PrivateKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, keyBytesMax))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is no key in PEM form; `holdfast token keygen` makes one", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not a P-256 key", file)
	}
	return access.NewPrivateKey(key)
}
