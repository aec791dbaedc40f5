package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tellTimeMax bounds one command of a hook.
const tellTimeMax = 20 * time.Second

// beside runs a command beside a site, which ends with it. In its words ALL becomes the etcd endpoints of all boxes, FIRST
// that of the first, HOOK a command that breaks and mends boxes (see obey).
func beside(ctx context.Context, o *options, words []string) (err error) {
	dir, err := os.MkdirTemp("", "holdfast-beside-")
	if err != nil {
		return err
	}
	defer func() {
		if o.keep && err != nil {
			fmt.Fprintln(os.Stderr, "kept:", dir)
			return
		}
		_ = os.RemoveAll(dir)
	}()
	s, err := newSite(o.binary, filepath.Join(dir, "site"), o.boxes, nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.startAll(); err != nil {
		return err
	}
	if err := s.awaitServing(ctx); err != nil {
		return err
	}
	socket := filepath.Join(dir, "hook")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.hooks(l) })
	defer serving.Wait()
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var all []string
	for _, b := range s.boxes {
		all = append(all, b.client)
	}
	replace := strings.NewReplacer("ALL", strings.Join(all, ","), "FIRST", all[0], "HOOK", self+" -tell "+socket)
	for i := range words {
		words[i] = replace.Replace(words[i])
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = stopTimeMax
	return cmd.Run()
}

// hooks serves hooks, one at a time, until the listener is closed.
func (s *site) hooks(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(tellTimeMax))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil {
			answer := "ok"
			if err := s.obey(strings.Fields(line)); err != nil {
				answer = err.Error()
			}
			_, _ = fmt.Fprintln(c, answer) // who asked may be gone
		}
		_ = c.Close()
	}
}

// obey breaks or mends: kill I (or down I), start I (up I), stop I, cont I, partition I (nothing from and to its peers arrives),
// split I J (these two and the others do not hear each other), heal.
func (s *site) obey(words []string) error {
	var at []*box
	for _, w := range words[min(1, len(words)):] {
		i, err := strconv.Atoi(w)
		if err != nil || i < 0 || i >= len(s.boxes) {
			return fmt.Errorf("%q: want a box from 0 to %d", w, len(s.boxes)-1)
		}
		at = append(at, s.boxes[i])
	}
	wants := map[string]int{"kill": 1, "down": 1, "start": 1, "up": 1, "stop": 1, "cont": 1, "partition": 1, "split": 2}
	if len(words) == 0 || words[0] != "heal" && wants[words[0]] == 0 || wants[words[0]] != len(at) {
		return fmt.Errorf("%q: want kill|start|stop|cont|partition BOX, split BOX BOX, or heal", strings.Join(words, " "))
	}
	switch words[0] {
	case "kill", "down":
		at[0].kill()
	case "start", "up":
		if !at[0].alive() {
			return s.start(at[0])
		}
	case "stop":
		return at[0].signal(syscall.SIGSTOP)
	case "cont":
		return at[0].signal(syscall.SIGCONT)
	case "partition":
		s.isolate(at[0].index, way{hold: true}, true, true)
	case "split":
		for i := range s.boxes {
			for j := range s.boxes {
				if side := func(k int) bool { return k == at[0].index || k == at[1].index }; i != j && side(i) != side(j) {
					s.oneWay(i, j, way{hold: true})
				}
			}
		}
	case "heal":
		for i := range s.boxes {
			s.isolate(i, way{}, true, true)
		}
	}
	return nil
}

// tell is a hook: it has a site do something.
func tell(socket string, words []string) error {
	c, err := net.DialTimeout("unix", socket, tellTimeMax)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(tellTimeMax))
	if _, err := fmt.Fprintln(c, strings.Join(words, " ")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return errors.New(answer)
	}
	return nil
}
