package dev

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/operators"
)

const (
	lockFile     = "dev.lock"
	passwordFile = "password"
	configFile   = "holdfast.toml"
	boxPrefix    = "box-"
	operatorName = "admin"
	host         = "127.0.0.1"
	// clientStep leaves room between two boxes' client ports for the ports beside it.
	clientStep = 10
)

// lock makes this process the only one that runs the site in dir, until release is called or
// the process ends, however it ends.
func lock(dir string) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("dev: lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("dev: %w: %s; stop it first, or use another --dir", ErrLocked, dir)
		}
		return nil, fmt.Errorf("dev: lock: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

// findSite reads the newest member set that the boxes in dir have; found is false for a new site.
func findSite(dir string) (m *coord.Members, found bool, err error) {
	for i := range directoriesMax {
		of, err := trust.LoadMembers(boxDir(dir, i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("dev: %w: %w", ErrSite, err)
		}
		if m == nil || of.Epoch > m.Epoch {
			m = of
		}
	}
	return m, m != nil, nil
}

func boxDir(dir string, i int) string { return filepath.Join(dir, boxPrefix+strconv.Itoa(i)) }

// listen is where one box listens, host:port.
type listen struct{ console, client, native, peer string }

// plan gives every box its directory and ports.
func plan(o *Options, n int) ([]*Box, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("dev: %w", err)
	}
	taken := map[int]string{}
	var boxes []*Box
	for i := range n {
		b := &Box{Dir: boxDir(dir, i), name: boxPrefix + strconv.Itoa(i)}
		for _, p := range []struct {
			what string
			port int
			to   *string
		}{
			{"console", o.ConsolePort + i, &b.listen.console},
			{"client", o.ClientPort + clientStep*i, &b.listen.client},
			{"native", o.ClientPort + clientStep*i + 1, &b.listen.native},
			{"peer", o.PeerPort + i, &b.listen.peer},
		} {
			what := p.what + " port of " + b.name
			if p.port < 1 || p.port > 65535 {
				return nil, fmt.Errorf("dev: %w: %d as %s; ports are from 1 to 65535", ErrUsage, p.port, what)
			}
			if other, ok := taken[p.port]; ok {
				return nil, fmt.Errorf("dev: %w: %d as %s and %s; move one with --console-port, --client-port or --peer-port", ErrUsage, p.port, other, what)
			}
			taken[p.port] = what
			*p.to = net.JoinHostPort(host, strconv.Itoa(p.port))
		}
		b.Console, b.Client, b.Native, b.Peer = "http://"+b.listen.console, b.listen.client, b.listen.native, b.listen.peer
		boxes = append(boxes, b)
	}
	return boxes, nil
}

// prepare makes the boxes' directories, or brings those of a continued site up to date. A
// directory of a continued site that is gone is left so: with a new key it would be another box.
func prepare(o *Options, members *coord.Members, boxes []*Box) error {
	if members == nil {
		return found(o, boxes)
	}
	if members.Epoch > founded {
		return configure(o, boxes)
	}
	for i, b := range boxes {
		_, err := os.Stat(filepath.Join(b.Dir, trust.KeyFile))
		b.ID, b.absent = members.List[i].ID, errors.Is(err, fs.ErrNotExist)
		if b.absent {
			o.Logger.Warn("a box's directory is gone: it stays out, the others serve without it", "box", b.name, "dir", b.Dir)
			continue
		}
		id, err := trust.LoadOrCreate(b.Dir)
		if err != nil {
			return fmt.Errorf("dev: %w", err)
		}
		if id.ID() != b.ID {
			return fmt.Errorf("dev: %w: %s has the key of box %v, the site expects %v there; put the right %s back",
				ErrSite, b.Dir, id.ID(), b.ID, trust.KeyFile)
		}
	}
	return writeSite(o, members, boxes)
}

// found makes a new site.
func found(o *Options, boxes []*Box) error {
	m := &coord.Members{Epoch: 1}
	if _, err := rand.Read(m.Site[:]); err != nil {
		return fmt.Errorf("dev: new site: %w", err)
	}
	for _, b := range boxes {
		if err := os.MkdirAll(b.Dir, 0o700); err != nil {
			return fmt.Errorf("dev: new site: %w", err)
		}
		id, err := trust.LoadOrCreate(b.Dir)
		if err != nil {
			return fmt.Errorf("dev: new site: %w", err)
		}
		b.ID = id.ID()
		m.List = append(m.List, coord.Member{ID: b.ID, Name: b.name, Key: id.PublicKey()})
	}
	return writeSite(o, m, boxes)
}

// writeSite gives every box the member set with today's addresses, and its configuration.
func writeSite(o *Options, m *coord.Members, boxes []*Box) error {
	for i, b := range boxes {
		l := &m.List[i]
		l.Peer, l.Client, l.Native, l.Console = b.listen.peer, b.listen.client, b.listen.native, b.listen.console
	}
	if err := configure(o, boxes); err != nil {
		return err
	}
	for _, b := range boxes {
		if b.absent {
			continue
		}
		if old, err := trust.LoadMembers(b.Dir); err == nil && reflect.DeepEqual(old, m) {
			continue
		}
		if err := trust.SaveMembers(b.Dir, m); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
	}
	return nil
}

func configure(o *Options, boxes []*Box) error {
	for _, b := range boxes {
		if b.absent {
			continue
		}
		if err := writeConfig(o, b); err != nil {
			return err
		}
	}
	return nil
}

// writeConfig sets a box's addresses in its configuration and keeps what else it says.
func writeConfig(o *Options, b *Box) error {
	path := filepath.Join(b.Dir, configFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dev: %w", err)
	}
	c, err := config.Parse(text)
	if err != nil {
		return fmt.Errorf("dev: %s: %w", path, err)
	}
	c.DataDir, c.Name = ".", b.name
	c.Console.Listen, c.Client.Listen, c.Native.Listen, c.Peer.Listen = b.listen.console, b.listen.client, b.listen.native, b.listen.peer
	if !strings.Contains(string(text), "\nview = ") {
		c.Console.View = "open" // a site to try: looking takes no login until its files say so
	}
	if o.Configure != nil {
		o.Configure(c)
	}
	var out strings.Builder
	if err := c.Encode(&out); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	if out.String() == string(text) {
		return nil
	}
	return writeFile(path, []byte(out.String()), 0o644)
}

// firstPassword is made with the site and kept for it.
func firstPassword(dir string) (string, error) {
	path := filepath.Join(dir, passwordFile)
	old, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(old))) > 0 {
		return strings.TrimSpace(string(old)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("dev: read password: %w", err)
	}
	password := rand.Text()
	return password, writeFile(path, []byte(password+"\n"), 0o600)
}

// firstOperator is admin with the first password, in the directory of every box, so that each of them knows it from the start. One that
// a box has is kept.
func firstOperator(boxes []*Box, password string) error {
	var have []byte
	for _, b := range boxes {
		if b.absent {
			continue
		}
		d, err := operators.LoadFounding(b.Dir)
		if err != nil {
			return fmt.Errorf("dev: first operator: %w", err)
		}
		if d != nil {
			have = d
		}
	}
	if have == nil {
		o, err := operators.New(operatorName, password, time.Now().Unix())
		if err == nil {
			have, err = o.Encode()
		}
		if err != nil {
			return fmt.Errorf("dev: first operator: %w", err)
		}
	}
	for _, b := range boxes {
		path := filepath.Join(b.Dir, operators.FoundingFile)
		if _, err := os.Stat(path); b.absent || err == nil {
			continue
		}
		if err := writeFile(path, have, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeFile puts data at path as a whole: a reader finds the old file or the new.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("dev: write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("dev: write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
