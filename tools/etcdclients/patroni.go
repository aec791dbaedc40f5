package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	patroniNodes = 3
	patroniScope = "judged"
	// ttlSeconds is the least that Patroni accepts; a dead primary keeps its lock so long.
	ttlSeconds  = 20
	restTimeMax = 3 * time.Second
)

// The loop, two retries and a margin have to fit into the TTL; Patroni 3 demands it. Commits wait for a synchronous
// standby, always, so that whatever was acknowledged has to survive the loss of the primary.
var patroniConfig = template.Must(template.New("").Parse(`scope: {{.Scope}}
namespace: /{{.Namespace}}
name: node{{.Node}}
restapi: {listen: "127.0.0.1:{{.REST}}", connect_address: "127.0.0.1:{{.REST}}"}
etcd3:
  hosts: [{{.Hosts}}]
bootstrap:
  dcs:
    ttl: {{.TTL}}
    loop_wait: 2
    retry_timeout: 6
    synchronous_mode: true
    synchronous_mode_strict: true
    postgresql:
      use_pg_rewind: true
      parameters: {max_connections: 40, shared_buffers: 32MB, wal_keep_size: 64MB, wal_log_hints: "on"}
  initdb: [{encoding: UTF8}, {auth-host: trust}, {auth-local: trust}]
  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
postgresql:
  listen: 127.0.0.1:{{.PG}}
  connect_address: 127.0.0.1:{{.PG}}
  data_dir: {{.Dir}}/data
  bin_dir: {{.Bin}}
  pgpass: {{.Dir}}/pgpass
  authentication:
    superuser: {username: postgres, password: loopback}
    replication: {username: replicator, password: loopback}
    rewind: {username: rewinder, password: loopback}
  parameters: {unix_socket_directories: "{{.Dir}}"}
`))

// cluster is Patroni's nodes, and what was seen of them.
type cluster struct {
	*env
	bin   string
	user  *user.User
	nodes []*node
	w     *writers
}

type node struct {
	i, rest, pg int
	dir, config string
	patroni     *exec.Cmd // nil while it is dead
}

func patroniSuite(ctx context.Context, e *env, r *report) {
	c := &cluster{env: e}
	defer c.close()
	for _, s := range []struct {
		name string
		run  func(context.Context) (string, error)
	}{
		{"bootstrap", c.bootstrap},
		{"replicate", c.replicate},
		{"switchover", c.switchover},
		{"failover", func(ctx context.Context) (string, error) { return c.failover(ctx, -1) }},
		{"lose-box", c.loseBoxes},
		{"failover-without-a-box", c.failoverWithoutBox},
		{"history", c.history},
	} {
		// Each stands on what the one before left behind.
		if !r.step(ctx, "patroni/"+s.name, s.run) {
			return
		}
	}
}

// bootstrap starts the nodes and waits until they have agreed on a primary with a synchronous standby.
func (c *cluster) bootstrap(ctx context.Context) (string, error) {
	if os.Geteuid() != 0 {
		return "", errors.New("has to run as root, to become the user postgres")
	}
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		return "", fmt.Errorf("no PostgreSQL (Debian's packages are postgresql and patroni): %v", err)
	}
	c.bin = bins[len(bins)-1]
	if c.user, err = user.Lookup("postgres"); err != nil {
		return "", err
	}
	for i := range patroniNodes {
		if err := c.addNode(i); err != nil {
			return "", err
		}
	}
	began := time.Now()
	for _, n := range c.nodes {
		if err := c.start(n); err != nil {
			return "", err
		}
	}
	primary, err := c.settled(ctx)
	if err != nil {
		return "", err
	}
	if c.w, err = startWriters(ctx, c.nodes, primary.i); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d nodes in %v, node%d is primary", len(c.nodes), time.Since(began).Round(time.Millisecond), primary.i), nil
}

func (c *cluster) addNode(i int) error {
	n := &node{i: i, rest: c.basePort + 100 + i, pg: c.basePort + 200 + i, dir: filepath.Join(c.dir, "patroni"+strconv.Itoa(i))}
	n.config = filepath.Join(n.dir, "patroni.yml")
	uid, err := strconv.Atoi(c.user.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(c.user.Gid)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(n.dir, 0o700), os.Chown(n.dir, uid, gid)); err != nil {
		return err
	}
	var hosts []string
	for _, u := range c.http {
		hosts = append(hosts, strings.TrimPrefix(u, "http://"))
	}
	f, err := os.Create(n.config)
	if err != nil {
		return err
	}
	err = patroniConfig.Execute(f, map[string]any{
		"Scope": patroniScope, "Namespace": c.namespace(), "Node": i, "REST": n.rest, "PG": n.pg, "Hosts": `"` + strings.Join(hosts, `", "`) + `"`,
		"TTL": ttlSeconds, "Dir": n.dir, "Bin": c.bin,
	})
	c.nodes = append(c.nodes, n)
	return errors.Join(err, f.Close(), os.Chown(n.config, uid, gid))
}

func (c *cluster) namespace() string { return strings.TrimSuffix(c.prefix, "/") }

// as makes a command run as the user postgres.
func (c *cluster) as(argv ...string) (*exec.Cmd, error) {
	uid, err := strconv.ParseUint(c.user.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(c.user.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + c.user.HomeDir, "LC_ALL=C.UTF-8"}
	cmd.Dir = "/"
	return cmd, nil
}

func (c *cluster) start(n *node) error {
	cmd, err := c.as("patroni", n.config)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "patroni"+strconv.Itoa(n.i)+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	n.patroni = cmd
	return nil
}

// kill ends a node's Patroni and PostgreSQL by SIGKILL, as a power cut does.
func (n *node) kill() error {
	if n.patroni == nil {
		return nil
	}
	err := n.patroni.Process.Kill()
	var exit *exec.ExitError
	if errWait := n.patroni.Wait(); !errors.As(errWait, &exit) {
		err = errors.Join(err, errWait)
	}
	n.patroni = nil
	b, errFile := os.ReadFile(filepath.Join(n.dir, "data", "postmaster.pid"))
	if errors.Is(errFile, os.ErrNotExist) {
		return err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, errNumber := strconv.Atoi(line)
	if err := errors.Join(err, errFile, errNumber); err != nil {
		return err
	}
	// The file of a postmaster that is dead already may name anybody.
	if dir, errLink := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); errLink == nil && dir == filepath.Join(n.dir, "data") {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	return err
}

// gone waits until what the postmaster had started has noticed its end, so that it can be started again.
func (n *node) gone(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		left, err := filepath.Glob("/proc/[0-9]*/cwd")
		for _, l := range left {
			if dir, errLink := os.Readlink(l); errLink == nil && dir == filepath.Join(n.dir, "data") {
				return false, err
			}
		}
		return true, err
	})
}

func (c *cluster) close() {
	for _, n := range c.nodes {
		err := n.kill()
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeMax)
		if err = errors.Join(err, n.gone(ctx)); err != nil {
			fmt.Fprintln(os.Stderr, "etcdclients: patroni:", err)
		}
		cancel()
	}
	if c.w != nil {
		c.w.stop()
	}
}

// restStatus is what a node says of itself.
type restStatus struct {
	State, Role string
	Timeline    int64
	SyncStandby bool `json:"sync_standby"`
	leader      bool // answers /primary with 200: holds the lock
	start, end  time.Time
}

func (n *node) status(ctx context.Context) (s restStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, restTimeMax)
	defer cancel()
	s.start = time.Now()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/primary", n.rest), nil)
	if err != nil {
		return s, err
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return s, err
	}
	defer a.Body.Close()
	err = json.NewDecoder(a.Body).Decode(&s)
	s.leader, s.end = a.StatusCode == http.StatusOK, time.Now()
	return s, err
}

// primary says whether the node runs as one, whatever it is called in this version.
func (s *restStatus) primary() bool {
	return s.leader && (s.Role == "master" || s.Role == "primary") && s.State == "running"
}

// settled waits until one node is primary, all that live are running, and one of them is the synchronous standby.
func (c *cluster) settled(ctx context.Context) (primary *node, err error) {
	said := ""
	err = poll(ctx, func() (bool, error) {
		primary = nil
		running, sync, alive, all := 0, false, 0, []string{}
		for _, n := range c.nodes {
			if n.patroni == nil {
				continue
			}
			alive++
			s, err := n.status(ctx)
			all = append(all, fmt.Sprintf("node%d: %+v %v", n.i, s, err))
			if err != nil {
				continue
			}
			if s.primary() {
				primary = n
			}
			if s.State == "running" {
				running++
			}
			sync = sync || s.SyncStandby
		}
		said = strings.Join(all, "; ")
		return primary != nil && running == alive && sync, nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s; %s", err, said, c.lastLog())
	}
	return primary, nil
}

// lastLog is how the nodes' logs end, where the reason for most failures stands.
func (c *cluster) lastLog() string {
	var all []string
	for _, n := range c.nodes {
		b, err := os.ReadFile(filepath.Join(c.dir, "patroni"+strconv.Itoa(n.i)+".log"))
		if err != nil {
			continue
		}
		ls := strings.Split(strings.TrimSpace(string(b)), "\n")
		all = append(all, fmt.Sprintf("node%d logged:\n%s", n.i, strings.Join(ls[max(0, len(ls)-6):], "\n")))
	}
	return strings.Join(all, "\n")
}

// replicate waits until every node shows a write that was acknowledged.
func (c *cluster) replicate(ctx context.Context) (string, error) {
	if err := c.w.more(ctx, 50); err != nil {
		return "", err
	}
	n := c.w.acknowledged()
	for _, node := range c.nodes {
		if err := c.w.has(ctx, node, n); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d acknowledged rows on every node", len(n)), nil
}

// switchover moves the primary on purpose, with the tool that asks etcd by itself.
func (c *cluster) switchover(ctx context.Context) (string, error) {
	old, err := c.settled(ctx)
	if err != nil {
		return "", err
	}
	var candidate *node
	for _, n := range c.nodes {
		if s, err := n.status(ctx); err == nil && s.SyncStandby {
			candidate = n
		}
	}
	if candidate == nil {
		return "", errors.New("no synchronous standby")
	}
	began := time.Now()
	cmd, err := c.as("patronictl", "-c", old.config, "switchover", patroniScope, "--master", "node"+strconv.Itoa(old.i), "--candidate", "node"+strconv.Itoa(candidate.i), "--force")
	if err != nil {
		return "", err
	}
	out, err := outputOf(ctx, cmd)
	if err != nil || !strings.Contains(out, "Successfully switched over") {
		return "", fmt.Errorf("patronictl switchover: %v: %s", err, out)
	}
	now, err := c.settled(ctx)
	if err != nil {
		return "", err
	}
	if now != candidate {
		return "", fmt.Errorf("node%d is primary, not node%d", now.i, candidate.i)
	}
	if err := c.w.more(ctx, 20); err != nil {
		return "", err
	}
	return fmt.Sprintf("node%d to node%d; no write for %v", old.i, now.i, c.w.gap(began).Round(time.Millisecond)), nil
}

// outputOf runs a command, bounded like output.
func outputOf(ctx context.Context, cmd *exec.Cmd) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*commandTimeMax)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	defer stop()
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// failover kills the primary, with a box down already unless that is negative, waits for the next one, and brings
// the old one back.
func (c *cluster) failover(ctx context.Context, box int) (string, error) {
	old, err := c.settled(ctx)
	if err != nil {
		return "", err
	}
	if box >= 0 {
		if err := c.killer.down(ctx, box); err != nil {
			return "", err
		}
	}
	killedAt := time.Now()
	err = old.kill()
	var now *node
	var took time.Duration
	if err == nil {
		err = poll(ctx, func() (bool, error) {
			for _, n := range c.nodes {
				if n == old {
					continue
				}
				if s, err := n.status(ctx); err == nil && s.primary() {
					now, took = n, time.Since(killedAt)
				}
			}
			return now != nil, nil
		})
	}
	if err == nil {
		err = c.w.more(ctx, 20)
	}
	gap := c.w.gap(killedAt)
	if box >= 0 {
		err = errors.Join(err, c.env.up(ctx, box))
	}
	if err != nil {
		return "", fmt.Errorf("%w; %s", err, c.lastLog())
	}
	if err := old.gone(ctx); err != nil {
		return "", err
	}
	if err := c.start(old); err != nil {
		return "", err
	}
	if _, err := c.settled(ctx); err != nil {
		return "", fmt.Errorf("the old primary does not come back: %w", err)
	}
	return fmt.Sprintf("from the kill of node%d to node%d as primary: %v with a TTL of %d s; no write for %v",
		old.i, now.i, took.Round(time.Millisecond), ttlSeconds, gap.Round(time.Millisecond)), nil
}

// loseBoxes takes each box down in turn. Patroni has to renew its lock, PostgreSQL to go on writing, and nobody to
// take over.
func (c *cluster) loseBoxes(ctx context.Context) (string, error) {
	if c.killer == nil {
		return "", errSkip
	}
	before, err := c.settled(ctx)
	if err != nil {
		return "", err
	}
	client, err := connect(c.endpoints...)
	if err != nil {
		return "", err
	}
	defer client.Close()
	began := time.Now()
	for i := range c.endpoints {
		if err := c.killer.down(ctx, i); err != nil {
			return "", err
		}
		err := c.lives(ctx, client)
		if errUp := c.env.up(ctx, i); err != nil || errUp != nil {
			return "", fmt.Errorf("without box %d: %w; %s", i, errors.Join(err, errUp), c.lastLog())
		}
	}
	after, err := c.settled(ctx)
	if err != nil {
		return "", err
	}
	if after != before {
		return "", fmt.Errorf("node%d took over from node%d, which lived", after.i, before.i)
	}
	return fmt.Sprintf("%s, node%d stays primary; no write for at most %v", killed(len(c.endpoints)), after.i, c.w.gap(began).Round(time.Millisecond)), nil
}

// lives waits until the primary has told etcd of new writes several times.
func (c *cluster) lives(ctx context.Context, client *clientv3.Client) error {
	key := "/" + c.namespace() + "/" + patroniScope + "/status"
	version := func() (v int64, err error) {
		err = retry(ctx, func(ctx context.Context) error {
			r, err := client.Get(ctx, key)
			if err == nil && len(r.Kvs) == 1 {
				v = r.Kvs[0].Version
			}
			return err
		})
		return v, err
	}
	from, err := version()
	if err != nil {
		return err
	}
	if err := c.w.more(ctx, 50); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		v, err := version()
		return v >= from+3, err
	})
}

func (c *cluster) failoverWithoutBox(ctx context.Context) (string, error) {
	if c.killer == nil {
		return "", errSkip
	}
	return c.failover(ctx, int(uint64(c.seed)%uint64(len(c.endpoints))))
}

// history judges everything that was seen since the beginning.
func (c *cluster) history(ctx context.Context) (string, error) {
	if _, err := c.settled(ctx); err != nil {
		return "", err
	}
	if err := c.w.more(ctx, 20); err != nil {
		return "", err
	}
	rows := c.w.acknowledged()
	for _, n := range c.nodes {
		if err := c.w.has(ctx, n, rows); err != nil {
			return "", err
		}
	}
	writes, words := c.w.sightings()
	if err := errors.Join(onePrimary("acknowledged writes", writes), onePrimary("REST", words)); err != nil {
		return "", err
	}
	timelines := map[int64]bool{}
	for _, s := range writes {
		timelines[s.timeline] = true
	}
	if len(words) == 0 || len(timelines) < 3 {
		return "", fmt.Errorf("%d sightings by REST and writes on timelines %v are too few to judge", len(words), timelines)
	}
	var nodes []int
	for _, s := range writes {
		if len(nodes) == 0 || nodes[len(nodes)-1] != s.node {
			nodes = append(nodes, s.node)
		}
	}
	return fmt.Sprintf("%d acknowledged rows, all on all nodes; primaries in turn: %v; %d sightings by REST; one primary at any time",
		len(rows), slices.Compact(nodes), len(words)), nil
}
