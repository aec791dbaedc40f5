package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// damage harms a stopped box's files, one kind after the other.
func damage(ctx context.Context, t *trial) error {
	b := t.site.boxes[1]
	var errs []error
	for _, how := range []struct {
		name string
		do   func(dir string) error
	}{{"bit of the log", flipLog}, {"truncated log", cutLog}, {"page of the state", flipState}} {
		sleep(ctx, 2*time.Second) // something to lose
		b.kill()
		if err := how.do(b.dir); err != nil {
			return err
		}
		d, err := t.back(ctx, b, rejoin)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("%s: %w", how.name, err))...)
		}
		errs = append(errs, t.took("repair after "+how.name, d, rejoin))
	}
	return errors.Join(errs...)
}

func newestSegment(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "log", "*"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("no log in %s: %w", dir, err)
	}
	// Segments are allocated ahead: the newest is the last that is not empty.
	slices.Sort(files)
	for _, f := range slices.Backward(files) {
		if n, err := used(f); err == nil && n > 4096 {
			return f, nil
		}
	}
	return "", errors.New("no segment has anything in it")
}

// used is where the zeros at a file's end begin.
func used(file string) (int, error) {
	data, err := os.ReadFile(file)
	n := len(data)
	for n > 0 && data[n-1] == 0 {
		n--
	}
	return n, err
}

func flipLog(dir string) error {
	f, err := newestSegment(dir)
	if err != nil {
		return err
	}
	n, err := used(f)
	if err != nil {
		return err
	}
	return flip(f, n/2)
}

func flip(file string, at int) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	data[at] ^= 1 << rand.N(8)
	return os.WriteFile(file, data, 0o600)
}

func cutLog(dir string) error {
	f, err := newestSegment(dir)
	if err != nil {
		return err
	}
	n, err := used(f)
	if err != nil {
		return err
	}
	return os.Truncate(f, int64(n/2))
}

// flipState harms all of a page but the two that say where everything is.
func flipState(dir string) error {
	f := filepath.Join(dir, "holdfast.db")
	data, err := os.ReadFile(f)
	if err != nil {
		return err
	}
	const page = 4096
	harmed := false
	for p := 2 * page; p+page <= len(data); p += page {
		if slices.ContainsFunc(data[p:p+page], func(b byte) bool { return b != 0 }) {
			data[p+page/2] ^= 0x10
			data[p+9] ^= 0x10
			harmed = true
		}
	}
	if !harmed {
		return errors.New("no page of the state is in use")
	}
	return os.WriteFile(f, data, 0o600)
}

func oldImage(ctx context.Context, t *trial) error {
	b := t.site.boxes[1]
	b.kill()
	old := b.dir + ".old"
	if err := command("cp", "-a", b.dir, old); err != nil {
		return err
	}
	if err := t.site.start(b); err != nil {
		return err
	}
	sleep(ctx, 3*time.Second)
	b.kill()
	if err := errors.Join(os.RemoveAll(b.dir), os.Rename(old, b.dir)); err != nil {
		return err
	}
	d, err := t.back(ctx, b, rejoin)
	return errors.Join(err, t.took("rejoining", d, rejoin))
}

func slowDisk(ctx context.Context, t *trial) error {
	leader, other, err := t.leaderAndOther(ctx)
	if err != nil {
		return err
	}
	since := t.load.now()
	stop, err := inject(ctx, other, "fdatasync,fsync", "delay_enter=100000")
	if err != nil {
		return err
	}
	before, err := t.leaderChanges(ctx)
	sleep(ctx, 6*time.Second)
	after, err2 := t.leaderChanges(ctx)
	stop()
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	t.note("%d leader changes while a backup's fsync took 100 ms for 6 s", after-before)
	if err = t.paused(since, visible); after-before > 2 {
		err = errors.Join(err, fmt.Errorf("%d leader changes for a slow backup", after-before))
	}
	since = t.load.now()
	stop, err2 = inject(ctx, leader, "fdatasync,fsync", "delay_enter=7000000")
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	sleep(ctx, 10*time.Second)
	err = t.paused(since, 3*time.Second)
	stop()
	return err
}

func (t *trial) leaderChanges(ctx context.Context) (n uint64, err error) {
	for _, b := range t.site.boxes {
		v, err := b.view(ctx)
		if err != nil {
			return 0, err
		}
		n = max(n, v.Counters.LeaderChanges)
	}
	return n, nil
}

func syncError(ctx context.Context, t *trial) error {
	b, err := t.site.leader(ctx)
	if err != nil {
		return err
	}
	since := t.load.now()
	stop, err := inject(ctx, b, "fdatasync,fsync", "error=EIO")
	if err != nil {
		return err
	}
	_, said, err := notReady(ctx, b, 2*time.Second)
	if err != nil {
		stop()
		return err
	}
	t.note("it says: %s", said)
	sleep(ctx, 3*time.Second)
	err = t.paused(since, backTime)
	stop()
	b.kill()
	_, back := t.back(ctx, b, rejoin)
	return errors.Join(err, back)
}

const tmpfsBox = 1

func onTmpfs(t *trial, i int, dir string) error {
	if i != tmpfsBox {
		return nil
	}
	t.undo = append(t.undo, func() error { return syscall.Unmount(dir, 0) })
	return syscall.Mount("chaos", dir, "tmpfs", 0, "size=64m,mode=0700")
}

func diskFull(ctx context.Context, t *trial) error {
	b := t.site.boxes[tmpfsBox]
	filler := filepath.Join(b.dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for _, size := range []int{len(block), 4096, 1} {
		for {
			if _, err = f.Write(block[:size]); err != nil {
				break
			}
		}
	}
	if err := f.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	since := t.load.now()
	_, said, err := notReady(ctx, b, 40*time.Second)
	if err != nil {
		return err
	}
	t.note("it says: %s", said)
	if err := b.ask(ctx, func(ctx context.Context, r *remote.Box) error {
		_, err := r.Get(ctx, "k0")
		if errors.Is(err, remote.ErrNotFound) {
			return nil
		}
		return err
	}); err != nil {
		return fmt.Errorf("reads are not served: %w", err)
	}
	sleep(ctx, 3*time.Second)
	others := t.load.pause(since, t.load.now())
	if others > backTime {
		return fmt.Errorf("the others paused for %v", others)
	}
	if err := os.Remove(filler); err != nil {
		return err
	}
	d, err := until(ctx, rejoin, func() error { return b.ready(ctx) })
	return errors.Join(err, t.took("recovery when freed", d, rejoin))
}

const loopBox = 1

func onLoop(t *trial, i int, dir string) error {
	if i != loopBox {
		return nil
	}
	image := dir + ".img"
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 128<<20)); err != nil {
		return err
	}
	if err := errors.Join(command("mkfs.ext4", "-q", image), command("mount", "-o", "loop", image, dir)); err != nil {
		return err
	}
	t.undo = append(t.undo, func() error { return syscall.Unmount(dir, 0) })
	return os.Chmod(dir, 0o700)
}

func readOnly(ctx context.Context, t *trial) error {
	b := t.site.boxes[loopBox]
	since := t.load.now()
	if err := command("mount", "-o", "remount,abort", b.dir); err != nil {
		return err
	}
	d, said, err := notReady(ctx, b, 10*time.Second)
	if err = errors.Join(err, t.took("stepping out", d, 2*time.Second)); err != nil {
		return err
	}
	t.note("it says: %s", said)
	sleep(ctx, 3*time.Second)
	if p := t.load.pause(since, t.load.now()); p > backTime {
		err = fmt.Errorf("the others paused for %v", p)
	}
	b.kill()
	b.cmd = nil // its card is dead: it stays out
	return err
}
