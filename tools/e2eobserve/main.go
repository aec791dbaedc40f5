// Command e2eobserve runs a real site under the programs that watch sites elsewhere: two of Debian's Prometheus (classic and native
// histograms) scrape it and evaluate the rules that ship, two Alertmanagers take what Prometheus and what the boxes themselves
// say, and a webhook of its own is down when it matters. It takes boxes away and brings them back, and says what it saw; it ends with 1 when
// something that docs/alarms.md promises did not happen. It runs the scenario of main.go from top to bottom.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e-observe:", err)
		os.Exit(1)
	}
}

// stepMax is how long one thing may take to happen.
const stepMax = 90 * time.Second

func run(ctx context.Context) (err error) {
	binary := flag.String("binary", "bin/holdfast", "the `program` under test")
	short := flag.Bool("short", false, "with shorter times in the rules, in about two minutes")
	keep := flag.Bool("keep", false, "keep the directory")
	flag.Parse()
	dir, err := os.MkdirTemp("", "e2eobserve.")
	if err != nil {
		return err
	}
	s := &scene{dir: dir, short: *short, step: stepMax}
	if s.binary, err = filepath.Abs(*binary); err != nil {
		return err
	}
	if !s.short {
		s.step = 5 * time.Minute
	}
	defer func() {
		err = errors.Join(err, s.close())
		if err != nil || *keep {
			fmt.Println("what was written is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"promtool takes the rules that ship", s.rules},
		{"a site of four boxes, their Alertmanager, and a webhook that is down", s.site},
		{"Prometheus scrapes it in both histogram modes, and quantiles have values in both", s.scrape},
		{"a box is stopped: both Prometheus say so by our rules", s.stopped},
		{"and the other boxes by themselves; Alertmanager makes one alarm of what three boxes say", s.told},
		{"the webhook's notice outlives the death of the box that has it", s.outbox},
		{"the box is back: all of them say that it is over", s.back},
		{"a silence keeps an alarm from being told, until it ends", s.silence},
		{"a test reaches every receiver", s.test},
	} {
		began := time.Now()
		err := step.do(ctx)
		result := "ok  "
		if err != nil {
			result = "FAIL"
		}
		fmt.Printf("%s %6.1f s  %s\n", result, time.Since(began).Seconds(), step.what)
		if err != nil {
			return err
		}
	}
	return nil
}

var times = regexp.MustCompile(`(?m)^( +(?:for|keep_firing_for): ).*$`)

// rules writes the file that ships, and one with shorter times for a short run.
func (s *scene) rules(ctx context.Context) error {
	text, err := exec.CommandContext(ctx, s.binary, "alarm", "rules").Output()
	if err != nil {
		return fmt.Errorf("holdfast alarm rules: %w", err)
	}
	shipped := filepath.Join(s.dir, "holdfast.rules.yaml")
	if err := os.WriteFile(shipped, text, 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "promtool", "check", "rules", shipped).CombinedOutput(); err != nil || !strings.Contains(string(out), "SUCCESS") {
		return fmt.Errorf("promtool: %w: %s", err, out)
	}
	s.ruleFile = shipped
	if s.short {
		s.ruleFile = filepath.Join(s.dir, "short.rules.yaml")
		return os.WriteFile(s.ruleFile, times.ReplaceAll(text, []byte("${1}4s")), 0o600)
	}
	return nil
}

// own is a rule of the site's own, whose alarm fires on a box when somebody has asked it what is observed most.
const own = `groups:
  - name: own
    rules:
      - alert: ShopClosed
        expr: max by (site) (http_server_request_duration_seconds_count{http_route="/api/v1/top"}) > 0
        labels: { severity: warning, scope: site }
        annotations: { summary: "the shop is closed" }
`

func (s *scene) site(ctx context.Context) error {
	if err := s.ports(); err != nil {
		return err
	}
	if err := s.alertmanagers(ctx); err != nil {
		return err
	}
	if err := s.found(ctx); err != nil {
		return err
	}
	for i := range boxes {
		if err := s.configure(i); err != nil {
			return err
		}
		if err := s.startBox(ctx, i); err != nil {
			return err
		}
	}
	return s.until(ctx, "the site serves", func() error { return s.holdfast(ctx, 0, nil, "kv", "put", "/a", "1") })
}

func (s *scene) scrape(ctx context.Context) error {
	for _, p := range s.proms {
		if err := s.startPrometheus(ctx, p); err != nil {
			return err
		}
	}
	for _, p := range s.proms {
		if err := s.until(ctx, p.name+" has scraped four boxes", func() error {
			n, err := p.count(ctx, `sum(up) == 4`)
			if err == nil && n == 0 {
				err = errors.New("not yet")
			}
			return err
		}); err != nil {
			return err
		}
	}
	// The rule's own expression, without its bound.
	text, err := os.ReadFile(s.ruleFile)
	if err != nil {
		return err
	}
	_, rule, ok := strings.Cut(string(text), "alert: HoldfastLatency")
	_, rule, ok2 := strings.Cut(rule, "expr: |")
	expr, _, ok3 := strings.Cut(rule, "for:")
	if !ok || !ok2 || !ok3 {
		return errors.New("there is no rule HoldfastLatency")
	}
	expr = strings.ReplaceAll(strings.Join(strings.Fields(expr), " "), "> 0.5", "> 0")
	for _, p := range s.proms {
		n := 0
		if err := s.until(ctx, p.name+" has quantiles of the box that is written to", func() (err error) {
			n++
			if err = s.holdfast(ctx, 0, nil, "kv", "put", "/a", fmt.Sprint(n)); err != nil {
				return err
			}
			got, err := p.count(ctx, expr)
			if err == nil && got == 0 {
				err = errors.New("none yet")
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

const away = "HoldfastBoxAway"

func (s *scene) stopped(ctx context.Context) error {
	if err := s.stopBox(3); err != nil {
		return err
	}
	for _, p := range s.proms {
		if err := s.until(ctx, p.name+" fires "+away, func() error { return p.fires(ctx, away, "box-3") }); err != nil {
			return err
		}
	}
	return s.until(ctx, "Prometheus's Alertmanager has it", func() error { return s.managers[0].has(ctx, away, "box-3", 1) })
}

func (s *scene) told(ctx context.Context) error {
	for i := range boxes - 1 {
		if err := s.until(ctx, fmt.Sprintf("box %d fires %s", i, away), func() error { return s.boxFires(ctx, i, away, "") }); err != nil {
			return err
		}
	}
	return s.until(ctx, "the boxes' Alertmanager has one alarm", func() error { return s.managers[1].has(ctx, away, "box-3", 1) })
}

func (s *scene) outbox(ctx context.Context) error {
	waits := func() error {
		v, err := s.alarms(ctx, 0)
		if err != nil {
			return err
		}
		for _, r := range v.Receivers {
			if strings.HasPrefix(r.Name, "webhook") && r.Waiting > 0 && r.Error != "" {
				return nil
			}
		}
		return fmt.Errorf("receivers of box 0: %+v", v.Receivers)
	}
	if err := s.until(ctx, "the notice waits on box 0", waits); err != nil {
		return err
	}
	if err := s.killBox(0); err != nil {
		return err
	}
	if err := s.startBox(ctx, 0); err != nil {
		return err
	}
	if err := s.until(ctx, "the notice waits after the restart", waits); err != nil {
		return err
	}
	if err := s.hook.start(); err != nil {
		return err
	}
	return s.until(ctx, "the webhook has it", func() error { return s.hook.got("firing", away, "box-3") })
}

func (s *scene) back(ctx context.Context) error {
	if err := s.startBox(ctx, 3); err != nil {
		return err
	}
	for _, p := range s.proms {
		if err := s.until(ctx, p.name+" ends "+away, func() error {
			if p.fires(ctx, away, "box-3") == nil {
				return errors.New("it still fires")
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for i, m := range s.managers {
		if err := s.until(ctx, fmt.Sprintf("Alertmanager %d ends it", i), func() error { return m.has(ctx, away, "box-3", 0) }); err != nil {
			return err
		}
	}
	return s.until(ctx, "the webhook has that it is over", func() error { return s.hook.got("resolved", away, "box-3") })
}

func (s *scene) silence(ctx context.Context) error {
	ids := make([]string, boxes)
	for i := range boxes {
		var x struct{ ID string }
		if err := s.holdfast(ctx, i, &x, "alarm", "silence", "ShopClosed", "--why", "a test", "--json"); err != nil {
			return err
		}
		ids[i] = x.ID
	}
	for i := range boxes {
		if err := s.holdfast(ctx, i, nil, "top", "-n", "1", "--json"); err != nil {
			return err
		}
	}
	for i := range boxes {
		if err := s.until(ctx, "the silenced alarm is shown", func() error { return s.boxFires(ctx, i, "ShopClosed", ids[i]) }); err != nil {
			return err
		}
	}
	if s.hook.got("firing", "ShopClosed", "") == nil || s.managers[1].has(ctx, "ShopClosed", "", 0) != nil {
		return errors.New("an alarm was told although it is silenced")
	}
	if err := s.holdfast(ctx, 0, nil, "alarm", "unsilence", ids[0]); err != nil {
		return err
	}
	return s.until(ctx, "it is told when the silence ends", func() error {
		return errors.Join(s.hook.got("firing", "ShopClosed", ""), s.managers[1].has(ctx, "ShopClosed", "", 1))
	})
}

func (s *scene) test(ctx context.Context) error {
	if err := s.holdfast(ctx, 1, nil, "alarm", "test"); err != nil {
		return err
	}
	return s.until(ctx, "the test arrives", func() error {
		return errors.Join(s.hook.got("firing", "HoldfastTest", ""), s.hook.got("resolved", "HoldfastTest", ""), s.managers[1].has(ctx, "HoldfastTest", "", 1))
	})
}

// until tries fn until it gives nil, or the step's time is over.
func (s *scene) until(ctx context.Context, what string, fn func() error) error {
	ctx, cancel := context.WithTimeout(ctx, s.step)
	defer cancel()
	for {
		err := fn()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v: %w", what, s.step, err)
		case name := <-s.ended:
			if !slices.Contains(s.stopping, name) {
				return fmt.Errorf("%s: %s ended: see its log", what, name)
			}
		}
	}
}
