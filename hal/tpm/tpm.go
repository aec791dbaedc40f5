// Package tpm seals small secrets with a TPM 2.0: what Seal gives is of use to nobody who does not have this very chip, so
// that it may lie on a disk. Secrets come from coord/trust (the box's key) and store/crypt (the key of the data) as bytes and go back
// to them at the next start; nothing is stored in the chip.
//
// A secret is sealed and not a key made in the chip because a TPM signs in 20 to 100 ms and a box signs hundreds of votes in a
// second (docs/decisions/0004).
package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// Errors of this package.
var (
	// ErrAbsent says that there is no TPM, or none that may be used.
	ErrAbsent = errors.New("no usable TPM")
	// ErrOther says that another TPM sealed this, or this one was cleared since.
	ErrOther = errors.New("sealed by another TPM, or this one was cleared since")
	// ErrDamaged says that the sealed bytes are not what Seal gave.
	ErrDamaged = errors.New("sealed data is damaged")
	// ErrMachine says that the PCRs to which the secret is bound are not what they were: other firmware, boot loader or kernel.
	ErrMachine = errors.New("the machine has not booted what it had when the secret was sealed")
	// ErrTooLong says that a secret is longer than SecretBytesMax.
	ErrTooLong = errors.New("secret is too long to be sealed")
)

const (
	// Path is where Linux has the TPM, behind the kernel's resource manager.
	Path = "/dev/tpmrm0"
	// SecretBytesMax is what a TPM seals at most (TPM 2.0 part 2, MAX_SYM_DATA).
	SecretBytesMax = 128
	// PCRMax is the highest PCR that a secret can be bound to.
	PCRMax = 23
	// nonceBytes is the size of session nonces.
	nonceBytes = 16
	// sessionKeyBits is the AES key that hides secrets on the wires between processor and chip.
	sessionKeyBits = 128
)

// Device is a TPM by its path: a character device, or the unix socket of a TPM in software (virtual machines, tests). It is opened for
// each call: a box needs it for a moment at its start. It may be used by many goroutines when the kernel's resource manager is behind it.
type Device struct {
	path string
	pcrs []uint
}

// New names a TPM. pcrs are the PCRs to which Seal binds; none: a secret opens whatever the machine has booted.
func New(path string, pcrs ...uint) *Device {
	pcrs = slices.Clone(pcrs)
	slices.Sort(pcrs)
	return &Device{path: path, pcrs: slices.Compact(pcrs)}
}

// Usable says whether the TPM answers and can make its storage key. Errors: ErrAbsent.
func (d *Device) Usable() error {
	return d.with(func(c *chip) error { return nil })
}

// chip is an open TPM with its storage root key.
type chip struct {
	t      transport.TPM
	handle tpm2.TPMHandle
	public tpm2.TPMTPublic
	name   tpm2.TPM2BName
}

// with opens the TPM and derives its storage root key, the same each time until somebody clears the chip.
func (d *Device) with(fn func(c *chip) error) (err error) {
	t, err := open(d.path)
	if err != nil {
		return fmt.Errorf("tpm: %w: %s: %w", ErrAbsent, d.path, err)
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		return fmt.Errorf("tpm: %w: %s: storage root key: %w", ErrAbsent, d.path, err)
	}
	defer func() {
		_, e := tpm2.FlushContext{FlushHandle: r.ObjectHandle}.Execute(t)
		err = errors.Join(err, e)
	}()
	public, err := r.OutPublic.Contents()
	if err != nil {
		return fmt.Errorf("tpm: %w: %s: storage root key: %w", ErrAbsent, d.path, err)
	}
	// The name is computed from the key that came, so that who sits on the wires cannot give the chip's name to a key of their own.
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return fmt.Errorf("tpm: %w: %s: storage root key: %w", ErrAbsent, d.path, err)
	}
	return fn(&chip{t: t, handle: r.ObjectHandle, public: *public, name: *name})
}

func open(path string) (transport.TPMCloser, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Type() == fs.ModeSocket:
		return linuxudstpm.Open(path)
	case info.Mode()&fs.ModeCharDevice != 0:
		return linuxtpm.Open(path)
	}
	return nil, errors.New("neither a device nor a socket")
}

// secrecy makes a session in which parameters are encrypted with a salt that only the chip can read.
func (c *chip) secrecy() []tpm2.AuthOption {
	return []tpm2.AuthOption{tpm2.AESEncryption(sessionKeyBits, tpm2.EncryptInOut), tpm2.Salted(c.handle, c.public)}
}

func (c *chip) parent() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: c.handle, Name: c.name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, nonceBytes, c.secrecy()...)}
}

// Seal gives bytes that Unseal of the same TPM turns back into secret. The caller owns them. Errors: ErrAbsent, ErrTooLong, or
// what the chip says.
func (d *Device) Seal(secret []byte) (sealed []byte, err error) {
	if len(secret) == 0 || len(secret) > SecretBytesMax {
		return nil, fmt.Errorf("tpm: seal %d bytes: %w", len(secret), ErrTooLong)
	}
	return sealed, d.with(func(c *chip) error {
		b := blob{pcrs: d.pcrs, root: c.name.Buffer}
		template := tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true, UserWithAuth: len(d.pcrs) == 0},
		}
		if len(d.pcrs) > 0 {
			digest, err := c.policyDigest(d.pcrs)
			if err != nil {
				return fmt.Errorf("tpm: seal: %w", err)
			}
			template.AuthPolicy = *digest
		}
		r, err := tpm2.Create{
			ParentHandle: c.parent(),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
			}},
			InPublic: tpm2.New2B(template),
		}.Execute(c.t)
		if err != nil {
			return fmt.Errorf("tpm: seal: %w", err)
		}
		b.public, b.private = r.OutPublic.Bytes(), r.OutPrivate.Buffer
		sealed = b.encode()
		return nil
	})
}

// Unseal gives the secret back. Errors: ErrAbsent, ErrOther, ErrDamaged, ErrMachine, or what the chip says.
func (d *Device) Unseal(sealed []byte) (secret []byte, err error) {
	b, err := decode(sealed)
	if err != nil {
		return nil, fmt.Errorf("tpm: unseal: %w", err)
	}
	return secret, d.with(func(c *chip) error {
		if !bytes.Equal(b.root, c.name.Buffer) {
			return fmt.Errorf("tpm: unseal: %w", ErrOther)
		}
		loaded, err := tpm2.Load{
			ParentHandle: c.parent(), InPrivate: tpm2.TPM2BPrivate{Buffer: b.private}, InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](b.public),
		}.Execute(c.t)
		if err != nil {
			// The chip checks a MAC of its own over all of it.
			return fmt.Errorf("tpm: unseal: %w: %w", ErrDamaged, err)
		}
		defer func() {
			_, e := tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(c.t)
			err = errors.Join(err, e)
		}()
		auth := tpm2.HMAC(tpm2.TPMAlgSHA256, nonceBytes, c.secrecyOut()...)
		if len(b.pcrs) > 0 {
			auth = tpm2.Policy(tpm2.TPMAlgSHA256, nonceBytes, func(t transport.TPM, s tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
				_, err := tpm2.PolicyPCR{PolicySession: s, Pcrs: selection(b.pcrs)}.Execute(t)
				return err
			}, c.secrecyOut()...)
		}
		r, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: auth}}.Execute(c.t)
		switch {
		case errors.Is(err, tpm2.TPMRCPolicyFail):
			return fmt.Errorf("tpm: unseal: %w: PCRs %v", ErrMachine, b.pcrs)
		case err != nil:
			return fmt.Errorf("tpm: unseal: %w", err)
		}
		secret = r.OutData.Buffer
		return nil
	})
}

// secrecyOut is secrecy for a command that has no parameter to hide.
func (c *chip) secrecyOut() []tpm2.AuthOption {
	return []tpm2.AuthOption{tpm2.AESEncryption(sessionKeyBits, tpm2.EncryptOut), tpm2.Salted(c.handle, c.public)}
}

func selection(pcrs []uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

// policyDigest is that of "these PCRs have the values of now", as the chip computes it.
func (c *chip) policyDigest(pcrs []uint) (_ *tpm2.TPM2BDigest, err error) {
	s, done, err := tpm2.PolicySession(c.t, tpm2.TPMAlgSHA256, nonceBytes, tpm2.Trial())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if _, err := (tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: selection(pcrs)}).Execute(c.t); err != nil {
		return nil, err
	}
	r, err := tpm2.PolicyGetDigest{PolicySession: s.Handle()}.Execute(c.t)
	if err != nil {
		return nil, err
	}
	return &r.PolicyDigest, nil
}
