package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// dumpTimeMax is how long a box may take to print its whole log.
const dumpTimeMax = 30 * time.Second

// converge waits until all running boxes serve, show no fault, and have applied the same heights. There is no load.
func (s *site) converge(ctx context.Context, limit time.Duration) (time.Duration, error) {
	return until(ctx, limit, func() error {
		height, first := uint64(0), -1
		for _, b := range s.boxes {
			if b.cmd == nil {
				continue
			}
			if !b.alive() {
				return fmt.Errorf("box-%d has ended by itself", b.index)
			}
			st, err := b.status(ctx)
			if err != nil {
				return fmt.Errorf("box-%d: %w", b.index, err)
			}
			if st.Fault != "" {
				return fmt.Errorf("box-%d reports a fault: %s", b.index, st.Fault)
			}
			if !st.Serving {
				return fmt.Errorf("box-%d does not serve: %s", b.index, st.Verdict)
			}
			if first < 0 {
				first, height = b.index, st.Height
			}
			if st.Height != height {
				return fmt.Errorf("box-%d is at height %d, box-%d at %d", first, height, b.index, st.Height)
			}
		}
		return nil
	})
}

// submission names a message of a client.
type submission struct {
	session string
	seq     uint64
}

// dump is what one box says was ordered.
type dump struct {
	from, to uint64
	digests  map[uint64]string
	// puts are the submissions that carried a value; values of the load are never used twice.
	puts map[string]map[submission]bool
}

func (b *box) dump(ctx context.Context) (*dump, error) {
	ctx, cancel := context.WithTimeout(ctx, dumpTimeMax)
	defer cancel()
	r, err := remote.New("http://" + b.console)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d := &dump{digests: map[uint64]string{}, puts: map[string]map[submission]bool{}}
	err = r.Log(ctx, 0, 0, func(l *api.LogLine) error {
		if d.to != 0 && l.Height != d.to+1 {
			return fmt.Errorf("height %d follows %d", l.Height, d.to)
		}
		if d.to == 0 {
			d.from = l.Height
		}
		d.to = l.Height
		d.digests[l.Height] = l.Digest
		for i := range l.Messages {
			if m := &l.Messages[i]; m.Kind == "put" {
				if d.puts[string(m.Value)] == nil {
					d.puts[string(m.Value)] = map[submission]bool{}
				}
				d.puts[string(m.Value)][submission{m.Session, m.Seq}] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("box-%d: log dump: %w", b.index, err)
	}
	return d, nil
}

// checkLogs compares what the boxes say was ordered, with each other and with what clients were told.
func (s *site) checkLogs(ctx context.Context, history []call) error {
	digests := map[uint64]string{}
	by := map[uint64]int{}
	var whole *dump
	for _, b := range s.boxes {
		if !b.alive() {
			continue
		}
		d, err := b.dump(ctx)
		if err != nil {
			return err
		}
		for h, x := range d.digests {
			if old, ok := digests[h]; ok && old != x {
				return fmt.Errorf("FORK at height %d: box-%d has %s, box-%d has %s", h, by[h], old, b.index, x)
			}
			digests[h], by[h] = x, b.index
		}
		if d.from == 1 && (whole == nil || d.to > whole.to) {
			whole = d
		}
	}
	if whole == nil {
		return nil // every log was cut; the register check stands for the content
	}
	for _, o := range history {
		if o.verb != verbPut {
			continue
		}
		n := len(whole.puts[o.value])
		if n > 1 || n == 0 && !o.unknown {
			return fmt.Errorf("the write of %.20q to %s that was acknowledged at %v is in the log %d times", o.value, o.key, o.returned, n)
		}
	}
	return nil
}

// checkStates: boxes at the same height have the same keys.
func (s *site) checkStates(ctx context.Context) error {
	type kv struct {
		value    string
		revision uint64
	}
	seen := map[string]kv{}
	for _, b := range s.boxes {
		if !b.alive() {
			continue
		}
		for k := range keys {
			key := fmt.Sprintf("k%d", k)
			var got kv
			err := b.ask(ctx, func(ctx context.Context, r *remote.Box) error {
				x, err := r.Get(ctx, key)
				got = kv{string(x.Value), x.Revision}
				return err
			})
			if err != nil && !errors.Is(err, remote.ErrNotFound) {
				return fmt.Errorf("box-%d: %s: %w", b.index, key, err)
			}
			if old, ok := seen[key]; ok && old != got {
				return fmt.Errorf("box-%d has %s at revision %d, another box at %d", b.index, key, got.revision, old.revision)
			}
			seen[key] = got
		}
	}
	return nil
}

// checkAccused: nobody is accused but the guilty.
func (s *site) checkAccused(ctx context.Context, guilty map[coord.BoxID]bool) error {
	for _, b := range s.boxes {
		if !b.alive() {
			continue
		}
		err := b.ask(ctx, func(ctx context.Context, r *remote.Box) error {
			x, err := r.Evidence(ctx)
			if err != nil {
				return err
			}
			for i := range x.Findings {
				if !guilty[x.Findings[i].Box] {
					return fmt.Errorf("has evidence against the honest %s: %v round %d and %v round %d", x.Findings[i].Name,
						x.Findings[i].A.Kind, x.Findings[i].A.Round, x.Findings[i].B.Kind, x.Findings[i].B.Round)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("box-%d: %w", b.index, err)
		}
	}
	return nil
}
