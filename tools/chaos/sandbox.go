package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// insideEnv tells the program that it is the one inside the namespaces.
	insideEnv  = "HOLDFAST_CHAOS_INSIDE"
	cgroupRoot = "/sys/fs/cgroup"
)

// spawning is the one thread that starts children: they are told to die when it ends (PR_SET_PDEATHSIG in prctl(2) is
// about the thread, not the process).
var spawning = sync.OnceValue(func() chan func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// spawn starts a process that is killed when this program ends, however it ends.
func spawn(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	result := make(chan error)
	spawning() <- func() { result <- cmd.Start() }
	return <-result
}

// enterNamespaces runs this program again as the first process of new namespaces and waits for it. The kernel removes
// its processes, network and mounts when it ends.
func enterNamespaces(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTimeMax
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Setpgid:    true, // Ctrl-C comes through us
	}
	if err := spawn(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// settle makes the new namespaces usable: nothing mounted here is seen outside, /proc is of these processes, loopback is up.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	return command("ip", "link", "set", "lo", "up")
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// inject makes system calls of a running box fail or take long, as strace's -e inject= says, until stop is called.
func inject(ctx context.Context, b *box, calls, how string) (stop func(), err error) {
	pid := strconv.Itoa(b.cmd.Process.Pid)
	cmd := exec.Command("strace", "-f", "-qq", "-o", b.dir+".strace", "-e", "trace="+calls, "-e", "inject="+calls+":"+how, "-p", pid)
	if err := spawn(cmd); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it ends by our signal, or with the box
		close(ended)
	}()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(os.Interrupt) // strace then lets go of the box
		select {
		case <-ended:
		case <-time.After(stopTimeMax):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	_, err = until(ctx, stopTimeMax, func() error { return traced(pid) })
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// traced says whether every thread of the process has a tracer.
func traced(pid string) error {
	files, err := filepath.Glob("/proc/" + pid + "/task/*/status")
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		if strings.Contains(string(text), "TracerPid:\t0\n") {
			return errors.New("strace has not got hold of the box")
		}
	}
	return nil
}

// memory is the resident size of a box's process in bytes.
func (b *box) memory() (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(b.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// cgroup is a control group (version 1) that this run made.
type cgroup struct{ dir string }

func newCgroup(controller, name string) (*cgroup, error) {
	g := &cgroup{filepath.Join(cgroupRoot, controller, fmt.Sprintf("holdfast-chaos-%d-%s", time.Now().UnixNano(), name))}
	return g, os.Mkdir(g.dir, 0o755)
}

func (g *cgroup) set(file, value string) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0o644)
}

func (g *cgroup) add(b *box) error { return g.set("cgroup.procs", strconv.Itoa(b.cmd.Process.Pid)) }

// leave puts what still runs in the group back and removes it.
func (g *cgroup) leave() error {
	pids, err := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		if err := os.WriteFile(filepath.Join(filepath.Dir(g.dir), "cgroup.procs"), []byte(pid), 0o644); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return os.Remove(g.dir)
}
