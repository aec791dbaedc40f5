// Package box is one box's program: `holdfast run`. It opens what a box consists of in a fixed
// order (directory, identity, member set, hardware, ports, storage, ordering, native stream, console),
// runs it until it is told to stop, and closes in the reverse order, so that what was
// accepted is answered and what was answered is durable.
//
// A box whose storage fails does not end: it stops voting and its console says why, because a
// box that restarts without end hides its reason.
package box

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/anomalies"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/console"
	"github.com/holdfast-edge/holdfast/firmware/etcdapi"
	"github.com/holdfast-edge/holdfast/firmware/history"
	"github.com/holdfast-edge/holdfast/firmware/joining"
	"github.com/holdfast-edge/holdfast/firmware/native"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"github.com/holdfast-edge/holdfast/firmware/update"
)

// Errors of this package.
var (
	// ErrDirectory says that the data directory cannot be used as it is.
	ErrDirectory = errors.New("data directory cannot be used")
	// ErrMember says that the box is not one of the site in its site.json.
	ErrMember = errors.New("not a member of this site")
	// ErrListen says that an address cannot be listened on.
	ErrListen = errors.New("cannot listen")
	// ErrPart says that a part of the box ended although nobody told it to.
	ErrPart = errors.New("ended by itself")
)

const (
	// answerShare is the part of timeouts.drain in which requests under way are answered; the
	// rest is for the ordering, whose drain takes up to 1.5 s (coord/site), and for closing.
	answerShare = 0.4
	// consoleDrain is how long the last pages may take: they are small.
	consoleDrain = 200 * time.Millisecond
)

// Options of Run; all but Wrap are required.
type Options struct {
	Config  *config.Config
	Version string
	Logger  *slog.Logger
	// Ask, if not nil, asks a person for the passphrase of the data when the configuration names no place for it.
	Ask func(prompt string) ([]byte, error)
	// Wrap, if not nil, comes between the box and its links, for programs that test a site: it gives what connects
	// the box in place of connect.
	Wrap func(w Wrapped, connect Connect) Connect
	// Edit, if not nil, changes what the box orders with, for programs that measure what a part of it is worth.
	Edit func(*site.BoxConfig)

	// opened, if not nil, gets the ordering of each start, in tests.
	opened func(s *site.Site, nextKey func() (public []byte, err error))
	// watched, if not nil, gets the watcher of each start, in tests.
	watched func(*anomalies.Watcher)
}

// Connect makes the links of a box, as coord/site.Options has it.
type Connect = func(site.Handlers) (site.Links, error)

// Wrapped is the box whose links are wrapped: a member of a site, and what signs its votes.
type Wrapped struct {
	Members *coord.Members
	Self    int
	Keys    interface {
		SignVote(k coord.VoteKind, epoch, round uint64, d coord.Digest) coord.Signature
		VerifyVote(v *coord.Vote) bool
		VerifyBatch(b *coord.Batch) bool
	}
}

// Run runs the box until ctx ends, and returns nil when it then stopped as it should. A box that has no site yet waits for one, and one
// that the site does not list any more goes on showing what it has: neither ends. When the site has given the box another key it
// stops in order and starts with that one.
//
// Errors: ErrDirectory, ErrMember, ErrListen, ErrPart, those of coord/trust and store, or what
// the system says.
func Run(ctx context.Context, o Options) error {
	for {
		err := runOnce(ctx, o)
		if !errors.Is(err, errNewKey) || ctx.Err() != nil {
			return err
		}
		o.Logger.Info("this box starts anew with its new key")
	}
}

func runOnce(ctx context.Context, o Options) (err error) {
	recent := new(recentLog)
	log := recent.beside(o.Logger)
	var closers []func() error
	defer func() { // in the reverse order of opening
		for i := len(closers) - 1; i >= 0; i-- {
			err = errors.Join(err, closers[i]())
		}
	}()
	opened := func(c func() error) { closers = append(closers, c) }

	// 1. The directory, the key and the site.
	who, err := identify(o.Config)
	for errors.Is(err, errWaits) {
		if err = wait(ctx, o.Config, who.key, log); ctx.Err() != nil {
			return nil
		} else if err == nil {
			who, err = identify(o.Config)
		}
	}
	if err != nil {
		return err
	}
	plain := log
	log = plain.With("box", who.member.Name)
	boxes := newMembership(o.Config.DataDir, who, log)
	// The machine's settings, before anything depends on them.
	hw, err := openHardware(ctx, o.Config, who.member.Name, log)
	if err != nil {
		return err
	}
	opened(hw.close)
	// 2. The ports, before anything slow: one in use is the commonest reason not to start.
	ports, err := openPorts(ctx, o.Config, who, hw)
	if err != nil {
		return err
	}
	opened(ports.close)
	// 3. The storage; from here on nobody else uses the directory.
	disk, err := openStorage(o.Config, o.Ask, who, log)
	if err != nil {
		return err
	}
	opened(disk.close)
	past, err := disk.base.Handovers()
	if err != nil {
		return fmt.Errorf("box: open storage: %w", err)
	}
	boxes.remember(past)
	if was := boxes.formerly(who.key.ID()); who.self < 0 && was != nil {
		if who.member = *was; o.Config.Name != "" {
			who.member.Name = o.Config.Name
		}
		log = plain.With("box", who.member.Name)
	}
	ledger, err := openLedger(o.Config, who, disk.key, log)
	if err != nil {
		return err
	}
	opened(ledger.disk.Close)
	// 4. The sockets, whose files are in the directory.
	sockets, err := openSockets(ctx, o.Config)
	if err != nil {
		return err
	}
	opened(sockets.close)
	known, err := newMeasures(o.Config, who, disk.key, log)
	if err != nil {
		return err
	}
	opened(known.disk.Close)
	// 5. The ordering.
	power, err := newAuthority(o.Config, who, ledger, log)
	if err != nil {
		return err
	}
	api := etcdapi.New(etcdapi.Config{
		Self: who.member.ID, SiteID: who.members.Site, Members: boxes.list, DiskBytes: disk.base.Bytes, TempDir: o.Config.DataDir, TLS: o.Config.Client.Secure(),
		Limits: etcdapi.Limits{Connections: o.Config.Limits.ClientConnections}, Logger: log,
		KeepRevisions: uint64(o.Config.History.KeepRevisions), KeepTime: time.Duration(o.Config.History.KeepTime),
		KeepBytes: uint64(o.Config.History.KeepBytes), Audit: ledger.Record, Access: power.rules, Password: power.password, Answered: known.metrics.RPCAnswered,
	})
	traces, err := openTracing(o.Config, who, o.Version, log)
	if err != nil {
		return err
	}
	opened(traces.disk.Close)
	if err := known.keeping(traces); err != nil {
		return err
	}
	bell := newBell(ledger.Record, who.key.ID(), log)
	clerk := newClerk(ledger.Record, who.key.ID(), log)
	s, err := openSite(&o, who, boxes, disk, ports.peer, api.Changes, ledger.signed, bell.ring, clerk, power, hw, traces, known, log)
	if err != nil {
		return err
	}
	traces.keeper.Attach(s)
	known.of = s
	if o.watched != nil {
		o.watched(known.unusual)
	}
	if o.opened != nil {
		o.opened(s, func() ([]byte, error) { return who.nextKey(o.Config) })
	}
	// 6. What programs and people use.
	streams, err := native.New(native.Config{
		Submit: s.Submit, Guard: power, Box: who.member.ID, Site: who.members.Site, Members: boxes.list,
		Limits: native.Limits{Connections: o.Config.Limits.NativeConnections}, Logger: log,
	})
	if err != nil {
		return fmt.Errorf("box: open native stream: %w", err)
	}
	if err := power.attach(s); err != nil {
		return fmt.Errorf("box: open the operators' desk: %w", err)
	}
	roles := power.rights()
	door := newDoor(s, disk.base.Base)
	members := door.desk(o.Config, who, power)
	if err := known.metrics.Waiting(func() int { return len(door.lobby.Guests()) }); err != nil {
		return fmt.Errorf("box: open joining port: %w", err)
	}
	newcomers, err := door.port(o.Config, who, ledger, log)
	if err != nil {
		return fmt.Errorf("box: open joining port: %w", err)
	}
	if ports.join != nil {
		if err := known.metrics.Joining(newcomers.Counts); err != nil {
			return fmt.Errorf("box: open joining port: %w", err)
		}
	}
	watch, err := openAlarms(o.Config, who, known, s.View, log)
	if err != nil {
		return err
	}
	explained, err := config.Explain(o.Config)
	if err != nil {
		return fmt.Errorf("box: %w", err)
	}
	firmware, err := openUpdates(o.Config, who, o.Version, s, power, ledger, log)
	if err != nil {
		return err
	}
	pages, err := console.New(console.Config{
		Site: s, Submit: s.Submit, Past: disk.base.Handovers, State: power.state, Settings: explained, Audit: ledger.disk, Desk: power.desk, Access: power, Record: ledger.Record, Traces: traces.keeper,
		Acts: slices.Concat(power.acts(), roles.Acts(), members.Acts()),
		Shows: map[string]console.Show{
			"/anomalies": {Get: known.unusual.Events},
			"/access":    {Action: "role.list", Also: "token.list", Get: roles.Overview},
			"/site":      {Action: "member.list", Get: members.Overview},
		},
		Notice: mediumNotice(status.File), Updates: firmware, Machine: machine{o.Config.DataDir}, Metrics: known.metrics, History: known.history.API("/api/v1"), HistoryRoutes: history.Routes(), Query: known.history, Unusual: known.unusual,
		Alarms: watch, Hosts: o.Config.Console.Hosts, NativeSocket: o.Config.Native.Socket, Logger: log,
		RecentLog: recent.writeTo,
		ViewOpen:  o.Config.Console.View == "open", MetricsOpen: o.Config.Console.Metrics == "open", Secure: o.Config.Console.Secure(),
	})
	if err != nil {
		return fmt.Errorf("box: open console: %w", err)
	}
	known.ready = pages.Ready
	r := &running{
		o: o, log: log, boxes: boxes, hardware: hw, known: known, watch: watch, ledger: ledger, bell: bell, clerk: clerk, traces: traces, power: power, firmware: firmware, site: s, streams: streams, pages: pages, api: api,
		client: ports.client, newcomers: newcomers, join: ports.join,
		native:  present(ports.native, sockets.native),
		console: present(ports.console, sockets.console),
	}
	log.Info("box starts", "id", who.member.ID, "key", who.key.Place(), "site", who.members.Site, "version", o.Version,
		"peer", address(ports.peer), "client", address(ports.client), "native", address(ports.native), "console", address(ports.console))
	return r.run(ctx)
}

// running is a box whose parts are open.
type running struct {
	o               Options
	log             *slog.Logger
	boxes           *membership
	hardware        *hardware
	known           *measures
	watch           *alarms.Service
	ledger          *ledger
	bell            *bell
	clerk           *clerk
	traces          *tracing
	power           *authority
	firmware        *update.Runner
	site            *site.Site
	streams         *native.Server
	pages           *console.Console
	native, console []net.Listener
	api             *etcdapi.Server
	client          net.Listener // nil: none
	newcomers       *joining.Server
	join            net.Listener // nil: none
}

// run runs the parts until ctx ends or one of them does, and stops them in order: programs
// first, then the ordering, then the console that shows it.
func (r *running) run(ctx context.Context) error {
	alive, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	never := context.WithoutCancel(ctx)
	ordering := start(never, stop, "ordering", r.site.Run)
	pages := start(never, stop, "console", func(ctx context.Context) error {
		return r.pages.Serve(ctx, consoleDrain, r.o.Config.Limits.ConsoleConnections, r.console...)
	})
	machine := start(never, stop, "hardware", func(ctx context.Context) error { return r.hardware.run(ctx, r.site.View, r.watch.Worst) })
	usual := start(never, stop, "anomalies", func(ctx context.Context) error {
		if err := r.known.unusual.Learn(ctx, r.known.history.Replay); err != nil && ctx.Err() == nil {
			r.log.Warn("what was usual before the start cannot be read; it is learned anew", "err", err)
		}
		<-ctx.Done()
		return nil
	})
	remember := start(never, stop, "history", r.known.history.Run)
	ledger := start(never, stop, "audit log", func(ctx context.Context) error { return r.ledger.run(ctx, r.site) })
	power := start(never, stop, "rules", r.power.run)
	bell := start(never, stop, "suspicions", func(ctx context.Context) error { r.bell.run(ctx, r.site); return nil })
	watch := start(never, stop, "alarms", r.watch.Run)
	traces := start(never, stop, "traces", r.traces.run)
	clerk := start(never, stop, "records of decisions", func(ctx context.Context) error { r.clerk.run(ctx); return nil })
	firmware := start(never, stop, "firmware", r.firmware.Run)
	r.note(never, "box.start", "", "version "+r.o.Version)
	boxes := start(never, stop, "member set", func(ctx context.Context) error {
		return r.boxes.run(ctx, func(epoch, what string) { r.note(ctx, "site.epoch", epoch, what) })
	})
	var streams []*part
	for _, l := range r.native {
		streams = append(streams, start(never, stop, "native stream", func(context.Context) error {
			if err := r.streams.Serve(l); !errors.Is(err, native.ErrStopped) {
				return err
			}
			return nil // the box was stopped before this began
		}))
	}
	if err := r.api.Start(r.site); err != nil {
		stop(err)
	}
	if r.client != nil {
		streams = append(streams, start(never, stop, "etcd API", func(context.Context) error {
			if err := r.api.Serve(r.client); !errors.Is(err, etcdapi.ErrStopped) {
				return err
			}
			return nil // the box was stopped before this began
		}))
	}
	if r.join != nil {
		streams = append(streams, start(never, stop, "joining port", func(ctx context.Context) error { return r.newcomers.Serve(ctx, r.join) }))
	}
	<-alive.Done()

	r.log.Info("box stops")
	began := time.Now()
	r.pages.Drain()
	limit, cancel := context.WithTimeout(never, time.Duration(answerShare*float64(r.o.Config.Timeouts.Drain)))
	defer cancel()
	var programs sync.WaitGroup
	for _, shutdown := range []func(context.Context) error{r.streams.Shutdown, r.api.Shutdown} {
		programs.Go(func() {
			if err := shutdown(limit); err != nil {
				r.log.Warn("requests were cut off", "err", err)
			}
		})
	}
	programs.Wait()
	var err error
	if ctx.Err() == nil {
		err = context.Cause(alive)
	}
	r.note(never, "box.stop", "", "version "+r.o.Version)
	for _, p := range append(streams, firmware, boxes, machine, watch, usual, remember, power, clerk, bell, ledger, ordering, traces, pages) {
		if e := p.stop(); e != nil && !errors.Is(err, e) {
			err = errors.Join(err, fmt.Errorf("box: %s: %w", p.name, e))
		}
	}
	r.log.Info("box has stopped", "after", time.Since(began).Round(time.Millisecond))
	return err
}

// noteMax is how long the audit log may take for what the box does by itself.
const noteMax = 2 * time.Second

// note records what the box does by itself. When that cannot be, the box goes on: its site is worth more.
func (r *running) note(ctx context.Context, action, object, reason string) {
	ctx, cancel := context.WithTimeout(ctx, noteMax)
	defer cancel()
	err := r.ledger.Record(ctx, audit.Record{
		Principal: "box:" + r.ledger.box.String(), Action: action, Resource: object, Outcome: audit.Allowed, Reason: reason,
	})
	if err != nil {
		r.log.Error("an action was not recorded", "action", action, "err", err)
	}
}

// part is a running part of the box.
type part struct {
	name   string
	cancel context.CancelFunc
	done   sync.WaitGroup
	err    error // valid when done
}

// start runs fn; if it ends before it is stopped, the box ends.
func start(ctx context.Context, stopBox context.CancelCauseFunc, name string, fn func(context.Context) error) *part {
	p := &part{name: name}
	ctx, p.cancel = context.WithCancel(ctx)
	p.done.Go(func() {
		p.err = fn(ctx)
		if ctx.Err() != nil {
			return
		}
		err := fmt.Errorf("box: %s: %w", name, ErrPart)
		if p.err != nil {
			err = fmt.Errorf("%w: %w", err, p.err)
		}
		stopBox(err)
	})
	return p
}

func (p *part) stop() error {
	p.cancel()
	p.done.Wait()
	return p.err
}
