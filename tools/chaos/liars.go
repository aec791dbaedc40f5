package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// lyingBox builds the program of boxes that lie, beside the scenario.
func (t *trial) lyingBox(ctx context.Context) (string, error) {
	program := filepath.Join(t.dir, "liarbox")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/holdfast-edge/holdfast/tools/chaos/liarbox").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build liarbox: %w: %s", err, out)
	}
	return program, nil
}

// liarLeads starts a box as a liar and makes it the leader: the one before it in the order of leaders is killed, and
// comes back at once, so that no more than one box is at fault. The moment of the kill is since.
func (t *trial) liarLeads(ctx context.Context, program string, k liar.Kind) (b *box, since time.Duration, err error) {
	leader, b, err := t.leaderAndOther(ctx)
	if err != nil {
		return nil, 0, err
	}
	if t.guilty == nil {
		t.guilty = map[coord.BoxID]bool{}
	}
	t.guilty[b.id] = true
	b.kill()
	if err := t.site.startAs(b, program, "-kind", string(k), "-config", filepath.Join(b.dir, "holdfast.toml")); err != nil {
		return nil, 0, err
	}
	sleep(ctx, 3*time.Second) // it catches up
	since = t.load.now()
	leader.kill()
	_, err = t.back(ctx, leader, rejoin)
	return b, since, err
}

// honestAgain runs a box as it should be run, and waits until it serves.
func (t *trial) honestAgain(ctx context.Context, b *box) error {
	b.kill()
	_, err := t.back(ctx, b, rejoin)
	return err
}

// lyingLeader tries kinds of liars one after the other.
func lyingLeader(evidence bool, kinds ...liar.Kind) func(ctx context.Context, t *trial) error {
	return func(ctx context.Context, t *trial) error {
		program, err := t.lyingBox(ctx)
		if err != nil {
			return err
		}
		for _, k := range kinds {
			b, since, err := t.liarLeads(ctx, program, k)
			if err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
			sleep(ctx, 5*time.Second)
			// The leader before it was killed, which alone may take 2 s.
			if err := t.paused(since, 2*backTime); err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
			if evidence {
				if err := t.convicted(ctx, b); err != nil {
					return fmt.Errorf("%s: %w", k, err)
				}
			}
			if err := t.honestAgain(ctx, b); err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
		}
		return nil
	}
}

// convicted: an honest box keeps evidence against b that holds by itself, and none against another.
func (t *trial) convicted(ctx context.Context, b *box) error {
	found := 0
	for _, x := range t.site.boxes {
		if x == b {
			continue
		}
		err := x.ask(ctx, func(ctx context.Context, r *remote.Box) error {
			e, err := r.Evidence(ctx)
			if err != nil {
				return err
			}
			for i := range e.Findings {
				f := &e.Findings[i]
				if !t.guilty[f.Box] {
					return fmt.Errorf("box-%d accuses %v, which did not lie", x.index, f.Box)
				}
				if _, _, err := trust.CheckFinding(f); err != nil {
					return fmt.Errorf("the evidence of box-%d does not hold: %w", x.index, err)
				}
				if f.Box == b.id {
					found++
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if found == 0 {
		return errors.New("nobody kept evidence")
	}
	t.note("%d findings", found)
	return nil
}

// falseMessages: forged and replayed ones are counted against their sender, and change nothing.
func falseMessages(ctx context.Context, t *trial) error {
	program, err := t.lyingBox(ctx)
	if err != nil {
		return err
	}
	for _, k := range []liar.Kind{liar.Forger, liar.Replayer, liar.Historian, liar.Garbage} {
		b, since, err := t.liarLeads(ctx, program, k)
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		sleep(ctx, 4*time.Second)
		if err := t.paused(since, 2*backTime); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		counted := uint64(0)
		for _, x := range t.site.boxes {
			if x == b {
				continue
			}
			v, err := x.view(ctx)
			if err != nil {
				return err
			}
			counted += v.Members[b.index].Suspect
		}
		t.note("%s: %d counted", k, counted)
		if counted == 0 && k != liar.Replayer && k != liar.Historian { // what is only old is not held against anybody
			return fmt.Errorf("%s: nothing was counted against box-%d", k, b.index)
		}
		if err := t.honestAgain(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}
