package release

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// Limits.
const (
	// ChunkBytes is what is verified at a time, before it is written anywhere.
	ChunkBytes = 1 << 20
	// FileBytesMax bounds a kernel and an initrd: a slot has at most a third of the smallest system partition.
	FileBytesMax = 80 << 20
	// ManifestBytesMax bounds a manifest: the digests of two files of the largest size are 11 KiB.
	ManifestBytesMax = 24 << 10
	// HeadBytesMax bounds what stands before the kernel.
	HeadBytesMax = len(magic) + 4 + ManifestBytesMax + keyIDBytes + 2 + signatureBytesMax

	magic             = "holdfast bundle1"
	signs             = "holdfast update1"
	keyIDBytes        = 8
	signatureBytesMax = 72 // DER of two numbers of 33 bytes
	wordBytesMax      = 64
	cmdlineBytesMax   = 256
	formatsMax        = 64
	manifestFormat    = 1
)

// Errors.
var (
	// ErrBundle says that bytes are not a bundle, or one beyond the limits.
	ErrBundle = errors.New("not a bundle of Holdfast")
	// ErrSignature says that a bundle is not signed with a key that is trusted.
	ErrSignature = errors.New("not signed with a key that is trusted here")
	// ErrKey says that a key is not one that signs bundles.
	ErrKey = errors.New("not a key on P-256")
	// ErrUnfit says that a bundle is good, and not for this box.
	ErrUnfit = errors.New("not for this box")
)

// Manifest is what a bundle says of itself.
type Manifest struct {
	Format  int    `json:"format"` // 1
	Version string `json:"version"`
	// Board is what it is for (firmware/image has the names), Arch the processor, as Go calls it.
	Board string `json:"board"`
	Arch  string `json:"arch"`
	// MinVersion, if not empty, is the oldest version that may be replaced by it.
	MinVersion string `json:"min_version,omitempty"`
	// Cmdline are the kernel's options, without the slot.
	Cmdline string `json:"cmdline,omitempty"`
	Kernel  File   `json:"kernel"`
	Initrd  File   `json:"initrd"`
	// Formats are those of the data that it reads and writes, by name.
	Formats []Format `json:"formats"`
}

// File is one file of a release.
type File struct {
	Bytes  int64        `json:"bytes"`
	SHA256 coord.Digest `json:"sha256"`
	// Chunks are the SHA-256 of each ChunkBytes of it.
	Chunks []coord.Digest `json:"chunks"`
}

// Describe reads a file to its end. Errors: ErrBundle for one that is empty or too large, and the reader's.
func Describe(r io.Reader) (File, error) {
	f, whole, buf := File{Chunks: []coord.Digest{}}, sha256.New(), make([]byte, ChunkBytes)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			whole.Write(buf[:n])
			f.Chunks = append(f.Chunks, sha256.Sum256(buf[:n]))
			f.Bytes += int64(n)
		}
		switch {
		case f.Bytes > FileBytesMax:
			return f, fmt.Errorf("%w: a file of more than %d bytes", ErrBundle, FileBytesMax)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			whole.Sum(f.SHA256[:0])
			return f, f.check()
		case err != nil:
			return f, err
		}
	}
}

func (f *File) check() error {
	if f.Bytes <= 0 || f.Bytes > FileBytesMax || int64(len(f.Chunks)) != (f.Bytes+ChunkBytes-1)/ChunkBytes {
		return fmt.Errorf("%w: a file of %d bytes in %d chunks", ErrBundle, f.Bytes, len(f.Chunks))
	}
	return nil
}

func (m *Manifest) check() error {
	for _, s := range []string{m.Version, m.Board, m.Arch} {
		if s == "" || len(s) > wordBytesMax || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%w: %.80q where one word is to be", ErrBundle, s)
		}
	}
	if m.Format != manifestFormat {
		return fmt.Errorf("%w: a manifest of format %d", ErrBundle, m.Format)
	}
	if len(m.MinVersion) > wordBytesMax || len(m.Cmdline) > cmdlineBytesMax || strings.ContainsFunc(m.Cmdline+m.MinVersion, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("%w: kernel options of %d bytes, or not printable", ErrBundle, len(m.Cmdline))
	}
	if len(m.Formats) > formatsMax {
		return fmt.Errorf("%w: %d formats", ErrBundle, len(m.Formats))
	}
	for i, f := range m.Formats {
		if f.Name == "" || len(f.Name) > wordBytesMax || f.Min > f.Max || f.Writes < f.Min || f.Writes > f.Max || i > 0 && f.Name <= m.Formats[i-1].Name {
			return fmt.Errorf("%w: format %.80q, which it reads from %d to %d and writes as %d", ErrBundle, f.Name, f.Min, f.Max, f.Writes)
		}
	}
	return errors.Join(m.Kernel.check(), m.Initrd.check())
}

// ID names a bundle: SHA-256("holdfast update1" || manifest).
func (h *Head) ID() coord.Digest { return digest(h.raw) }

func digest(raw []byte) coord.Digest {
	return sha256.Sum256(append([]byte(signs), raw...))
}

// Head is what stands before the kernel in a bundle: the manifest, signed.
type Head struct {
	Manifest
	// Key names the key that signed.
	Key [keyIDBytes]byte

	raw, signature []byte
}

// Bytes is the head as it stands in a bundle.
func (h *Head) Bytes() []byte {
	b := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(h.raw)))
	b = append(append(b, h.raw...), h.Key[:]...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(h.signature))), h.signature...)
}

// BundleBytes is the length of the whole bundle.
func (h *Head) BundleBytes() int64 {
	return int64(len(h.Bytes())) + h.Kernel.Bytes + h.Initrd.Bytes
}

// Sign makes the head of a bundle: RFC 6979, so that the same bundle has the same bytes. Errors: ErrBundle, ErrKey.
func Sign(m *Manifest, key *ecdsa.PrivateKey) (*Head, error) {
	m.Format = manifestFormat
	slices.SortFunc(m.Formats, func(a, b Format) int { return strings.Compare(a.Name, b.Name) })
	if err := m.check(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	if len(raw) > ManifestBytesMax {
		return nil, fmt.Errorf("%w: a manifest of %d bytes", ErrBundle, len(raw))
	}
	h := &Head{Manifest: *m, raw: raw}
	public, err := MarshalKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	h.Key = public.id()
	d := h.ID()
	if h.signature, err = key.Sign(nil, d[:], crypto.SHA256); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return h, nil
}

// ReadHead reads a head from the beginning of a bundle and no byte more, and checks its signature with the trusted keys.
// Errors: ErrBundle, ErrSignature, and the reader's.
func ReadHead(r io.Reader, trusted []Key) (*Head, error) {
	h, err := readSigned(r)
	if err != nil {
		return nil, err
	}
	// Nothing of the manifest is looked at before its signature is good.
	if err := h.verify(trusted); err != nil {
		return nil, err
	}
	return h, h.decode()
}

// ReadUntrusted is ReadHead without asking who signed it: to show a bundle to people.
func ReadUntrusted(r io.Reader) (*Head, error) {
	h, err := readSigned(r)
	if err != nil {
		return nil, err
	}
	return h, h.decode()
}

// readSigned reads a head and looks at nothing in it.
func readSigned(r io.Reader) (*Head, error) {
	b := make([]byte, len(magic)+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	n := binary.BigEndian.Uint32(b[len(magic):])
	if string(b[:len(magic)]) != magic || n == 0 || n > ManifestBytesMax {
		return nil, fmt.Errorf("%w: it begins otherwise", ErrBundle)
	}
	b = make([]byte, int(n)+keyIDBytes+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	h := &Head{raw: b[:n:n], Key: [keyIDBytes]byte(b[n:])}
	k := binary.BigEndian.Uint16(b[int(n)+keyIDBytes:])
	if k == 0 || k > signatureBytesMax {
		return nil, fmt.Errorf("%w: a signature of %d bytes", ErrBundle, k)
	}
	h.signature = make([]byte, k)
	if _, err := io.ReadFull(r, h.signature); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	return h, nil
}

// decode reads the manifest.
func (h *Head) decode() error {
	d := json.NewDecoder(bytes.NewReader(h.raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&h.Manifest); err != nil {
		return fmt.Errorf("%w: %w", ErrBundle, err)
	}
	if again, err := json.Marshal(&h.Manifest); err != nil || !bytes.Equal(again, h.raw) {
		return fmt.Errorf("%w: its manifest is not as a manifest is written", ErrBundle)
	}
	return h.check()
}

// ParseHead is ReadHead of bytes that are a head and nothing else.
func ParseHead(b []byte, trusted []Key) (*Head, error) {
	r := bytes.NewReader(b)
	h, err := ReadHead(r, trusted)
	if err == nil && r.Len() > 0 {
		err = fmt.Errorf("%w: %d bytes behind its head", ErrBundle, r.Len())
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Head) verify(trusted []Key) error {
	for _, k := range trusted {
		if k.id() != h.Key {
			continue
		}
		key, err := k.parse()
		d := h.ID()
		if err == nil && ecdsa.VerifyASN1(key, d[:], h.signature) {
			return nil
		}
		return fmt.Errorf("%w: the signature of key %x does not hold", ErrSignature, h.Key)
	}
	if len(trusted) == 0 {
		return fmt.Errorf("%w: none is; see `holdfast update key`", ErrSignature)
	}
	return fmt.Errorf("%w: key %x", ErrSignature, h.Key)
}

// Key is a public key that signs bundles, PKIX DER.
type Key []byte

// MarshalKey is the Key of a public key. Errors: ErrKey.
func MarshalKey(k *ecdsa.PublicKey) (Key, error) {
	if k.Curve != elliptic.P256() {
		return nil, ErrKey
	}
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return der, nil
}

// ParseKey reads what String wrote. Errors: ErrKey.
func ParseKey(text string) (Key, error) {
	k, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	_, err = Key(k).parse()
	return k, err
}

// String is base64.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k) }

// ID is 16 hexadecimal digits.
func (k Key) ID() string { return fmt.Sprintf("%x", k.id()) }

func (k Key) id() (id [keyIDBytes]byte) {
	sum := sha256.Sum256(k)
	copy(id[:], sum[:])
	return id
}

func (k Key) parse() (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(k)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, ErrKey
	}
	return key, nil
}

// Peek reads a head without asking who signed it: for what is installed already.
func Peek(b []byte) (*Head, error) {
	if len(b) < len(magic)+4 || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it begins otherwise", ErrBundle)
	}
	n := uint64(binary.BigEndian.Uint32(b[len(magic):]))
	rest := b[len(magic)+4:]
	if n == 0 || n > ManifestBytesMax || uint64(len(rest)) < n+keyIDBytes+2 {
		return nil, fmt.Errorf("%w: its head is cut off", ErrBundle)
	}
	h := &Head{raw: rest[:n:n], Key: [keyIDBytes]byte(rest[n:]), signature: rest[n+keyIDBytes+2:]}
	if err := json.Unmarshal(h.raw, &h.Manifest); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	return h, h.check()
}
