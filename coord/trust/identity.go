package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"path/filepath"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	// KeyFile is the name of the private key in a box's data directory.
	KeyFile = "identity.key"
	// keyFileBytesMax bounds what is read of it: a P-256 key is 241 bytes of PEM, the rest is room for
	// comments around it.
	keyFileBytesMax = 4 << 10
	keyFileMode     = 0o600
	pemType         = "PRIVATE KEY"
)

// Identity is a box's private key and what follows from it. It is immutable and may be used by many
// goroutines.
type Identity struct {
	key    *ecdsa.PrivateKey
	public []byte
	id     coord.BoxID
	cert   tls.Certificate
	place  KeyPlace
}

// LoadOrCreate reads identity.key in dir, or makes it when there is none. dir must exist: a data
// directory that is missing is more often a disk that is not mounted than a new box, and
// a box that takes a new name by mistake is lost to its site.
//
// Errors: ErrKeyMode, ErrKeyDamaged, or what the file system says.
func LoadOrCreate(dir string) (*Identity, error) {
	path := filepath.Join(dir, KeyFile)
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = createKey(dir, path)
	}
	if err != nil {
		return nil, err
	}
	id, err := newIdentity(key)
	if err != nil {
		return nil, fmt.Errorf("trust: use %s: %w", path, err)
	}
	return id, nil
}

// ID is the box's name.
func (id *Identity) ID() coord.BoxID { return id.id }

// Place is where the key lies between two starts: KeyInFile or KeyInTPM.
func (id *Identity) Place() KeyPlace { return id.place }

// PublicKey is the public key, PKIX DER, as coord.Member.Key has it. The caller owns the copy.
func (id *Identity) PublicKey() []byte { return append([]byte(nil), id.public...) }

// Certificate is what the box shows in TLS, as server and as client. It is self-issued and made
// once a process. It is valid from 1970 to the end of 9999, the value for "no
// expiry" (RFC 5280, 4.1.2.5), because boxes boot with a clock in 1970: the member set says who is
// trusted, and for how long.
func (id *Identity) Certificate() tls.Certificate { return id.cert }

// SignVote signs coord.VoteBytes. Whether the vote may be cast was decided, and made
// durable, before.
func (id *Identity) SignVote(site coord.SiteID, k coord.VoteKind, epoch, round uint64, d coord.Digest) coord.Signature {
	b := coord.VoteBytes(site, k, epoch, round, d)
	h := sha256.Sum256(b[:])
	return id.mustSign(h[:])
}

// SignBatch makes this box the author of b and signs b.Digest: it sets Author and Sig. All other
// fields are set before and stay as they are.
func (id *Identity) SignBatch(site coord.SiteID, b *coord.Batch) {
	b.Author = id.id
	d := b.Digest(site)
	b.Sig = id.mustSign(d[:])
}

// mustSign signs. newIdentity has signed and verified with this very key, and the
// input is always 32 bytes: a failure is a broken program, and a box that cannot sign must not go on.
func (id *Identity) mustSign(digest []byte) coord.Signature {
	s, err := sign(id.key, digest)
	if err != nil {
		panic(fmt.Sprintf("trust: sign: %v", err))
	}
	return s
}

func newIdentity(key *ecdsa.PrivateKey) (*Identity, error) {
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	id := &Identity{key: key, public: public, id: coord.BoxIDOf(public), place: KeyInFile}
	probe := sha256.Sum256(public)
	sig, err := sign(key, probe[:])
	if err != nil {
		return nil, err
	}
	if !verify(&key.PublicKey, probe[:], &sig) {
		return nil, errors.New("the key does not verify its own signature")
	}
	if id.cert, err = selfIssue(key, id.id, nil); err != nil {
		return nil, err
	}
	return id, nil
}

// ClientCertificate is a certificate for these names and addresses, issued by the box to itself: the same at each start, so that
// programs can be given it as what they trust.
func (i *Identity) ClientCertificate(hosts []string) (tls.Certificate, error) {
	return selfIssue(i.key, i.id, hosts)
}

func selfIssue(key *ecdsa.PrivateKey, id coord.BoxID, hosts []string) (tls.Certificate, error) {
	name := pkix.Name{CommonName: "holdfast " + id.String()}
	// The leading one makes a positive serial number of any id (RFC 5280, 4.1.2.2).
	serial := new(big.Int).SetBytes(append([]byte{1}, id[:]...))
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               name,
		Issuer:                name,
		NotBefore:             time.Unix(0, 0).UTC(),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(nil, template, template, &key.PublicKey, key) // no randomness: RFC 6979
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, mode, err := readBounded(path, keyFileBytesMax)
	switch {
	case errors.Is(err, errTooLong), errors.Is(err, errNotRegular):
		return nil, damaged(path, err)
	case err != nil:
		return nil, fmt.Errorf("trust: read key: %w", err)
	case mode.Perm()&^keyFileMode != 0:
		return nil, fmt.Errorf("trust: read key: %w: %s has mode %04o; if nobody else can have read it run `chmod 600 %s`, else give the box a new identity",
			ErrKeyMode, path, mode.Perm(), path)
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, damaged(path, err)
	}
	return key, nil
}

func damaged(path string, why error) error {
	return fmt.Errorf("trust: read key: %w: %s: %w; restore it from a backup, or move it away to start as a new box, which the site must then admit",
		ErrKeyDamaged, path, why)
}

// parseKey reads exactly one PEM block with a P-256 key in PKCS#8.
func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if block.Type != pemType {
		return nil, fmt.Errorf("PEM block is %q, not %q", block.Type, pemType)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("more than one PEM block")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("a %T that is not on P-256", parsed)
	}
	return key, nil
}

func createKey(dir, path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("trust: create key: %w", err)
	}
	err = writeKey(dir, path, key)
	if errors.Is(err, fs.ErrExist) {
		// Another process was first. Its key is this box's name now.
		return readKey(path)
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

func writeKey(dir, path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err == nil {
		err = createFile(dir, path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), keyFileMode)
	}
	if err != nil {
		return fmt.Errorf("trust: create key: %w", err)
	}
	return nil
}
