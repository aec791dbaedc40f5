// Command e2econsole shows the console as people meet it: it runs a site of four boxes with something to see on it, drives every page in Chromium
// (folder browser: sizes, schemes, axe, content security policy, without script, with the keyboard alone, forms, live changes, layout), and
// loads it with 200 viewers and with hostile connections. tools/deps.sh e2e-console installs what it needs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

func main() {
	// Pdeathsig counts from the thread that started a process: it has to stay.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := e2econsole(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2econsole:", err)
		os.Exit(1)
	}
}

// images are the pictures of the README: page, size and scheme.
func images() []string {
	return []string{"overview-desktop-light", "overview-phone-dark", "why-desktop-light", "traces-one-desktop-light", "alarms-phone-dark"}
}

func e2econsole(ctx context.Context) (err error) {
	short := flag.Bool("short", false, "each page once at each size, and a small load: below three minutes")
	only := flag.String("only", "", "parts, with commas: pages, policy, noscript, keyboard, live, typing, forms, settings, setup, passkeys, gone, load")
	update := flag.Bool("update", false, "write tools/e2econsole/layout.json as the pages are now")
	pictures := flag.Bool("images", false, "write the README's pictures to docs/img")
	serve := flag.Bool("serve", false, "only run the site, until it is interrupted")
	program := flag.String("program", "bin/holdfast", "the program to look at")
	work := flag.String("work", "bin/e2econsole", "where playwright-core and axe-core are, and where pictures and logs go")
	flag.Parse()
	dir, err := filepath.Abs(*work)
	if err != nil {
		return err
	}
	bin, err := filepath.Abs(*program)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	s, err := startSite(ctx, bin, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.populate(ctx); err != nil {
		return fmt.Errorf("something to see: %w", err)
	}
	if *serve {
		fmt.Printf("%s as %s with %s\n", s.Boxes[0].Console, operator, s.Password)
		<-ctx.Done()
		return nil
	}
	parts := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	if *only != "load" {
		if err := browse(ctx, s, dir, parts, *short, *update, *pictures); err != nil {
			return err
		}
	}
	if *only == "" || *only == "load" {
		return load(ctx, s, *short)
	}
	return nil
}

// browse runs the browser's part.
func browse(ctx context.Context, s *liveSite, dir string, parts []string, short, update, pictures bool) error {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		return fmt.Errorf("%w; run ./tools/deps.sh e2e-console", err)
	}
	fresh, err := startFresh(ctx, s, "fresh", "")
	if err != nil {
		return err
	}
	// Chromium has passkeys at localhost without TLS, and at no address.
	keys, err := startFresh(ctx, s, "passkeys", "passkeys = \"localhost\"\n")
	if err != nil {
		return err
	}
	last := s.Boxes[len(s.Boxes)-1]
	config := map[string]any{
		"modules": dir, "chromium": chromium, "shots": filepath.Join(dir, "shots"), "layoutFile": "tools/e2econsole/layout.json", "imagesDir": "docs/img",
		"base": s.Boxes[0].Console, "client": "http://" + s.Boxes[0].Client, "operator": operator, "password": s.Password,
		"others":  []int{s.Boxes[1].PID, s.Boxes[2].PID},
		"last":    map[string]any{"base": last.Console, "pid": last.PID},
		"fresh":   map[string]any{"base": fresh.console, "code": fresh.code},
		"passkey": map[string]any{"base": strings.Replace(keys.console, "127.0.0.1", "localhost", 1), "code": keys.code},
		"short":   short, "update": update,
	}
	if len(parts) > 0 {
		config["only"] = parts
	}
	if pictures {
		config["images"] = images()
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, text, 0o600); err != nil { // it has a password, if only one of a site that is thrown away
		return err
	}
	cmd := exec.CommandContext(ctx, "node", "tools/e2econsole/browser/main.mjs", file)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("in the browser: %w", err)
	}
	return nil
}
