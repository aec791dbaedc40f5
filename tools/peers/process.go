package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// stopMax is how long a process may take to end.
const stopMax = 10 * time.Second

// cluster is processes of one system.
type cluster struct {
	dir   string
	procs []*exec.Cmd
}

// spawn starts this program as a node, with its share of the machine's n-th part of CPUs. What it says is in the directory.
func (c *cluster) spawn(n int, kind string, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("node-%d.log", len(c.procs))))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self, append([]string{"node", kind}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", max(1, runtime.NumCPU()/n)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.procs = append(c.procs, cmd)
	return nil
}

func (c *cluster) pids() (all []int) {
	for _, p := range c.procs {
		all = append(all, p.Process.Pid)
	}
	return all
}

func (c *cluster) stop() {
	for _, p := range c.procs {
		_ = p.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	for _, p := range c.procs {
		late := time.AfterFunc(stopMax, func() { _ = p.Process.Kill() })
		_ = p.Wait()
		late.Stop()
	}
}

// logs is the end of what the nodes said.
func (c *cluster) logs() string {
	out := ""
	for i := range c.procs {
		b, _ := os.ReadFile(filepath.Join(c.dir, fmt.Sprintf("node-%d.log", i)))
		out += string(b[max(0, len(b)-300):])
	}
	return out
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

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
