package cli

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"golang.org/x/sys/unix"
)

const (
	// supportFileMax bounds a file of a bundle, supportMax all of them, before compression: to look through a MiB for secrets takes about a
	// second, and what is compressed fits into a mail.
	supportFileMax = 2 << 20
	supportMax     = 16 << 20
	// supportPartTime is how long one question may take: a box that is in trouble is the usual case.
	supportPartTime = 15 * time.Second
	supportAudit    = 1000 // newest records
	supportHistory  = 6 * time.Hour
	supportStep     = 5 * time.Minute
)

func supportCommand(build Build) command {
	return command{
		name: "support-bundle", about: "gather what somebody needs who helps, in one file, without secrets",
		more: addrHelp + `
Run it on the box, as root, whether the box runs or not: configuration, status, members, epochs, hardware, metrics and their history, log lines, goroutines,
the end of the audit log, traces, alarms, versions, the disk. manifest.json says what is in it, what could not be had, and what was taken out:
keys, passwords, tokens, codes, and the keys and values of programs. Look into it before you send it: tar tzf FILE.
With --addr of another machine it has what that box tells over the network.

Examples:
  holdfast support-bundle
  holdfast support-bundle --config /etc/holdfast/holdfast.toml --out /tmp/bundle.tar.gz
  holdfast support-bundle --addr http://10.0.0.11:8080
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			file := f.String("config", configDefault, "the box's configuration `file`")
			out := f.String("out", "", "write this `file`; without it one named after the box and the time, here")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return bundle(ctx, s, build, *addr, *file, *out, *asJSON)
			}
		},
	}
}

// manifest is manifest.json of a bundle.
type manifest struct {
	Made    time.Time     `json:"made"`
	Version string        `json:"version"`
	Commit  string        `json:"commit"`
	Asked   string        `json:"asked"` // the console's address
	Files   []bundledFile `json:"files"`
	// Missing are parts that could not be had, and why.
	Missing map[string]string `json:"missing"`
	// Redacted is how often something was taken out, by what it was; Rules are all that is looked for.
	Redacted map[string]int `json:"redacted"`
	Rules    []string       `json:"rules"`
}

type bundledFile struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
	Cut   bool   `json:"cut,omitempty"` // longer than may be
}

// bundler gathers the files of a bundle.
type bundler struct {
	s      *streams
	m      manifest
	red    *redactor
	files  []bundledData
	bytes  int
	config *config.Config // nil: not read
	// fileMax and max are supportFileMax and supportMax.
	fileMax, max int
}

type bundledData struct {
	name string
	data []byte
}

func bundle(ctx context.Context, s *streams, build Build, addr, file, out string, asJSON bool) error {
	b := &bundler{s: s, fileMax: supportFileMax, max: supportMax, m: manifest{Made: time.Now().UTC(), Version: build.Version, Commit: build.Commit, Missing: map[string]string{}, Files: []bundledFile{}}}
	c, err := config.Load(file)
	b.red = newRedactor()
	if err == nil {
		b.config = c
		b.red.knowConfigured(c)
	}
	here := addr == "" || strings.HasPrefix(addr, "unix://")
	if addr == "" {
		addr = remote.Default()
		if c != nil && c.Console.Socket != "" {
			addr = "unix://" + c.Console.Socket
		}
	}
	b.m.Asked = string(b.red.text([]byte(addr)))
	if here {
		b.machine(ctx, file, err, build)
	} else {
		b.m.Missing["the machine"] = "asked over the network"
	}
	name := b.box(ctx, addr)
	if err := ctx.Err(); err != nil {
		return err
	}
	b.m.Redacted = b.red.count
	for _, r := range b.red.rules {
		b.m.Rules = append(b.m.Rules, r.what)
	}
	b.m.Rules = append(b.m.Rules, "secrets of this machine", "fields by name")
	if out == "" {
		out = fmt.Sprintf("holdfast-support-%s-%s.tar.gz", name, b.m.Made.Format("20060102T150405Z"))
	}
	if err := writeTo(nil, out, b.write); err != nil {
		return err
	}
	info, err := os.Stat(out)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(s.out, map[string]any{"file": out, "bytes": info.Size(), "files": len(b.m.Files), "missing": b.m.Missing, "redacted": b.m.Redacted})
	}
	taken := 0
	for _, n := range b.m.Redacted {
		taken += n
	}
	_, err = fmt.Fprintf(s.out, "%s: %s, %d files, %d parts missing, %d things redacted. Look into it before you send it.\n", out, bytesOf(float64(info.Size())), len(b.m.Files)+1, len(b.m.Missing), taken)
	return err
}

// add takes a file in, without secrets.
func (b *bundler) add(name string, data []byte) {
	cut := len(data) > b.fileMax
	data = b.red.text(data[:min(len(data), b.fileMax)])
	if room := b.max - b.bytes; len(data) > room {
		data, cut = data[:max(0, room)], true
	}
	b.bytes += len(data)
	b.files = append(b.files, bundledData{name, data})
	b.m.Files = append(b.m.Files, bundledFile{name, len(data), cut})
	fmt.Fprintf(b.s.err, "  %s %s\n", padded(name, 24, false), bytesOf(float64(len(data))))
}

func (b *bundler) missing(name string, err error) {
	why := string(b.red.text([]byte(oneLine(err))))
	b.m.Missing[name] = why
	fmt.Fprintf(b.s.err, "  %s missing: %s\n", padded(name, 24, false), plain(why))
}

func (b *bundler) json(name string, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		b.missing(name, err)
		return
	}
	b.add(name, text)
}

// machine is what is known without the box.
func (b *bundler) machine(ctx context.Context, file string, unread error, build Build) {
	if text := b.red.config(file); text != nil {
		b.add("config.toml", text)
	} else {
		b.m.Missing["config.toml"] = "it cannot be read as TOML, or is not there"
	}
	if unread != nil && !errors.Is(unread, fs.ErrNotExist) {
		b.m.Missing["configuration"] = "it is not valid: run `holdfast config check` on it" // the error may show a value
	}
	var host unix.Utsname
	_ = unix.Uname(&host) // empty then
	modules := []string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			modules = append(modules, d.Path+" "+d.Version)
		}
	}
	b.json("versions.json", map[string]any{
		"holdfast": build.Version, "commit": build.Commit, "go": runtime.Version(), "os": runtime.GOOS + "/" + runtime.GOARCH,
		"kernel": unix.ByteSliceToString(host.Release[:]), "cpus": runtime.NumCPU(), "modules": modules,
	})
	var hal, errs bytes.Buffer
	limit, cancel := context.WithTimeout(ctx, supportPartTime)
	defer cancel()
	if Run(limit, build, []string{"hal", "probe", "--json"}, strings.NewReader(""), &hal, &errs) == exitDone {
		b.add("hal.json", hal.Bytes())
	} else {
		b.missing("hal.json", errors.New(errs.String()))
	}
	if b.config == nil {
		return
	}
	if text, err := os.ReadFile(filepath.Join(b.config.DataDir, trust.SiteFile)); err == nil {
		b.add("site.json", text)
	} else {
		b.missing("site.json", err)
	}
	b.disk(b.config.DataDir)
	b.crashes(b.config.DataDir)
	if text, err := os.ReadFile(status.File); err == nil { // on an appliance
		b.add("appliance.json", b.red.lines(text))
	}
}

// crashes are the reports of a supervisor: what the program printed last.
func (b *bundler) crashes(dir string) {
	list, err := crash.List(dir)
	for i := range list {
		var r *crash.Report
		if r, err = crash.Read(dir, list[i].File); err != nil {
			break
		}
		head := fmt.Sprintf("%s: %s, after %s, release %s\n\n", r.At.UTC().Format(time.RFC3339), r.How, r.After, r.Version)
		b.add("crash/"+r.File, slices.Concat([]byte(head), r.Text))
	}
	if err != nil {
		b.missing("crash", err)
	}
}

// disk is what takes how much space in the data directory; nothing in it is opened.
func (b *bundler) disk(dir string) {
	type entry struct {
		Name  string    `json:"name"`
		Bytes int64     `json:"bytes"`
		Mode  string    `json:"mode"`
		Time  time.Time `json:"time"`
	}
	const entriesMax = 2000
	list := []entry{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || len(list) >= entriesMax {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil // it has gone meanwhile
		}
		name, _ := filepath.Rel(dir, path)
		list = append(list, entry{name, info.Size(), info.Mode().String(), info.ModTime().UTC()})
		return nil
	})
	if err != nil {
		b.missing("disk.json", err)
		return
	}
	var st unix.Statfs_t
	_ = unix.Statfs(dir, &st) // zeroes then
	b.json("disk.json", map[string]any{
		"bytes": st.Blocks * uint64(st.Bsize), "free_bytes": st.Bavail * uint64(st.Bsize), "inodes": st.Files, "free_inodes": st.Ffree, "files": list,
	})
}

// box is what the box itself tells; it gives the box's name. A box that does not answer is asked once.
func (b *bundler) box(ctx context.Context, addr string) (name string) {
	name = "box"
	if b.config != nil {
		name = cmp.Or(b.config.Name, name)
	}
	err := ask(addr, func(r *remote.Box) error {
		limit, cancel := context.WithTimeout(ctx, supportPartTime)
		defer cancel()
		st, err := r.Status(limit)
		if err != nil {
			return err
		}
		name = cmp.Or(st.Name, name)
		for _, p := range b.parts() {
			b.part(ctx, r, p)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
	if err != nil {
		b.missing("the box", err)
	}
	return safeName(name)
}

// part is an answer of the box that goes into a bundle.
type part struct {
	name, path string
	json       bool
}

func (b *bundler) parts() []part {
	end := b.m.Made
	history := url.Values{
		"query": {`{__name__=~"(coord|process|holdfast|go_goroutines|go_memstats_alloc|hal|node|http).*",__name__!~".*_bucket"}`},
		"start": {strconv.FormatInt(end.Add(-supportHistory).Unix(), 10)}, "end": {strconv.FormatInt(end.Unix(), 10)},
		"step": {strconv.Itoa(int(supportStep / time.Second))},
	}
	return []part{
		{"status.json", "/api/v1/status", true},
		{"members.json", "/api/v1/members", true},
		{"epochs.json", "/api/v1/members/history", true},
		{"decisions.json", "/api/v1/decisions", true},
		{"trust.json", "/api/v1/trust", true},
		{"alarms.json", "/api/v1/alarms", true},
		{"traces.json", "/api/v1/traces", true},
		{"audit.jsonl", "/api/v1/audit?last=" + strconv.Itoa(supportAudit), true},
		{"history.json", "/api/v1/query_range?" + history.Encode(), true},
		{"metrics.txt", "/metrics", false},
		{"goroutines.txt", "/api/v1/debug/goroutines", false},
		{"log.txt", "/api/v1/debug/log", false},
		{"ready.txt", "/healthz", false},
	}
}

func (b *bundler) part(ctx context.Context, r *remote.Box, p part) {
	limit, cancel := context.WithTimeout(ctx, supportPartTime)
	defer cancel()
	w := &bounded{max: b.fileMax + 1}
	if err := r.Raw(limit, p.path, w); err != nil && !errors.Is(err, errBounded) {
		b.missing(p.name, err)
		return
	}
	data := w.Bytes()
	if p.json {
		if data = b.red.lines(data); len(data) == 0 && w.Len() > 0 {
			b.missing(p.name, fmt.Errorf("%w, or no JSON", errBounded))
			return
		}
	}
	b.add(p.name, data)
}

var errBounded = errors.New("longer than may be")

// bounded keeps the first bytes that are written to it.
type bounded struct {
	bytes.Buffer
	max int
}

func (w *bounded) Write(b []byte) (int, error) {
	room := w.max - w.Len()
	if len(b) <= room {
		return w.Buffer.Write(b)
	}
	n, _ := w.Buffer.Write(b[:max(0, room)])
	return n, errBounded
}

// safeName is a name that can be part of a file's.
func safeName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, name[:min(len(name), 40)])
}

// write writes the bundle.
func (b *bundler) write(w io.Writer) error {
	text, err := json.MarshalIndent(&b.m, "", "  ")
	if err != nil {
		return err
	}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, f := range append([]bundledData{{"manifest.json", text}}, slices.Clone(b.files)...) {
		h := &tar.Header{Name: "holdfast-support/" + f.name, Mode: 0o600, Size: int64(len(f.data)), ModTime: b.m.Made, Typeflag: tar.TypeReg}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}
