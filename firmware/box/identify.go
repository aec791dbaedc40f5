package box

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/hal/tpm"
)

// openMode are the permissions that nobody but the owner may have on a data directory.
const openMode = 0o022

// identity is who this box is when it starts.
type identity struct {
	// key is what it is known by; next, if not nil, is the key that it asks the site to know it by, which it may begin to while it runs.
	key  *trust.Identity
	next atomic.Pointer[trust.Identity]
	// was are names that it had before.
	was     []coord.BoxID
	members *coord.Members
	self    int          // -1: not a member any more
	member  coord.Member // what the site knows of it; only its names when it is none
}

// keyOf is the box's key with a name.
func (w *identity) keyOf(id coord.BoxID) *trust.Identity {
	if next := w.next.Load(); next != nil && next.ID() == id {
		return next
	}
	return w.key
}

// place is the box's place among members by either of its keys; -1: it is none.
func (w *identity) place(m *coord.Members) int {
	i, next := m.Index(w.key.ID()), w.next.Load()
	if i < 0 && next != nil {
		i = m.Index(next.ID())
	}
	return i
}

// identify reads who the box is. It makes a key only in a directory that has no site yet: a
// missing key beside a site is a loss to be told of, not a new box. A box that its site does not list is one that
// was removed. Errors: errWaits, for a box that has no site yet.
func identify(c *config.Config) (*identity, error) {
	if err := checkDirectory(c.DataDir); err != nil {
		return nil, err
	}
	m, err := trust.LoadMembers(c.DataDir)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, fmt.Errorf("box: %w", err)
	}
	there, err := trust.HasKey(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("box: %w", err)
	}
	next, err := trust.LoadNext(c.DataDir, keyOptions(c))
	if err != nil {
		return nil, fmt.Errorf("box: %w", err)
	}
	if !missing && !there {
		if next != nil && m.Index(next.ID()) >= 0 { // it was being taken
			if err := trust.TakeNext(c.DataDir, coord.BoxID{}); err != nil {
				return nil, fmt.Errorf("box: %w", err)
			}
			return identify(c)
		}
		return nil, fmt.Errorf("box: %w: %s has a site and no %s; restore the key from a backup, or replace the box",
			ErrDirectory, c.DataDir, trust.KeyFile)
	}
	key, err := OpenKey(c)
	if err != nil {
		return nil, fmt.Errorf("box: %w", err)
	}
	if missing {
		return &identity{key: key}, errWaits
	}
	if taken, err := takeKey(c.DataDir, m, key, next); err != nil {
		return nil, fmt.Errorf("box: %w", err)
	} else if taken == next {
		key, next = next, nil
	}
	who := &identity{key: key, members: m}
	who.next.Store(next)
	if who.was, err = trust.FormerNames(c.DataDir); err != nil {
		return nil, fmt.Errorf("box: %w", err)
	}
	if who.self = who.place(m); who.self >= 0 {
		who.member = m.List[who.self]
	} else if who.member = (coord.Member{ID: key.ID(), Name: key.ID().String()}); !hasState(c.DataDir) {
		// It never was one, as far as its directory knows: more often a file of another site than a removal.
		return nil, fmt.Errorf("box: %w: %s does not list this box, %v; correct it or restore the right %s",
			ErrMember, filepath.Join(c.DataDir, trust.SiteFile), key.ID(), trust.KeyFile)
	}
	if c.Name != "" {
		who.member.Name = c.Name
	}
	return who, nil
}

// OpenKey reads or makes the box's key where the configuration has it. Errors: those of trust.Open.
func OpenKey(c *config.Config) (*trust.Identity, error) {
	return trust.Open(c.DataDir, keyOptions(c))
}

// nextKey reads or makes the key that the box asks its site to know it by from now on, and gives the public half; it uses it when the site
// has decided so. Errors: those of trust.Open.
func (w *identity) nextKey(c *config.Config) ([]byte, error) {
	next := w.next.Load()
	if next == nil {
		var err error
		if next, err = trust.OpenNext(c.DataDir, w.key, keyOptions(c)); err != nil {
			return nil, fmt.Errorf("box: %w", err)
		}
		w.next.Store(next)
	}
	return next.PublicKey(), nil
}

func keyOptions(c *config.Config) trust.KeyOptions {
	return trust.KeyOptions{Place: trust.KeyPlace(c.Identity.Key), TPM: func() (trust.Sealer, error) {
		chip := Chip(c)
		return chip, chip.Usable()
	}}
}

// hasState says whether the box in dir has ever applied something of its site.
func hasState(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, baseFile))
	return err == nil
}

// Chip is the machine's TPM; whether there is one shows when it is used.
func Chip(c *config.Config) *tpm.Device { return tpm.New(c.TPM.Device, c.TPM.PCRs...) }

// checkDirectory says in a line what is wrong with the data directory.
func checkDirectory(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("box: %w: %s does not exist; mount its disk, or make it with `mkdir -m 700 %s`", ErrDirectory, dir, dir)
	case err != nil:
		return fmt.Errorf("box: %w: %w", ErrDirectory, err)
	case !info.IsDir():
		return fmt.Errorf("box: %w: %s is not a directory; correct data_dir", ErrDirectory, dir)
	case info.Mode().Perm()&openMode != 0:
		return fmt.Errorf("box: %w: others may write to %s (mode %04o); run `chmod 700 %s`", ErrDirectory, dir, info.Mode().Perm(), dir)
	}
	probe, err := os.CreateTemp(dir, ".probe.*")
	if err != nil {
		return fmt.Errorf("box: %w: %w; give it to the user that runs the box", ErrDirectory, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}
