package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	// SealedKeyFile is the private key in a box's data directory when it is sealed: of use on this machine only.
	SealedKeyFile = "identity.tpm"
	// sealedFileBytesMax bounds what is read of it: about 700 bytes are used.
	sealedFileBytesMax = 8 << 10
	sealedFormat       = 1
)

// KeyPlace says where a box's private key lies between two starts. While the box runs the key is in its memory in any case: it
// signs hundreds of votes in a second, and a TPM signs ten.
type KeyPlace string

const (
	// KeyAuto is where the key is; a box that has none makes it with the TPM if there is a usable one, else in a file.
	KeyAuto KeyPlace = "auto"
	// KeyInFile is identity.key: who can read the disk has the box's name.
	KeyInFile KeyPlace = "file"
	// KeyInTPM is identity.tpm, which opens on this machine only.
	KeyInTPM KeyPlace = "tpm"
)

// Sealer keeps secrets of at most 128 bytes so that only this machine can read them again.
type Sealer interface {
	Seal(secret []byte) (sealed []byte, err error)
	Unseal(sealed []byte) (secret []byte, err error)
}

// KeyOptions of Open. The zero value is identity.key, and no TPM.
type KeyOptions struct {
	Place KeyPlace
	// TPM gives this machine's, or why there is none. It is asked only when it is needed. nil: there is none.
	TPM func() (Sealer, error)
}

func (o *KeyOptions) tpm() (Sealer, error) {
	if o.TPM == nil {
		return nil, errors.New("none is configured")
	}
	return o.TPM()
}

// HasKey says whether dir has a private key, in whatever place. Errors: what the file system says.
func HasKey(dir string) (bool, error) {
	file, sealed, err := keysIn(dir)
	return file || sealed, err
}

func keysIn(dir string) (file, sealed bool, err error) {
	for _, k := range []struct {
		name  string
		there *bool
	}{{KeyFile, &file}, {SealedKeyFile, &sealed}} {
		switch _, e := os.Lstat(filepath.Join(dir, k.name)); {
		case e == nil:
			*k.there = true
		case !errors.Is(e, fs.ErrNotExist):
			err = errors.Join(err, fmt.Errorf("trust: read key: %w", e))
		}
	}
	return file, sealed, err
}

// Open reads the private key in dir from where it is, or makes one where o says when there is none. A key never moves by
// itself: one that is elsewhere than o says is an error. dir must exist, as for LoadOrCreate.
//
// Errors: ErrKeyPlace, ErrKeyMode, ErrKeyDamaged, ErrKeySealed (the TPM is gone, cleared or another), or what the file system says.
func Open(dir string, o KeyOptions) (*Identity, error) {
	file, sealed, err := keysIn(dir)
	if err != nil {
		return nil, err
	}
	switch {
	case file && sealed:
		return openBoth(dir, o)
	case sealed && o.Place == KeyInFile, sealed && o.Place == "":
		return nil, fmt.Errorf("trust: open key: %w: it is sealed in %s and the configuration says \"file\"; set identity.key to \"auto\" or \"tpm\", or move it with `holdfast identity unseal`",
			ErrKeyPlace, filepath.Join(dir, SealedKeyFile))
	case sealed:
		return openSealed(dir, &o)
	case file && o.Place == KeyInTPM:
		return nil, fmt.Errorf("trust: open key: %w: it is in %s and the configuration says \"tpm\"; move it with `holdfast identity seal`, or set identity.key to \"auto\"",
			ErrKeyPlace, filepath.Join(dir, KeyFile))
	case file:
		return LoadOrCreate(dir)
	}
	return create(dir, &o)
}

// create makes the key of a new box.
func create(dir string, o *KeyOptions) (*Identity, error) {
	if o.Place != KeyAuto && o.Place != KeyInTPM {
		return LoadOrCreate(dir)
	}
	chip, err := o.tpm()
	if err != nil && o.Place == KeyAuto {
		return LoadOrCreate(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("trust: create key: %w: %w; set identity.key to \"auto\" or \"file\" to keep it in a file", ErrKeySealed, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("trust: create key: %w", err)
	}
	err = createSealed(dir, key, chip)
	if errors.Is(err, fs.ErrExist) {
		return openSealed(dir, o) // another process was first
	}
	if err != nil {
		return nil, err
	}
	return identityIn(key, KeyInTPM)
}

func identityIn(key *ecdsa.PrivateKey, place KeyPlace) (*Identity, error) {
	id, err := newIdentity(key)
	if err != nil {
		return nil, fmt.Errorf("trust: use key: %w", err)
	}
	id.place = place
	return id, nil
}

// sealedKey is the content of identity.tpm, JSON.
type sealedKey struct {
	Format int         `json:"format"`
	Box    coord.BoxID `json:"box"`
	Public []byte      `json:"public_key"` // PKIX DER, so that a box can be named without its TPM
	Sealed []byte      `json:"sealed"`     // the private scalar of 32 bytes, as Sealer.Seal gave it
}

// createSealed writes identity.tpm, after it has seen that the TPM gives back what it took: a key that is lost at the first start
// again is a box that is lost to its site.
func createSealed(dir string, key *ecdsa.PrivateKey, chip Sealer) error {
	secret, err := key.Bytes()
	if err != nil {
		return fmt.Errorf("trust: seal key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return fmt.Errorf("trust: seal key: %w", err)
	}
	k := sealedKey{Format: sealedFormat, Box: coord.BoxIDOf(public), Public: public}
	if k.Sealed, err = chip.Seal(secret); err != nil {
		return fmt.Errorf("trust: seal key: %w: %w", ErrKeySealed, err)
	}
	back, err := chip.Unseal(k.Sealed)
	if err == nil && !bytes.Equal(back, secret) {
		err = errors.New("the TPM gives back another secret than it took")
	}
	if err != nil {
		return fmt.Errorf("trust: seal key: %w: %w", ErrKeySealed, err)
	}
	data, err := json.MarshalIndent(&k, "", "  ")
	if err != nil {
		return fmt.Errorf("trust: seal key: %w", err)
	}
	if err := createFile(dir, filepath.Join(dir, SealedKeyFile), append(data, '\n'), keyFileMode); err != nil {
		return fmt.Errorf("trust: seal key: %w", err)
	}
	return nil
}

func openSealed(dir string, o *KeyOptions) (*Identity, error) {
	key, err := readSealed(dir, o)
	if err != nil {
		return nil, err
	}
	return identityIn(key, KeyInTPM)
}

func readSealed(dir string, o *KeyOptions) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, SealedKeyFile)
	k, err := readSealedFile(path)
	if err != nil {
		return nil, err
	}
	chip, err := o.tpm()
	var secret []byte
	if err == nil {
		secret, err = chip.Unseal(k.Sealed)
	}
	if err != nil {
		return nil, fmt.Errorf("trust: read key: %w: %s is box %v: %w; put it back into its machine, or replace the box", ErrKeySealed, path, k.Box, err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret)
	if err != nil {
		return nil, damaged(path, err)
	}
	if public, err := x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil || !bytes.Equal(public, k.Public) {
		return nil, damaged(path, errors.New("the sealed key is not the one that it names"))
	}
	return key, nil
}

func readSealedFile(path string) (*sealedKey, error) {
	data, mode, err := readBounded(path, sealedFileBytesMax)
	switch {
	case errors.Is(err, errTooLong), errors.Is(err, errNotRegular):
		return nil, damaged(path, err)
	case err != nil:
		return nil, fmt.Errorf("trust: read key: %w", err)
	case mode.Perm()&^keyFileMode != 0:
		return nil, fmt.Errorf("trust: read key: %w: %s has mode %04o; run `chmod 600 %s`", ErrKeyMode, path, mode.Perm(), path)
	}
	k, err := parseSealed(data)
	if err != nil {
		return nil, damaged(path, err)
	}
	return k, nil
}

func parseSealed(data []byte) (*sealedKey, error) {
	k := new(sealedKey)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(k); err != nil {
		return nil, err
	}
	switch {
	case d.More():
		return nil, errors.New("something follows it")
	case k.Format != sealedFormat:
		return nil, fmt.Errorf("format %d is not known", k.Format)
	case len(k.Sealed) == 0:
		return nil, errors.New("nothing is sealed in it")
	case coord.BoxIDOf(k.Public) != k.Box:
		return nil, errors.New("the public key is not that of the box")
	}
	return k, nil
}

// openBoth is what a power cut in the middle of a move leaves, or a mistake.
func openBoth(dir string, o KeyOptions) (*Identity, error) {
	id, err := LoadOrCreate(dir)
	if err != nil {
		return nil, err
	}
	k, err := readSealedFile(filepath.Join(dir, SealedKeyFile))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(k.Public, id.public) {
		return nil, fmt.Errorf("trust: open key: %w: %s has two, %s of box %v and %s of box %v; move away the one that is not this box's",
			ErrKeyPlace, dir, KeyFile, id.id, SealedKeyFile, k.Box)
	}
	return nil, fmt.Errorf("trust: open key: %w: %s has the same key in %s and in %s: it was being moved; run `holdfast identity seal` or `unseal` again",
		ErrKeyPlace, dir, KeyFile, SealedKeyFile)
}

// SealKey moves the key of a stopped box from identity.key into identity.tpm. It may be repeated after a power cut. What a card or an SSD
// keeps of a removed file is not in its hands: a key that must not be found there is made anew. Errors: as Open, fs.ErrNotExist.
func SealKey(dir string, chip Sealer) (*Identity, error) {
	file, sealed, err := keysIn(dir)
	if err != nil {
		return nil, err
	}
	o := KeyOptions{Place: KeyInTPM, TPM: func() (Sealer, error) { return chip, nil }}
	if sealed && !file {
		return openSealed(dir, &o)
	}
	key, err := readKey(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, err
	}
	if !sealed {
		err = createSealed(dir, key, chip)
	} else {
		err = sameSealed(dir, key, &o)
	}
	if err != nil {
		return nil, err
	}
	if err := removeKey(dir, KeyFile); err != nil {
		return nil, err
	}
	return identityIn(key, KeyInTPM)
}

// UnsealKey moves it back, before a main board is replaced for one. It may be repeated. Errors: as Open, fs.ErrNotExist.
func UnsealKey(dir string, chip Sealer) (*Identity, error) {
	file, sealed, err := keysIn(dir)
	if err != nil {
		return nil, err
	}
	if file && !sealed {
		return LoadOrCreate(dir)
	}
	o := KeyOptions{Place: KeyInTPM, TPM: func() (Sealer, error) { return chip, nil }}
	key, err := readSealed(dir, &o)
	if err != nil {
		return nil, err
	}
	if !file {
		err = writeKey(dir, filepath.Join(dir, KeyFile), key)
	} else if there, e := readKey(filepath.Join(dir, KeyFile)); e != nil {
		err = e
	} else if !there.Equal(key) {
		err = fmt.Errorf("trust: unseal key: %w: %s has another key in %s", ErrKeyPlace, dir, KeyFile)
	}
	if err != nil {
		return nil, err
	}
	if err := removeKey(dir, SealedKeyFile); err != nil {
		return nil, err
	}
	return identityIn(key, KeyInFile)
}

// sameSealed checks that what is sealed in dir is key, and opens.
func sameSealed(dir string, key *ecdsa.PrivateKey, o *KeyOptions) error {
	there, err := readSealed(dir, o)
	if err != nil {
		return err
	}
	if !there.Equal(key) {
		return fmt.Errorf("trust: seal key: %w: %s has another key in %s", ErrKeyPlace, dir, SealedKeyFile)
	}
	return nil
}

func removeKey(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("trust: move key: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("trust: move key: %w", err)
	}
	return nil
}
