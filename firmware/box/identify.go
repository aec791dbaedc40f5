package box

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/hal/tpm"
)

// openMode are the permissions that nobody but the owner may have on a data directory.
const openMode = 0o022

// identity is who this box is.
type identity struct {
	key     *trust.Identity
	members *coord.Members
	self    int
	member  coord.Member
}

// list is the site's boxes; the caller owns the copy.
func (w *identity) list() []coord.Member { return append([]coord.Member(nil), w.members.List...) }

// identify reads who the box is. It makes a key only in a directory that has no site yet: a
// missing key beside a site is a loss to be told of, not a new box.
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
	if !missing && !there {
		return nil, fmt.Errorf("box: %w: %s has a site and no %s; restore the key from a backup, or replace the box",
			ErrDirectory, c.DataDir, trust.KeyFile)
	}
	key, err := OpenKey(c)
	if err != nil {
		return nil, fmt.Errorf("box: %w", err)
	}
	if missing {
		return nil, fmt.Errorf("box: %w: %s has no %s; this box is %v, put there the %s of a site that lists it (`holdfast dev` makes a whole site to try)",
			ErrMember, c.DataDir, trust.SiteFile, key.ID(), trust.SiteFile)
	}
	i := m.Index(key.ID())
	if i < 0 {
		return nil, fmt.Errorf("box: %w: %s does not list this box, %v; correct it or restore the right %s",
			ErrMember, filepath.Join(c.DataDir, trust.SiteFile), key.ID(), trust.KeyFile)
	}
	who := &identity{key: key, members: m, self: i, member: m.List[i]}
	if c.Name != "" {
		who.member.Name = c.Name
	}
	return who, nil
}

// OpenKey reads or makes the box's key where the configuration has it. Errors: those of trust.Open.
func OpenKey(c *config.Config) (*trust.Identity, error) {
	return trust.Open(c.DataDir, trust.KeyOptions{Place: trust.KeyPlace(c.Identity.Key), TPM: func() (trust.Sealer, error) {
		chip := Chip(c)
		return chip, chip.Usable()
	}})
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
