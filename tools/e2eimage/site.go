package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/supervise/ntptest"
)

const (
	prefix = "10.77.0."
	bridge = "br0"
	tun    = "/dev/net/tun"
)

// network makes a bridge with taps, in the namespace that this process is in, and gives this side the addresses of its processes.
func network(ctx context.Context, taps, processes int) error {
	lines := []string{"ip link set lo up", "ip link add " + bridge + " type bridge", "ip link set " + bridge + " up", "ip addr add " + prefix + "1/24 dev " + bridge}
	for i := range taps {
		lines = append(lines, fmt.Sprintf("ip tuntap add dev tap%d mode tap", i), fmt.Sprintf("ip link set tap%d master %s up", i, bridge))
	}
	for i := range processes {
		lines = append(lines, fmt.Sprintf("ip addr add %s%d/24 dev %s", prefix, 11+i, bridge))
	}
	if _, err := os.Stat(tun); errors.Is(err, os.ErrNotExist) { // as in containers
		lines = append([]string{"mkdir -p " + filepath.Dir(tun), "mknod " + tun + " c 10 200"}, lines...)
	}
	for _, l := range lines {
		if _, err := run(ctx, strings.Fields(l)...); err != nil {
			return err
		}
	}
	return nil
}

// timeServer answers machines that have no clock of their own, or a wrong one, with this machine's time.
func timeServer(ctx context.Context) (io.Closer, error) {
	var lc net.ListenConfig
	l, err := lc.ListenPacket(ctx, "udp", net.JoinHostPort(prefix+"1", "123"))
	if err != nil {
		return nil, err
	}
	go ntptest.Server{Now: time.Now, Stratum: 2, Dispersion: 10 * time.Millisecond}.Serve(l)
	return l, nil
}

// process is a box that is a program on this side.
type process struct {
	program, dir, address string
	cmd                   *exec.Cmd
	done                  chan error
}

func newProcess(program, dir string, n int, more string) (*process, error) {
	p := &process{program: program, dir: filepath.Join(dir, fmt.Sprintf("process-%d", n)), address: fmt.Sprintf("%s%d", prefix, 11+n)}
	if err := errors.Join(os.RemoveAll(p.dir), os.MkdirAll(p.dir, 0o700)); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("data_dir = \".\"\nname = \"process-%d\"\n[peer]\nlisten = \"%[2]s:7400\"\n[client]\nlisten = \"%[2]s:2379\"\n[console]\nlisten = \"%[2]s:8080\"\n[join]\nlisten = \"%[2]s:7500\"\n%[3]s", n, p.address, more)
	return p, os.WriteFile(p.config(), []byte(text), 0o600)
}

func (p *process) config() string { return filepath.Join(p.dir, "holdfast.toml") }
func (p *process) socket() string { return "unix://" + filepath.Join(p.dir, "holdfast.sock") }

func (p *process) start() error {
	log, err := os.OpenFile(filepath.Join(p.dir, "box.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.program, "run", "--config", p.config())
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.done = make(chan error, 1)
	go func() { p.done <- p.cmd.Wait() }()
	return nil
}

func (p *process) close() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// site asks the first process.
type site struct {
	first  *process
	tokens []string // to join with, each good for one box
}

// makeToken has the site make a token with which a box can join.
func (s *site) makeToken(ctx context.Context) error {
	out, err := run(ctx, s.first.program, "site", "join-token", "--ttl", "4h", "--addr", s.first.socket())
	if err != nil {
		return err
	}
	for w := range strings.FieldsSeq(out) {
		if strings.HasPrefix(w, "HF") {
			s.tokens = append(s.tokens, w)
			return nil
		}
	}
	return fmt.Errorf("no token in %q", out)
}

func (s *site) joinToken() string {
	t := s.tokens[0]
	s.tokens = s.tokens[1:]
	return t
}

// up waits until n boxes are members and up.
func (s *site) up(ctx context.Context, n int, most time.Duration) error {
	return until(ctx, most, func() error {
		b, err := remote.New(s.first.socket())
		if err != nil {
			return err
		}
		defer b.Close()
		o, err := b.Site(ctx)
		if err == nil && (len(o.Members) != n || o.Up != n) {
			err = fmt.Errorf("%d boxes, %d up", len(o.Members), o.Up)
		}
		return err
	})
}

// id is the id of the member with a name.
func (s *site) id(ctx context.Context, name string) (string, error) {
	b, err := remote.New(s.first.socket())
	if err != nil {
		return "", err
	}
	defer b.Close()
	o, err := b.Site(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range o.Members {
		if m.Name == name {
			return fmt.Sprint(m.ID), nil
		}
	}
	return "", fmt.Errorf("no box %s in the site", name)
}

// setUp makes the first operator of a site with the setup code, as its console does.
func setUp(ctx context.Context, address, code, name, password string) error {
	body, err := json.Marshal(map[string]string{"code": code, "name": name, "password": password})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+net.JoinHostPort(address, "8080")+"/api/v1/setup", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	// The box's certificate is its own, and nobody is between the two ends of this bridge.
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}
	defer t.CloseIdleConnections()
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("set up: %s: %s", resp.Status, b)
	}
	return nil
}
