package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/firmware/image"
	"github.com/holdfast-edge/holdfast/firmware/update"
)

// The two versions of the program: an image has the first, bundles the second.
const (
	version1 = "1.0.0"
	version2 = "1.0.1"
)

// built is what is made before the network is left: releases, and the programs of this machine.
type built struct {
	Old, New *image.Release
	Keys     [2][]byte // that signs, and that nobody trusts

	key, evil *ecdsa.PrivateKey
}

// goBuild builds a program of ours.
func goBuild(ctx context.Context, out, arch, version, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w -X main.version="+version, "-o", out, pkg)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, b)
	}
	return nil
}

// prepare builds programs and releases into dir.
func prepare(ctx context.Context, dir string, m machineKind) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	host := filepath.Join(dir, "holdfast")
	if err := goBuild(ctx, host, "amd64", version1, "./firmware"); err != nil {
		return err
	}
	if err := goBuild(ctx, filepath.Join(dir, "shim"), m.arch, "", "./tools/e2eimage/shim"); err != nil {
		return err
	}
	o := image.Options{Profile: m.profile}
	var err error
	if m.eeprom {
		o.Packages, o.Proxy, err = raspberryParts(ctx, dir)
	} else {
		o.Pins, o.Packages, err = packages(ctx, m.arch)
	}
	if err != nil {
		return err
	}
	var b built
	if b.Old, b.New, err = releases(ctx, dir, m, o); err != nil {
		return err
	}
	for _, der := range []*[]byte{&b.Keys[0], &b.Keys[1]} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err == nil {
			*der, err = k.Bytes()
		}
		if err != nil {
			return err
		}
	}
	var out bytes.Buffer
	if err := gob.NewEncoder(&out).Encode(b); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "built.gob"), out.Bytes(), 0o600)
}

// releases builds both programs, which share all but their version, and both releases at once: each takes one core to compress.
func releases(ctx context.Context, dir string, m machineKind, o image.Options) (older, newer *image.Release, err error) {
	var made [2]*image.Release
	var failed [2]error
	var all sync.WaitGroup
	for i, version := range []string{version1, version2} {
		program := filepath.Join(dir, "holdfast-"+version)
		if err = goBuild(ctx, program, m.arch, version, "./firmware"); err != nil {
			break
		}
		all.Go(func() {
			o := o
			o.Program, o.Version = program, version
			made[i], failed[i] = image.Make(ctx, o)
		})
	}
	all.Wait()
	return made[0], made[1], errors.Join(err, failed[0], failed[1])
}

func loadBuilt(dir string) (*built, error) {
	f, err := os.Open(filepath.Join(dir, "built.gob"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := new(built)
	if err := gob.NewDecoder(f).Decode(b); err != nil {
		return nil, err
	}
	if b.key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), b.Keys[0]); err != nil {
		return nil, err
	}
	b.evil, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), b.Keys[1])
	return b, err
}

// spoiled is the release with a shim in front of its program.
func (b *built) spoiled(dir, version, mode string) (*image.Release, error) {
	shim, err := os.ReadFile(filepath.Join(dir, "shim"))
	if err != nil {
		return nil, err
	}
	r := *b.New
	r.Version = version
	if mode == "exit" {
		r.Initrd = nil // nothing else is ever started
	}
	// The kernel unpacks one archive behind the other.
	r.Initrd = append(bytes.Clone(r.Initrd), make([]byte, -len(r.Initrd)&3)...)
	r.Initrd = append(r.Initrd, oneFile("shim", shim)...)
	r.Cmdline += " panic=1 rdinit=/shim shim=" + mode // the image's five seconds are for people who read
	return &r, nil
}

// oneFile is an archive (cpio, newc) of one program.
func oneFile(name string, body []byte) []byte {
	var b bytes.Buffer
	put := func(name string, mode int, body []byte) {
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00", 1, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
		b.Write(body)
		b.Write(make([]byte, -b.Len()&3))
	}
	put(name, 0o100755, body)
	put("TRAILER!!!", 0, nil)
	return b.Bytes()
}

// bundle writes a release as a signed bundle.
func bundle(name string, r *image.Release, key *ecdsa.PrivateKey) error {
	m, err := r.Manifest(update.Formats())
	if err != nil {
		return err
	}
	h, err := release.Sign(m, key)
	if err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(update.Write(f, h, bytes.NewReader(r.Kernel), bytes.NewReader(r.Initrd)), f.Close())
}

// diskBytes is a medium larger than the image: the data grows when the machine first starts.
const diskBytes = 1 << 30

// disk writes the image's release, signed, to a new file of some bytes.
func (b *built) disk(name, provisioning string, bytes int64) error {
	m, err := b.Old.Manifest(update.Formats())
	if err != nil {
		return err
	}
	h, err := release.Sign(m, b.key)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(bytes), b.Old.Write(f, h.Bytes(), []byte(provisioning)), f.Close())
}

// flashed has `holdfast flash` write the image to a new file in place of a card.
func (b *built) flashed(ctx context.Context, dir, name, provisioning string) error {
	from := name + ".card"
	if err := b.disk(from, provisioning, b.Old.DiskBytes()); err != nil {
		return err
	}
	defer os.Remove(from)
	f, err := os.Create(name)
	if err == nil {
		err = errors.Join(f.Truncate(diskBytes), f.Close())
	}
	if err != nil {
		return err
	}
	_, err = run(ctx, filepath.Join(dir, "holdfast"), "flash", "--yes", from, name)
	return err
}

// publicKey is the update key as configurations have it.
func (b *built) publicKey() (string, error) {
	k, err := release.MarshalKey(&b.key.PublicKey)
	return k.String(), err
}
