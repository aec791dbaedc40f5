package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	calmMin   = 1 * time.Second // between two faults
	calmMax   = 3 * time.Second
	brokenMin = 500 * time.Millisecond // how long a fault lasts
	brokenMax = 4 * time.Second
	hookMax   = 30 * time.Second // how long one run of the hook may take
)

// Hook breaks and mends boxes; arg is as the package comment says.
type Hook func(ctx context.Context, arg string) error

// shellHook is a Hook by a command.
func shellHook(cmd string) Hook {
	return func(ctx context.Context, arg string) error {
		c := exec.CommandContext(ctx, "sh", "-c", cmd+" "+arg)
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		c.WaitDelay = time.Second
		return c.Run()
	}
}

// faults breaks one box at a time and mends it, until ctx ends; nothing stays broken.
func (r *run) faults(ctx context.Context, rng *rand.Rand) {
	kinds := [][2]string{{"kill %d", "start %d"}, {"stop %d", "cont %d"}, {"partition %d", "heal"}, {"split %d %d", "heal"}}
	if len(r.cfg.endpoints) < 4 {
		kinds = kinds[:3] // of three the larger half is the rest of a partition
	}
	for i := 0; ; i++ {
		sleep(ctx, calmMin+time.Duration(rng.Int64N(int64(calmMax-calmMin))))
		if ctx.Err() != nil {
			return
		}
		if i %= len(kinds); i == 0 { // each kind once, in any order, and again
			rng.Shuffle(len(kinds), func(a, b int) { kinds[a], kinds[b] = kinds[b], kinds[a] })
		}
		k, boxes := kinds[i], rng.Perm(len(r.cfg.endpoints))
		arg := func(s string) string {
			switch strings.Count(s, "%d") {
			case 0:
				return s
			case 1:
				return fmt.Sprintf(s, boxes[0])
			}
			return fmt.Sprintf(s, boxes[0], boxes[1])
		}
		r.hook(arg(k[0]))
		sleep(ctx, brokenMin+time.Duration(rng.Int64N(int64(brokenMax-brokenMin))))
		r.hook(arg(k[1]))
	}
}

func (r *run) hook(arg string) {
	ctx, cancel := context.WithTimeout(context.Background(), hookMax)
	defer cancel()
	f := Fault{At: r.now(), Arg: arg}
	err := r.cfg.hook(ctx, arg)
	f.End = r.now()
	r.mu.Lock()
	r.hist.Faults = append(r.hist.Faults, f)
	r.mu.Unlock()
	if err != nil {
		r.fail(fmt.Errorf("hook %s: %w", arg, err))
	}
}
