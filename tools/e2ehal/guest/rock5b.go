package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
)

// rock5B are the checks of the machine that calls itself a ROCK 5B.
func (s *suite) rock5B() []check {
	return []check{
		{"board", func(context.Context) (string, error) {
			return s.board.ID + ": " + s.why, want(s.board.ID == "rock-5b" && s.facts.Model == "Radxa ROCK 5B", "%s, %s", s.board.ID, s.facts.Model)
		}},
		{"cores", s.cores},
		{"nic", s.nicFacts},
		{"watchdog-unarmed", s.unarmed},
		{"watchdog", s.watchdog},
		{"rtc", s.rtc},
		{"plan", s.makePlan},
		{"irqbalance", s.irqbalance},
		{"worker", s.worker},
		{"prefetcher", s.prefetcher},
		{"receive-sockets", s.receivers},
		{"arena", s.arena},
		{"locked-memory", s.locked},
		{"apply", s.apply},
		{"interrupts-move", s.moved},
		{"hotplug", s.hotplug},
		{"undo", s.undo},
		{"managed-irq", s.managed},
		{"rps", s.rps},
		{"busy-poll", s.busyPoll},
		{"queues", s.queues},
		{"risky", s.risky},
		{"unconfirmed", s.unconfirmed},
		{"crash-unconfirmed", func(ctx context.Context) (string, error) { return s.crash(ctx, 1<<30) }},
		{"crash-in-writes", func(ctx context.Context) (string, error) { return s.crash(ctx, 3) }},
		{"gpio", func(context.Context) (string, error) { return s.pin("OUT") }},
		{"button", s.button},
		{"led", s.led},
	}
}

func (s *suite) cores(context.Context) (string, error) {
	classes := s.facts.Topology.Value.Classes(&s.board)
	var says []string
	for _, c := range classes {
		says = append(says, fmt.Sprintf("%s: CPU %s, %s, capacity %d", c.Name, c.CPUs, s.facts.Topology.Value.CPU(c.CPUs[0]).MIDR, c.Capacity))
	}
	return strings.Join(says, "; "), want(slices.Equal(says, []string{
		"big: CPU 4-7, Arm Cortex-A76, capacity 1024",
		"little: CPU 0-3, Arm Cortex-A55, capacity 530",
	}), "not a ROCK 5B's")
}

func (s *suite) find(nic string) (*hal.NIC, error) {
	for i, n := range s.facts.NICs.Value {
		if n.Name == nic {
			return &s.facts.NICs.Value[i], nil
		}
	}
	return nil, fmt.Errorf("no %s: %s", nic, s.facts.NICs.Why)
}

func (s *suite) nicFacts(context.Context) (string, error) {
	n, err := s.find(nic)
	if err != nil {
		return "", err
	}
	spread, err := s.find(nicRSS)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s at %s, %d receive and %d send queues, %d interrupts, channels %s, rings %v, RSS %s here and over %d entries with a key of %d bytes on %s, coalescing %s, %d offloads", n.Driver, n.Bus, len(n.RX), len(n.TX), len(n.IRQs), n.Channels.Value, n.Rings.Value, n.RSS.State, len(spread.RSS.Value.Table), spread.RSS.Value.KeyBytes, nicRSS, n.Coalesce.State, len(n.Features.Value)), errors.Join(
		want(n.Driver == "virtio_net" && n.Bus == "0000:00:01.0", "%s at %s", n.Driver, n.Bus),
		want(len(n.RX) == 4 && len(n.TX) == 4 && n.Channels.Value.Combined == 4, "not 4 queues"),
		want(len(n.IRQs) == 9, "interrupts: 4 in, 4 out and config are not %v", n.IRQs),
		want(n.RSS.State == hal.Skipped && n.RSS.Why != "", "RSS where there is none: %v", n.RSS),
		want(spread.RSS.State == hal.Loaded && len(spread.RSS.Value.Table) == 128 && spread.RSS.Value.KeyBytes == 40, "RSS: %v", spread.RSS))
}

func (s *suite) makePlan(ctx context.Context) (string, error) {
	s.plan = hal.MakePlan(s.facts, &s.board, s.why, hal.Options{Only: []string{nic}})
	for line := range strings.Lines(s.plan.String()) {
		fmt.Println("INFO", strings.TrimRight(line, "\n"))
	}
	a := s.plan.Assign
	irqs := 0
	for _, c := range s.plan.Changes {
		if c.Target.Kind == hal.IRQAffinity {
			irqs++
		}
		now, err := s.port.Read(ctx, c.Target)
		if err := errors.Join(err, want(now == c.Old, "planning changed %s", c.Target)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("loop %s, receive %s, housekeeping %s, %d interrupts to move, %d changes", a.Loop, a.Receive, a.Housekeeping, irqs, len(s.plan.Changes)), errors.Join(
		want(a.Loop.String() == "7" && a.Receive.String() == "4-6" && a.Housekeeping.String() == "0-3", "the roles are others"),
		want(irqs == 4, "not one for each receive queue"))
}

// traffic runs do while packets of many flows come in.
func (s *suite) traffic(do func() error) error {
	c, err := net.ListenPacket("udp", floodAddr)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("HOST traffic on")
	defer fmt.Println("HOST traffic off")
	buf := make([]byte, 2048)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	for range 100 {
		if _, _, err := c.ReadFrom(buf); err != nil {
			return fmt.Errorf("no traffic: %w", err)
		}
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	go func() {
		for {
			if _, _, err := c.ReadFrom(buf); err != nil {
				return // closed
			}
		}
	}()
	return do()
}

// said is an outcome for people.
func said(o hal.Outcome) string {
	return fmt.Sprintf("%s -> %s: %s (%s)", o.Change.Target, o.Change.Want, o.Result, o.Why)
}

func (s *suite) apply(ctx context.Context) (string, error) {
	j, err := s.journal("plan")
	if err != nil {
		return "", err
	}
	var r hal.Report
	err = s.traffic(func() (err error) { r, err = hal.Apply(ctx, s.port, &s.plan, j, nil); return err })
	count := map[hal.Result]int{}
	for _, o := range r.Outcomes {
		fmt.Println("INFO", said(o))
		count[o.Result]++
		expect := hal.Applied
		if o.Change.Target.Kind == hal.XPSCPUs {
			expect = hal.AcceptedUnverified
		}
		err = errors.Join(err, want(o.Result == expect, "%s", said(o)))
	}
	return fmt.Sprint(count), errors.Join(err, want(r.Committed, "not committed"), want(len(r.Outcomes) == len(s.plan.Changes), "%d outcomes", len(r.Outcomes)))
}

// movedLeast is how many interrupts of each queue are looked at, movedMost how long they may take.
const (
	movedLeast = 10
	movedMost  = 20 * time.Second
)

// inputs are the interrupts of the receive queues by the plan's wish.
func (s *suite) inputs() map[int]int {
	m := map[int]int{}
	for _, c := range s.plan.Changes {
		if c.Target.Kind == hal.IRQAffinity {
			m[c.Target.Index], _ = strconv.Atoi(c.Want)
		}
	}
	return m
}

// moved counts interrupts, without hal, until each receive queue has had enough: all of them have to
// be served on the planned CPUs.
func (s *suite) moved(ctx context.Context) (string, error) {
	var says []string
	err := s.traffic(func() error {
		names, before, err := interrupts()
		if err != nil {
			return err
		}
		quiet := true
		for end := time.Now().Add(movedMost); quiet && time.Now().Before(end) && ctx.Err() == nil; {
			time.Sleep(200 * time.Millisecond)
			_, after, err := interrupts()
			if err != nil {
				return err
			}
			quiet, says = false, nil
			for irq, cpu := range s.inputs() {
				says = append(says, fmt.Sprintf("%s: %d on CPU %d", names[irq], after[irq][cpu]-before[irq][cpu], cpu))
				for on, n := range after[irq] {
					d := n - before[irq][on]
					quiet = quiet || on == cpu && d < movedLeast
					if err := want(on == cpu || d == 0, "%s: %d on CPU %d, wanted on %d", names[irq], d, on, cpu); err != nil {
						return err
					}
				}
			}
		}
		return want(!quiet, "fewer than %d on one of them in %v", movedLeast, movedMost)
	})
	slices.Sort(says)
	return strings.Join(says, ", "), err
}

func (s *suite) undo(ctx context.Context) (string, error) {
	j, err := s.journal("plan")
	if err != nil {
		return "", err
	}
	before := map[hal.Target]string{}
	for _, c := range s.plan.Changes {
		before[c.Target] = c.Old
	}
	back, err := hal.Undo(ctx, s.port, j)
	if err := errors.Join(err, s.same(ctx, before)); err != nil {
		return "", err
	}
	twice, err := hal.Undo(ctx, s.port, j)
	return fmt.Sprintf("%d values put back, and read as they were", len(back)), errors.Join(err, want(len(twice) == 0, "undone twice: %v", twice))
}

// managed asks for an interrupt that the kernel does not let go of: those of virtio-blk's queues.
func (s *suite) managed(ctx context.Context) (string, error) {
	names, _, err := interrupts()
	if err != nil {
		return "", err
	}
	number := -1
	for n, name := range names {
		if strings.HasSuffix(name, "-req.0") {
			number = n
		}
	}
	t := hal.Target{Kind: hal.IRQAffinity, Name: "vda", Index: number}
	old, err := s.port.Read(ctx, t)
	if err != nil {
		return "", err
	}
	j, err := s.journal("managed")
	if err != nil {
		return "", err
	}
	r, err := hal.Apply(ctx, s.port, &hal.Plan{Changes: []hal.Change{{Target: t, Old: old, Want: "6", Reason: "to see it refused", Risk: hal.Safe}}}, j, nil)
	if err != nil || len(r.Outcomes) != 1 {
		return "", fmt.Errorf("%d outcomes: %w", len(r.Outcomes), err)
	}
	o := r.Outcomes[0]
	return fmt.Sprintf("%s (%s): %s, errno %d", said(o), names[number], o.Result, o.Errno), errors.Join(
		s.same(ctx, map[hal.Target]string{t: old}),
		want(o.Result == hal.Unsupported && strings.Contains(o.Why, "keeps this interrupt"), "not explained"),
		want(o.Errno == syscall.EIO || o.Errno == syscall.EPERM, "errno %d", o.Errno))
}

// rps steers packets in software to a CPU on which none came in before.
func (s *suite) rps(ctx context.Context) (string, error) {
	detail := ""
	err := s.traffic(func() error {
		natural, err := s.witness(ctx, nic)
		if err != nil {
			return err
		}
		to := 4
		for natural[to] > 0 {
			to++
		}
		var p hal.Plan
		for q := range 4 {
			p.Changes = append(p.Changes, hal.Change{Target: hal.Target{Kind: hal.RPSCPUs, Name: nic, Index: q}, Want: strconv.Itoa(to), Reason: "to see it move", Risk: hal.Safe})
		}
		before, err := s.values(ctx, p.Changes)
		if err != nil {
			return err
		}
		j, err := s.journal("rps")
		if err != nil {
			return err
		}
		r, err := hal.Apply(ctx, s.port, &p, j, nil)
		// The witness's flow comes on one queue, whichever: it proves something when all are steered.
		for q, o := range r.Outcomes {
			expect := hal.AcceptedUnverified
			if q == len(r.Outcomes)-1 {
				expect = hal.Applied
				detail = fmt.Sprintf("packets came in on CPUs %v before; %s", natural, said(o))
			}
			err = errors.Join(err, want(o.Result == expect, "%s", said(o)))
		}
		if _, e := hal.Undo(ctx, s.port, j); e != nil {
			err = errors.Join(err, e)
		}
		return errors.Join(err, s.same(ctx, before), want(len(natural) > 0, "no packet came to the witness before"))
	})
	return detail, err
}

// queues sets the number of hardware queues to that of the receivers, and back.
func (s *suite) queues(ctx context.Context) (string, error) {
	p := hal.MakePlan(s.root.Probe(), &s.board, s.why, hal.Options{Only: []string{nic}, Channels: true})
	before, err := s.values(ctx, p.Changes)
	if err != nil {
		return "", err
	}
	j, err := s.journal("queues")
	if err != nil {
		return "", err
	}
	var r hal.Report
	err = s.traffic(func() (err error) { r, err = hal.Apply(ctx, s.port, &p, j, nil); return err })
	set := ""
	for _, o := range r.Outcomes {
		fmt.Println("INFO", said(o))
		if o.Change.Target.Kind == hal.ChannelsOf {
			set = said(o)
			err = errors.Join(err, want(o.Result == hal.Applied && o.Change.Want == "rx 0 tx 0 combined 3", "%s", set))
		}
	}
	if _, e := hal.Undo(ctx, s.port, j); e != nil {
		err = errors.Join(err, e)
	}
	return set, errors.Join(err, want(set != "", "no channels in the plan"), s.same(ctx, before))
}

// risky asks for more queues than there are: the change before it has to be put back too.
func (s *suite) risky(ctx context.Context) (string, error) {
	p := hal.Plan{Changes: []hal.Change{
		{Target: hal.Target{Kind: hal.RPSCPUs, Name: nic}, Want: "5", Reason: "goes well", Risk: hal.Safe},
		{Target: hal.Target{Kind: hal.ChannelsOf, Name: nic}, Want: "rx 0 tx 0 combined 64", Reason: "cannot go well", Risk: hal.Risky},
	}}
	before, err := s.values(ctx, p.Changes)
	if err != nil {
		return "", err
	}
	j, err := s.journal("risky")
	if err != nil {
		return "", err
	}
	r, err := hal.Apply(ctx, s.port, &p, j, nil)
	pending, perr := j.Pending()
	return fmt.Sprint(err), errors.Join(
		want(errors.Is(err, hal.ErrRolledBack), "not rolled back: %v", err),
		want(len(r.Outcomes) == 2 && r.Outcomes[0].Result == hal.PutBack, "%v", r.Outcomes),
		want(perr == nil && pending == nil, "the journal is open: %v %v", pending, perr),
		s.same(ctx, before))
}

// unconfirmed applies the plan, and nobody says that the machine can still be reached.
func (s *suite) unconfirmed(ctx context.Context) (string, error) {
	before, err := s.values(ctx, s.plan.Changes)
	if err != nil {
		return "", err
	}
	j, err := s.journal("unconfirmed")
	if err != nil {
		return "", err
	}
	s.port.Settle = 50 * time.Millisecond
	defer func() { s.port.Settle = settle }()
	changed := 0
	r, err := hal.Apply(ctx, s.port, &s.plan, j, &hal.Confirm{Within: 300 * time.Millisecond, Wait: func(wait context.Context) error {
		for t, was := range before {
			if now, err := s.port.Read(ctx, t); err == nil && now != was {
				changed++
			}
		}
		<-wait.Done()
		return wait.Err()
	}})
	return fmt.Sprintf("%d of %d values changed, then: %v", changed, len(before), err), errors.Join(
		want(errors.Is(err, hal.ErrRolledBack) && !r.Committed, "it stayed: %v", err),
		want(changed == len(before), "only %d values were changed", changed),
		s.same(ctx, before))
}

// victimEnv is set in the process that is killed: after how many writes it stands still.
const victimEnv = "HOLDFAST_VICTIM"

// stopping is a port that stands still after a number of writes.
type stopping struct {
	*linux.Port
	writes int
}

func (p *stopping) Write(ctx context.Context, t hal.Target, v string) error {
	if p.writes == 0 {
		halt()
	}
	p.writes--
	return p.Port.Write(ctx, t, v)
}

func halt() {
	fmt.Println("halted")
	forever()
}

// victim applies the plan that it is given, and waits for its end: in the middle of the writes, or
// for a confirmation that does not come.
func victim() {
	s := &suite{dir: "/run/hal"}
	writes, err := strconv.Atoi(os.Getenv(victimEnv))
	if err == nil {
		err = s.open()
	}
	var p hal.Plan
	if err == nil {
		err = json.NewDecoder(os.Stdin).Decode(&p)
	}
	var j linux.Journal
	if err == nil {
		j, err = s.journal("crash")
	}
	if err == nil {
		s.port.Settle = 50 * time.Millisecond
		_, err = hal.Apply(context.Background(), &stopping{s.port, writes}, &p, j, &hal.Confirm{Within: time.Hour, Wait: func(context.Context) error { halt(); return nil }})
	}
	fmt.Println("ended:", err)
	os.Exit(1)
}

// crash kills a process that applies the plan, and recovers from what its journal says.
func (s *suite) crash(ctx context.Context, writes int) (string, error) {
	before, err := s.values(ctx, s.plan.Changes)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(s.plan)
	if err != nil {
		return "", err
	}
	cmd := self(ctx, "victim", fmt.Sprintf("%s=%d", victimEnv, writes))
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := errors.Join(err, want(line == "halted\n", "the victim said %q", line)); err != nil {
		return "", err
	}
	changed := 0
	for t, was := range before {
		if now, err := s.port.Read(ctx, t); err == nil && now != was {
			changed++
		}
	}
	j, err := s.journal("crash")
	if err != nil {
		return "", err
	}
	plan, again := hal.Apply(ctx, s.port, &s.plan, j, nil)
	back, err := hal.Recover(ctx, s.port, j)
	pending, perr := j.Pending()
	return fmt.Sprintf("killed with %d of %d values changed; %d put back from the journal", changed, len(before), len(back)), errors.Join(err, perr,
		want(changed == min(writes, len(before)), "%d values were changed", changed),
		want(errors.Is(again, hal.ErrPending), "a plan was begun over an open one: %v %v", plan, again),
		want(pending == nil, "the journal is open: %v", pending),
		s.same(ctx, before))
}

// hotplug takes a receiving CPU away and gives it back, and applies again what the kernel forgot.
func (s *suite) hotplug(ctx context.Context) (string, error) {
	const cpu = 5
	online := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/online", cpu)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan hal.Event, 64)
	ready := make(chan struct{})
	watched := make(chan error, 1)
	go func() { watched <- linux.Watch(ctx, func() { close(ready) }, func(e hal.Event) { events <- e }) }()
	await := func(kind string) error {
		for {
			select {
			case e := <-events:
				if e.Kind == kind && e.Name == fmt.Sprint("cpu", cpu) {
					return nil
				}
			case err := <-watched:
				return fmt.Errorf("watching ended: %w", err)
			case <-ctx.Done():
				return fmt.Errorf("no %s", kind)
			}
		}
	}
	<-ready
	if err := os.WriteFile(online, []byte("0"), 0); err != nil {
		return "", err
	}
	if err := await("cpu-offline"); err != nil {
		return "", err
	}
	off := s.root.Probe().Topology.Value
	err := want(!off.CPU(cpu).Online, "CPU %d is said to be online", cpu)
	if e := os.WriteFile(online, []byte("1"), 0); e != nil {
		return "", errors.Join(err, e)
	}
	if err := errors.Join(err, await("cpu-online")); err != nil {
		return "", err
	}
	drift := s.plan.Drift(ctx, s.port)
	var lost []string
	for _, c := range drift {
		lost = append(lost, fmt.Sprintf("%s was %s, is %s", c.Target, c.Want, c.Old))
	}
	if err := want(len(drift) > 0, "nothing was lost: then this shows nothing"); err != nil {
		return "", err
	}
	j, err := s.journal("plan")
	if err != nil {
		return "", err
	}
	var r hal.Report
	err = s.traffic(func() (err error) { r, err = hal.Apply(ctx, s.port, &s.plan, j, nil); return err })
	for _, o := range r.Outcomes {
		if o.Change.Target.Kind == hal.IRQAffinity {
			err = errors.Join(err, want(o.Result == hal.Applied, "%s", said(o)))
		}
	}
	if err := errors.Join(err, want(len(s.plan.Drift(ctx, s.port)) == 0, "still lost: %v", s.plan.Drift(ctx, s.port))); err != nil {
		return "", err
	}
	where, err := s.moved(ctx)
	return strings.Join(lost, "; ") + "; applied again: " + where, err
}

// worker runs on the loop's CPU, and gives the thread back as it was.
func (s *suite) worker(context.Context) (string, error) {
	var all error
	for _, cpu := range s.plan.Assign.Loop {
		err := linux.Pinned(hal.NewCPUs(cpu), func() {
			for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
				on, err := linux.CurrentCPU()
				all = errors.Join(all, err, want(on == cpu, "on CPU %d, wanted %d", on, cpu))
				if all != nil {
					return
				}
			}
		})
		all = errors.Join(all, err)
	}
	return fmt.Sprintf("200 ms on CPU %s", s.plan.Assign.Loop), all
}

// prefetcher gives advice for memory, and has it said that the switch of the hardware is out of reach.
func (s *suite) prefetcher(context.Context) (string, error) {
	mem, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return "", err
	}
	defer unix.Munmap(mem)
	var says []string
	refused := false
	for _, o := range hal.Advise(s.port, hal.Random, hal.Region{Mem: mem}, &s.facts.Memory.Value, s.facts.Topology.Value.CPU(7)) {
		says = append(says, fmt.Sprintf("%s %s: %s %s", o.Advice.Call, o.Advice.Value, o.Result, o.Why))
		switch o.Result {
		case hal.Unsupported:
			refused = refused || strings.Contains(o.Why, "Cortex-A76") || strings.Contains(o.Why, "EL")
		case hal.AcceptedUnverified:
		default:
			err = errors.Join(err, fmt.Errorf("%s: %s", o.Result, o.Why))
		}
	}
	return strings.Join(says, "; "), errors.Join(err, want(refused, "no word of the hardware"))
}
