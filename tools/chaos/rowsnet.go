package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

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
