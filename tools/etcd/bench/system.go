package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// system is a running cluster.
type system struct {
	endpoints []string
	procs     []*exec.Cmd
	servers   []int // pids, when they are not procs themselves
}

func (s *system) pids() []int {
	if s.servers != nil {
		return s.servers
	}
	var out []int
	for _, p := range s.procs {
		out = append(out, p.Process.Pid)
	}
	return out
}

func (s *system) stop() {
	for _, p := range s.procs {
		_ = p.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range s.procs {
		done := make(chan struct{})
		go func() {
			_ = p.Wait()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = p.Process.Kill()
			<-done
		}
	}
}

// freePorts are n ports that nobody uses now.
func freePorts(n int) (ports []int, err error) {
	for len(ports) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func startEtcd(node, dir string, n int) (*system, error) {
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("n%d=http://127.0.0.1:%d", i, ports[n+i]))
	}
	s := &system{}
	for i := range n {
		client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[i]), fmt.Sprintf("http://127.0.0.1:%d", ports[n+i])
		c := exec.Command(node, "--name", fmt.Sprintf("n%d", i), "--data-dir", filepath.Join(dir, fmt.Sprint(i)),
			"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(all, ","), "--log-level", "error")
		c.Stderr = os.Stderr
		c.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", max(1, runtime.NumCPU()/n))) // as `holdfast dev` does; etcd gains by it
		if err := c.Start(); err != nil {
			s.stop()
			return nil, err
		}
		s.procs = append(s.procs, c)
		s.endpoints = append(s.endpoints, fmt.Sprintf("127.0.0.1:%d", ports[i]))
	}
	return s, nil
}

func startHoldfast(binary, dir string, n int) (*system, error) {
	ready := filepath.Join(dir, "ready")
	base := 22000 + os.Getpid()%1000*8
	c := exec.Command(binary, "dev", "--boxes", fmt.Sprint(n), "--dir", filepath.Join(dir, "site"), "--ready-file", ready,
		"--console-port", fmt.Sprint(base), "--peer-port", fmt.Sprint(base+20), "--client-port", fmt.Sprint(base+40))
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	s := &system{procs: []*exec.Cmd{c}}
	for range 200 {
		b, err := os.ReadFile(ready)
		if errors.Is(err, os.ErrNotExist) {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		var r struct {
			Boxes []struct {
				Client string
				PID    int
			}
		}
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err != nil {
			s.stop()
			return nil, err
		}
		for _, x := range r.Boxes {
			s.endpoints = append(s.endpoints, x.Client)
			s.servers = append(s.servers, x.PID)
		}
		return s, nil
	}
	s.stop()
	return nil, errors.New("the site is not ready")
}
