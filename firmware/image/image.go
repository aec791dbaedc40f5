// Package image makes a disk image that a machine boots: a partition table, an EFI system partition with a boot loader and a release in slot
// a, and an empty partition for data. It is made from a program, packages of Debian that are pinned, and options, without root, loop devices or a
// clock: the same inputs give the same bytes.
//
//	1 MiB      HOLDFAST-ESP   FAT32   /EFI/BOOT/BOOT*.EFI, /loader/, /a/ and /b/ (firmware/slots), /holdfast.toml
//	385 MiB    HOLDFAST-DATA  ext4    mounted at /var/lib/holdfast; it grows to its medium when the machine first starts
//
// The initial RAM disk has the program as /init, the modules that machines of the profile may need below /lib/modules, and
// /etc/holdfast/release. There is no other root.
package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/firmware/image/debian"
	"github.com/holdfast-edge/holdfast/firmware/image/ext4"
	"github.com/holdfast-edge/holdfast/firmware/image/fat"
	"github.com/holdfast-edge/holdfast/firmware/image/gomod"
	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
	"github.com/holdfast-edge/holdfast/firmware/slots"
)

const mib = 1 << 20

// The disk. The system partition holds two releases and one that is being written, of about 70 MB each.
const (
	espBytes  = 384 * mib
	dataBytes = 64 * mib
	// Bytes is the size of an image for UEFI, and of the smallest medium.
	Bytes = mib + espBytes + dataBytes + mib
)

// Names of partitions, and the label of the FAT file system, which has room for 11 characters.
const (
	ESPName  = "HOLDFAST-ESP"
	DataName = "HOLDFAST-DATA"
	SlotName = "HOLDFAST-" // and a slot's letter in capitals, where a slot is a partition
	espLabel = "HOLDFASTESP"
	// Provisioning is the file, on the system partition, that configures the machine when it first starts.
	Provisioning = "holdfast.toml"
)

// ErrInput says that an image cannot be made from what was given.
var ErrInput = errors.New("image: bad input")

// programBytesMax bounds the program.
const programBytesMax = 256 * mib

// Options say what an image is made from.
type Options struct {
	Profile string
	Program string // the file of the static Linux program
	Version string // the program's, as it says itself
	Cmdline string // what the kernel's command line has beside the profile's
	// Provisioning is the file that configures the machine when it first starts; nil: none.
	Provisioning []byte
	// Built is when the image was built, as far as anyone is told: no clock goes behind it. Zero: when its kernel was.
	Built    time.Time
	Pins     debian.Pins
	Packages debian.Store
	// Linux and Boot are the Go modules with the kernel and with the firmware of a Raspberry Pi; empty: those that are pinned.
	Linux, Boot gomod.Module
	// Proxy is where they come from: GOPROXY as the go command has it; empty: its default.
	Proxy string
	// Sign makes the manifest of the release in slot a; nil: one without a signature.
	Sign func(*Release) ([]byte, error)
}

// Release is what goes into a slot, and the loader that starts it. For Raspberry Pi the kernel is a parcel (firmware/slots) with all that its
// loader wants, and LoaderPath is empty.
type Release struct {
	Profile, Arch, Version string
	Cmdline                string // of the kernel, without the slot
	Kernel, Initrd         []byte
	KernelRelease          string // uname -r
	Modules                int    // how many modules it has
	Built                  time.Time
	Loader                 []byte // and where UEFI looks for it
	LoaderPath             string
}

// Report says what was made.
type Report struct {
	Profile       string        `json:"profile"`
	Version       string        `json:"version"`
	KernelRelease string        `json:"kernel"`
	Built         time.Time     `json:"built"`
	Modules       int           `json:"modules"`
	KernelBytes   int           `json:"kernel_bytes"`
	InitrdBytes   int           `json:"initrd_bytes"`
	Bytes         int64         `json:"bytes"`
	ZstdBytes     int64         `json:"zstd_bytes,omitempty"`
	SHA256        string        `json:"sha256"`
	Took          time.Duration `json:"took_ns"`
}

// versionForm is what can stand in a loader's entry and in a file's name.
var versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}$`)

// Make makes a release. Errors: ErrInput, and those of debian.
func Make(ctx context.Context, o Options) (*Release, error) {
	p, err := Find(o.Profile)
	if err != nil {
		return nil, err
	}
	if !versionForm.MatchString(o.Version) {
		return nil, fmt.Errorf("%w: the version %q is not one word of letters, digits and .+~_-", ErrInput, o.Version)
	}
	if strings.ContainsAny(o.Cmdline, "\r\n\x00") {
		return nil, fmt.Errorf("%w: the command line is not one line", ErrInput)
	}
	program, err := readProgram(o.Program, p.Arch)
	if err != nil {
		return nil, err
	}
	from := getKernel
	if p.Loader == "" {
		from = getRaspberryKernel
	}
	k, err := from(ctx, &o, p)
	if err != nil {
		return nil, err
	}
	chosen, err := k.modules.choose(p.modules)
	if err != nil {
		return nil, err
	}
	r := &Release{
		Profile: p.Name, Arch: p.Arch, Version: o.Version, Kernel: k.image, KernelRelease: k.release, Built: o.Built.UTC(), Modules: len(chosen),
		Cmdline: strings.Join(strings.Fields(p.Cmdline+" "+cmdlineCommon+" "+o.Cmdline), " "), LoaderPath: p.Loader,
	}
	if o.Built.IsZero() {
		r.Built = k.built.UTC()
	}
	if p.Loader != "" {
		if r.Loader, err = getLoader(ctx, &o, p); err != nil {
			return nil, err
		}
	}
	files := append(k.modules.files(k.release, chosen), archived{name: "init", mode: 0o755, body: program}, archived{name: "etc/holdfast/release", mode: 0o644, body: r.describe()})
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "boot", "var/lib/holdfast"} {
		files = append(files, archived{name: dir})
	}
	// A kernel whose console is not there starts process 1 without any open file, and Go's runtime ends where /dev/null is not there either
	// (Linux console_on_rootfs; Go runtime checkfds).
	files = append(files, archived{name: "dev/console", mode: 0o600, major: 5, minor: 1}, archived{name: "dev/null", mode: 0o666, major: 1, minor: 3})
	r.Initrd, err = compress(cpio(files, r.Built.Unix()))
	return r, err
}

// describe is /etc/holdfast/release: what the machine runs, for the machine itself.
func (r *Release) describe() []byte {
	return fmt.Appendf(nil, "version = %q\nboard = %q\nbuilt = %s\n", r.Version, r.Profile, r.Built.UTC().Format(time.RFC3339))
}

// Write writes an image with the release in slot a; where nothing is, out must read as zeros. manifest goes beside the release (nil: one without
// a signature), and provisioning, unless it is nil, is what the machine is told when it first starts. Errors: out's.
func (r *Release) Write(out io.WriterAt, manifest, provisioning []byte) error {
	if manifest == nil {
		manifest = r.unsigned()
	}
	conf, err := slots.Conf(slots.A, r.Version, r.Cmdline)
	if err != nil {
		return err
	}
	entry := slots.Entry{Slot: slots.A, Sequence: 1, Version: r.Version}
	if r.LoaderPath == "" {
		return r.writeRaspberry(out, manifest, provisioning, fat.File{Name: "loader/entries/" + entry.FileName(), Body: conf})
	}
	files := []fat.File{
		{Name: path.Join(string(slots.A), slots.Kernel), Body: r.Kernel},
		{Name: path.Join(string(slots.A), slots.Initrd), Body: r.Initrd},
		{Name: path.Join(string(slots.A), slots.Manifest), Body: manifest},
		{Name: string(slots.B), Folder: true},
		{Name: r.LoaderPath, Body: r.Loader},
		{Name: "loader/loader.conf", Body: []byte("timeout 0\neditor no\n")},
		{Name: "loader/entries/" + entry.FileName(), Body: conf},
	}
	if provisioning != nil {
		files = append(files, fat.File{Name: Provisioning, Body: provisioning})
	}
	return disk(out, Bytes, r.Built, []fatPartition{{name: ESPName, label: espLabel, kind: gpt.ESP(), bytes: espBytes, files: files}})
}

// Manifest describes the release for a bundle (coord/release), with the formats of data that its program reads and writes.
func (r *Release) Manifest(formats []release.Format) (*release.Manifest, error) {
	m := &release.Manifest{Format: 1, Version: r.Version, Board: r.Profile, Arch: r.Arch, Cmdline: r.Cmdline, Formats: formats}
	var err error
	if m.Kernel, err = release.Describe(bytes.NewReader(r.Kernel)); err == nil {
		m.Initrd, err = release.Describe(bytes.NewReader(r.Initrd))
	}
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return m, nil
}

// unsigned is the manifest of a release that nobody signed: what is in the slot, for people.
func (r *Release) unsigned() []byte {
	return fmt.Appendf(nil, "version = %q\nboard = %q\nvmlinuz = \"%x\"\ninitrd = \"%x\"\n", r.Version, r.Profile, sha256.Sum256(r.Kernel), sha256.Sum256(r.Initrd))
}

// fatPartition is one with FAT and what is in it.
type fatPartition struct {
	name, label  string
	kind         gpt.GUID
	bytes        int64
	clusterBytes int // 0: as package fat has it
	files        []fat.File
}

// disk writes the partitions with FAT, in their order, and that for data behind them, on a disk of size bytes. Names that must differ between
// disks, and be the same for the same files, are made of the files.
func disk(out io.WriterAt, size int64, built time.Time, parts []fatPartition) error {
	h := sha256.New()
	for _, p := range parts {
		for _, f := range p.files {
			s := sha256.Sum256(f.Body)
			fmt.Fprintf(h, "%s\x00%x\n", f.Name, s)
		}
	}
	id := func(what string) (g gpt.GUID) {
		s := sha256.Sum256(append(h.Sum(nil), what...))
		copy(g[:], s[:])
		g[6], g[8] = g[6]&0x0F|0x80, g[8]&0x3F|0x80 // RFC 9562, version 8
		return g
	}
	t, first := &gpt.Table{ID: id("disk")}, uint64(mib/gpt.SectorBytes)
	add := func(kind gpt.GUID, what, name string, bytes int64) {
		last := first + uint64(bytes)/gpt.SectorBytes - 1
		t.Partitions = append(t.Partitions, gpt.Partition{Type: kind, ID: id(what), First: first, Last: last, Name: name})
		first = last + 1
	}
	for _, p := range parts {
		add(p.kind, p.name, p.name, p.bytes)
	}
	add(gpt.Linux(), "data", DataName, dataBytes)
	if err := gpt.Write(out, size, t); err != nil {
		return err
	}
	for i, p := range parts {
		at, volume := t.Partitions[i], id("volume of "+p.name)
		o := fat.Options{Bytes: at.Bytes(), ClusterBytes: p.clusterBytes, Offset: at.Offset(), Label: p.label, ID: binary.LittleEndian.Uint32(volume[:]), Time: built}
		if err := fat.Make(io.NewOffsetWriter(out, at.Offset()), o, p.files); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	data, seed := t.Partitions[len(parts)], id("seed")
	return ext4.Make(io.NewOffsetWriter(out, data.Offset()), ext4.Options{Bytes: data.Bytes(), Label: DataName, ID: id("file system"), Seed: seed, Seconds: built.Unix()})
}

// readProgram reads the program, which has to be a static one for the machine.
func readProgram(name, arch string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("image: the program: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, programBytesMax+1))
	if err != nil || len(b) > programBytesMax {
		return nil, errors.Join(fmt.Errorf("%w: %s has more than %d MiB", ErrInput, name, programBytesMax/mib), err)
	}
	e, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %s is no Linux program: %w", ErrInput, name, err)
	}
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	if e.Machine != want {
		return nil, fmt.Errorf("%w: %s is for %v, the profile for %v; `make arm64` makes bin/holdfast-linux-arm64", ErrInput, name, e.Machine, want)
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%w: %s needs libraries that an image does not have; build it with CGO_ENABLED=0", ErrInput, name)
		}
	}
	return b, nil
}

// compress is zstd as the kernel reads it: one frame, a window of at most 8 MiB, with its checksum.
func compress(b []byte) ([]byte, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8*mib))
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return e.EncodeAll(b, nil), e.Close()
}

// kernel is what an image takes from a kernel's package.
type kernel struct {
	release string
	image   []byte
	modules *modules
	built   time.Time
}

func getKernel(ctx context.Context, o *Options, p Profile) (kernel, error) {
	pkg, err := o.Pins.Find("kernel", p.Arch)
	if err != nil {
		return kernel{}, err
	}
	f, err := o.Packages.Get(ctx, pkg)
	if err != nil {
		return kernel{}, err
	}
	defer f.Close()
	// The package may have its modules below usr/lib: those systems have one tree.
	files, built, err := debian.Files(ctx, f, func(name string) bool {
		name = strings.TrimPrefix(name, "usr/")
		return strings.HasPrefix(name, "boot/vmlinuz-") || strings.HasPrefix(name, "lib/modules/")
	})
	if err != nil {
		return kernel{}, fmt.Errorf("image: %s: %w", pkg.Name, err)
	}
	k := kernel{built: built}
	packed := map[string][]byte{}
	var builtin []byte
	for name, body := range files {
		name = strings.TrimPrefix(name, "usr/")
		if r, ok := strings.CutPrefix(name, "boot/vmlinuz-"); ok {
			k.release, k.image = r, body
			continue
		}
		parts := strings.SplitN(name, "/", 4) // lib, modules, RELEASE, rest
		switch {
		case len(parts) < 4:
		case parts[3] == "modules.builtin":
			builtin = body
		case strings.Contains(path.Base(name), ".ko"):
			packed[parts[3]] = body
		}
	}
	if k.image == nil || len(packed) == 0 {
		return kernel{}, fmt.Errorf("%w: %s has no kernel or no modules", debian.ErrPackage, pkg.Name)
	}
	k.modules = newModules(packed, builtin)
	return k, nil
}

func getLoader(ctx context.Context, o *Options, p Profile) ([]byte, error) {
	pkg, err := o.Pins.Find("loader", p.Arch)
	if err != nil {
		return nil, err
	}
	f, err := o.Packages.Get(ctx, pkg)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	name := "systemd-boot" + strings.TrimPrefix(strings.ToLower(strings.TrimSuffix(path.Base(p.Loader), ".EFI")), "boot") + ".efi"
	files, _, err := debian.Files(ctx, f, func(n string) bool { return path.Base(n) == name })
	if err != nil {
		return nil, fmt.Errorf("image: %s: %w", pkg.Name, err)
	}
	for _, body := range files {
		return body, nil
	}
	return nil, fmt.Errorf("%w: %s has no %s", debian.ErrPackage, pkg.Name, name)
}

// Create makes an image in a new file, and beside it, with .zst, one for carrying around when packed is true. What was there is replaced when
// all of it is made. One that has a machine's configuration in it is for its owner alone.
func Create(ctx context.Context, name string, packed bool, o Options) (Report, error) {
	began := time.Now()
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return Report{}, fmt.Errorf("image: %w", err)
	}
	defer os.Remove(f.Name()) // when it has not got its name
	defer f.Close()
	mode := os.FileMode(0o644)
	if o.Provisioning != nil {
		mode = 0o600 // a token may be in it
	}
	if err := f.Chmod(mode); err != nil {
		return Report{}, fmt.Errorf("image: %w", err)
	}
	rel, err := Make(ctx, o)
	if err != nil {
		return Report{}, err
	}
	if err := f.Truncate(rel.DiskBytes()); err != nil {
		return Report{}, fmt.Errorf("image: %w", err)
	}
	var manifest []byte
	if o.Sign != nil {
		if manifest, err = o.Sign(rel); err != nil {
			return Report{}, fmt.Errorf("image: sign: %w", err)
		}
	}
	if err := rel.Write(f, manifest, o.Provisioning); err != nil {
		return Report{}, err
	}
	r := Report{Profile: rel.Profile, Version: rel.Version, KernelRelease: rel.KernelRelease, Built: rel.Built, Modules: rel.Modules, KernelBytes: len(rel.Kernel), InitrdBytes: len(rel.Initrd), Bytes: rel.DiskBytes()}
	if r.SHA256, r.ZstdBytes, err = pack(f, rel.DiskBytes(), name+".zst", packed, mode); err != nil {
		return Report{}, err
	}
	if err = f.Sync(); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return Report{}, fmt.Errorf("image: %w", err)
	}
	r.Took = time.Since(began)
	return r, nil
}

// packWindowBytes is more than what a Raspberry Pi's kernel and its parcel have between them, which are the same bytes; programs unpack windows of up to
// 128 MiB unless they are told otherwise (zstd(1), --memory).
const packWindowBytes = 64 * mib

// pack hashes an image, and writes it compressed if it is asked to.
func pack(f *os.File, size int64, name string, packed bool, mode os.FileMode) (sum string, bytes int64, err error) {
	h := sha256.New()
	from := io.TeeReader(io.NewSectionReader(f, 0, size), h)
	if !packed {
		_, err := io.Copy(io.Discard, from)
		return hex.EncodeToString(h.Sum(nil)), 0, err
	}
	t, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return "", 0, fmt.Errorf("image: %w", err)
	}
	defer os.Remove(t.Name())
	defer t.Close()
	z, err := zstd.NewWriter(t, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(packWindowBytes))
	if err != nil {
		return "", 0, fmt.Errorf("image: %w", err)
	}
	_, err = io.Copy(z, from)
	if err = errors.Join(err, z.Close()); err == nil {
		err = errors.Join(t.Chmod(mode), t.Sync())
	}
	if err == nil {
		bytes, err = t.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		err = os.Rename(t.Name(), name)
	}
	if err != nil {
		return "", 0, fmt.Errorf("image: compress: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), bytes, nil
}
