// Command shim is the first program of a release that e2eimage spoils: it starts the real one in its own place, and a helper beside it
// that does what the kernel's command line asks for.
//
//	rdinit=/shim shim=exit     the first program ends: the kernel panics
//	shim=kill                  the coordinator is killed whenever it runs
//	shim=deaf                  the network cards are taken down, again and again: the box hears nothing of its site
//	shim=stop                  the coordinator is stopped (SIGSTOP) once, a while after the first start with this release
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	every     = 2 * time.Second
	stopAfter = 2 * time.Minute
	stopped   = "/var/lib/holdfast/shim-stopped"
)

func main() {
	if len(os.Args) > 1 {
		help(os.Args[1])
		return
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Println("shim:", err)
	}
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		fmt.Println("shim:", err)
	}
	mode := ""
	for w := range strings.FieldsSeq(string(b)) {
		if m, ok := strings.CutPrefix(w, "shim="); ok {
			mode = m
		}
	}
	if mode == "exit" {
		os.Exit(1)
	}
	helper := exec.Command("/shim", mode)
	helper.Stdin, helper.Stdout, helper.Stderr = os.Stdin, os.Stdout, os.Stderr // there is no /dev/null yet
	if err := helper.Start(); err != nil {
		fmt.Println("shim:", err)
	}
	fmt.Println("shim:", unix.Exec("/init", []string{"/init"}, os.Environ()))
}

func help(mode string) {
	began := time.Now()
	for ; ; time.Sleep(every) {
		switch mode {
		case "kill":
			signal(unix.SIGKILL)
		case "deaf":
			down()
		case "stop":
			if _, err := os.Stat(stopped); err == nil || time.Since(began) < stopAfter {
				continue
			}
			if os.WriteFile(stopped, nil, 0o600) == nil && signal(unix.SIGSTOP) {
				fmt.Println("shim: the coordinator is stopped")
			}
		}
	}
}

// signal signals the coordinator: the process whose second word is run.
func signal(s unix.Signal) (done bool) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return false
	}
	for _, f := range all {
		b, err := os.ReadFile(f)
		words := bytes.Split(b, []byte{0})
		pid, perr := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err == nil && perr == nil && pid != 1 && len(words) > 1 && string(words[1]) == "run" {
			done = unix.Kill(pid, s) == nil || done
		}
	}
	return done
}

// down takes the network cards down.
func down() {
	cards, err := filepath.Glob("/sys/class/net/*")
	if err != nil {
		return
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(s)
	for _, c := range cards {
		r, err := unix.NewIfreq(filepath.Base(c))
		if err != nil || filepath.Base(c) == "lo" {
			continue
		}
		if unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, r) == nil {
			r.SetUint16(r.Uint16() &^ unix.IFF_UP)
			if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r); err != nil {
				fmt.Println("shim:", err)
			}
		}
	}
}
