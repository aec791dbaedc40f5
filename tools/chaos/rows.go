package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/firmware/config"
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
