package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

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
