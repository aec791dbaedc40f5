package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/image"
)

// How long things may take on two cores that are not fast, without KVM.
const (
	bootMax   = 4 * time.Minute
	joinMax   = 3 * time.Minute
	trialMax  = 8 * time.Minute
	healthFor = "10s" // for how long a site must be well with a release
	boxTime   = "5m"
	password  = "a-password-for-machines-1"
	key       = "/e2eimage" // what is written once and must be there in the end
	value     = "from outside"

	updateTakes = 50 * time.Second // from a bundle's first byte until it is kept, about: power is cut within
	shortCuts   = 1
	writesMax   = 8                // of the disk, before power fails in one
	writeWait   = 10 * time.Second // for such a write
)

// runner runs the checks one after the other.
type runner struct {
	f         flags
	kind      machineKind
	rand      *rand.Rand
	outcomes  []outcome
	built     *built
	site      *site
	processes []*process
	vms       []*vm
}

func newRunner(f flags, kind machineKind) *runner {
	return &runner{f: f, kind: kind, rand: rand.New(rand.NewPCG(f.seed, f.seed))}
}

// check runs one check and says what came of it.
func (r *runner) check(ctx context.Context, name string, f func(ctx context.Context) (string, error)) bool {
	if ctx.Err() != nil {
		return false
	}
	began := time.Now()
	detail, err := f(ctx)
	o := outcome{name: name, detail: detail, pass: err == nil, took: time.Since(began)}
	if err != nil {
		o.detail = strings.Join(strings.Fields(err.Error()), " ")
	}
	result := map[bool]string{true: "pass", false: "FAIL"}[o.pass]
	fmt.Printf("%s %s (%v) %s\n", result, name, o.took.Round(time.Second), o.detail)
	r.outcomes = append(r.outcomes, o)
	return o.pass
}

// wanted says whether a check that nothing else needs is to run.
func (r *runner) wanted(name string) bool { return r.f.only == "" || strings.HasPrefix(name, r.f.only) }

func (r *runner) all(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, r.close()) }()
	if r.built, err = loadBuilt(r.f.work); err != nil {
		return err
	}
	// The first box is a process in any form: it founds the site, and its socket is what this program asks.
	machines, processes := r.f.images, max(1, 4-r.f.images)
	if err := network(ctx, machines, processes); err != nil {
		return err
	}
	times, err := timeServer(ctx)
	if err != nil {
		return err
	}
	defer times.Close()
	if err := r.found(ctx, processes, machines); err != nil {
		return err
	}
	for i := range machines {
		if !r.check(ctx, "boot "+itoa(i), func(ctx context.Context) (string, error) { return r.boot(ctx, i) }) {
			return nil
		}
	}
	r.machineChecks(ctx)
	return ctx.Err()
}

func (r *runner) close() (err error) {
	for _, v := range r.vms {
		err = errors.Join(err, v.close())
	}
	for _, p := range r.processes {
		p.close()
	}
	return err
}

// found makes the site of processes, and an operator with a token.
func (r *runner) found(ctx context.Context, processes, machines int) error {
	program := filepath.Join(r.f.work, "holdfast")
	for i := range processes {
		more := ""
		if i > 0 {
			token := r.site.joinToken()
			more = fmt.Sprintf("token_file = \"token\"\nservers = [\"%s:7500\"]\n", r.site.first.address)
			p, err := newProcess(program, r.f.work, i, more)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(p.dir, "token"), []byte(token), 0o600); err != nil {
				return err
			}
			r.processes = append(r.processes, p)
			if err := p.start(); err != nil {
				return err
			}
			if err := r.site.up(ctx, i+1, joinMax); err != nil {
				return err
			}
			continue
		}
		p, err := newProcess(program, r.f.work, i, more)
		if err != nil {
			return err
		}
		r.processes = append(r.processes, p)
		r.site = &site{first: p}
		if _, err := run(ctx, program, "site", "init", "--config", p.config()); err != nil {
			return err
		}
		if err := p.start(); err != nil {
			return err
		}
		if err := r.site.up(ctx, 1, joinMax); err != nil {
			return err
		}
		// While the site is one box, one word decides.
		for range processes + machines {
			if err := r.site.makeToken(ctx); err != nil {
				return err
			}
		}
		// The setup code is what a person would read from the box.
		// It is made when somebody asks for it: the first try is a wrong one.
		_ = setUp(ctx, p.address, "AAAA-AAAA-AAAA-AAAA", "ann", password)
		code, err := os.ReadFile(filepath.Join(p.dir, "setup.code"))
		if err != nil {
			return err
		}
		if err := setUp(ctx, p.address, strings.TrimSpace(string(code)), "ann", password); err != nil {
			return err
		}
		token, err := runWith(ctx, password+"\n", program, "token", "issue", "--operator", "ann", "--actions", "*", "--resources", "*", "--ttl", "12h", "--addr", p.socket())
		if err != nil {
			return err
		}
		if err := os.Setenv("HOLDFAST_TOKEN", token); err != nil {
			return err
		}
	}
	return nil
}

// boot makes the disk of machine i, with a token on it (the first one's by holdfast flash), and starts it: nobody touches it until it is in the site.
func (r *runner) boot(ctx context.Context, i int) (string, error) {
	token := r.site.joinToken()
	signs, err := r.built.publicKey()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("image-%d", i)
	text := fmt.Sprintf(`[provision]
token = %q
servers = ["%s:7500"]
[system]
hostname = %q
watchdog = %q
ntp = [%q]
[[network.interface]]
name = %q
addresses = ["%s%d/24"]
[update]
keys = [%q]
`, token, r.site.first.address, name, r.kind.watchdog, prefix+"1", r.kind.card, prefix, 21+i, signs)
	if file := filepath.Join(r.f.work, name+".img"); i == 0 {
		err = r.built.flashed(ctx, r.f.work, file, text)
	} else {
		err = r.built.disk(file, text, diskBytes)
	}
	if err != nil {
		return "", err
	}
	v, err := newVM(r.kind, r.f.work, i)
	if err != nil {
		return "", err
	}
	r.vms = append(r.vms, v)
	if err := os.Remove(v.serial()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	began := time.Now()
	if err := v.start(); err != nil {
		return "", err
	}
	if _, err := v.answers(ctx, bootMax); err != nil {
		return "", fmt.Errorf("no console: %w", err)
	}
	console := time.Since(began)
	if err := r.site.up(ctx, len(r.processes)+i+1, joinMax); err != nil {
		return "", fmt.Errorf("not in the site: %w", err)
	}
	return fmt.Sprintf("power to console %v, to joined %v", console.Round(time.Second), time.Since(began).Round(time.Second)), nil
}

// firmware is what machine i says of its firmware.
func (r *runner) firmware(ctx context.Context, i int) (*api.Update, error) {
	v := r.vms[i]
	id, err := r.site.id(ctx, v.name)
	if err != nil {
		return nil, err
	}
	b, err := v.box(id)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return b.Update(ctx)
}

// addr is machine i's console, as --addr has it.
func (r *runner) addr(ctx context.Context, i int) (string, error) {
	id, err := r.site.id(ctx, r.vms[i].name)
	return r.vms[i].addr(id), err
}

// apply gives machine i a bundle and lets it start with it. It returns when the box has it.
func (r *runner) apply(ctx context.Context, i int, file string) error {
	addr, err := r.addr(ctx, i)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, r.kind.upload)
	defer stop()
	_, err = run(ctx, filepath.Join(r.f.work, "holdfast"), "update", "apply", "--addr", addr, "--health", healthFor, "--box-time", boxTime, "--latency", "30s", file)
	if err != nil && strings.Contains(err.Error(), "100 %") && strings.Contains(err.Error(), "no box answers") {
		return nil // it has all of it and starts again, before its answer is here
	}
	return err
}

// settled waits until machine i is through with a release: kept, or gone back from.
func (r *runner) settled(ctx context.Context, i int, phase string) (*api.Update, error) {
	var u *api.Update
	return u, until(ctx, trialMax, func() error {
		var err error
		if u, err = r.firmware(ctx, i); err != nil {
			return err
		}
		if u.Job == nil || u.Job.Phase != phase || u.Trial != "" {
			return fmt.Errorf("version %s, trial %q, job %+v", u.Version, u.Trial, u.Job)
		}
		return nil
	})
}

// file makes a bundle.
func (r *runner) file(name string, rel *image.Release, key *ecdsa.PrivateKey) (string, error) {
	name = filepath.Join(r.f.work, name+".hfb")
	return name, bundle(name, rel, key)
}

// refused is a check that the box does not take a bundle, and says why.
func (r *runner) refused(ctx context.Context, name string, rel *image.Release, key *ecdsa.PrivateKey, why string) {
	if !r.wanted(name) {
		return
	}
	r.check(ctx, name, func(ctx context.Context) (string, error) {
		file, err := r.file(strings.ReplaceAll(name, " ", "-"), rel, key)
		if err != nil {
			return "", err
		}
		err = r.apply(ctx, 0, file)
		if err == nil {
			return "", errors.New("it was taken")
		}
		if !strings.Contains(err.Error(), why) {
			return "", fmt.Errorf("refused otherwise: %w", err)
		}
		u, err := r.firmware(ctx, 0)
		if err != nil {
			return "", err
		}
		return "refused: " + why + "; runs " + u.Version, nil
	})
}

// goesBack is a check that a release that is no good ends on the one before, with a reason.
func (r *runner) goesBack(ctx context.Context, name, version, mode string) {
	if !r.wanted(name) {
		return
	}
	r.check(ctx, name, func(ctx context.Context) (string, error) {
		before, err := r.firmware(ctx, 0)
		if err != nil {
			return "", err
		}
		rel, err := r.built.spoiled(r.f.work, version, mode)
		if err != nil {
			return "", err
		}
		file, err := r.file(strings.ReplaceAll(name, " ", "-"), rel, r.built.key)
		if err != nil {
			return "", err
		}
		began, starts := time.Now(), r.vms[0].kernels()
		if err := r.apply(ctx, 0, file); err != nil {
			return "", err
		}
		u, err := r.settled(ctx, 0, "back")
		if err != nil {
			return "", err
		}
		if u.Version != before.Version || u.Slot != before.Slot {
			return "", fmt.Errorf("it runs %s in slot %s, before it was %s in %s", u.Version, u.Slot, before.Version, before.Slot)
		}
		if u.Job.Why == "" {
			return "", errors.New("it does not say why it went back")
		}
		if err := r.site.up(ctx, len(r.processes)+len(r.vms), joinMax); err != nil {
			return "", err
		}
		return fmt.Sprintf("back on %s after %v and %d starts: %s", u.Version, time.Since(began).Round(time.Second), r.vms[0].kernels()-starts, u.Job.Why), nil
	})
}

// machineChecks are about machine 0, in a site that works.
func (r *runner) machineChecks(ctx context.Context) {
	r.check(ctx, "console from outside", func(ctx context.Context) (string, error) {
		program := filepath.Join(r.f.work, "holdfast")
		addr, err := r.addr(ctx, 0)
		if err != nil {
			return "", err
		}
		// A box that has just joined learns who may do what from the state that it fetches.
		err = until(ctx, joinMax, func() error {
			_, err := run(ctx, program, "kv", "put", "--addr", addr, key, value)
			return err
		})
		if err != nil {
			return "", err
		}
		return "written at the machine, read at another box", until(ctx, joinMax, func() error {
			out, err := run(ctx, program, "kv", "get", "--addr", r.site.first.socket(), key)
			if err == nil && !strings.Contains(out, value) {
				err = fmt.Errorf("the first box has %q", out)
			}
			return err
		})
	})
	r.check(ctx, "etcdctl from outside", r.etcdctl)
	if r.wanted("rolling") && r.f.images >= machinesMin {
		defer r.check(ctx, "rolling update", r.rolling) // the last: the process that is asked leaves the site
	}
	r.refused(ctx, "bad signature", r.built.New, r.built.evil, "not signed with a key that is trusted")
	other := *r.built.New
	other.Profile = "rock-5b"
	r.refused(ctx, "other board", &other, r.built.key, "for board")
	r.goesBack(ctx, "panics", "1.0.2", "exit")
	if r.wanted("update") {
		r.check(ctx, "update", r.update)
	}
	if r.f.short {
		r.f.cuts = shortCuts
	} else {
		r.goesBack(ctx, "crashes", "1.0.3", "kill")
		r.goesBack(ctx, "never healthy", "1.0.4", "deaf")
	}
	for i := range r.f.cuts {
		if !r.wanted("power cut") {
			break
		}
		r.check(ctx, "power cut "+itoa(i+1), func(ctx context.Context) (string, error) { return r.powerCut(ctx, i) })
	}
	if !r.f.short && r.wanted("damaged data") {
		r.check(ctx, "damaged data", r.damaged)
	}
	if !r.f.short && r.wanted("watchdog") {
		r.check(ctx, "watchdog", r.watchdog)
	}
}

// etcdctl is Debian's, on a site whose programs must say who they are: as an operator it writes at machine 0, with the certificates that
// the machine gives, and reads at another box.
func (r *runner) etcdctl(ctx context.Context) (string, error) {
	addr, err := r.addr(ctx, 0)
	if err != nil {
		return "", err
	}
	program := filepath.Join(r.f.work, "holdfast")
	var pem string
	err = until(ctx, joinMax, func() (err error) {
		pem, err = run(ctx, program, "members", "--pem", "--addr", addr)
		if err == nil && !strings.Contains(pem, "# "+r.vms[0].name+" ") {
			err = errors.New("not the machine's certificate")
		}
		return err
	})
	if err != nil {
		return "", err
	}
	ca := filepath.Join(r.f.work, "site.pem")
	if err := os.WriteFile(ca, []byte(pem+"\n"), 0o644); err != nil {
		return "", err
	}
	if _, err := run(ctx, program, "setting", "put", "client", `{"access":"token"}`, "--addr", addr); err != nil {
		return "", err
	}
	as := func(address, user string, args ...string) (string, error) {
		return run(ctx, append([]string{"etcdctl", "--endpoints", "https://" + address + ":2379", "--cacert", ca, "--user", user, "--dial-timeout", "20s", "--command-timeout", "60s"}, args...)...)
	}
	const key, value = "/e2eimage/etcdctl", "from etcdctl"
	err = until(ctx, joinMax, func() error {
		out, err := as(r.vms[0].address, "ann:not-"+password, "put", key, "by a guess")
		switch {
		case err == nil:
			return fmt.Errorf("a wrong password writes: %s", out)
		case !strings.Contains(err.Error(), "invalid user ID or password"):
			return fmt.Errorf("refused otherwise: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if _, err := as(r.vms[0].address, "ann:"+password, "put", key, value); err != nil {
		return "", err
	}
	out, err := as(r.site.first.address, "ann:"+password, "get", "--print-value-only", key)
	if err == nil && out != value {
		err = fmt.Errorf("another box has %q", out)
	}
	return "written at the machine with an operator's password, read at another box; refused with a wrong one", err
}

// update gives machine 0 a release that is good.
func (r *runner) update(ctx context.Context) (string, error) {
	file, err := r.file("update", r.built.New, r.built.key)
	if err != nil {
		return "", err
	}
	began := time.Now()
	if err := r.apply(ctx, 0, file); err != nil {
		return "", err
	}
	given := time.Since(began)
	u, err := r.settled(ctx, 0, "kept")
	if err != nil {
		return "", err
	}
	if u.Version != version2 {
		return "", fmt.Errorf("it runs %s", u.Version)
	}
	return fmt.Sprintf("%s in slot %s: given in %v, kept after %v", u.Version, u.Slot, given.Round(time.Second), time.Since(began).Round(time.Second)), nil
}

// powerCut ends machine 0's power at a moment of an update, and sees it come back with one of the two releases, whole.
func (r *runner) powerCut(ctx context.Context, n int) (string, error) {
	v := r.vms[0]
	before, err := r.firmware(ctx, 0)
	if err != nil {
		return "", err
	}
	// Another label makes another bundle of it.
	rel := *r.built.New
	rel.Version = fmt.Sprintf("1.1.%d", n)
	file, err := r.file("power-cut", &rel, r.built.key)
	if err != nil {
		return "", err
	}
	applied, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- r.apply(applied, 0, file) }()
	at := time.Duration(r.rand.Float64() * float64(updateTakes))
	select {
	case <-time.After(at): // it is the moment that is tried, there is nothing to wait for
	case <-ctx.Done():
		return "", ctx.Err()
	}
	// Between flushes there is little to lose: every other time it is in the middle of a write.
	moment := ""
	if n%2 == 1 {
		select {
		case <-v.disk.failWriting(r.rand.IntN(writesMax)):
			moment = " in a write"
		case <-time.After(writeWait): // it writes nothing
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	lost := v.disk.lost
	if err := v.cut(r.rand); err != nil {
		return "", err
	}
	stop()
	<-done // however it ended
	if err := v.start(); err != nil {
		return "", err
	}
	var after *api.Update
	err = until(ctx, trialMax, func() error {
		var err error
		if after, err = r.firmware(ctx, 0); err == nil && after.Trial != "" {
			err = fmt.Errorf("on trial: %s", after.Trial)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if err := r.site.up(ctx, len(r.processes)+len(r.vms), joinMax); err != nil {
		return "", err
	}
	if err := r.readBack(ctx); err != nil {
		return "", err
	}
	which := "the release from before"
	if after.Slot != before.Slot {
		which = "the new release"
	}
	return fmt.Sprintf("after %v%s, %d sectors lost: it came back with %s", at.Round(100*time.Millisecond), moment, v.disk.lost-lost, which), nil
}

// readBack asks machine 0 for what was once written.
func (r *runner) readBack(ctx context.Context) error {
	addr, err := r.addr(ctx, 0)
	if err != nil {
		return err
	}
	return until(ctx, joinMax, func() error {
		out, err := run(ctx, filepath.Join(r.f.work, "holdfast"), "kv", "get", "--addr", addr, key)
		if err == nil && !strings.Contains(out, value) {
			err = fmt.Errorf("it has %q", out)
		}
		return err
	})
}

// watchdog gives machine 0 a release whose coordinator is stopped after a while, and sees the hardware reset the machine.
func (r *runner) watchdog(ctx context.Context) (string, error) {
	rel, err := r.built.spoiled(r.f.work, "1.2.0", "stop")
	if err != nil {
		return "", err
	}
	file, err := r.file("watchdog", rel, r.built.key)
	if err != nil {
		return "", err
	}
	if err := r.apply(ctx, 0, file); err != nil {
		return "", err
	}
	if _, err := r.settled(ctx, 0, "kept"); err != nil {
		return "", err
	}
	v := r.vms[0]
	const said = "shim: the coordinator is stopped"
	err = until(ctx, trialMax, func() error {
		if !strings.Contains(v.console(), said) {
			return errors.New("the coordinator is not stopped")
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	began, starts := time.Now(), v.kernels()
	err = until(ctx, trialMax, func() error {
		if v.kernels() == starts {
			return errors.New("no reset")
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	reset := time.Since(began)
	all := v.console()
	tail := all[strings.LastIndex(all, said):]
	if strings.Contains(tail, "reboot: Restarting") {
		return "", errors.New("the machine started again by itself: that was not the watchdog")
	}
	if err := r.readBack(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("reset %v after the coordinator was stopped; it serves again after %v", reset.Round(time.Second), time.Since(began).Round(time.Second)), nil
}
