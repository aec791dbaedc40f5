package hal_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
)

// machine has cores of these MIDR parts and capacities, and one port with queues receive queues.
func machine(parts, capacities []int, queues int) *hal.Facts {
	var t hal.Topology
	for i, p := range parts {
		c := hal.CPU{ID: i, Online: true, Capacity: capacities[i]}
		if p != 0 {
			c.MIDR = hal.NewMIDR(0x41, p)
		}
		t.CPUs = append(t.CPUs, c)
	}
	n := hal.NIC{Name: "eth0", Kind: "physical", Bus: "0001:01:00.0"}
	for q := range queues {
		n.RX = append(n.RX, hal.RX{})
		n.TX = append(n.TX, hal.TX{})
		n.IRQs = append(n.IRQs, hal.IRQ{Number: 40 + q, Name: "eth0-TxRx-" + string(rune('0'+q)), Affinity: t.Online()})
	}
	n.Channels = hal.Load(hal.Channels{Combined: queues, CombinedMax: 8})
	return &hal.Facts{Topology: hal.Load(t), NICs: hal.Load([]hal.NIC{n})}
}

var generic = &boards.Board{ID: "generic-arm64"}

func TestCoresAreSortedByWhatTheyAreAndNotByCapacityAlone(t *testing.T) {
	// A GB10: ten X925 and ten A725, and five capacities.
	parts := []int{0xd87, 0xd87, 0xd85, 0xd85, 0xd87, 0xd85}
	caps := []int{718, 731, 997, 1017, 718, 1024}
	classes := machine(parts, caps, 0).Topology.Value.Classes(generic)
	if len(classes) != 2 || classes[0].Name != "big" || classes[0].CPUs.List() != "2-3,5" || classes[1].Name != "little" || classes[1].CPUs.List() != "0-1,4" {
		t.Errorf("by MIDR: %+v", classes)
	}
	// Two variants of one core (r0 and r3), as some SoCs have, are one class; two makers' part of one number are not.
	mixed := machine([]int{0xd0b, 0xd0b, 0xd0b}, []int{1024, 1024, 1024}, 0).Topology.Value
	mixed.CPUs[0].MIDR |= 3 << 20
	mixed.CPUs[2].MIDR = hal.NewMIDR(0x51, 0xd0b)
	if classes := mixed.Classes(generic); len(classes) != 2 || classes[0].CPUs.List() != "0-1" || classes[1].CPUs.List() != "2" {
		t.Errorf("by variant and maker: %+v", classes)
	}
	for name, c := range map[string]struct {
		caps []int
		want string
	}{
		"turbo differs a little": {[]int{1024, 1000, 980, 1010}, "big 0-3"},
		"two kinds":              {[]int{1024, 1000, 500, 512}, "big 0-1 little 2-3"},
		"not told":               {[]int{0, 0, 0, 0}, "big 0-3"},
	} {
		var got []string
		for _, k := range machine([]int{0, 0, 0, 0}, c.caps, 0).Topology.Value.Classes(generic) {
			got = append(got, k.Name+" "+k.CPUs.List())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

func TestEveryCPUHasARoleAndTheLoopSharesWithNobody(t *testing.T) {
	for n := 1; n <= 16; n++ {
		for loops := 1; loops <= 4; loops++ {
			parts, caps := make([]int, n), make([]int, n)
			for i := range parts {
				parts[i], caps[i] = 0xd05, 530
				if i >= n/2 {
					parts[i], caps[i] = 0xd0b, 1024
				}
			}
			f := machine(parts, caps, 2)
			a := hal.MakePlan(f, generic, "", hal.Options{Loops: loops}).Assign
			all := hal.NewCPUs(append(append(append([]int{}, a.Loop...), a.Receive...), a.Housekeeping...)...)
			if all.List() != f.Topology.Value.Online().List() || len(a.Loop) == 0 || len(a.Receive) == 0 || len(a.Housekeeping) == 0 {
				t.Errorf("%d CPUs, %d loops: %+v", n, loops, a)
			}
			if n > 2 && (len(a.Loop.Without(a.Receive).Without(a.Housekeeping)) != len(a.Loop)) {
				t.Errorf("%d CPUs, %d loops: the loop shares: %+v", n, loops, a)
			}
		}
	}
}

func TestAlikeCoresGiveAQuarterToTheRest(t *testing.T) {
	parts, caps := make([]int, 16), make([]int, 16)
	for i := range parts {
		parts[i], caps[i] = 0xd0c, 1024
	}
	a := hal.MakePlan(machine(parts, caps, 1), generic, "", hal.Options{}).Assign
	if a.Loop.List() != "15" || a.Housekeeping.List() != "0-3" || a.Receive.List() != "4-14" {
		t.Errorf("loop %s, receive %s, housekeeping %s", a.Loop, a.Receive, a.Housekeeping)
	}
}

// With more send queues than CPUs every queue has a CPU, or the kernel would never use it.
func TestEverySendQueueHasACPU(t *testing.T) {
	p := hal.MakePlan(machine([]int{0xd0b, 0xd0b, 0xd0b, 0xd0b}, []int{1024, 1024, 1024, 1024}, 6), generic, "", hal.Options{})
	var got []string
	for _, c := range p.Changes {
		if c.Target.Kind == hal.XPSCPUs {
			got = append(got, c.Want)
		}
	}
	if strings.Join(got, " ") != "0 1 2 3 0 1" {
		t.Errorf("send queues on CPUs %q", got)
	}
}

func TestLoopsThatGetNoCPUAreTold(t *testing.T) {
	f := machine([]int{0xd0b, 0xd0b, 0xd0b, 0xd0b}, []int{1024, 1024, 1024, 1024}, 1)
	for loops, told := range map[int]bool{0: false, 2: false, 3: true} {
		p := hal.MakePlan(f, generic, "", hal.Options{Loops: loops})
		if got := strings.Contains(p.String(), "leave 3 loops: there are CPUs for 2"); got != told {
			t.Errorf("%d loops:\n%s", loops, p.String())
		}
	}
}

func TestAnIsolatedCPUIsTheLoops(t *testing.T) {
	f := machine([]int{0xd08, 0xd08, 0xd08, 0xd08}, []int{0, 0, 0, 0}, 1)
	f.Topology.Value.CPUs[1].Isolated = true
	f.Topology.Value.CPUs[3].Online = false
	if a := hal.MakePlan(f, generic, "", hal.Options{}).Assign; a.Loop.List() != "1" || a.Receive.Has(3) || a.Housekeeping.Has(3) {
		t.Errorf("%+v", a)
	}
	f = machine([]int{0xd08, 0xd08, 0xd08, 0xd08}, []int{0, 0, 0, 0}, 1)
	for i := range f.Topology.Value.CPUs {
		f.Topology.Value.CPUs[i].Isolated = i >= 2
	}
	if a := hal.MakePlan(f, generic, "", hal.Options{}).Assign; a.Loop.List() != "3" || a.Receive.Has(2) || a.Housekeeping.Has(2) || len(a.Receive) == 0 || len(a.Housekeeping) == 0 {
		t.Errorf("an isolated CPU that no loop took was given work: %+v", a)
	}
}

func TestALoopThatSharesItsCoreIsTold(t *testing.T) {
	f := machine([]int{0, 0, 0, 0}, []int{0, 0, 0, 0}, 1)
	for i := range f.Topology.Value.CPUs {
		f.Topology.Value.CPUs[i].Threads = hal.NewCPUs(i%2, i%2+2)
	}
	if p := hal.MakePlan(f, generic, "", hal.Options{}); !strings.Contains(p.String(), "loop on CPU 3: it shares its core with CPU 1") {
		t.Error(p.String())
	}
}

func TestIrqbalanceIsNamedAndItsInterruptsAreLeftAlone(t *testing.T) {
	f := machine([]int{0xd08, 0xd08, 0xd08, 0xd08}, []int{0, 0, 0, 0}, 2)
	f.Irqbalance = 417
	p := hal.MakePlan(f, generic, "", hal.Options{})
	for _, c := range p.Changes {
		if c.Target.Kind == hal.IRQAffinity {
			t.Errorf("%v although irqbalance runs", c)
		}
	}
	if !strings.Contains(p.String(), "irqbalance (process 417)") {
		t.Errorf("it is not named:\n%s", p.String())
	}
}

func TestAPinnedInterruptIsExplainedAndSoftwareStepsIn(t *testing.T) {
	f := machine([]int{0xd08, 0xd08, 0xd08, 0xd08}, []int{0, 0, 0, 0}, 1)
	f.NICs.Value[0].IRQs[0].Pinned = true
	s := hal.MakePlan(f, generic, "", hal.Options{})
	for _, want := range []string{"leave eth0 irq 40 affinity: the kernel manages", "change eth0 rx-0 rps_cpus: none -> 1-2"} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("%q is missing in\n%s", want, s.String())
		}
	}
}

func TestPortsWithOneQueueTakeTurns(t *testing.T) {
	f := machine([]int{0xd08, 0xd08, 0xd08, 0xd08}, []int{0, 0, 0, 0}, 1)
	second := f.NICs.Value[0]
	second.Name, second.Bus = "eth1", "0002:01:00.0"
	second.IRQs = []hal.IRQ{{Number: 50, Name: "eth1", Affinity: hal.CPUs{0}}}
	f.NICs.Value = append(f.NICs.Value, second)
	got := map[string]bool{}
	for _, c := range hal.MakePlan(f, generic, "", hal.Options{}).Changes {
		if c.Target.Kind == hal.IRQAffinity {
			got[c.Want] = true
		}
	}
	if len(got) != 2 {
		t.Errorf("both interrupts go to %v", got)
	}
}

func TestQueuesAreSetOnlyWhenAskedFor(t *testing.T) {
	f := machine([]int{0xd08, 0xd08, 0xd08, 0xd08}, []int{0, 0, 0, 0}, 1)
	for _, asked := range []bool{false, true} {
		p := hal.MakePlan(f, generic, "", hal.Options{Channels: asked})
		var risky []hal.Change
		for _, c := range p.Changes {
			if c.Risk == hal.Risky {
				risky = append(risky, c)
			}
		}
		if asked != (len(risky) == 1 && risky[0].Want == "rx 0 tx 0 combined 2") {
			t.Errorf("asked %v: %v", asked, risky)
		}
	}
}

func TestQueuesThatGoAreLeftAlone(t *testing.T) {
	f := machine([]int{0xd08, 0xd08, 0xd08, 0xd08}, []int{0, 0, 0, 0}, 8)
	for _, c := range hal.MakePlan(f, generic, "", hal.Options{Channels: true}).Changes {
		if (c.Target.Kind == hal.XPSCPUs || c.Target.Kind == hal.RPSCPUs) && c.Target.Index >= 2 {
			t.Errorf("%s, with two queues left", c.Target)
		}
	}
}

func TestWhatStandsAlreadyIsNoChange(t *testing.T) {
	f := machine([]int{0xd08, 0xd08, 0xd08, 0xd08}, []int{0, 0, 0, 0}, 2)
	p := hal.MakePlan(f, generic, "", hal.Options{})
	if len(p.Changes) == 0 {
		t.Fatal("nothing to test with")
	}
	n := &f.NICs.Value[0]
	for _, c := range p.Changes {
		set, err := hal.ParseList(c.Want)
		if err != nil {
			t.Fatal(err)
		}
		switch c.Target.Kind {
		case hal.IRQAffinity:
			n.IRQs[c.Target.Index-40].Affinity = set
		case hal.RPSCPUs:
			n.RX[c.Target.Index].RPS = set
		case hal.XPSCPUs:
			n.TX[c.Target.Index].XPS = set
		}
	}
	if again := hal.MakePlan(f, generic, "", hal.Options{}); len(again.Changes) != 0 {
		t.Errorf("a second plan:\n%s", again.String())
	}
}

func TestTheQueueIsFoundInEveryDriversSpelling(t *testing.T) {
	for name, want := range map[string]struct {
		queue    int
		receives bool
	}{
		"eth0": {0, true}, "eth0-rx-3": {3, true}, "eth0-TxRx-12": {12, true}, "eth0-tx-1": {0, false},
		"virtio2-input.1": {1, true}, "virtio2-output.1": {0, false}, "virtio2-config": {0, false},
		"hif4": {4, true}, "link": {0, false}, "mlx5_comp3@pci:0000:01:00.0": {3, true}, "mlx5_async0@pci:0000:01:00.0": {0, false},
		"eth0-fp-2": {2, true}, "": {0, true}, "eth0-99999": {0, true},
	} {
		if q, r := (hal.IRQ{Name: name}).Queue("eth0"); q != want.queue || r != want.receives {
			t.Errorf("%q: %d, %v; want %d, %v", name, q, r, want.queue, want.receives)
		}
	}
}

type adviser map[string]error

func (a adviser) Advise(_ hal.Region, s hal.Advice) error { return a[s.Value] }

func TestAPatternBecomesAdviceAndTheHardwareSwitchIsRefusedWithAReason(t *testing.T) {
	mem := &hal.Memory{THP: "never", Blocks: []hal.Block{{Name: "sda", ReadAheadKiB: 128}, {Name: "mmcblk0", ReadAheadKiB: 128}}}
	region := hal.Region{Mem: make([]byte, 4<<20), File: 3, Block: "mmcblk0"}
	for p, want := range map[hal.Pattern]string{
		hal.Sequential: "madvise sequential, madvise hugepage, fadvise sequential, thp never -> madvise, mmcblk0 read-ahead 128 -> 1024",
		hal.Random:     "madvise random, madvise hugepage, fadvise random, thp never -> madvise, mmcblk0 read-ahead 128 -> 16",
		hal.Strided:    "madvise normal, madvise hugepage, fadvise random, thp never -> madvise, mmcblk0 read-ahead 128 -> 16",
		hal.Once:       "madvise sequential, fadvise noreuse, mmcblk0 read-ahead 128 -> 1024",
		"sideways":     "",
	} {
		steps, changes, notes := hal.Advices(p, region, mem)
		var got []string
		for _, s := range steps {
			got = append(got, s.Call+" "+s.Value)
		}
		for _, c := range changes {
			got = append(got, c.Target.String()+" "+c.Old+" -> "+c.Want)
		}
		if strings.Join(got, ", ") != want || len(notes) == 0 {
			t.Errorf("%s: %v (%v), want %s", p, got, notes, want)
		}
	}
	out := hal.Advise(adviser{"hugepage": syscall.EINVAL, "random": errors.New("broken")}, hal.Random, region, mem, &hal.CPU{MIDR: hal.NewMIDR(0x41, 0xd08)})
	want := []hal.Result{hal.FailedTo, hal.Unsupported, hal.FailedTo, hal.Unsupported}
	for i, o := range out {
		if o.Result != want[i] || o.Why == "" {
			t.Errorf("%+v, want %s", o, want[i])
		}
	}
	// With pages of 16 KiB a huge page has 32 MiB: 4 MiB get none, and are told so.
	pi5 := &hal.Memory{THP: "madvise", PageBytes: 16 << 10}
	for _, o := range hal.Advise(adviser{}, hal.Random, hal.Region{Mem: region.Mem}, pi5, &hal.CPU{}) {
		if o.Advice.Value == "hugepage" && (o.Result != hal.Unsupported || !strings.Contains(o.Why, "32768 KiB")) {
			t.Errorf("%+v", o)
		}
	}
	if len(hal.Advise(adviser{}, hal.Random, hal.Region{Mem: region.Mem}, pi5, &hal.CPU{})) != 3 {
		t.Error("nothing is said of huge pages")
	}
	for _, c := range []struct {
		cpu  hal.CPU
		want string
	}{
		{hal.CPU{MIDR: hal.NewMIDR(0x41, 0xd08)}, "100095"},
		{hal.CPU{MIDR: hal.NewMIDR(0x41, 0xd0b)}, "Cortex-A76"},
		{hal.CPU{Model: "Intel(R) Xeon(R)"}, "0x1A4"},
		{hal.CPU{Model: "AMD EPYC"}, "/dev/cpu/*/msr"},
		{hal.CPU{}, "not known"},
	} {
		if got := hal.PrefetcherWhy(&c.cpu); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s", c.cpu, got)
		}
	}
}
