package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/slots"
	"github.com/holdfast-edge/holdfast/store/faultfs"
)

// onTrial is a box that runs the bundle in slot b, which nobody has blessed, and counts how often it asks for a start.
func onTrial(t *testing.T) (r *Runner, f *faultfs.FS, starts *int) {
	t.Helper()
	key, public := newKey(t)
	h, b := bundled(t, key, nil)
	f = flashed(t)
	old := runnerOn(t, f, public)
	if _, err := old.Take(t.Context(), bytes.NewReader(b), false); err != nil {
		t.Fatal(err)
	}
	if err := old.arm(t.Context(), &Job{Bundle: h.ID(), Version: h.Version, Slot: slots.B, Rules: rollout.RulesDefault}); err != nil {
		t.Fatal(err)
	}
	r = runnerOn(t, f, public)
	starts = new(int)
	r.c.Machine.Slot, r.c.Version = slots.B, h.Version
	r.c.Machine.Reboot = func(context.Context) error { *starts++; return nil }
	return r, f, starts
}

func TestABadReleaseIsLeftAlsoWhenTheJournalCannotBeWritten(t *testing.T) {
	r, _, starts := onTrial(t)
	r.c.Dir = t.TempDir() + "/gone" // the data partition is read-only
	if err := r.settle(t.Context(), time.Now()); err == nil {
		t.Fatal("the journal was written")
	}
	job, trial := r.state()
	if job == nil || trial == nil {
		t.Fatalf("it does not know that it is on trial: %+v, %v", job, trial)
	}
	if err := r.giveUp(t.Context(), job, "no quorum"); err == nil || *starts != 1 {
		t.Errorf("%v, asked for a start %d times", err, *starts)
	}
	if x, _, err := r.esp.Entry(slots.B); err != nil || x.Bootable() || r.esp.Reason(slots.B) != "no quorum" {
		t.Errorf("%+v, %q, %v", x, r.esp.Reason(slots.B), err)
	}
}

func TestABadReleaseIsLeftAlsoWhenThePartitionCannotBeWritten(t *testing.T) {
	r, f, starts := onTrial(t)
	if err := r.settle(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	f.Hook(func(faultfs.Op, string) error { return errors.New("read-only file system") })
	job, _ := r.state()
	if err := r.giveUp(t.Context(), job, "no quorum"); err == nil || *starts != 1 {
		t.Errorf("%v, asked for a start %d times", err, *starts)
	}
	if got, _ := r.state(); got.Phase != Trial {
		t.Errorf("it says %s although the loader knows nothing of it", got.Phase)
	}
}

// The name of a bundle is for people. A box that did not know its own bundle by another name changed over to it again and again.
func TestABoxKnowsTheBundleThatItRunsByItsHash(t *testing.T) {
	r, _, _ := onTrial(t)
	want := bundleOf(r.esp, slots.B).ID()
	r.c.Version = "9.9.9" // what its program says
	if err := r.settle(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if f := r.facts(docs{}, &rollout.Plan{Bundle: want}); f.Runs != want || !f.Trial {
		t.Errorf("%+v, want %v on trial", f, want)
	}
}

// drops is a source that sends a byte at a time, and never stops.
type drops struct {
	ctx   context.Context
	every time.Duration
}

func (d drops) Read(b []byte) (int, error) {
	select {
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	case <-time.After(d.every):
		return 1, nil
	}
}
func (drops) Close() error { return nil }

func TestASourceThatDripsIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		d := &download{body: drops{ctx, chunkTimeMax - time.Second}, timer: time.AfterFunc(chunkTimeMax, cancel), stop: cancel}
		if _, err := io.ReadFull(d, make([]byte, 100)); err == nil || time.Since(began) > chunkTimeMax {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
	synctest.Test(t, func(t *testing.T) { // one that sends a chunk in time goes on
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		d := &download{body: slow{drops{ctx, time.Second}}, timer: time.AfterFunc(chunkTimeMax, cancel), stop: cancel}
		if _, err := io.ReadFull(d, make([]byte, 10*release.ChunkBytes)); err != nil {
			t.Error(err)
		}
	})
}

// slow sends 32 KiB at a time.
type slow struct{ drops }

func (s slow) Read(b []byte) (int, error) {
	if _, err := s.drops.Read(b); err != nil {
		return 0, err
	}
	return min(len(b), 32<<10), nil
}

func TestAHeadThatWasTornIsWrittenAgainAndTheFilesStay(t *testing.T) {
	key, public := newKey(t)
	h, b := bundled(t, key, nil)
	f := flashed(t)
	r := runnerOn(t, f, public)
	if _, err := r.Take(t.Context(), bytes.NewReader(b), false); err != nil {
		t.Fatal(err)
	}
	torn := bytes.Clone(h.Bytes())
	torn[len(torn)-1] ^= 1 // in the signature
	f.SetData(esp+"/b/"+slots.Manifest, torn)
	have, err := prepare(r.esp, slots.B, h)
	if err != nil || have != h.Kernel.Bytes+h.Initrd.Bytes {
		t.Errorf("%d bytes are there, %v", have, err)
	}
	if got := f.Data(esp + "/b/" + slots.Manifest); !bytes.Equal(got, h.Bytes()) {
		t.Error("the head is as it was")
	}
}

func TestABundleWhoseKeyIsDistrustedSinceItCameIsNotStarted(t *testing.T) {
	key, public := newKey(t)
	h, b := bundled(t, key, nil)
	r := runnerOn(t, flashed(t), public)
	if _, err := r.Take(t.Context(), bytes.NewReader(b), false); err != nil {
		t.Fatal(err)
	}
	_, other := newKey(t)
	r.c.Keys = []release.Key{other}
	if err := r.Apply(t.Context(), h.ID(), rollout.Rules{}, "op", false); !errors.Is(err, release.ErrSignature) {
		t.Errorf("%v", err)
	}
	r.c.Keys = []release.Key{public}
	if err := r.Apply(t.Context(), h.ID(), rollout.Rules{}, "op", false); err != nil {
		t.Error(err)
	}
}

// An image has its key in the configuration: that is enough for one box, and a site is told what it lacks.
func TestASiteWithoutAKeyOfItsOwnSaysThatItNeedsOne(t *testing.T) {
	key, public := newKey(t)
	h, b := bundled(t, key, nil)
	r := runnerOn(t, flashed(t), public)
	if _, err := r.Take(t.Context(), bytes.NewReader(b), false); err != nil {
		t.Fatal(err)
	}
	if err := r.Site(t.Context(), h.ID(), "", rollout.Rules{}, operators.By{}); !errors.Is(err, ErrCannot) || !strings.Contains(err.Error(), "holdfast update trust") {
		t.Errorf("%v", err)
	}
	st := docs{rollout.DocKey + "first": {Key: rollout.DocKey + "first", Value: []byte(public.String())}}
	r.c.State = func() Docs { return st }
	if err := r.Site(t.Context(), h.ID(), "", rollout.Rules{}, operators.By{}); err != nil {
		t.Errorf("with a key: %v", err)
	}
}

// What was asked of a box is over when somebody gives it another bundle: it is not tried again and again.
func TestAnotherBundleTakesThePlaceOfOneThatWasToBeStarted(t *testing.T) {
	key, public := newKey(t)
	h, b := bundled(t, key, nil)
	r := runnerOn(t, flashed(t), public)
	if _, err := r.Take(t.Context(), bytes.NewReader(b), false); err != nil {
		t.Fatal(err)
	}
	job := &Job{Bundle: h.ID(), Version: h.Version, Slot: slots.B, Phase: Armed, Rules: rollout.RulesDefault}
	if err := r.saveJob(job); err != nil {
		t.Fatal(err)
	}
	_, b2 := bundled(t, key, func(m *release.Manifest) { m.Version = "1.2.0" })
	if _, err := r.Take(t.Context(), bytes.NewReader(b2), false); err != nil {
		t.Fatal(err)
	}
	r.look(t.Context())
	if got, _ := r.state(); got.Phase != Back || got.Why == "" {
		t.Errorf("%+v", got)
	}
}

// The race detector judges this one.
func TestABoxIsAskedWhileItLooks(t *testing.T) {
	key, public := newKey(t)
	h, b := bundled(t, key, nil)
	r := runnerOn(t, flashed(t), public)
	if _, err := r.Take(t.Context(), bytes.NewReader(b), false); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for range 5 {
			if err := r.Apply(t.Context(), h.ID(), rollout.Rules{}, "op", false); err != nil && !errors.Is(err, ErrBusy) {
				t.Error(err)
			}
		}
	})
	for range 5 {
		r.look(t.Context())
	}
	all.Wait()
}

// Boxes take steps of a plan all the time, and each is a decision that overtakes the ones under way.
func TestAnOperatorsWordIsSaidAgainWhenAStepOvertookIt(t *testing.T) {
	r := runnerOn(t, flashed(t))
	if err := r.Order(t.Context(), rollout.Pause, operators.By{}); !errors.Is(err, rollout.ErrStep) || !strings.Contains(err.Error(), "has had no update") {
		t.Errorf("no plan: %v", err)
	}
	p, err := rollout.New(nil, docs{}.Members(), coord.Digest{1}, "1.1.0", "", rollout.RulesDefault, 1)
	if err != nil {
		t.Fatal(err)
	}
	value, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r.c.State = func() Docs { return docs{rollout.DocPlan: {Key: rollout.DocPlan, Version: 7, Value: value}} }
	left := 3
	r.c.Decide = func(context.Context, *coord.Decision, operators.By) error {
		if left--; left > 0 {
			return fmt.Errorf("decide: %w at height 9", site.ErrStale)
		}
		return nil
	}
	if err := r.Order(t.Context(), rollout.Pause, operators.By{}); err != nil || left != 0 {
		t.Errorf("%d times more, %v", left, err)
	}
	left = 1000
	if err := r.Order(t.Context(), rollout.Pause, operators.By{}); !errors.Is(err, site.ErrStale) {
		t.Errorf("it goes on for ever: %v", err)
	}
}

func TestAReleaseWhoseKernelTheLoaderCannotLoadIsNotTaken(t *testing.T) {
	key, public := newKey(t)
	kernel, initrd := []byte("a text that somebody took for a kernel"), []byte("initrd")
	m := &release.Manifest{Version: "1.1.0", Board: "fake", Arch: "arm64", Formats: Formats()}
	var err error
	if m.Kernel, err = release.Describe(bytes.NewReader(kernel)); err == nil {
		m.Initrd, err = release.Describe(bytes.NewReader(initrd))
	}
	if err != nil {
		t.Fatal(err)
	}
	h, err := release.Sign(m, key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, h, bytes.NewReader(kernel), bytes.NewReader(initrd)); err != nil {
		t.Fatal(err)
	}
	r := runnerOn(t, flashed(t), public)
	if _, err := r.Take(t.Context(), &b, false); !errors.Is(err, release.ErrUnfit) {
		t.Errorf("taken: %v", err)
	}
	if err := r.Apply(t.Context(), h.ID(), rollout.RulesDefault, "ann", false); !errors.Is(err, release.ErrUnfit) {
		t.Errorf("started: %v", err)
	}
	if e, found, err := r.esp.Entry(slots.B); err != nil || found {
		t.Errorf("the loader has it: %+v, %v", e, err)
	}
}
