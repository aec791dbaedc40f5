package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	backTimeMax = 60 * time.Second // until a box that was started again answers
	// calmMax and downMax bound the random times between kills and of being down: long enough for a new leader, short
	// enough for several kills in a row.
	calmMax = 2 * time.Second
	downMax = 4 * time.Second
)

// killer takes boxes down and brings them up again; box i serves endpoint i.
type killer interface {
	down(ctx context.Context, i int) error
	up(ctx context.Context, i int) error
}

// command is a killer that somebody else wrote.
type command string

func (c command) run(ctx context.Context, what string, i int) error {
	stdout, stderr, err := output(ctx, "", "sh", "-c", string(c)+` "$@"`, "kill", what, strconv.Itoa(i))
	if err != nil {
		return fmt.Errorf("-kill: %s %s %d: %w: %s%s", string(c), what, i, err, stdout, stderr)
	}
	return nil
}

func (c command) down(ctx context.Context, i int) error { return c.run(ctx, "down", i) }
func (c command) up(ctx context.Context, i int) error   { return c.run(ctx, "up", i) }

// ownEtcd is a real etcd.
type ownEtcd struct {
	binary, dir string
	basePort    int
	boxes       []*exec.Cmd // nil while down
}

func startOwnEtcd(ctx context.Context, e *env, n int) (*ownEtcd, error) {
	binary, err := tool(ctx, "server")
	if err != nil {
		return nil, err
	}
	o := &ownEtcd{binary: binary, dir: e.dir, basePort: e.basePort, boxes: make([]*exec.Cmd, n)}
	for i := range n {
		if err := o.up(ctx, i); err != nil {
			return o, err
		}
	}
	for i := range n {
		if err := answers(ctx, o.endpoints()[i], backTimeMax); err != nil {
			return o, fmt.Errorf("own etcd: %w", err)
		}
	}
	return o, nil
}

func (o *ownEtcd) address(i, which int) string {
	return fmt.Sprintf("127.0.0.1:%d", o.basePort+2*i+which)
}

func (o *ownEtcd) endpoints() []string {
	var es []string
	for i := range o.boxes {
		es = append(es, o.address(i, 0))
	}
	return es
}

func (o *ownEtcd) up(_ context.Context, i int) error {
	name := func(i int) string { return "etcd" + strconv.Itoa(i) }
	var cluster []string
	for j := range o.boxes {
		cluster = append(cluster, name(j)+"=http://"+o.address(j, 1))
	}
	client, peer := "http://"+o.address(i, 0), "http://"+o.address(i, 1)
	cmd := exec.Command(o.binary, "--name", name(i), "--data-dir", filepath.Join(o.dir, name(i)),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
		"--watch-progress-notify-interval", "1s")
	log, err := os.OpenFile(filepath.Join(o.dir, name(i)+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	o.boxes[i] = cmd
	return nil
}

func (o *ownEtcd) down(_ context.Context, i int) error {
	cmd := o.boxes[i]
	o.boxes[i] = nil
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		return err
	}
	return nil
}

func (o *ownEtcd) close() {
	for i, b := range o.boxes {
		if b == nil {
			continue
		}
		if err := o.down(context.Background(), i); err != nil {
			fmt.Fprintln(os.Stderr, "etcdclients: own etcd:", err)
		}
	}
}

// connect makes a client that notices a dead connection within seconds.
func connect(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(),
		DialTimeout: 5 * time.Second, DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
	})
}

// answers waits until a box answers a linearizable read by itself.
func answers(ctx context.Context, endpoint string, d time.Duration) error {
	c, err := connect(endpoint)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return retry(ctx, func(ctx context.Context) error {
		_, err := c.Get(ctx, "is anybody there?")
		if err != nil {
			return fmt.Errorf("%s: %w", endpoint, err)
		}
		return nil
	})
}

// chaos kills one box after the other until stop, which brings the last one up again and says how many there were.
// Rows go on until enough is closed: each box was killed once, or at once when nothing can be killed.
type chaos struct {
	enough chan struct{}
	stop   func() (kills int, err error)
}

func (e *env) chaos(ctx context.Context) *chaos {
	c := &chaos{enough: make(chan struct{})}
	if e.killer == nil {
		close(c.enough)
		c.stop = func() (int, error) { return 0, nil }
		return c
	}
	stopping, finished := make(chan struct{}), make(chan error, 1)
	kills := 0
	go func() { finished <- e.killBoxes(ctx, stopping, c.enough, &kills) }()
	c.stop = func() (int, error) {
		close(stopping)
		err := <-finished
		return kills, err
	}
	return c
}

func (e *env) killBoxes(ctx context.Context, stopping <-chan struct{}, enough chan<- struct{}, kills *int) error {
	random := rand.New(rand.NewSource(e.seed))
	order := random.Perm(len(e.endpoints))
	pause := func(most time.Duration) bool {
		select {
		case <-time.After(most/4 + time.Duration(random.Int63n(int64(most*3/4)))):
			return true
		case <-stopping:
			return false
		case <-ctx.Done():
			return false
		}
	}
	for pause(calmMax) {
		i := order[*kills%len(order)]
		if err := e.killer.down(ctx, i); err != nil {
			return err
		}
		pause(downMax)
		if err := e.up(ctx, i); err != nil {
			return err
		}
		if *kills++; *kills == len(order) {
			close(enough)
		}
	}
	return nil
}

// up starts a box and waits until it has caught up. It does so even when the row's time is over, for the next row.
func (e *env) up(ctx context.Context, i int) error {
	ctx = context.WithoutCancel(ctx)
	if err := e.killer.up(ctx, i); err != nil {
		return err
	}
	if err := answers(ctx, e.endpoints[i], backTimeMax); err != nil {
		return fmt.Errorf("box %d does not come back: %w", i, err)
	}
	return nil
}

func killed(kills int) string {
	if kills == 0 {
		return "nothing killed"
	}
	return strconv.Itoa(kills) + " kills"
}
