package box

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// ErrPassphrase says that there is no passphrase where it should be.
var ErrPassphrase = errors.New("no passphrase")

const (
	// passphraseMode is what a file with one may have at most.
	passphraseMode = 0o600
	// asksMax is how often a person may try.
	asksMax = 3
)

// dataKeys finds the key of the box's data as the configuration says.
type dataKeys struct {
	c   *config.Config
	ask func(prompt string) ([]byte, error)
}

// DataKeys is what opens the data of a box with this configuration; nil when it is not to be encrypted. ask may be nil.
func DataKeys(c *config.Config, ask func(prompt string) ([]byte, error)) store.Keys {
	if c.Encryption.Key == "off" {
		return nil
	}
	return &dataKeys{c, ask}
}

// Make implements store.Keys.
func (d *dataKeys) Make() (*crypt.Ring, *crypt.Key, error) {
	cipher, _ := crypt.Fastest()
	key := crypt.NewKey(cipher)
	ring, err := d.Wrap(key)
	return ring, key, err
}

// WrapKey wraps a data key as the configuration says. ask may be nil.
func WrapKey(c *config.Config, ask func(prompt string) ([]byte, error), key *crypt.Key) (*crypt.Ring, error) {
	return (&dataKeys{c, ask}).Wrap(key)
}

// Wrap wraps a key for the first time.
func (d *dataKeys) Wrap(key *crypt.Key) (*crypt.Ring, error) {
	if d.c.Encryption.Key == "tpm" {
		return key.WithTPM(Chip(d.c))
	}
	pass, asked, err := d.passphrase("new passphrase of this box's data: ")
	if err != nil {
		return nil, err
	}
	if asked {
		again, _, err := d.passphrase("once more: ")
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(pass, again) {
			return nil, fmt.Errorf("box: %w: the two are not the same", ErrPassphrase)
		}
	}
	return key.WithPassphrase(pass)
}

// Unlock implements store.Keys.
func (d *dataKeys) Unlock(r *crypt.Ring) (*crypt.Key, error) {
	if string(r.Kind) != d.c.Encryption.Key {
		return nil, fmt.Errorf("box: %w: by %s, and encryption.key = %q; correct it, or change it with `holdfast encryption rekey`",
			crypt.ErrKind, r.Kind, d.c.Encryption.Key)
	}
	if r.Kind == crypt.ByTPM {
		return r.OpenTPM(Chip(d.c))
	}
	for try := 1; ; try++ {
		pass, asked, err := d.passphrase("passphrase of this box's data: ")
		if err != nil {
			return nil, err
		}
		key, err := r.OpenPassphrase(pass)
		if err == nil || !asked || try == asksMax || !errors.Is(err, crypt.ErrPassphrase) {
			return key, err
		}
	}
}

// passphrase gets it from where it is, and says whether a person was asked.
func (d *dataKeys) passphrase(prompt string) (pass []byte, asked bool, err error) {
	name := d.c.Encryption.PassphraseFile
	if name == "" {
		if d.ask == nil {
			return nil, false, fmt.Errorf("box: %w: nobody can be asked; set encryption.passphrase_file", ErrPassphrase)
		}
		pass, err = d.ask(prompt)
		return pass, true, err
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false, fmt.Errorf("box: %w: %s does not exist; is its medium there?", ErrPassphrase, name)
	case err != nil:
		return nil, false, fmt.Errorf("box: %w: %w", ErrPassphrase, err)
	case info.Mode()&fs.ModeCharDevice != 0:
		pass, err = askOn(name, prompt)
		return pass, true, err
	case !info.Mode().IsRegular():
		return nil, false, fmt.Errorf("box: %w: %s is neither a file nor a terminal", ErrPassphrase, name)
	case info.Mode().Perm()&^passphraseMode != 0:
		return nil, false, fmt.Errorf("box: %w: others may read %s (mode %04o); run `chmod 600 %s`", ErrPassphrase, name, info.Mode().Perm(), name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, false, fmt.Errorf("box: %w: %w", ErrPassphrase, err)
	}
	defer f.Close()
	pass, err = io.ReadAll(io.LimitReader(f, crypt.PassphraseBytesMax+2)) // a line end may follow
	if err != nil {
		return nil, false, fmt.Errorf("box: %w: %w", ErrPassphrase, err)
	}
	return bytes.TrimRight(pass, "\r\n"), false, nil
}

// askOn asks on a terminal such as the serial console.
func askOn(name, prompt string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("box: %w: %w", ErrPassphrase, err)
	}
	defer f.Close()
	return AskPassphrase(f, f, prompt)
}

// AskPassphrase asks a person: a line of in, without showing it when in is a terminal.
func AskPassphrase(in io.Reader, out io.Writer, prompt string) ([]byte, error) {
	if _, err := io.WriteString(out, prompt); err != nil {
		return nil, fmt.Errorf("box: %w: %w", ErrPassphrase, err)
	}
	show := func() {}
	if f, ok := in.(*os.File); ok {
		show = hideInput(f)
	}
	line, err := readLine(in)
	show()
	if _, e := io.WriteString(out, "\n"); err == nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("box: %w: %w", ErrPassphrase, err)
	}
	return line, nil
}

// readLine reads byte by byte: what follows the line is somebody else's.
func readLine(in io.Reader) (line []byte, err error) {
	var b [1]byte
	for len(line) <= crypt.PassphraseBytesMax {
		n, err := in.Read(b[:])
		if n == 1 && (b[0] == '\n' || b[0] == '\r') {
			return line, nil
		}
		if n == 1 {
			line = append(line, b[0])
		}
		if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
			return nil, err
		}
		if err != nil {
			return line, nil
		}
	}
	return nil, errors.New("the line is too long")
}
