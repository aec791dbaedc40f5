package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	coordsite "github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

const (
	host = "127.0.0.1"
	// Ports of a site: portsPerBox for each box's listeners, then one for each wire.
	portMin, portMax = 12000, 31000
	portsPerBox      = 4
	askTimeMax       = 2 * time.Second
	servePatience    = 20 * time.Second
	statusPoll       = 50 * time.Millisecond
)

// box is one real process and its directory.
type box struct {
	index                 int
	id                    coord.BoxID
	dir                   string
	command               []string // runs it, without its configuration
	console, native, peer string
	client                string // the etcd API
	cmd                   *exec.Cmd
	ended                 chan struct{} // closed when cmd has ended
	log                   *os.File
}

// site is the boxes of one scenario and what joins them.
type site struct {
	dir    string
	boxes  []*box
	wires  [][]*wire // from, to; nil at the same box
	config func(*config.Config)
}

// newSite founds a site of n boxes in dir. place, if not nil, prepares the directory of a box.
func newSite(program, dir string, n int, edit func(*config.Config), place func(i int, dir string) error) (*site, error) {
	base, err := freePorts(n*portsPerBox + n*n)
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, config: edit}
	m := &coord.Members{Epoch: 1}
	if _, err := rand.Read(m.Site[:]); err != nil {
		return nil, err
	}
	at := func(k int) string { return net.JoinHostPort(host, strconv.Itoa(base+k)) }
	for i := range n {
		b := &box{
			index: i, dir: filepath.Join(dir, "box-"+strconv.Itoa(i)), command: []string{program, "run"},
			console: at(portsPerBox * i), native: at(portsPerBox*i + 1), peer: at(portsPerBox*i + 2),
			client: at(portsPerBox*i + 3),
		}
		if err := os.MkdirAll(b.dir, 0o700); err != nil {
			return nil, err
		}
		if place != nil {
			if err := place(i, b.dir); err != nil {
				return nil, err
			}
		}
		id, err := trust.LoadOrCreate(b.dir)
		if err != nil {
			return nil, err
		}
		b.id = id.ID()
		m.List = append(m.List, coord.Member{
			ID: b.id, Name: "box-" + strconv.Itoa(i), Key: id.PublicKey(),
			Peer: b.peer, Native: b.native, Console: b.console, Client: b.client,
		})
		s.boxes = append(s.boxes, b)
	}
	for i, b := range s.boxes {
		// Every box gets its own site.json, in which the others are at the far ends of its wires.
		seen := *m
		seen.List = append([]coord.Member(nil), m.List...)
		s.wires = append(s.wires, make([]*wire, n))
		for j, other := range s.boxes {
			if i == j {
				continue
			}
			seen.List[j].Peer = at(n*portsPerBox + i*n + j)
			w, err := newWire(seen.List[j].Peer, other.peer)
			if err != nil {
				s.close()
				return nil, err
			}
			s.wires[i][j] = w
		}
		if err := errors.Join(trust.SaveMembers(b.dir, &seen), s.writeConfig(b)); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *site) writeConfig(b *box) error {
	c, err := config.Default()
	if err != nil {
		return err
	}
	c.DataDir, c.Name = ".", "box-"+strconv.Itoa(b.index)
	c.Console.Listen, c.Client.Listen, c.Native.Listen, c.Peer.Listen = b.console, b.client, b.native, b.peer
	c.Console.View = "open"
	if s.config != nil {
		s.config(c)
	}
	var out strings.Builder
	if err := c.Encode(&out); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, "holdfast.toml"), []byte(out.String()), 0o644)
}

// freePorts finds a range in which nobody listens. Another may take it meanwhile; then a box says so and the row fails.
func freePorts(n int) (int, error) {
	var seed [2]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return 0, err
	}
	start := int(seed[0])<<8 | int(seed[1])
	for try := range 100 {
		base := portMin + (start+try*n)%(portMax-portMin-n)
		free := true
		for p := base; p < base+n && free; p++ {
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
			if err != nil {
				free = false
				continue
			}
			_ = l.Close()
		}
		if free {
			return base, nil
		}
	}
	return 0, errors.New("no free ports")
}

// start runs a box's process; its output is appended to a log beside its directory.
func (s *site) start(b *box) error {
	log, err := os.OpenFile(b.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	cmd := exec.Command(b.command[0], append(slices.Clone(b.command[1:]), "--config", filepath.Join(b.dir, "holdfast.toml"))...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := spawn(cmd); err != nil {
		return errors.Join(err, log.Close())
	}
	b.cmd, b.log, b.ended = cmd, log, make(chan struct{})
	go func(ended chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		_ = log.Close()
		close(ended)
	}(b.ended)
	return nil
}

func (s *site) startAll() error {
	for _, b := range s.boxes {
		if err := s.start(b); err != nil {
			return err
		}
	}
	return nil
}

func (b *box) alive() bool {
	if b.cmd == nil {
		return false
	}
	select {
	case <-b.ended:
		return false
	default:
		return true
	}
}

// kill is SIGKILL, and waits until the process is gone.
func (b *box) kill() {
	if b.alive() {
		_ = b.cmd.Process.Kill() // it may have ended by itself
		<-b.ended
	}
}

func (b *box) signal(sig os.Signal) error { return b.cmd.Process.Signal(sig) }

func (s *site) close() {
	for _, b := range s.boxes {
		if b.alive() {
			_ = b.signal(syscall.SIGKILL)
		}
	}
	for _, b := range s.boxes {
		b.kill()
	}
	for _, row := range s.wires {
		for _, w := range row {
			if w != nil {
				w.close()
			}
		}
	}
}

// oneWay sets what happens to everything that goes from box i to box j, on either one's connections.
func (s *site) oneWay(i, j int, how way) {
	s.wires[i][j].set(0, how)
	s.wires[j][i].set(1, how)
}

func (s *site) isolate(i int, how way, from, to bool) {
	for j := range s.boxes {
		if j == i {
			continue
		}
		if from {
			s.oneWay(i, j, how)
		}
		if to {
			s.oneWay(j, i, how)
		}
	}
}

func (b *box) ask(ctx context.Context, fn func(context.Context, *remote.Box) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeMax)
	defer cancel()
	r, err := remote.New("http://" + b.console)
	if err != nil {
		return err
	}
	defer r.Close()
	return fn(ctx, r)
}

func (b *box) ready(ctx context.Context) error {
	return b.ask(ctx, func(ctx context.Context, r *remote.Box) error { return r.Ready(ctx) })
}

func (b *box) status(ctx context.Context) (st api.Status, err error) {
	err = b.ask(ctx, func(ctx context.Context, r *remote.Box) error {
		st, err = r.Status(ctx)
		return err
	})
	return st, err
}

// until polls fn until it is nil, and gives its last error when that takes longer than limit.
func until(ctx context.Context, limit time.Duration, fn func() error) (time.Duration, error) {
	began := time.Now()
	for {
		err := fn()
		if err == nil {
			return time.Since(began), nil
		}
		if ctx.Err() != nil || time.Since(began) > limit {
			return time.Since(began), fmt.Errorf("not within %v: %w", limit, err)
		}
		sleep(ctx, statusPoll)
	}
}

func (s *site) awaitServing(ctx context.Context) error {
	for _, b := range s.boxes {
		if _, err := until(ctx, servePatience, func() error { return b.ready(ctx) }); err != nil {
			return fmt.Errorf("box-%d does not serve: %w", b.index, err)
		}
	}
	return nil
}

// leader is the box that most boxes believe to lead.
func (s *site) leader(ctx context.Context) (*box, error) {
	votes := map[coord.BoxID]int{}
	for _, b := range s.boxes {
		if st, err := b.status(ctx); err == nil {
			votes[st.Leader]++
		}
	}
	var best *box
	for _, b := range s.boxes {
		if votes[b.id] > 0 && (best == nil || votes[b.id] > votes[best.id]) {
			best = b
		}
	}
	if best == nil {
		return nil, errors.New("no box names a leader")
	}
	return best, nil
}

// endpoints are the boxes as a client sees them, beginning with box first.
func (s *site) endpoints(first int) []client.Endpoint {
	var all []client.Endpoint
	for k := range s.boxes {
		b := s.boxes[(first+k)%len(s.boxes)]
		all = append(all, client.Endpoint{Network: "tcp", Address: b.native, Box: b.id})
	}
	return all
}

// view is the whole of what a box shows.
func (b *box) view(ctx context.Context) (*coordsite.View, error) {
	var text bytes.Buffer
	if err := b.ask(ctx, func(ctx context.Context, r *remote.Box) error { return r.Raw(ctx, "/api/v1/status", &text) }); err != nil {
		return nil, err
	}
	v := new(coordsite.View)
	if err := json.Unmarshal(text.Bytes(), v); err != nil {
		return nil, fmt.Errorf("box-%d: status: %w", b.index, err)
	}
	return v, nil
}
