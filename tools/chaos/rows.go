package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

const (
	// visible is from when on a pause is one: six clients notice that a box is gone and go to the next.
	visible  = time.Second
	backTime = 2 * time.Second
	rejoin   = 30 * time.Second
	smallLog = 1 << 20
)

func rows() []*row {
	return []*row{
		{number: 1, short: true, fault: "kill -9 of a backup", promise: "no visible pause (1 s)", how: "SIGKILL", measured: "pause", try: killBackup},
		{number: 2, short: true, fault: "kill -9 of the primary", promise: "back in 2 s", how: "SIGKILL", measured: "pause", try: killLeader},
		{
			number: 3, short: true, fault: "all boxes killed again and again", promise: "back 10 s after the last start",
			how: "SIGKILL of all, four times, within 2 s of their start", measured: "last start to a write", try: stormOfKills,
		},
		{
			number: 4, fault: "power cut, one box", promise: "rejoins in 30 s", how: "SIGKILL and 5 s off under load; what was not synced survives here, unlike in coord/sim",
			measured: "start to serving at the site's height", try: cutOne,
		},
		{
			number: 5, short: true, fault: "power cut, whole site", promise: "every acknowledged write present", how: "SIGKILL of all at once, 2 s off",
			measured: "start to a write", try: cutAll,
		},
		{
			number: 7, root: true, fault: "cut during compaction or swap", promise: "old or new file valid",
			how: "strace kills a box at its next rename, unlink, truncation or allocation of a file, five times; 1 MiB segments, 4 KiB values", measured: "start to serving, worst of five",
			valueBytes: 4 << 10, config: smallSegments, try: cutInSwap,
		},
		{
			number: 9, short: true, fault: "bit flip or truncation on up to f boxes", promise: "detected, repaired",
			how: "a stopped box: a bit of its log, half of its log, a page of its state", measured: "start to serving at the site's height, worst of three", try: damage,
		},
		{
			number: 11, fault: "an old disk image restored", promise: "never votes twice", how: "a copy of the directory from 3 s ago put back",
			measured: "start to serving at the site's height", try: oldImage,
		},
		{
			number: 12, root: true, fault: "fsync of 100 ms to 7 s", promise: "no storm of view changes; a slow primary is rotated out (3 s)",
			how: "strace delays fdatasync: 100 ms on a backup, then 7 s on the primary", measured: "pause", try: slowDisk,
		},
		{
			number: 13, root: true, fault: "fsync EIO", promise: "stops voting at once; never retries and acknowledges; others back in 2 s",
			how: "strace makes fdatasync of the primary fail", measured: "pause", try: syncError,
		},
		{
			number: 14, root: true, fault: "disk full", promise: "reads served, clear error, recovers when freed", how: "the box's directory is a tmpfs of 64 MiB that is filled",
			measured: "freed to serving", place: onTmpfs, try: diskFull, config: smallSegments, valueBytes: 2 << 10,
		},
		{
			number: 17, root: true, fault: "read-only remount", promise: "steps out within 2 s", how: "ext4 on a loop device, remounted with abort", measured: "remount to saying so",
			place: onLoop, try: readOnly,
		},
		{
			number: 18, root: true, fault: "memory limit", promise: "bounded queues; restart loses nothing", how: "cgroup memory limit of 96 MiB for 6 s, then below what the box uses: OOM kill",
			measured: "pause", valueBytes: 2 << 10, try: memoryLimit,
		},
		{number: 19, root: true, fault: "CPU starved to 20%", promise: "no false verdict of malice, the box says that it lacks a processor; progress", how: "cgroup cpu quota on the primary, and a busy program in it, for 8 s", measured: "pause", try: starved},
		{number: 20, short: true, fault: "SIGSTOP 5 s", promise: "no stale linearizable read", how: "SIGSTOP of the primary, then SIGCONT", measured: "pause", try: stopped},
		{
			number: 24, short: true, fault: "full partition", promise: "majority serves; minority answers an error within 2 s", how: "proxies hold everything from and to the primary for 6 s",
			measured: "pause", try: partition(true, true),
		},
		{
			number: 25, short: true, fault: "one-way partition", promise: "as 24", how: "proxies hold everything from the primary for 6 s, then everything to it",
			measured: "pause", try: oneWayPartition,
		},
		{
			number: 26, short: true, fault: "20% loss, 200 ms jitter", promise: "progress, no thrash of views", how: "proxies delay every segment by up to 200 ms and each fifth by a retransmission, 20 s",
			measured: "pause", try: lossy,
		},
		{
			number: 27, short: true, fault: "half-open TCP", promise: "detected in 5 s", how: "proxies keep the primary's connections open and pass nothing on them; new ones work",
			measured: "pause", try: halfOpen,
		},
		{number: 28, short: true, fault: "link flap", promise: "damped: writes go on (2 s)", how: "the primary's connections cut 20 times, every 300 ms", measured: "pause", try: flap},
		{
			number: 30, short: true, fault: "equivocating primary", promise: "safe; evidence stored; back in 2 s",
			how: "a liarbox, while it leads: several blocks in a round (equivocal), then votes for everything (double)", measured: "pause",
			liars: []liar.Kind{liar.Equivocal, liar.Double}, try: liesProven,
		},
		{number: 31, fault: "one identity on two machines", promise: "safe; detected", how: "a copy of a running box's directory run beside it on other ports", measured: "start to being shown", try: twins},
		{
			number: 32, fault: "silent or selective primary", promise: "back in 2 s",
			how: "a liarbox, while it leads: it says nothing (silent), then speaks to some, changing whom (selective)", measured: "pause",
			liars: []liar.Kind{liar.Silent, liar.Selective, liar.Victim}, try: lies,
		},
		{
			number: 33, fault: "forged or replayed messages", promise: "dropped and counted",
			how: "a liarbox: bad signatures (badsig), forged certificates, blocks and states (forger), old messages again (replayer)", measured: "pause",
			liars: []liar.Kind{liar.BadSig, liar.Forger, liar.Replayer, liar.Garbage}, try: liesCounted,
		},
		{
			number: 34, short: true, fault: "malformed frame, decompression bomb", promise: "bounded memory, peer scored down", how: "a box's key on a TLS link: garbage, wrong lengths, bombs, for 15 s",
			measured: "-", try: garbage,
		},
	}
}

func smallSegments(c *config.Config) { c.Log.SegmentSize, c.Log.RetainSize = smallLog, smallLog }

func killBackup(ctx context.Context, t *trial) error {
	_, b, err := t.leaderAndOther(ctx)
	if err != nil {
		return err
	}
	since := t.load.now()
	b.kill()
	sleep(ctx, 3*time.Second)
	err = t.paused(since, visible)
	_, back := t.back(ctx, b, rejoin)
	return errors.Join(err, back)
}

func killLeader(ctx context.Context, t *trial) error {
	b, err := t.site.leader(ctx)
	if err != nil {
		return err
	}
	since := t.load.now()
	b.kill()
	sleep(ctx, 4*time.Second)
	err = t.paused(since, backTime)
	_, back := t.back(ctx, b, rejoin)
	return errors.Join(err, back)
}

func (t *trial) killAll() {
	for _, b := range t.site.boxes {
		if b.alive() {
			_ = b.signal(syscall.SIGKILL) // all at one time; kill waits
		}
	}
	for _, b := range t.site.boxes {
		b.kill()
	}
}

func stormOfKills(ctx context.Context, t *trial) error {
	for range 4 {
		t.killAll()
		if err := t.site.startAll(); err != nil {
			return err
		}
		sleep(ctx, rand.N(2*time.Second))
	}
	t.killAll()
	since := t.load.now()
	if err := t.site.startAll(); err != nil {
		return err
	}
	return t.answered(ctx, since, 10*time.Second)
}

func cutOne(ctx context.Context, t *trial) error {
	b := t.site.boxes[rand.N(len(t.site.boxes))]
	b.kill()
	sleep(ctx, 5*time.Second)
	d, err := t.back(ctx, b, rejoin)
	return errors.Join(err, t.took("rejoining", d, rejoin))
}

func cutAll(ctx context.Context, t *trial) error {
	t.killAll()
	sleep(ctx, 2*time.Second)
	since := t.load.now()
	if err := t.site.startAll(); err != nil {
		return err
	}
	return t.answered(ctx, since, 10*time.Second)
}

func cutInSwap(ctx context.Context, t *trial) error {
	const swaps = "rename,renameat,renameat2,unlink,unlinkat,ftruncate,fallocate"
	for range 5 {
		b := t.site.boxes[rand.N(len(t.site.boxes))]
		stop, err := inject(ctx, b, swaps, "signal=SIGKILL:when="+[]string{"1", "2", "3"}[rand.N(3)])
		if err != nil {
			return err
		}
		select {
		case <-b.ended:
		case <-time.After(20 * time.Second):
			stop()
			return fmt.Errorf("box-%d swapped no file in 20 s: nothing was tried", b.index)
		}
		stop()
		d, err := t.back(ctx, b, rejoin)
		if err = errors.Join(err, t.took("rejoining", d, rejoin)); err != nil {
			return err
		}
	}
	return nil
}

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

func memoryLimit(ctx context.Context, t *trial) (err error) {
	_, b, err := t.leaderAndOther(ctx)
	if err != nil {
		return err
	}
	g, err := newCgroup("memory", "limit")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.leave()) }()
	if err := errors.Join(g.set("memory.limit_in_bytes", "96M"), g.add(b)); err != nil {
		return err
	}
	since := t.load.now()
	sleep(ctx, 6*time.Second)
	if !b.alive() {
		return errors.New("96 MiB were not enough")
	}
	rss, err := b.memory()
	if err != nil {
		return err
	}
	t.note("%d MiB resident before the kill", rss>>20)
	b.kill()
	// What a process had charged before it came stays where it was, so the box begins in the group that is too small.
	if err := errors.Join(t.site.start(b), g.add(b), g.set("memory.limit_in_bytes", "2M")); err != nil {
		t.note("the limit met a box that uses more: %v", err)
	}
	select {
	case <-b.ended:
	case <-time.After(15 * time.Second):
		return errors.New("the box was not killed")
	}
	err = t.paused(since, visible)
	if limitErr := g.set("memory.limit_in_bytes", "96M"); limitErr != nil {
		return errors.Join(err, limitErr)
	}
	_, back := t.back(ctx, b, rejoin)
	return errors.Join(err, back)
}

func starved(ctx context.Context, t *trial) (err error) {
	b, err := t.site.leader(ctx)
	if err != nil {
		return err
	}
	g, err := newCgroup("cpu", "starved")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.leave()) }()
	since := t.load.now()
	if err := errors.Join(g.set("cpu.cfs_period_us", "100000"), g.set("cpu.cfs_quota_us", "20000"), g.add(b)); err != nil {
		return err
	}
	// The box alone does not use so much under this load, and would not be starved: it shares it with a program that does.
	hog := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
	if err := hog.Start(); err != nil {
		return err
	}
	defer func() {
		_ = hog.Process.Kill()
		_ = hog.Wait() // it was killed
	}()
	if err := g.set("cgroup.procs", strconv.Itoa(hog.Process.Pid)); err != nil {
		return err
	}
	sleep(ctx, 8*time.Second)
	stat, err := os.ReadFile(filepath.Join(g.dir, "cpu.stat"))
	t.note("the kernel says: %s", strings.Join(strings.Fields(string(stat)), " "))
	return errors.Join(err, t.paused(since, backTime), saysStarved(ctx, t, b))
}

// saysStarved: the box that was starved says so, nobody has evidence, and whoever suspects it says that it is late or does not answer.
func saysStarved(ctx context.Context, t *trial, starved *box) error {
	var errs []error
	if v, err := starved.view(ctx); err != nil {
		errs = append(errs, err)
	} else if t.note("the starved box was not run for %v and says: %s", v.Counters.Starved.Round(time.Millisecond), v.Verdict); !strings.Contains(v.Verdict, "lacks processor time") {
		errs = append(errs, errors.New("the starved box does not say that it lacks a processor"))
	}
	for _, b := range t.site.boxes {
		v, err := b.view(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if v.Counters.Evidence > 0 {
			errs = append(errs, fmt.Errorf("box-%d has evidence", b.index))
		}
		for i := range v.Trust {
			for _, w := range v.Trust[i].Why {
				if w.Reason != suspicion.Late && w.Reason != suspicion.Challenge {
					errs = append(errs, fmt.Errorf("box-%d holds %q against box-%d: %s", b.index, w.Reason, i, w.Detail))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func stopped(ctx context.Context, t *trial) error {
	b, err := t.site.leader(ctx)
	if err != nil {
		return err
	}
	since := t.load.now()
	if err := b.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	sleep(ctx, 5*time.Second)
	if err := b.signal(syscall.SIGCONT); err != nil {
		return err
	}
	sleep(ctx, 2*time.Second)
	return t.paused(since, 5*time.Second)
}

// partition holds what goes from and to the leader.
func partition(from, to bool) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		b, err := t.site.leader(ctx)
		if err != nil {
			return err
		}
		since := t.load.now()
		t.site.isolate(b.index, way{hold: true}, from, to)
		d, said, err := notReady(ctx, b, 6*time.Second)
		if err == nil && d > 2*time.Second+500*time.Millisecond { // a half for the asking
			err = fmt.Errorf("the minority said so after %v", d)
		}
		t.note("the box cut off says after %v: %s", d.Round(100*time.Millisecond), said)
		sleep(ctx, max(0, 6*time.Second-d))
		t.site.isolate(b.index, way{}, true, true)
		sleep(ctx, 2*time.Second)
		return errors.Join(err, t.paused(since, 4*time.Second))
	}
}

func oneWayPartition(ctx context.Context, t *trial) error {
	return errors.Join(partition(true, false)(ctx, t), partition(false, true)(ctx, t))
}

func lossy(ctx context.Context, t *trial) error {
	before, err := t.leaderChanges(ctx)
	if err != nil {
		return err
	}
	since := t.load.now()
	for i := range t.site.boxes {
		t.site.isolate(i, way{jitter: 200 * time.Millisecond, loss: 0.2}, true, false)
	}
	sleep(ctx, 20*time.Second)
	for i := range t.site.boxes {
		t.site.isolate(i, way{}, true, false)
	}
	after, err := t.leaderChanges(ctx)
	if err != nil {
		return err
	}
	t.note("%d leader changes in 20 s", after-before)
	if after-before > 20 { // half of what a time-out of 500 ms makes at most
		err = fmt.Errorf("%d leader changes in 20 s", after-before)
	}
	return errors.Join(err, t.paused(since, 10*time.Second)) // progress: the time-out may double four times
}

func (t *trial) wiresOf(i int, fn func(*wire)) {
	for j := range t.site.boxes {
		if j != i {
			fn(t.site.wires[i][j])
			fn(t.site.wires[j][i])
		}
	}
}

func halfOpen(ctx context.Context, t *trial) error {
	b, err := t.site.leader(ctx)
	if err != nil {
		return err
	}
	since, deaf := t.load.now(), time.Now()
	t.wiresOf(b.index, (*wire).deafen)
	d, err := until(ctx, 10*time.Second, func() error {
		v, err := b.view(ctx)
		if err != nil {
			return err
		}
		for i := range v.Members {
			// What comes later than this came over a new connection.
			if m := &v.Members[i]; !m.Self && (!m.Up || m.Heard.Before(deaf.Add(statusPoll))) {
				return fmt.Errorf("nothing is heard of %s over a new connection", m.Name)
			}
		}
		return nil
	})
	return errors.Join(err, t.took("new connections", d, 5*time.Second), t.paused(since, 5*time.Second))
}

func flap(ctx context.Context, t *trial) error {
	b, err := t.site.leader(ctx)
	if err != nil {
		return err
	}
	since := t.load.now()
	for range 20 {
		t.wiresOf(b.index, (*wire).cut)
		sleep(ctx, 300*time.Millisecond)
	}
	return t.paused(since, backTime)
}

func twins(ctx context.Context, t *trial) error {
	b := t.site.boxes[1]
	b.kill()
	other := *b
	other.dir = b.dir + "-twin"
	if err := command("cp", "-a", b.dir, other.dir); err != nil {
		return err
	}
	t.guilty = map[coord.BoxID]bool{b.id: true} // both may vote: the identity has lied
	base, err := freePorts(portsPerBox)
	if err != nil {
		return err
	}
	at := func(k int) string { return fmt.Sprintf("%s:%d", host, base+k) }
	other.console, other.native, other.peer, other.client, other.cmd = at(0), at(1), at(2), at(3), nil
	if err := t.site.writeConfig(&other); err != nil {
		return err
	}
	since := t.load.now()
	if err := errors.Join(t.site.start(b), t.site.start(&other)); err != nil {
		return err
	}
	defer other.kill()
	d, err := until(ctx, 10*time.Second, func() error {
		for _, x := range t.site.boxes {
			if x == b {
				continue
			}
			if v, err := x.view(ctx); err == nil && v.Members[b.index].Twins > 0 {
				return nil
			}
		}
		return errors.New("nobody shows that two machines have one identity")
	})
	sleep(ctx, 3*time.Second)
	if p := t.load.pause(since, t.load.now()); p > backTime {
		err = errors.Join(err, fmt.Errorf("writes paused for %v", p))
	}
	return errors.Join(err, t.took("detection", d, 10*time.Second))
}
