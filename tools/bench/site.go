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
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
)

// startMax is how long a site may take to serve.
const startMax = 60 * time.Second

// ready is the ready file of `holdfast dev`.
type ready struct {
	Boxes []struct {
		ID      coord.BoxID `json:"id"`
		Console string      `json:"console"`
		Native  string      `json:"native"`
		PID     int         `json:"pid"`
	} `json:"boxes"`
}

// site is a running site of processes.
type site struct {
	cmd   *exec.Cmd
	dir   string
	file  string
	ready ready
	http  *http.Client
}

func startSite(ctx context.Context, o options) (*site, error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, file: filepath.Join(dir, "ready"), http: &http.Client{Timeout: 2 * time.Second}}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.CommandContext(ctx, o.binary, "dev", "--boxes", strconv.Itoa(o.boxes), "--dir", filepath.Join(dir, "site"),
		"--console-port", strconv.Itoa(ports[0]), "--client-port", strconv.Itoa(ports[1]), "--peer-port", strconv.Itoa(ports[2]),
		"--ready-file", s.file)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(os.Interrupt) }
	s.cmd.WaitDelay = 10 * time.Second
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(startMax); ; time.Sleep(20 * time.Millisecond) {
		if s.reload() == nil {
			return s, nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			s.stop()
			return nil, fmt.Errorf("the site did not serve within %v: see %s", startMax, log.Name())
		}
	}
}

// freePorts gives ports with room above each for the boxes of a site.
func freePorts(n int) ([]int, error) {
	var out []int
	for base := 21000; len(out) < n && base < 32000; base += 500 {
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

// reload reads the ready file again: the pids change when boxes are restarted.
func (s *site) reload() error {
	b, err := os.ReadFile(s.file)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, &s.ready)
}

func (s *site) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// client is connected to all boxes, the i-th first.
func (s *site) client(ctx context.Context, i, inFlight int) (*client.Client, error) {
	c := client.Config{Name: "bench", InFlight: inFlight}
	for k := range s.ready.Boxes {
		b := &s.ready.Boxes[(i+k)%len(s.ready.Boxes)]
		c.Endpoints = append(c.Endpoints, client.Endpoint{Network: "tcp", Address: b.Native, Box: b.ID})
	}
	return client.Dial(ctx, c)
}

func (s *site) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// leader is the index of the box that leads, as the first that answers says.
func (s *site) leader(ctx context.Context) (int, error) {
	var err error
	for i := range s.ready.Boxes {
		var v struct {
			Leader coord.BoxID `json:"leader"`
		}
		if err = s.get(ctx, s.ready.Boxes[i].Console+"/api/v1/status", &v); err != nil {
			continue
		}
		for k := range s.ready.Boxes {
			if s.ready.Boxes[k].ID == v.Leader {
				return k, nil
			}
		}
	}
	return 0, fmt.Errorf("no box names a leader: %w", err)
}

// clockTick is USER_HZ, which Linux fixes at 100 for user space.
const clockTick = 100

// cpu is the CPU time of all boxes so far.
func (s *site) cpu() (time.Duration, error) {
	if err := s.reload(); err != nil {
		return 0, err
	}
	var sum time.Duration
	for i := range s.ready.Boxes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.ready.Boxes[i].PID))
		if err != nil {
			return 0, err
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		for _, k := range []int{11, 12} { // utime, stime
			n, err := strconv.ParseInt(f[k], 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * time.Second / clockTick
		}
	}
	return sum, nil
}

// idleCPU is the share of a core that a box uses when nothing happens.
func (s *site) idleCPU(ctx context.Context, d time.Duration) (float64, error) {
	progress("idle, %v", d)
	if err := pause(ctx, 3*time.Second); err != nil { // what follows the start
		return 0, err
	}
	a, err := s.cpu()
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, d); err != nil {
		return 0, err
	}
	b, err := s.cpu()
	return (b - a).Seconds() / d.Seconds() / float64(len(s.ready.Boxes)), err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rss is the resident memory of the largest box, in bytes.
func (s *site) rss() (int64, error) {
	if err := s.reload(); err != nil {
		return 0, err
	}
	var most int64
	for i := range s.ready.Boxes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.ready.Boxes[i].PID))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				n, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
				if err != nil {
					return 0, err
				}
				most = max(most, n<<10)
			}
		}
	}
	return most, nil
}

// kill ends a box as kill -9 does.
func (s *site) kill(i int) error {
	if err := s.reload(); err != nil {
		return err
	}
	return syscall.Kill(s.ready.Boxes[i].PID, syscall.SIGKILL)
}
