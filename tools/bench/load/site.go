package load

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

const (
	host = "127.0.0.1"
	// startMax is how long a site may take to serve, stopMax to end after SIGTERM.
	startMax = 60 * time.Second
	stopMax  = 10 * time.Second
	// listeners of a box: console, native stream, peers, etcd API.
	listeners = 4
	// answerBytesMax bounds what is read of a box's console.
	answerBytesMax = 1 << 20
)

// SiteOptions say what StartSite starts.
type SiteOptions struct {
	Program string // the box's program; its "run --config FILE" is started
	Dir     string // an empty directory
	Boxes   int
	Delay   time.Duration // one way, on every link between two boxes
	// Edit, if not nil, changes a box's configuration.
	Edit func(*config.Config)
	// Args, if not nil, stand before --config in place of "run".
	Args []string
}

// Site is a Holdfast site of processes on this machine.
type Site struct {
	Boxes []*SiteBox
	dir   string
	delay time.Duration
	wires []*wire
	http  http.Client
}

// SiteBox is one box of a Site.
type SiteBox struct {
	ID                            coord.BoxID
	Console, Native, Peer, Client string // addresses
	dir                           string
	args                          []string
	cmd                           *exec.Cmd
	ended                         chan struct{}
}

// PID is the box's process.
func (b *SiteBox) PID() int { return b.cmd.Process.Pid }

// StartSite founds a site in o.Dir and starts its boxes; it returns when all serve. Stop it.
func StartSite(ctx context.Context, o SiteOptions) (s *Site, err error) {
	n := o.Boxes
	ports, err := freePorts(n*listeners + n*n)
	if err != nil {
		return nil, err
	}
	s = &Site{dir: o.Dir, delay: o.Delay, http: http.Client{Timeout: 2 * time.Second}}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	at := func(k int) string { return net.JoinHostPort(host, strconv.Itoa(ports+k)) }
	m := &coord.Members{Epoch: 1}
	if _, err := rand.Read(m.Site[:]); err != nil {
		return nil, err
	}
	for i := range n {
		b := &SiteBox{
			Console: at(listeners * i), Native: at(listeners*i + 1), Peer: at(listeners*i + 2), Client: at(listeners*i + 3),
			dir: filepath.Join(o.Dir, "box-"+strconv.Itoa(i)), args: o.Args,
		}
		if b.args == nil {
			b.args = []string{"run"}
		}
		b.args = append([]string{o.Program}, b.args...)
		if err := os.MkdirAll(b.dir, 0o700); err != nil {
			return nil, err
		}
		id, err := trust.LoadOrCreate(b.dir)
		if err != nil {
			return nil, err
		}
		b.ID = id.ID()
		m.List = append(m.List, coord.Member{
			ID: b.ID, Name: "box-" + strconv.Itoa(i), Key: id.PublicKey(), Peer: b.Peer, Native: b.Native, Console: b.Console, Client: b.Client,
		})
		s.Boxes = append(s.Boxes, b)
	}
	for i, b := range s.Boxes {
		seen := *m
		seen.List = slices.Clone(m.List)
		for j, other := range s.Boxes {
			if i == j || o.Delay == 0 {
				continue
			}
			// A box finds each other one at the near end of a slow wire.
			seen.List[j].Peer = at(n*listeners + i*n + j)
			w, err := newWire(seen.List[j].Peer, other.Peer, o.Delay)
			if err != nil {
				return nil, err
			}
			s.wires = append(s.wires, w)
		}
		if err := errors.Join(trust.SaveMembers(b.dir, &seen), b.configure(i, o.Edit)); err != nil {
			return nil, err
		}
		if err := b.start(n); err != nil {
			return nil, err
		}
	}
	for _, b := range s.Boxes {
		if err := s.await(ctx, b); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (b *SiteBox) configure(i int, edit func(*config.Config)) error {
	c, err := config.Default()
	if err != nil {
		return err
	}
	c.DataDir, c.Name = ".", "box-"+strconv.Itoa(i)
	c.Console.Listen, c.Client.Listen, c.Native.Listen, c.Peer.Listen = b.Console, b.Client, b.Native, b.Peer
	c.Console.View = "open"
	if edit != nil {
		edit(c)
	}
	var out strings.Builder
	if err := c.Encode(&out); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, "holdfast.toml"), []byte(out.String()), 0o644)
}

// start runs the box's process, which has its share of the machine's CPUs, as `holdfast dev` gives it.
func (b *SiteBox) start(boxes int) error {
	log, err := os.OpenFile(b.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(b.args[0], append(slices.Clone(b.args[1:]), "--config", filepath.Join(b.dir, "holdfast.toml"))...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", max(1, runtime.NumCPU()/boxes)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	if err := cmd.Start(); err != nil {
		return err
	}
	b.cmd, b.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}(b.ended)
	return nil
}

func (s *Site) await(ctx context.Context, b *SiteBox) error {
	for end := time.Now().Add(startMax); ; {
		err := s.Get(ctx, b, "/readyz", nil)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(end):
			return fmt.Errorf("a box does not serve within %v, see %s.log: %w", startMax, b.dir, err)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// Stop ends the boxes and the wires.
func (s *Site) Stop() {
	for _, b := range s.Boxes {
		if b.cmd != nil {
			_ = b.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		}
	}
	late := time.After(stopMax)
	for _, b := range s.Boxes {
		if b.cmd == nil {
			continue
		}
		select {
		case <-b.ended:
		case <-late:
			_ = b.cmd.Process.Kill()
			<-b.ended
		}
	}
	for _, w := range s.wires {
		w.close()
	}
}

// freePorts finds n ports in a row that nobody listens on.
func freePorts(n int) (int, error) {
	var seed [2]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return 0, err
	}
	const low, high = 12_000, 31_000
	start := int(seed[0])<<8 | int(seed[1])
	for try := range 100 {
		base := low + (start+try*n)%(high-low-n)
		if allFree(base, n) {
			return base, nil
		}
	}
	return 0, errors.New("no free ports")
}

func allFree(base, n int) bool {
	for p := base; p < base+n; p++ {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// Get asks a box's console; into, if not nil, takes the JSON of the answer.
func (s *Site) Get(ctx context.Context, b *SiteBox, path string, into any) error {
	return s.get(ctx, b, path, func(res *http.Response) error {
		if into == nil {
			return nil
		}
		return json.NewDecoder(http.MaxBytesReader(nil, res.Body, answerBytesMax)).Decode(into)
	})
}

func (s *Site) get(ctx context.Context, b *SiteBox, path string, read func(*http.Response) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.Console+path, nil)
	if err != nil {
		return err
	}
	res, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s: %s", b.Console, path, res.Status)
	}
	return read(res)
}

// metrics are those of a box that have a value, by name and labels.
func (s *Site) metrics(ctx context.Context, b *SiteBox) (map[string]float64, error) {
	all := map[string]float64{}
	err := s.get(ctx, b, "/metrics", func(res *http.Response) error {
		lines := bufio.NewScanner(http.MaxBytesReader(nil, res.Body, answerBytesMax))
		for lines.Scan() {
			if name, v, ok := strings.Cut(lines.Text(), "} "); ok {
				all[name+"}"], _ = strconv.ParseFloat(v, 64)
			} else if name, v, ok := strings.Cut(lines.Text(), " "); ok && name != "#" {
				all[name], _ = strconv.ParseFloat(v, 64)
			}
		}
		return lines.Err()
	})
	return all, err
}

// Counts asks the boxes what they counted.
func (s *Site) Counts(ctx context.Context) (c Counts, err error) {
	for _, b := range s.Boxes {
		m, err := s.metrics(ctx, b)
		if err != nil {
			return c, err
		}
		c.Wire += m[`coord_network_io_bytes_total{direction="transmit"}`]
		c.Syncs += m["coord_log_syncs_total"] / float64(len(s.Boxes))
		c.Blocks = max(c.Blocks, m["coord_height"])
		c.Messages = max(c.Messages, m["coord_messages_applied_total"])
	}
	return c, nil
}

// Target is the site as a load's target, driven through the native stream.
func (s *Site) Target(name string) *Target {
	t := &Target{Name: name, Delay: s.delay, Dir: s.dir, Open: s.open, Counts: s.Counts}
	for _, b := range s.Boxes {
		t.PIDs = append(t.PIDs, b.PID())
	}
	return t
}

// Leader is the index of the box that leads, as the first that answers says.
func (s *Site) Leader(ctx context.Context) (int, error) {
	err := errors.New("no box answers")
	for _, b := range s.Boxes {
		var v struct {
			Leader coord.BoxID `json:"leader"`
		}
		if err = s.Get(ctx, b, "/api/v1/status", &v); err != nil {
			continue
		}
		if i := slices.IndexFunc(s.Boxes, func(b *SiteBox) bool { return b.ID == v.Leader }); i >= 0 {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no box names a leader: %w", err)
}

// Await waits until all other boxes say that a box is up, or that it is not. They are asked once in every.
func (s *Site) Await(ctx context.Context, box int, up bool, limit, every time.Duration) error {
	name := fmt.Sprintf(`coord_member_up{member="box-%d"}`, box)
	for end := time.Now().Add(limit); ; pause(ctx, every) {
		agree := 0
		for i, b := range s.Boxes {
			if i == box {
				continue
			}
			if m, err := s.metrics(ctx, b); err == nil && (m[name] == 1) == up {
				agree++
			}
		}
		switch {
		case agree == len(s.Boxes)-1:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(end):
			return fmt.Errorf("not all boxes agree within %v that box-%d is up: %t", limit, box, up)
		}
	}
}

// Restart kills a box as kill -9 does, and starts it again when wait has passed.
func (s *Site) Restart(ctx context.Context, i int, wait time.Duration) error {
	b := s.Boxes[i]
	_ = b.cmd.Process.Kill() // it may have ended
	<-b.ended
	pause(ctx, wait)
	if err := b.start(len(s.Boxes)); err != nil {
		return err
	}
	return s.await(ctx, b)
}

// RestartAll kills all boxes at once and starts them again; it says when the last one was started, and returns without
// waiting until they serve.
func (s *Site) RestartAll(ctx context.Context) (last time.Time, err error) {
	for _, b := range s.Boxes {
		_ = b.cmd.Process.Kill() // it may have ended
	}
	for _, b := range s.Boxes {
		<-b.ended
	}
	for _, b := range s.Boxes {
		if err := b.start(len(s.Boxes)); err != nil {
			return last, err
		}
	}
	return time.Now(), ctx.Err()
}

// native is a client of the native stream.
type native struct {
	c   *client.Client
	op  string
	box int
}

// open connects to all boxes, the i-th first.
func (s *Site) open(ctx context.Context, op string, i int) (Client, error) {
	if op == "watch" {
		return OpenWatch(ctx, s.Boxes[i%len(s.Boxes)].Client)
	}
	if !slices.Contains([]string{"put", "get", "telemetry"}, op) {
		return nil, fmt.Errorf("the native stream has no operation %q", op)
	}
	cfg := client.Config{Name: "bench"}
	for k := range s.Boxes {
		b := s.Boxes[(i+k)%len(s.Boxes)]
		cfg.Endpoints = append(cfg.Endpoints, client.Endpoint{Network: "tcp", Address: b.Native, Box: b.ID})
	}
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := c.Put(ctx, []byte("warm"), nil); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return &native{c: c, op: op, box: i}, nil
}

// Do is Client's. Loops of one connection may call it at a time: the client numbers what it sends.
func (n *native) Do(ctx context.Context, keys, values [][]byte) error {
	var m client.Messages
	for i := range keys {
		switch n.op {
		case "get":
			m.Get(keys[i])
		case "telemetry":
			m.Observe(uint64(len(keys)*n.box+i), 1)
		default:
			m.Put(keys[i], values[i])
		}
	}
	_, err := n.c.Submit(ctx, &m)
	return err
}

// Close is Client's.
func (n *native) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeMax)
	defer cancel()
	return n.c.Close(ctx)
}
