package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

const boxes = 4

// scene is everything that runs.
type scene struct {
	dir, binary, ruleFile string
	short                 bool
	step                  time.Duration
	siteID                string // the site's id
	consoles              [boxes]string
	managers              [2]*manager
	proms                 []*prom
	hook                  *hook
	console, client, peer int

	procs    map[string]*proc
	ended    chan string
	stopping []string
}

type proc struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// port is one that is free now.
func port() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// row is n ports in a row that are free now, step apart.
func row(n, step int) (int, error) {
tries:
	for range 50 {
		first, err := port()
		if err != nil {
			return 0, err
		}
		for i := range n {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+i*step))
			if err != nil || first+n*step > 32767 && first < 32768 {
				continue tries
			}
			l.Close()
		}
		return first, nil
	}
	return 0, errors.New("no ports are free")
}

func (s *scene) ports() (err error) {
	s.procs, s.ended = map[string]*proc{}, make(chan string, 32)
	for _, p := range []struct {
		to   *int
		n    int
		step int
	}{{&s.console, boxes, 1}, {&s.client, 10 * boxes, 1}, {&s.peer, boxes, 1}} {
		if *p.to, err = row(p.n, p.step); err != nil {
			return err
		}
	}
	for i := range s.managers {
		n, err := port()
		if err != nil {
			return err
		}
		s.managers[i] = &manager{base: fmt.Sprintf("http://127.0.0.1:%d", n), port: n}
	}
	for _, p := range []*prom{{name: "prometheus-classic"}, {name: "prometheus-native", flags: []string{"--enable-feature=native-histograms"}}} {
		if p.port, err = port(); err != nil {
			return err
		}
		p.base = fmt.Sprintf("http://127.0.0.1:%d", p.port)
		s.proms = append(s.proms, p)
	}
	n, err := port()
	s.hook = &hook{address: fmt.Sprintf("127.0.0.1:%d", n)}
	return err
}

// start runs a program until the scene is closed, with its output in a file.
func (s *scene) start(name string, args ...string) error {
	out, err := os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, out.Close())
	}
	p := &proc{cmd, make(chan struct{})}
	s.procs[name] = p
	go func() { // ends with its program, which close waits for
		_ = cmd.Wait() // how it ended is in its log
		_ = out.Close()
		close(p.done)
		s.ended <- name
	}()
	return nil
}

func (s *scene) stop(name string, sig syscall.Signal) error {
	p := s.procs[name]
	if p == nil {
		return nil
	}
	s.stopping = append(s.stopping, name)
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	delete(s.procs, name)
	return nil
}

func (s *scene) close() (err error) {
	if s.hook != nil {
		err = s.hook.stop()
	}
	for name := range s.procs {
		err = errors.Join(err, s.stop(name, syscall.SIGTERM))
	}
	return err
}

// found makes a site with `holdfast dev`, and stops it: the boxes go on under configurations of the test.
func (s *scene) found(ctx context.Context) error {
	ready := filepath.Join(s.dir, "ready.json")
	if err := s.start("dev", s.binary, "dev", "--boxes", fmt.Sprint(boxes), "--dir", filepath.Join(s.dir, "site"), "--ready-file", ready, "--no-restart",
		"--console-port", fmt.Sprint(s.console), "--client-port", fmt.Sprint(s.client), "--peer-port", fmt.Sprint(s.peer)); err != nil {
		return err
	}
	if err := s.until(ctx, "the site is founded", func() error { _, err := os.Stat(ready); return err }); err != nil {
		return err
	}
	for i := range boxes {
		s.consoles[i] = fmt.Sprintf("127.0.0.1:%d", s.console+i)
	}
	b, err := remote.New(s.socket(0))
	if err != nil {
		return err
	}
	defer b.Close()
	m, err := b.Members(ctx)
	if err != nil {
		return err
	}
	s.siteID = m.Site.String()
	return s.stop("dev", syscall.SIGINT)
}

func (s *scene) boxDir(i int) string { return filepath.Join(s.dir, "site", fmt.Sprintf("box-%d", i)) }

func (s *scene) socket(i int) string { return "unix://" + filepath.Join(s.boxDir(i), "holdfast.sock") }

// configure adds receivers and rules to a box's configuration.
func (s *scene) configure(i int) error {
	file := filepath.Join(s.boxDir(i), "holdfast.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if at := bytes.Index(text, []byte("\n[alarms]")); at >= 0 {
		text = text[:at+1] // it is the last table
	}
	every := "15s"
	if s.short {
		every = "2s"
	}
	text = fmt.Appendf(text, "\n[alarms]\nevery = %q\nrules = \"alarms.d\"\n[alarms.alertmanager]\nurls = [%q]\n[alarms.webhook]\nurls = [\"http://%s/hook\"]\n", every, s.managers[1].base, s.hook.address)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	rules := filepath.Join(s.boxDir(i), "alarms.d")
	if err := os.MkdirAll(rules, 0o700); err != nil {
		return err
	}
	if s.short {
		short, err := os.ReadFile(s.ruleFile)
		if err == nil {
			err = os.WriteFile(filepath.Join(rules, "short.yaml"), short, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(rules, "own.yaml"), []byte(own), 0o600)
}

func (s *scene) startBox(ctx context.Context, i int) error {
	if err := s.start(fmt.Sprintf("box-%d", i), s.binary, "run", "--config", filepath.Join(s.boxDir(i), "holdfast.toml")); err != nil {
		return err
	}
	return s.until(ctx, fmt.Sprintf("box %d answers", i), func() error { _, err := s.alarms(ctx, i); return err })
}

func (s *scene) stopBox(i int) error { return s.stop(fmt.Sprintf("box-%d", i), syscall.SIGTERM) }
func (s *scene) killBox(i int) error { return s.stop(fmt.Sprintf("box-%d", i), syscall.SIGKILL) }

// holdfast runs the command line on box i, as its own user does; into, if not nil, gets its JSON.
func (s *scene) holdfast(ctx context.Context, i int, into any, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, s.binary, append(args, "--addr", s.socket(i))...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("holdfast %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(out, into)
}

func (s *scene) alarms(ctx context.Context, i int) (*alarms.View, error) {
	b, err := remote.New(s.socket(i))
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return b.Alarms(ctx)
}

// boxFires says whether an alarm fires on a box, and is silenced by that silence.
func (s *scene) boxFires(ctx context.Context, i int, name, silence string) error {
	v, err := s.alarms(ctx, i)
	if err != nil {
		return err
	}
	for _, a := range v.Alarms {
		if a.Name == name && a.State == alarms.Firing && a.Silenced == silence {
			return nil
		}
	}
	return fmt.Errorf("alarms of box %d: %+v, faults %v", i, v.Alarms, v.Faults)
}

// getJSON asks a program that watches.
func getJSON(ctx context.Context, address string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// manager is an Alertmanager.
type manager struct {
	base string
	port int
}

const managerConfig = "route: {receiver: none, group_wait: 1s, group_interval: 1s}\nreceivers: [{name: none}]\n"

func (s *scene) alertmanagers(ctx context.Context) error {
	for i, m := range s.managers {
		name := fmt.Sprintf("alertmanager-%d", i)
		file := filepath.Join(s.dir, name+".yml")
		if err := os.WriteFile(file, []byte(managerConfig), 0o600); err != nil {
			return err
		}
		if err := s.start(name, "prometheus-alertmanager", "--config.file="+file, "--storage.path="+filepath.Join(s.dir, name),
			fmt.Sprintf("--web.listen-address=127.0.0.1:%d", m.port), "--cluster.listen-address="); err != nil {
			return err
		}
		if err := s.until(ctx, name+" is there", func() error { return m.has(ctx, "none", "", 0) }); err != nil {
			return err
		}
	}
	return nil
}

// has says whether an Alertmanager has so many active alarms of a name and member.
func (m *manager) has(ctx context.Context, name, member string, want int) error {
	var list []struct {
		Labels map[string]string
		Status struct{ State string }
	}
	filter := url.Values{"filter": {fmt.Sprintf("alertname=%q", name), fmt.Sprintf("member=%q", member)}, "active": {"true"}}
	if err := getJSON(ctx, m.base+"/api/v2/alerts?"+filter.Encode(), &list); err != nil {
		return err
	}
	if len(list) != want {
		return fmt.Errorf("%d alarms %s, want %d: %v", len(list), name, want, list)
	}
	return nil
}

// prom is a Prometheus.
type prom struct {
	name, base string
	port       int
	flags      []string
}

func (s *scene) startPrometheus(ctx context.Context, p *prom) error {
	var targets strings.Builder
	for i := range boxes {
		targets.WriteString(fmt.Sprintf("    - {targets: [%q], labels: {site: %q, box: box-%d}}\n", s.consoles[i], s.siteID, i))
	}
	config := fmt.Sprintf(`global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: ["127.0.0.1:%d"]}]}]}
scrape_configs:
- job_name: holdfast
  static_configs:
%s`, s.ruleFile, s.managers[0].port, targets.String())
	file := filepath.Join(s.dir, p.name+".yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	return s.start(p.name, append([]string{
		"prometheus", "--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(s.dir, p.name),
		fmt.Sprintf("--web.listen-address=127.0.0.1:%d", p.port),
	}, p.flags...)...)
}

// count is how many series an expression gives now.
func (p *prom) count(ctx context.Context, expr string) (int, error) {
	var got struct{ Data struct{ Result []any } }
	err := getJSON(ctx, p.base+"/api/v1/query?"+url.Values{"query": {expr}}.Encode(), &got)
	return len(got.Data.Result), err
}

// fires says whether an alarm of a member fires.
func (p *prom) fires(ctx context.Context, name, member string) error {
	n, err := p.count(ctx, fmt.Sprintf(`ALERTS{alertname=%q, member=%q, alertstate="firing"}`, name, member))
	if err == nil && n != 1 {
		err = fmt.Errorf("%d alarms %s of %s", n, name, member)
	}
	return err
}

// hook is a webhook that can be down.
type hook struct {
	address string
	server  *http.Server
	done    sync.WaitGroup

	mu   sync.Mutex
	list []hooked
}

type hooked struct {
	Status string
	Labels map[string]string
}

func (h *hook) start() error {
	l, err := net.Listen("tcp", h.address)
	if err != nil {
		return err
	}
	h.server = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			Version string
			Alerts  []hooked
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&m); err != nil || m.Version != "4" {
			http.Error(w, "not version 4", http.StatusBadRequest)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.list = append(h.list, m.Alerts...)
	})}
	h.done.Go(func() { _ = h.server.Serve(l) }) // ErrServerClosed
	return nil
}

func (h *hook) stop() error {
	if h.server == nil {
		return nil
	}
	err := h.server.Close()
	h.done.Wait()
	return err
}

// got says whether the webhook was told so of an alarm. It may be told twice, when the box that speaks for the site goes away.
func (h *hook) got(status, name, member string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, a := range h.list {
		if a.Status == status && a.Labels["alertname"] == name && a.Labels["member"] == member {
			n++
		}
	}
	if n == 0 {
		return fmt.Errorf("it was not told %s %s of %q: %v", status, name, member, h.list)
	}
	return nil
}
