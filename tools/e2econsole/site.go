package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	operator = "admin" // of `holdfast dev`
	boxes    = 4
	// startTimeMax is how long a site may take to serve on a busy machine, stopTimeMax to stop.
	startTimeMax = 60 * time.Second
	stopTimeMax  = 20 * time.Second
	poll         = 50 * time.Millisecond
	// callTimeMax is how long one request to a box may take.
	callTimeMax = 15 * time.Second
)

// liveSite is a running `holdfast dev`, and what its ready file says.
type liveSite struct {
	Boxes []struct {
		Console, Client, Dir string
		PID                  int
	}
	Password string

	program, dir string
	children     []*exec.Cmd
	log          *os.File
}

// startSite runs a new site, with objects of a real request trace being counted. What it prints goes to dir/site.log.
func startSite(ctx context.Context, program, dir string) (*liveSite, error) {
	s := &liveSite{program: program, dir: filepath.Join(dir, "site")}
	if err := os.RemoveAll(s.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if s.log, err = os.Create(filepath.Join(dir, "site.log")); err != nil {
		return nil, err
	}
	base, err := freePorts(ctx)
	if err != nil {
		return nil, err
	}
	ready := filepath.Join(s.dir, "ready.json")
	died, err := s.run("dev", "--boxes", strconv.Itoa(boxes), "--dir", filepath.Join(s.dir, "boxes"), "--ready-file", ready,
		"--console-port", strconv.Itoa(base), "--peer-port", strconv.Itoa(base+20), "--client-port", strconv.Itoa(base+40),
		"--feed", "testdata/traces/web07.trace.xz", "--feed-rate", "100")
	if err != nil {
		return nil, err
	}
	err = await(ctx, startTimeMax, died, func() error {
		text, err := os.ReadFile(ready)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, s)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the site does not serve, see %s: %w", s.log.Name(), err), s.stop())
	}
	return s, nil
}

// run starts the program; what comes back is closed when it has ended.
func (s *liveSite) run(args ...string) (<-chan struct{}, error) {
	cmd := exec.Command(s.program, args...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.children = append(s.children, cmd)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // what it says is in the log
	}()
	return ended, nil
}

// stop ends what run has started.
func (s *liveSite) stop() error {
	for _, cmd := range s.children {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
	}
	err := await(context.Background(), stopTimeMax, nil, func() error {
		for _, cmd := range s.children {
			if cmd.Process.Signal(syscall.Signal(0)) == nil {
				return errors.New("a process does not stop")
			}
		}
		return nil
	})
	return errors.Join(err, s.log.Close())
}

// fresh is a box that nobody has set up.
type fresh struct{ console, code string }

// startFresh runs a site of one new box, which has no operator yet, in the folder name. more is of its console's configuration.
func startFresh(ctx context.Context, s *liveSite, name, more string) (*fresh, error) {
	base, err := freePorts(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "holdfast.toml")
	text := fmt.Sprintf("data_dir = %q\nname = \"new-box\"\n[peer]\nlisten = \"127.0.0.1:%d\"\n[client]\nlisten = \"127.0.0.1:%d\"\n[console]\nlisten = \"127.0.0.1:%d\"\n%s",
		dir, base+20, base+40, base, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if _, err := s.tool(ctx, "", "site", "init", "--config", config, "--name", "new-box", "--peer", "127.0.0.1:"+strconv.Itoa(base+20)); err != nil {
		return nil, err
	}
	died, err := s.run("run", "--config", config)
	if err != nil {
		return nil, err
	}
	f := &fresh{console: "http://127.0.0.1:" + strconv.Itoa(base)}
	err = await(ctx, startTimeMax, died, func() error {
		if _, err := get(ctx, http.DefaultClient, f.console+"/setup"); err != nil {
			return err
		}
		code, err := os.ReadFile(filepath.Join(dir, "setup.code"))
		f.code = strings.TrimSpace(string(code))
		return err
	})
	return f, err
}

// tool runs a command of the program.
func (s *liveSite) tool(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("holdfast %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// populate gives every page something to show: keys of several kinds, a lease, operators, a token, a decision that waits, refusals.
func (s *liveSite) populate(ctx context.Context) error {
	socket := "unix://" + filepath.Join(s.Boxes[0].Dir, "holdfast.sock")
	for _, kv := range [][2]string{
		{"config/ttl", "60"},
		{"config/upstream", `{"hosts":["origin-a.example","origin-b.example"],"timeout_ms":1500}`},
		{"config/ttl", "90"},
		{"cache/purge/2026-11-28", "/img/*"},
		{"leader/cache", "box-1"},
		{"service/web/10.0.0.11", "up"},
		{"service/web/10.0.0.12", "up"},
		{"service/" + strings.Repeat("a-long-name-", 12), strings.Repeat("long values must wrap ", 20)},
		{"binary/\x00\xff", "\x01\x02\xfe"},
	} {
		if err := s.put(ctx, kv[0], kv[1], 0); err != nil {
			return err
		}
	}
	lease, err := s.call(ctx, "lease/grant", map[string]any{"TTL": 3600})
	if err != nil {
		return err
	}
	id, _ := lease["ID"].(string)
	number, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return fmt.Errorf("lease %v: %w", lease, err)
	}
	if err := s.put(ctx, "lock/deploy", "build-4711", number); err != nil {
		return err
	}
	// The word of one box alone waits for that of the others.
	if _, err := s.tool(ctx, "", "operator", "reset", operator, "--addr", socket); err != nil {
		return err
	}
	_, err = s.tool(ctx, s.Password+"\n", "token", "issue", "--operator", operator, "--actions", "kv.get,kv.put", "--resources", "key:cache/*", "--ttl", "24h",
		"--note", "the cache of the shop", "--addr", socket)
	return err
}

func (s *liveSite) put(ctx context.Context, key, value string, lease int64) error {
	b64 := func(t string) string { return base64.StdEncoding.EncodeToString([]byte(t)) }
	_, err := s.call(ctx, "kv/put", map[string]any{"key": b64(key), "value": b64(value), "lease": lease})
	return err
}

// call asks box 0 over the etcd API.
func (s *liveSite) call(ctx context.Context, path string, body any) (map[string]any, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.Boxes[0].Client+"/v3/"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %d %v", path, resp.StatusCode, answer)
	}
	return answer, nil
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %.200s", url, resp.StatusCode, text)
	}
	return string(text), err
}

// await polls until fn has no error, what it waits for has died (which may be nil), or its time is over.
func await(ctx context.Context, most time.Duration, died <-chan struct{}, fn func() error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := fn()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-died:
			return fmt.Errorf("it has ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", most, err)
		}
	}
}

// freePorts finds 100 ports that nobody uses, and gives the first. They are below 32768, where Linux takes the ports of outgoing connections from.
func freePorts(ctx context.Context) (int, error) {
search:
	for base := 15000 + os.Getpid()%100*100; base < 32000; base += 100 {
		for _, port := range []int{0, 1, 2, 3, 20, 21, 22, 23, 40, 41, 50, 51, 60, 61, 70, 71} {
			var lc net.ListenConfig
			l, err := lc.Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(base+port))
			if err != nil {
				continue search
			}
			_ = l.Close()
		}
		return base, nil
	}
	return 0, errors.New("no free ports")
}
