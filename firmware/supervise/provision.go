package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"github.com/holdfast-edge/holdfast/firmware/wholefile"
)

const (
	// provisionFile is what an operator puts on the boot medium; appliedFile is what is left of it, without secrets.
	provisionFile = "holdfast.toml"
	appliedFile   = "holdfast.applied.toml"
	// systemDir is what the supervisor keeps in the data directory.
	systemDir     = "system"
	settingsFile  = "appliance.toml"
	intentFile    = "join.json"
	joinTokenFile = "join.token"
	foundMax      = 30 * time.Second
)

// provisioned is what an appliance was told: what holds from now on, and a sentence about a new file.
type provisioned struct {
	file *settings.File
	said string
}

func tokenFile(dir string) string { return filepath.Join(dir, systemDir, joinTokenFile) }

// inSite says whether the box in dir has a site.
func inSite(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, trust.SiteFile))
	return err == nil
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, settings.FileBytesMax+1))
	return b, errors.Join(err, f.Close())
}

// provision reads what the boot medium says, puts it where it stays, and erases its secrets. What cannot be read changes nothing, and
// stays where it is, to be corrected.
func (m *machine) provision() *provisioned {
	p, err := provision(m.esp, dataDir)
	if err != nil {
		m.log.Error("the boot medium's settings are not used", "err", err)
		p.said = status.NotUsed + err.Error()
	} else if p.said != "" {
		m.log.Info("settings from the boot medium", "what", p.said)
	}
	m.change(func(s *status.Status) { s.Provisioned = p.said })
	return p
}

// provision does so for a boot medium mounted at esp, "" for none, and a data directory. The result is never nil.
//
// The order matters when the power goes: what is to stay is in the data directory before the boot medium is touched; there, what
// is left of the file is written before the file is overwritten, and a file that begins with a NUL is one whose erasing was cut.
func provision(esp, dir string) (*provisioned, error) {
	kept, keptErr := readKept(dir, esp)
	p := &provisioned{file: kept}
	if esp == "" {
		return p, keptErr
	}
	at := filepath.Join(esp, provisionFile)
	b, err := readBounded(at)
	if errors.Is(err, fs.ErrNotExist) {
		return p, keptErr
	}
	if err != nil {
		return p, fmt.Errorf("%s: %w", provisionFile, err)
	}
	if len(b) > 0 && b[0] == 0 {
		return p, errors.Join(keptErr, erase(at))
	}
	f, err := settings.Parse(b)
	if err != nil {
		return p, fmt.Errorf("%s: %w", provisionFile, err)
	}
	clean, err := f.Clean()
	if err != nil {
		return p, fmt.Errorf("%s: %w", provisionFile, err)
	}
	if err := keep(dir, f, clean); err != nil {
		return p, fmt.Errorf("%s: %w", provisionFile, err)
	}
	p.file, p.said = f, "applied"
	switch {
	case inSite(dir) && (f.Provision.Token != "" || f.Provision.Found):
		p.said = "applied, but for [provision]: this box is in a site already; a factory reset takes it out"
	case f.Provision.Token != "":
		p.said = "applied; the box asks to be let into its site"
	case f.Provision.Found:
		p.said = "applied; the box makes a site"
	}
	if err := wholefile.Replace(filepath.Join(esp, appliedFile), clean, 0o600); err != nil {
		return p, fmt.Errorf("%s: %w", appliedFile, err)
	}
	return p, erase(at)
}

// keep puts what a file says into the data directory.
func keep(dir string, f *settings.File, clean []byte) error {
	if err := os.MkdirAll(filepath.Join(dir, systemDir), 0o700); err != nil {
		return err
	}
	// A file that says nothing of it, such as one that mends the network, leaves how the box comes into its site as it was.
	if !inSite(dir) && f.Provision.Said {
		intent := f.Provision
		if intent.Token != "" {
			if err := wholefile.Replace(tokenFile(dir), []byte(intent.Token+"\n"), 0o600); err != nil {
				return err
			}
		} else if err := erase(tokenFile(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		intent.Token = ""
		b, err := json.Marshal(&intent)
		if err != nil {
			return err
		}
		if err := wholefile.Replace(filepath.Join(dir, systemDir, intentFile), b, 0o600); err != nil {
			return err
		}
	}
	return wholefile.Replace(filepath.Join(dir, systemDir, settingsFile), clean, 0o600)
}

// readKept is what an appliance was told before: in its data directory, or where that is not there on its boot medium. It is never nil.
func readKept(dir, esp string) (*settings.File, error) {
	places := []string{filepath.Join(dir, systemDir, settingsFile)}
	if esp != "" {
		places = append(places, filepath.Join(esp, appliedFile))
	}
	var errs []error
	for _, at := range places {
		b, err := readBounded(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			var f *settings.File
			if f, err = settings.Parse(b); err == nil {
				return f, nil
			}
		}
		errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(at), err))
	}
	return settings.Default(), errors.Join(errs...)
}

// readEmergency is what holds while the data cannot be used: what an operator has put on the boot medium since, which stays there, and
// otherwise what was known before. With neither it is what fits everywhere.
func readEmergency(dir, esp string) *settings.File {
	if esp != "" {
		if b, err := readBounded(filepath.Join(esp, provisionFile)); err == nil && len(b) > 0 && b[0] != 0 {
			if f, err := settings.Parse(b); err == nil {
				return f
			}
		}
	}
	f, _ := readKept(dir, esp)
	return f
}

// readProvision is how the box in dir is to come into a site; its token is there when there is one to use.
func readProvision(dir string) (settings.Provision, error) {
	var p settings.Provision
	b, err := readBounded(filepath.Join(dir, systemDir, intentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("provision: %w", err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("provision: %s: %w", intentFile, err)
	}
	token, err := readBounded(tokenFile(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("provision: %w", err)
	}
	p.Token = string(token)
	return p, nil
}

// applySettings takes what the machine was told.
func (m *machine) applySettings(p *provisioned) {
	m.file = p.file
	for _, n := range m.file.Appliance.System.Modules {
		if m.modules == nil {
			return // it was said
		}
		if err := m.modules.Load(n); err != nil {
			m.log.Error("a module of the settings is not loaded", "err", err)
		}
	}
}

// found makes the site that the box is to be the first of; it does nothing when there is none to make.
func (m *machine) found(ctx context.Context, file string, dog *dog) {
	if inSite(dataDir) {
		if err := erase(tokenFile(dataDir)); err != nil && !errors.Is(err, fs.ErrNotExist) { // it has done its work
			m.log.Error("the token is still there", "err", err)
		}
		return
	}
	p, err := readProvision(dataDir)
	if err != nil || !p.Found {
		if err != nil {
			m.log.Error("no site is made", "err", err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, foundMax)
	defer cancel()
	c, err := m.startChild([]string{"site", "init", "--config", file}, []string{"HOME=/run"})
	if err != nil {
		m.log.Error("no site is made", "err", err)
		return
	}
	defer m.setChild(nil)
	defer m.feedFor(dog, foundMax)()
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.stop("it took too long", time.Second)
	}
	if how := c.how(); !inSite(dataDir) {
		m.log.Error("no site is made", "how", how)
	}
}
