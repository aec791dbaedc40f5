package supervise

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
	"github.com/holdfast-edge/holdfast/firmware/slots"
)

func machineForTest() *machine {
	return &machine{log: slog.New(slog.DiscardHandler), console: new(console), acts: make(chan act, actsMax)}
}

// boxFiles is a data directory with secrets at every place that may have some.
func boxFiles(t *testing.T) (dir string, secrets []string) {
	t.Helper()
	dir = t.TempDir()
	secrets = []string{"identity.key", "identity.tpm", "next/identity.key", ".identity.key.123", "setup.code", "setup.code.new", "system/join.token", "system/join.token.new"}
	for _, name := range append([]string{"holdfast.db", "log/1.seg", "encryption.json"}, secrets...) {
		put(t, filepath.Join(dir, name), "content of "+name)
	}
	return dir, secrets
}

func TestACopyOfTheDataHasNoKeyOfTheBox(t *testing.T) {
	dir, secrets := boxFiles(t)
	var b bytes.Buffer
	if err := writeTar(&b, dir); err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	for _, s := range secrets {
		if slices.Contains(names, s) {
			t.Errorf("it has %s", s)
		}
	}
	for _, want := range []string{"holdfast.db", "log/1.seg", "encryption.json"} {
		if !slices.Contains(names, want) {
			t.Errorf("it has no %s: %v", want, names)
		}
	}
}

func TestAFactoryResetLeavesNoKeyInItsBlocks(t *testing.T) {
	dir, secrets := boxFiles(t)
	secrets = append(secrets, "encryption.json")
	blocks := t.TempDir()
	for i, s := range secrets {
		if err := os.Link(filepath.Join(dir, s), filepath.Join(blocks, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	eraseSecrets(slog.New(slog.DiscardHandler), dir)
	for i, s := range secrets {
		if _, err := os.Stat(filepath.Join(dir, s)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there", s)
		}
		if b, err := os.ReadFile(filepath.Join(blocks, fmt.Sprint(i))); err != nil || bytes.Contains(b, []byte("content")) {
			t.Errorf("the blocks of %s have %q, %v", s, b, err)
		}
	}
	if err := empty(dir); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// disk keeps what is written until it is synced, and then loses what came last.
type unsynced struct {
	now, kept []byte
	syncs     int
}

func (d *unsynced) WriteAt(b []byte, at int64) (int, error) { return copy(d.now[at:], b), nil }
func (d *unsynced) Sync() error {
	d.kept = bytes.Clone(d.now)
	d.syncs++
	return nil
}

func TestAnErasingTellsFromItsFirstByteThatItBegan(t *testing.T) {
	for _, size := range []int{0, 1, 511, 512, 513, 5000, 3 << 20} {
		d := &unsynced{now: bytes.Repeat([]byte{'s'}, size)}
		d.kept = bytes.Clone(d.now)
		first := &firstSync{unsynced: d}
		if err := overwrite(first, int64(size)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(d.kept, make([]byte, size)) {
			t.Errorf("%d bytes: not all of it is zeros", size)
		}
		if size > 0 && (first.kept[0] != 0 || size > 512 && first.kept[512] != 's') {
			t.Errorf("%d bytes: more than the first sector was on its way first", size)
		}
	}
}

// firstSync remembers what was there at the first one.
type firstSync struct {
	*unsynced
	kept []byte
}

func (f *firstSync) Sync() error {
	err := f.unsynced.Sync()
	if f.kept == nil {
		f.kept = f.unsynced.kept
	}
	return err
}

// A kernel without the driver of the disk finds neither data nor the system partition: nobody is there to choose, and it must not stay.
func TestAReleaseOnTrialThatFindsNoDiskGoesBack(t *testing.T) {
	efi := t.TempDir()
	if gave, err := giveUpTrial("", efi, slots.A, "no data"); gave || err != nil {
		t.Errorf("a start that is not counted: %v, %v", gave, err)
	}
	put(t, filepath.Join(efi, bootCounted), "")
	if gave, err := giveUpTrial("", efi, slots.A, "no data"); !gave || err != nil {
		t.Errorf("a start that is counted: %v, %v", gave, err)
	}
	if gave, err := giveUpTrial(t.TempDir(), efi, slots.A, "no data"); !gave || err == nil {
		t.Errorf("with a system partition that cannot be read: %v, %v", gave, err)
	}
}

// A box that was started from a stick: what is done to slots is done to the stick's.
func TestTheSystemPartitionIsTheOneThatTheLoaderWasOn(t *testing.T) {
	sys, dev, efi := t.TempDir(), t.TempDir(), t.TempDir()
	const size = 4 << 20
	ids := map[string]gpt.GUID{"sda": {0xAB, 0xCD, 1}, "sdb": {2}}
	for d, id := range ids {
		f, err := os.Create(filepath.Join(dev, d))
		if err != nil {
			t.Fatal(err)
		}
		table := &gpt.Table{Partitions: []gpt.Partition{{Type: gpt.ESP(), ID: id, First: 2048, Last: 4095, Name: "HOLDFAST-ESP"}}}
		if err := errors.Join(gpt.Write(f, size, table), f.Truncate(size), f.Close()); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(sys, "devices", d, d+"1")
		put(t, filepath.Join(at, "uevent"), "PARTN=1\nPARTNAME=HOLDFAST-ESP\n")
		put(t, filepath.Join(at, "size"), "2048\n")
		put(t, filepath.Join(sys, "devices", d, "size"), "8192\n")
		for _, n := range []string{d, d + "1"} {
			to := filepath.Join(sys, "devices", d)
			if n != d {
				to = at
			}
			link := filepath.Join(sys, "class", "block", n)
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(to, link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := machineForTest()
	for d, id := range ids {
		if err := setEFI(efi, bootPartition, strings.ToLower(id.String())); err != nil {
			t.Fatal(err)
		}
		if got := bootedFrom(efi); !strings.EqualFold(got, id.String()) {
			t.Errorf("%q is read for %v", got, id)
		}
		if p, err := m.findESP(t.Context(), sys, dev, bootedFrom(efi)); err != nil || p.Disk != d {
			t.Errorf("booted from %s: %+v, %v", d, p, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, id := range []string{"", gpt.GUID{9}.String()} {
		if p, err := m.findESP(ctx, sys, dev, id); err != nil || p.Disk != "sda" {
			t.Errorf("booted from %q: %+v, %v", id, p, err)
		}
	}
	if got := bootedFrom(t.TempDir()); got != "" {
		t.Errorf("%q", got)
	}
}

// A stick with an image in the box must not be what a factory reset formats.
func TestTheDataIsThatOfTheDiskWithTheSystemPartition(t *testing.T) {
	sys := t.TempDir()
	for _, d := range []string{"sda", "vda"} {
		for _, p := range []string{"1 HOLDFAST-ESP", "2 HOLDFAST-DATA"} {
			n, name, _ := strings.Cut(p, " ")
			at := filepath.Join(sys, "devices", d, d+n)
			put(t, filepath.Join(at, "uevent"), "DEVTYPE=partition\nPARTN="+n+"\nPARTNAME="+name+"\n")
			put(t, filepath.Join(at, "size"), "131072\n")
			link := filepath.Join(sys, "class", "block", d+n)
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(at, link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := machineForTest()
	for disk, want := range map[string]string{"sda": "sda2", "vda": "vda2"} {
		m.espDisk = disk
		if p, err := m.findData(t.Context(), sys); err != nil || p.Device != want || p.Bytes != 64<<20 {
			t.Errorf("booted from %s: %+v, %v", disk, p, err)
		}
	}
}

// fedDog says when it is fed.
type fedDog chan struct{}

func (d fedDog) Kick() error { d <- struct{}{}; return nil }
func (fedDog) Disarm() error { return nil }

func TestTheWatchdogIsFedWhileTheCoordinatorStopsInOrderAndNoLonger(t *testing.T) {
	m, d := machineForTest(), make(fedDog)
	g := &dog{d: d, timeout: time.Second}
	stop := m.feedFor(g, time.Hour)
	<-d
	<-d
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	for over := false; !over; {
		select {
		case <-d: // one may be on its way
		case <-stopped:
			over = true
		}
	}
	stop = m.feedFor(g, time.Nanosecond) // what takes longer than it may is not fed any more
	<-d
	stop()
	m.feedFor(nil, time.Hour)()
}

func TestAProgramThatHoldsTheCoordinatorsOutputDoesNotHideItsEnd(t *testing.T) {
	c, err := startChild("/bin/sh", []string{"-c", "sleep 600 & exit 3"}, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-c.pid(), syscall.SIGKILL) })
	select {
	case <-c.ended:
		if c.how() != "exit status 3" {
			t.Error(c.how())
		}
	case <-time.After(10 * pipeMax):
		t.Error("it has not ended for us")
	}
}

func TestWhoHasTheSetupCodeIsNotKeptOutByWhoGuesses(t *testing.T) {
	m := machineForTest()
	v := &doorView{m: m, reason: "why", choose: true}
	ask := func(code, what string) int {
		r := httptest.NewRequest(http.MethodPost, "/act", strings.NewReader(url.Values{"code": {code}, "act": {what}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		v.routes().ServeHTTP(w, r)
		return w.Code
	}
	if got := ask("", "retry"); got != http.StatusForbidden {
		t.Errorf("no code: %d", got)
	}
	for range 3 {
		if got := ask("GUESS", "retry"); got != http.StatusTooManyRequests {
			t.Errorf("a guess: %d", got)
		}
	}
	code := strings.ToLower(m.code()[:4] + "-" + m.code()[4:])
	if got := ask(code, "factory-reset"); got != http.StatusBadRequest {
		t.Errorf("a reset that nobody is sure of: %d", got)
	}
	if got := ask(code, "retry"); got != http.StatusOK || <-m.acts != actRetry {
		t.Errorf("the code: %d", got)
	}
	if got := ask(code, "poweroff"); got != http.StatusBadRequest {
		t.Errorf("a choice that is not on the page: %d", got)
	}
}

func TestAFileThatSaysNothingOfTheSiteLeavesHowTheBoxComesIntoIt(t *testing.T) {
	token := sampleToken(t)
	esp, dir := t.TempDir(), t.TempDir()
	for _, text := range []string{"[provision]\ntoken = \"" + token + "\"\nservers = [\"192.0.2.1:7500\"]\n", "[system]\nhostname = \"mended\"\n"} {
		put(t, filepath.Join(esp, provisionFile), text)
		if _, err := provision(esp, dir); err != nil {
			t.Fatal(err)
		}
	}
	if w, err := readProvision(dir); err != nil || strings.TrimSpace(w.Token) != token || len(w.Servers) != 1 {
		t.Errorf("%+v, %v", w, err)
	}
	// One that makes a site does not keep another's token.
	put(t, filepath.Join(esp, provisionFile), "[provision]\nfound = true\n")
	if _, err := provision(esp, dir); err != nil {
		t.Fatal(err)
	}
	if w, err := readProvision(dir); err != nil || w.Token != "" || !w.Found {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestAMachineEndsAlthoughSomethingDoesNot(t *testing.T) {
	var all sync.WaitGroup
	if !waitMost(&all, time.Hour) {
		t.Error("nothing ran")
	}
	done := make(chan struct{})
	all.Go(func() { <-done })
	if waitMost(&all, time.Millisecond) {
		t.Error("it runs")
	}
	close(done)
	all.Wait()
}
