package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

const (
	writers     = 4
	writeMax    = 30 * time.Second // a write that took longer counts as refused
	writePause  = 20 * time.Millisecond
	rollingMax  = 25 * time.Minute
	decisionMax = 2 * time.Minute
	boxTimeLong = "10m"
	machinesMin = 4 // the smallest site that spares a box
)

// rolling removes the processes, so that the site is machines alone, and changes it over to a release while clients write.
func (r *runner) rolling(ctx context.Context) (string, error) {
	if len(r.vms) < machinesMin {
		return "", fmt.Errorf("%d machines; a site that orders while a box is away has %d", len(r.vms), machinesMin)
	}
	boxes, stop, err := r.consoles(ctx)
	if err != nil {
		return "", err
	}
	defer stop()
	program := filepath.Join(r.f.work, "holdfast")
	for _, p := range r.processes {
		_, err := run(ctx, program, "site", "remove", "--yes", "--force", "--addr", boxes[0].at, filepath.Base(p.dir))
		if err != nil {
			return "", err
		}
		if err := approved(ctx, boxes, func() error { return removed(ctx, boxes, filepath.Base(p.dir)) }); err != nil {
			return "", err
		}
		p.close()
		p.cmd = nil
	}
	// The keys of the boxes' own configurations are good for one box, not for what a site decides.
	signs, err := r.built.publicKey()
	if err != nil {
		return "", err
	}
	if _, err := run(ctx, program, "update", "trust", "--addr", boxes[0].at, "first", signs); err != nil {
		return "", err
	}
	if err := approved(ctx, boxes, func() error { return trusted(ctx, boxes) }); err != nil {
		return "", err
	}
	rel := *r.built.New
	rel.Version = "1.3.0"
	file, err := r.file("rolling", &rel, r.built.key)
	if err != nil {
		return "", err
	}
	load, err := newLoad(ctx, boxes)
	if err != nil {
		return "", err
	}
	began := time.Now()
	var plan *rollout.Plan
	// On a busy machine an answer may come too late; what the box has of the bundle by then is not asked for again.
	err = until(ctx, r.kind.upload, func() error {
		_, err := run(ctx, program, "update", "site", "--addr", boxes[0].at, "--health", healthFor, "--box-time", boxTimeLong, "--latency", "30s", file)
		if err != nil {
			if plan, _ = planOf(ctx, boxes); plan != nil {
				err = nil
			}
		}
		return err
	})
	given := time.Since(began)
	if err == nil {
		err = approved(ctx, boxes, func() error { plan, err = planOf(ctx, boxes); return err })
	}
	if err == nil {
		err = until(ctx, rollingMax, func() error {
			if plan, err = planOf(ctx, boxes); err == nil && plan.State == rollout.Running {
				err = fmt.Errorf("%d of %d boxes have it", plan.Count(rollout.Good), len(plan.Boxes))
			}
			return err
		})
	}
	took := time.Since(began)
	load.stop()
	if err != nil {
		return "", fmt.Errorf("%w; %v", err, load)
	}
	if plan.State != rollout.Done || plan.Count(rollout.Good) != len(r.vms) {
		return "", fmt.Errorf("the update is %s: %s; %+v; %v", plan.State, plan.Why, plan.Boxes, load)
	}
	for i, b := range boxes {
		u, err := b.Update(ctx)
		if err != nil {
			return "", err
		}
		if j := slices.IndexFunc(u.Slots, func(x api.UpdateSlot) bool { return x.Runs }); j < 0 || u.Slots[j].Version != rel.Version || u.Trial != "" {
			return "", fmt.Errorf("machine %d: %+v", i, u)
		}
	}
	if load.refused > 0 {
		return "", fmt.Errorf("after %v: %v", took, load)
	}
	return fmt.Sprintf("%d boxes within %v, of that given in %v: %v", len(plan.Boxes), took.Round(time.Second), given.Round(time.Second), load), nil
}

// atBox is a machine's console.
type atBox struct {
	*remote.Box
	at, address string
	id          coord.BoxID
}

// consoles opens the machines' consoles; stop closes them.
func (r *runner) consoles(ctx context.Context) (boxes []*atBox, stop func(), err error) {
	stop = func() {
		for _, b := range boxes {
			b.Close()
		}
	}
	for _, v := range r.vms {
		text, err := r.site.id(ctx, v.name)
		if err != nil {
			stop()
			return nil, nil, err
		}
		b := &atBox{at: "https://" + text + "@" + v.address + ":8080", address: v.address}
		if b.Box, err = remote.New(b.at); err == nil {
			boxes = append(boxes, b)
			err = b.id.UnmarshalText([]byte(text))
		}
		if err != nil {
			stop()
			return nil, nil, err
		}
	}
	return boxes, stop, nil
}

// approved has each machine say yes to whatever is open, until done has no error.
func approved(ctx context.Context, boxes []*atBox, done func() error) error {
	return until(ctx, decisionMax, func() error {
		err := done()
		if err == nil {
			return nil
		}
		for _, b := range boxes {
			all, derr := b.Decisions(ctx)
			err = errors.Join(err, derr)
			for i := range all.Open {
				if d := &all.Open[i]; d.Word == "" {
					_, werr := b.Word(ctx, d.ID.String(), true)
					err = errors.Join(err, werr)
				}
			}
		}
		return err
	})
}

// removed says whether all machines know that a box is a member no more.
func removed(ctx context.Context, boxes []*atBox, name string) error {
	for _, b := range boxes {
		o, err := b.Site(ctx)
		if err != nil {
			return err
		}
		for i := range o.Members {
			if o.Members[i].Name == name {
				return fmt.Errorf("%s still has %s", b.address, name)
			}
		}
		if o.Up != len(o.Members) {
			return fmt.Errorf("%d of %d boxes are up", o.Up, len(o.Members))
		}
	}
	return nil
}

// trusted says whether all machines know that the site has decided on a key.
func trusted(ctx context.Context, boxes []*atBox) error {
	for _, b := range boxes {
		u, err := b.Update(ctx)
		if err != nil {
			return err
		}
		if u.Own {
			return fmt.Errorf("%s knows of no key that the site has decided on", b.address)
		}
	}
	return nil
}

// planOf is the site's update, as the first machine that answers has it.
func planOf(ctx context.Context, boxes []*atBox) (*rollout.Plan, error) {
	var errs error
	for _, b := range boxes {
		u, err := b.Update(ctx)
		if err == nil && u.Plan == nil {
			err = errors.New("no update of the site")
		}
		if err == nil {
			return u.Plan, nil
		}
		errs = errors.Join(errs, err)
	}
	return nil, errs
}

// load is clients that write all the time, over TLS, to whichever machine takes it.
type load struct {
	cl   *client.Client
	stop func()

	mu      sync.Mutex
	done    int
	refused int
	why     error // of the first that was refused
	longest time.Duration
}

func newLoad(ctx context.Context, boxes []*atBox) (*load, error) {
	t, err := remote.FromEnv()
	if err != nil {
		return nil, err
	}
	c := client.Config{Name: "e2eimage", TokenFor: t.Native, Spread: true}
	for _, b := range boxes {
		c.Endpoints = append(c.Endpoints, client.Endpoint{Network: "tcp", Address: b.address + ":2380", Box: b.id})
	}
	l := new(load)
	if l.cl, err = client.Dial(ctx, c); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() { l.write(running, w) })
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		_ = l.cl.Close(ctx)
	})
	return l, nil
}

func (l *load) write(running context.Context, w int) {
	tick := time.NewTicker(writePause)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-running.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		// The last one is not broken off: it would count as refused.
		ctx, stop := context.WithTimeout(context.WithoutCancel(running), writeMax)
		_, err := l.cl.Put(ctx, fmt.Appendf(nil, "%s/%d/%d", key, w, i%100), fmt.Append(nil, i))
		stop()
		l.mu.Lock()
		if err != nil {
			l.refused++
			l.why = cmp.Or(l.why, err)
		} else {
			l.done++
		}
		l.longest = max(l.longest, time.Since(began))
		l.mu.Unlock()
	}
}

func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := fmt.Sprintf("%d writes, %d refused, the longest took %v", l.done, l.refused, l.longest.Round(time.Millisecond))
	if l.why != nil {
		s += ": " + l.why.Error()
	}
	return s
}
