package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/site"
)

const (
	healthyMax = 60 * time.Second
	pollEvery  = 5 * time.Millisecond
)

// running is a site under `holdfast dev`.
type running struct {
	cmd   *exec.Cmd
	dir   string
	http  *http.Client
	boxes []struct {
		ID      coord.BoxID `json:"id"`
		Console string      `json:"console"`
		Native  string      `json:"native"`
		PID     int         `json:"pid"`
	}
}

func start(ctx context.Context, binary string, n int) (*running, error) {
	dir, err := os.MkdirTemp("", "holdfast-detect-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &running{dir: dir, http: &http.Client{Timeout: 5 * time.Second}}
	s.cmd = exec.CommandContext(ctx, binary, "dev", "--boxes", strconv.Itoa(n), "--dir", filepath.Join(dir, "site"),
		"--console-port", strconv.Itoa(ports[0]), "--client-port", strconv.Itoa(ports[1]), "--peer-port", strconv.Itoa(ports[2]),
		"--ready-file", filepath.Join(dir, "ready"))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(os.Interrupt) }
	s.cmd.WaitDelay = 10 * time.Second
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := s.healthy(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// freePorts gives ports with room above each for the boxes of a site.
func freePorts(n int) ([]int, error) {
	var out []int
	for base := 14000; len(out) < n && base < 20000; base += 400 {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(base))
		if err != nil {
			continue
		}
		l.Close()
		out = append(out, base)
	}
	if len(out) < n {
		return nil, errors.New("no free ports")
	}
	return out, nil
}

func (s *running) stop() {
	for i := range s.boxes {
		_ = s.signal(i, syscall.SIGCONT) // a stopped one would not end; it may have ended
	}
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// reload reads the pids, which change when boxes are started again.
func (s *running) reload() error {
	b, err := os.ReadFile(filepath.Join(s.dir, "ready"))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, s.into())
}

func (s *running) into() any {
	return &struct {
		Boxes any `json:"boxes"`
	}{&s.boxes}
}

func (s *running) signal(i int, sig syscall.Signal) error {
	pid := s.boxes[i].PID
	if pid <= 0 {
		return fmt.Errorf("box %d does not run", i)
	}
	return syscall.Kill(pid, sig)
}

func (s *running) status(ctx context.Context, i int) (*site.View, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.boxes[i].Console+"/api/v1/status", nil)
	if err != nil {
		return nil, err
	}
	res, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", req.URL, res.Status)
	}
	v := new(site.View)
	return v, json.NewDecoder(res.Body).Decode(v)
}

// views are the statuses of all boxes.
func (s *running) views(ctx context.Context) ([]*site.View, error) {
	var vs []*site.View
	for i := range s.boxes {
		v, err := s.status(ctx, i)
		if err != nil {
			return nil, err
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// healthy waits until every box serves and sees all others.
func (s *running) healthy(ctx context.Context) error {
	for end := time.Now().Add(healthyMax); ; {
		err := s.reload()
		if err == nil {
			err = s.whole(ctx)
		}
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not healthy within %v: %w", healthyMax, err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (s *running) whole(ctx context.Context) error {
	vs, err := s.views(ctx)
	if err != nil {
		return err
	}
	for _, v := range vs {
		if !v.Serving {
			return fmt.Errorf("%s does not serve: %s", v.Name, v.Verdict)
		}
		for i := range v.Members {
			if m := &v.Members[i]; !m.Up {
				return fmt.Errorf("%s does not see %s", v.Name, m.Name)
			}
		}
	}
	return nil
}

// leader is the index of the box that leads.
func (s *running) leader(ctx context.Context) (int, error) {
	v, err := s.status(ctx, 0)
	if err != nil {
		return 0, err
	}
	for i := range s.boxes {
		if s.boxes[i].ID == v.Leader {
			return i, nil
		}
	}
	return 0, errors.New("no leader")
}

// client is connected to all boxes, the i-th first.
func (s *running) client(ctx context.Context, i int) (*client.Client, error) {
	c := client.Config{Name: "detect", InFlight: 1}
	for k := range s.boxes {
		b := &s.boxes[(i+k)%len(s.boxes)]
		c.Endpoints = append(c.Endpoints, client.Endpoint{Network: "tcp", Address: b.Native, Box: b.ID})
	}
	return client.Dial(ctx, c)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
