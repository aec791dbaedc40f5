package linux_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/haltest"
	"github.com/holdfast-edge/holdfast/hal/linux"
)

var update = flag.Bool("update", false, "write the golden files")

func open(t testing.TB, dir string) *linux.Root {
	t.Helper()
	r, err := linux.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// play is a recorded machine in a directory of its own.
func play(t testing.TB, archive []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := haltest.Play(archive, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func profiles(t testing.TB) []boards.Board {
	t.Helper()
	bs, err := boards.All()
	if err != nil {
		t.Fatal(err)
	}
	return bs
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestEachBoardIsKnownProbedAndPlanned(t *testing.T) {
	bs := profiles(t)
	for _, b := range bs {
		t.Run(b.ID, func(t *testing.T) {
			var plans strings.Builder
			for _, queues := range []int{1, 4} {
				f := open(t, play(t, haltest.Tree(&b, queues))).Probe()
				got, why, err := boards.Find(bs, f.Machine)
				if err != nil || got.ID != b.ID {
					t.Fatalf("taken for %s because %s, %v", got.ID, why, err)
				}
				for _, n := range f.NICs.Value {
					p, ok := b.NIC[n.Name] // the tree names the ports as the profile does
					if !ok || n.Bus != p.Bus || n.Port != p.Port || n.Driver != p.Driver || len(n.RX) != queues || len(n.IRQs) != queues {
						t.Errorf("port %+v, want %+v", n, p)
					}
				}
				for part, has := range map[string]struct {
					want bool
					s    hal.Status
				}{
					"topology": {true, f.Topology.Status}, "memory": {true, f.Memory.Status},
					"nics": {len(b.NIC) > 0, f.NICs.Status}, "leds": {len(b.LED) > 0, f.LEDs.Status},
					"thermal": {b.Thermal != nil, f.Thermal.Status}, "watchdog": {b.Watchdog != nil, f.Watchdog.Status},
					"rtc": {b.RTC != nil, f.RTC.Status},
				} {
					if has.want != (has.s.State == hal.Loaded) || has.s.State != hal.Loaded && has.s.Why == "" {
						t.Errorf("%s: %+v, want loaded: %v", part, has.s, has.want)
					}
				}
				if topo := f.Topology.Value; topo.LineBytes != b.CacheLineBytes || f.Memory.Value.PageBytes != 4096 {
					t.Errorf("line %d, page %d", topo.LineBytes, f.Memory.Value.PageBytes)
				}
				p := hal.MakePlan(f, &got, why, hal.Options{})
				fmt.Fprintf(&plans, "## %d queue(s) a port\n%s\n", queues, p.String())
			}
			golden(t, "plans/"+b.ID+".txt", plans.String())
		})
	}
}

func TestAPlanOnATreeIsAppliedAndUndone(t *testing.T) {
	for _, b := range profiles(t) {
		dir := play(t, haltest.Tree(&b, 4))
		r := open(t, dir)
		f := r.Probe()
		plan := hal.MakePlan(f, &b, "", hal.Options{})
		port := linux.NewPort(r)
		port.Settle = time.Millisecond
		j, err := linux.NewJournal(filepath.Join(t.TempDir(), "journal"))
		if err != nil {
			t.Fatal(err)
		}
		report, err := hal.Apply(t.Context(), port, &plan, j, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range report.Outcomes { // nothing runs there, so no effect can be seen
			if o.Result != hal.AcceptedUnverified || o.Why == "" {
				t.Errorf("%s: %s: %+v", b.ID, o.Change.Target, o)
			}
		}
		if again := hal.MakePlan(r.Probe(), &b, "", hal.Options{}); len(again.Changes) != 0 {
			t.Errorf("%s: still to change:\n%s", b.ID, again.String())
		}
		if _, err := hal.Undo(t.Context(), port, j); err != nil {
			t.Fatal(err)
		}
		if after := r.Probe(); !reflect.DeepEqual(after, f) {
			t.Errorf("%s: after Undo the machine is another", b.ID)
		}
	}
}

// machines are the recorded ones of testdata; testdata/machines/README.md says whose they are.
func machines(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/machines/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".txtar")] = b
	}
	return all
}

// The oracle is util-linux's lscpu, run on the same trees: CPU, socket, online, and for each
// cache level an ID of its instance.
func TestTheTopologyIsWhatLscpuSees(t *testing.T) {
	for name, archive := range machines(t) {
		t.Run(name, func(t *testing.T) {
			oracle, err := os.ReadFile("testdata/machines/" + name + ".lscpu")
			if err != nil {
				t.Fatal(err)
			}
			f := open(t, play(t, archive)).Probe()
			if f.Topology.State != hal.Loaded {
				t.Fatal(f.Topology.Why)
			}
			topo := f.Topology.Value
			lines := 0
			sockets := map[string]bool{}
			caches := map[string]map[string]hal.CPUs{} // column, instance: CPUs
			var columns []string
			for line := range strings.Lines(string(oracle)) {
				line = strings.TrimSpace(line)
				if head, ok := strings.CutPrefix(line, "# CPU,"); ok {
					columns = strings.Split(head, ",")[2:]
				}
				if line == "" || line[0] == '#' {
					continue
				}
				lines++
				w := strings.Split(line, ",")
				id, err := strconv.Atoi(w[0])
				if err != nil {
					t.Fatal(err)
				}
				c := topo.CPU(id)
				if c == nil || c.Online != (w[2] == "Y") {
					t.Fatalf("CPU %d is %+v, lscpu says %s", id, c, line)
				}
				if !c.Online {
					continue
				}
				sockets[w[1]] = true
				for i, instance := range w[3:] {
					if instance == "" {
						continue
					}
					m := caches[columns[i]]
					if m == nil {
						m = map[string]hal.CPUs{}
						caches[columns[i]] = m
					}
					m[instance] = append(m[instance], id)
				}
			}
			if lines == 0 || lines != len(topo.CPUs) || len(sockets) != topo.Packages {
				t.Errorf("%d CPUs in %d packages, lscpu has %d in %d", len(topo.CPUs), topo.Packages, lines, len(sockets))
			}
			compared := 0
			for column, instances := range caches {
				level := int(column[1] - '0')
				kind := map[string]string{"d": "Data", "i": "Instruction", "": "Unified"}[column[2:]]
				for _, cpus := range instances {
					for _, id := range cpus {
						for _, cache := range topo.CPU(id).Caches {
							if cache.Level == level && cache.Type == kind {
								compared++
								if !slices.Equal(cache.Shared, cpus) {
									t.Errorf("CPU %d %s is shared by %s, lscpu says %s", id, column, cache.Shared, cpus)
								}
							}
						}
					}
				}
			}
			t.Logf("%d CPUs, %d packages, %d clusters, %d caches compared", lines, topo.Packages, topo.Clusters, compared)
			if len(caches) > 0 && compared == 0 {
				t.Error("no cache was compared")
			}
			var classes []string
			for _, c := range topo.Classes(&boards.Board{}) {
				classes = append(classes, fmt.Sprintf("%s %s %s", c.Name, topo.CPU(c.CPUs[0]).MIDR, c.CPUs))
			}
			b, why, err := boards.Find(profiles(t), f.Machine)
			if err != nil {
				t.Fatal(err)
			}
			plan := hal.MakePlan(f, &b, why, hal.Options{})
			golden(t, "machines/"+name+".plan", strings.Join(classes, "\n")+"\n"+plan.String())
		})
	}
}

// The oracle is hwloc's lstopo, run on the same trees: which CPUs make up each cluster.
func TestTheClustersAreWhatLstopoSees(t *testing.T) {
	archives := machines(t)
	files, err := filepath.Glob("testdata/machines/*.lstopo")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".lstopo")
		var want []string
		var cluster hal.CPUs
		pus := 0
		for line := range strings.Lines(string(text) + "(Cluster)") {
			if strings.Contains(line, "(Cluster)") && cluster != nil {
				want = append(want, hal.NewCPUs(cluster...).List())
				cluster = nil
			}
			if strings.Contains(line, "(Cluster)") {
				cluster = hal.CPUs{}
			}
			if _, number, ok := strings.Cut(line, "PU L#"); ok {
				_, number, _ = strings.Cut(number, "(P#")
				id, err := strconv.Atoi(strings.TrimRight(number, ")\n"))
				if err != nil {
					t.Fatal(line, err)
				}
				if pus++; cluster != nil {
					cluster = append(cluster, id)
				}
			}
		}
		topo := open(t, play(t, archives[name])).Probe().Topology.Value
		sets := map[[2]int]hal.CPUs{}
		for _, c := range topo.CPUs {
			if c.Cluster >= 0 {
				sets[[2]int{c.Package, c.Cluster}] = append(sets[[2]int{c.Package, c.Cluster}], c.ID)
			}
		}
		var got []string
		for _, cpus := range sets {
			got = append(got, cpus.List())
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || pus != len(topo.Online()) || topo.Clusters != len(want) {
			t.Errorf("%s: %d CPUs in clusters %v, lstopo has %d in %v", name, len(topo.Online()), got, pus, want)
		}
		t.Logf("%s: %d CPUs, %d clusters", name, pus, len(want))
	}
}

func TestARecordedMachineAnswersAsItDidAndKeepsItsSecrets(t *testing.T) {
	b := profiles(t)[0]
	for _, p := range profiles(t) {
		if p.ID == "qemu-virt" { // links over several levels
			b = p
		}
	}
	dir := play(t, haltest.Tree(&b, 2))
	serial := filepath.Join(dir, "proc/cpuinfo")
	text, err := os.ReadFile(serial)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(serial, append(text, "\nSerial\t\t: 10000000cafebabe\nlink 02:ab:cd:ef:00:01 up\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "proc/irq/40/smp_affinity_list"), 0o444); err != nil {
		t.Fatal(err)
	}
	var paths []string
	r, err := linux.Open(dir, func(p string) { paths = append(paths, p) })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := r.Probe()
	archive, err := haltest.Record(dir, append(paths, "sys/class/net/wan/address"), "a test")
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"cafebabe", "ab:cd", "02:00:00"} {
		if bytes.Contains(archive, []byte(secret)) {
			t.Errorf("%s is in the archive", secret)
		}
	}
	got := open(t, play(t, archive)).Probe()
	if !reflect.DeepEqual(got, want) {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		t.Errorf("played back:\n%s\nrecorded:\n%s", g, w)
	}
	if irqs := got.NICs.Value[0].IRQs; len(irqs) != 2 || !irqs[0].Pinned || irqs[1].Pinned {
		t.Errorf("a read-only affinity is not seen: %+v", irqs)
	}
}

func TestTheRunningMachineCanBeRecorded(t *testing.T) {
	var paths []string
	r, err := linux.Open("/", func(p string) { paths = append(paths, p) })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := r.Probe()
	archive, err := haltest.Record("/", paths, "Captured on "+want.Kernel+"; MAC addresses, UUIDs and serial numbers hidden.")
	if err != nil {
		t.Fatal(err)
	}
	got := open(t, play(t, archive)).Probe()
	if !reflect.DeepEqual(got.Topology, want.Topology) || !reflect.DeepEqual(got.Machine.DMI, want.Machine.DMI) || len(got.NICs.Value) != len(want.NICs.Value) {
		t.Errorf("played back %+v\nrecorded %+v", got.Topology, want.Topology)
	}
	for i, n := range got.NICs.Value {
		if w := want.NICs.Value[i]; n.Name != w.Name || n.Bus != w.Bus || n.Driver != w.Driver || n.Kind != w.Kind || len(n.IRQs) != len(w.IRQs) || len(n.RX) != len(w.RX) || !reflect.DeepEqual(n.TX, w.TX) {
			t.Errorf("%+v, recorded %+v", n, w)
		}
	}
	if *update {
		if name := os.Getenv("HOLDFAST_RECORD"); name != "" {
			if err := os.WriteFile(name, archive, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestNamesStayInTheirDirectory(t *testing.T) {
	dir := play(t, haltest.Tree(&profiles(t)[0], 1))
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "outside"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	port := linux.NewPort(open(t, dir))
	for _, name := range []string{"../../outside", "..", ".", "a/b", "a\x00b"} {
		for _, kind := range []hal.Kind{hal.RPSCPUs, hal.ReadAhead, hal.ChannelsOf} {
			target := hal.Target{Kind: kind, Name: name}
			if _, err := port.Read(t.Context(), target); !errors.Is(err, hal.ErrFormat) {
				t.Errorf("read %q: %v", name, err)
			}
			if err := port.Write(t.Context(), target, "1"); !errors.Is(err, hal.ErrFormat) {
				t.Errorf("write %q: %v", name, err)
			}
		}
	}
	if err := os.Symlink("../../../../../../../../../../etc", filepath.Join(dir, "sys/block")); err != nil {
		t.Fatal(err)
	}
	if _, err := port.Read(t.Context(), hal.Target{Kind: hal.ReadAhead, Name: "passwd"}); err == nil {
		t.Error("a link led out of the tree")
	}
}

func TestAStoppedInterruptAndAnEmptyMaskAreNotTakenForDone(t *testing.T) {
	for _, b := range profiles(t) {
		if b.ID != "raspberry-pi-4" {
			continue
		}
		dir := play(t, haltest.Tree(&b, 1))
		port := linux.NewPort(open(t, dir))
		port.Settle = 5 * time.Millisecond
		target := hal.Target{Kind: hal.IRQAffinity, Name: "wan", Index: 40}
		effective := filepath.Join(dir, "proc/irq/40/effective_affinity_list")
		for content, want := range map[string]struct {
			result hal.Result
			why    string
		}{
			"0\n": {hal.AcceptedUnverified, "moves from CPU 0 with the next one"},
			"2\n": {hal.AcceptedUnverified, "the next goes to CPU 2"},
			"\n":  {hal.FailedTo, "effective mask is empty"},
		} {
			if err := os.WriteFile(effective, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := port.Write(t.Context(), target, "2"); err != nil {
				t.Fatal(err)
			}
			if result, why := port.Effect(t.Context(), target, "2"); result != want.result || !strings.Contains(why, want.why) {
				t.Errorf("effective %q: %s: %s", content, result, why)
			}
		}
		if result, why := port.Effect(t.Context(), target, "3"); result != hal.FailedTo || !strings.Contains(why, "reads back") {
			t.Errorf("a value that is not there: %s: %s", result, why)
		}
	}
}

func TestOneStrayInterruptProvesNothing(t *testing.T) {
	for _, b := range profiles(t) {
		if b.ID != "raspberry-pi-4" {
			continue
		}
		dir := play(t, haltest.Tree(&b, 1))
		// The first look after the write sees what was on its way, all later ones nothing new.
		looks := 0
		r, err := linux.Open(dir, func(p string) {
			if p != "proc/interrupts" {
				return
			}
			if looks++; looks == 2 {
				text := " CPU0 CPU1 CPU2 CPU3\n40: 1 0 0 0 GICv3 72 Level wan\n"
				if err := os.WriteFile(filepath.Join(dir, p), []byte(text), 0o644); err != nil {
					t.Error(err)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		port := linux.NewPort(r)
		port.Settle = 100 * time.Millisecond
		target := hal.Target{Kind: hal.IRQAffinity, Name: "wan", Index: 40}
		if err := port.Write(t.Context(), target, "2"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "proc/irq/40/effective_affinity_list"), []byte("2\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		result, why := port.Effect(t.Context(), target, "2")
		if result != hal.AcceptedUnverified || !strings.Contains(why, "one more came on CPU 0") {
			t.Errorf("%s: %s (%d looks)", result, why, looks)
		}
	}
}

func TestInterruptsThatMoveAreSeenAndThoseThatStayToo(t *testing.T) {
	for _, b := range profiles(t) {
		if b.ID != "raspberry-pi-4" {
			continue
		}
		dir := play(t, haltest.Tree(&b, 1))
		port := linux.NewPort(open(t, dir))
		target := hal.Target{Kind: hal.IRQAffinity, Name: "wan", Index: 40}
		if err := port.Write(t.Context(), target, "2"); err != nil {
			t.Fatal(err)
		}
		for cpu, want := range map[int]hal.Result{2: hal.Applied, 1: hal.FailedTo} {
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { // a device that goes on interrupting this CPU
				defer close(done)
				for n := 1; ctx.Err() == nil; n++ {
					counts := [4]int{}
					counts[cpu] = n
					text := fmt.Sprintf(" CPU0 CPU1 CPU2 CPU3\n40: %d %d %d %d GICv3 72 Level wan\n", counts[0], counts[1], counts[2], counts[3])
					tmp := filepath.Join(dir, "proc/interrupts.new")
					if os.WriteFile(tmp, []byte(text), 0o644) == nil {
						_ = os.Rename(tmp, filepath.Join(dir, "proc/interrupts"))
					}
				}
			}()
			port.Settle = 300 * time.Millisecond
			if result, why := port.Effect(ctx, target, "2"); result != want {
				t.Errorf("interrupts on CPU %d: %s: %s", cpu, result, why)
			}
			stop()
			<-done
		}
	}
}

func TestThePagesSizeIsThatOfAHugePage(t *testing.T) {
	all := profiles(t)
	pi5 := slices.IndexFunc(all, func(b boards.Board) bool { return b.ID == "raspberry-pi-5" })
	dir := play(t, haltest.Tree(&all[pi5], 1))
	for pmd, page := range map[string]int{"2097152": 4 << 10, "33554432": 16 << 10, "536870912": 64 << 10} {
		if err := os.WriteFile(filepath.Join(dir, "sys/kernel/mm/transparent_hugepage/hpage_pmd_size"), []byte(pmd+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		m := open(t, dir).Probe().Memory.Value
		if m.PageBytes != page || fmt.Sprint(m.HugePageBytes()) != pmd {
			t.Errorf("huge pages of %s: pages of %d, huge ones of %d", pmd, m.PageBytes, m.HugePageBytes())
		}
	}
}

// 65535 is what a kernel says whose firmware does not tell the clusters.
func TestAClusterThatNobodyNamesIsNone(t *testing.T) {
	all := profiles(t)
	virt := slices.IndexFunc(all, func(b boards.Board) bool { return b.ID == "qemu-virt" })
	dir := play(t, haltest.Tree(&all[virt], 1))
	for _, cpu := range []string{"cpu0", "cpu1"} {
		if err := os.WriteFile(filepath.Join(dir, "sys/devices/system/cpu", cpu, "topology/cluster_id"), []byte("65535\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if topo := open(t, dir).Probe().Topology.Value; topo.Clusters != 0 || topo.CPUs[0].Cluster != -1 {
		t.Errorf("%d clusters: %+v", topo.Clusters, topo.CPUs)
	}
}

// tally writes how often each CPU was handed packets.
func tally(t *testing.T, dir string, counts ...int) {
	t.Helper()
	var w strings.Builder
	for cpu, n := range counts {
		fmt.Fprintf(&w, "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 %08x 00000000 00000000 %08x 00000000 00000000\n", n, cpu)
	}
	at := filepath.Join(dir, "proc/net/softnet_stat")
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(w.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The counter of packets handed over is the machine's: it proves nothing on a CPU to which another interface hands some.
func TestAnotherInterfacesPacketsProveNothing(t *testing.T) {
	all := profiles(t)
	r6s := slices.IndexFunc(all, func(b boards.Board) bool { return b.ID == "nanopi-r6s" })
	for other, want := range map[string]hal.Result{"": hal.Applied, "lan1": hal.AcceptedUnverified} {
		dir := play(t, haltest.Tree(&all[r6s], 1))
		looks := 0
		r, err := linux.Open(dir, func(p string) {
			if p == "proc/net/softnet_stat" {
				looks++
				tally(t, dir, 0, 0, looks, 0)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		port := linux.NewPort(r)
		port.Settle = 40 * time.Millisecond
		target := hal.Target{Kind: hal.RPSCPUs, Name: "wan"}
		for _, name := range []string{"wan", other} {
			if name == "" {
				continue
			}
			if err := port.Write(t.Context(), hal.Target{Kind: hal.RPSCPUs, Name: name}, "2"); err != nil {
				t.Fatal(err)
			}
		}
		if got, why := port.Effect(t.Context(), target, "2"); got != want || other != "" && !strings.Contains(why, other) {
			t.Errorf("beside %q: %s: %s", other, got, why)
		}
	}
}

// After a driver was loaded again its interrupts have other numbers, and the old ones may be another device's.
func TestAnInterruptOfAnotherDeviceIsNotPutBack(t *testing.T) {
	all := profiles(t)
	virt := slices.IndexFunc(all, func(b boards.Board) bool { return b.ID == "qemu-virt" })
	dir := play(t, haltest.Tree(&all[virt], 2))
	r := open(t, dir)
	port := linux.NewPort(r)
	var msi string
	if err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(p, "msi_irqs/41") {
			msi = p
		}
		return err
	}); err != nil || msi == "" {
		t.Fatal(msi, err)
	}
	target := hal.Target{Kind: hal.IRQAffinity, Name: "wan", Index: 41}
	j := &haltest.Journal{Open: []hal.Entry{{Target: target, Old: "0"}}}
	if now, err := port.Read(t.Context(), target); err != nil || now == "0" {
		t.Fatalf("%q, %v", now, err)
	}
	if err := os.Rename(msi, filepath.Join(filepath.Dir(msi), "77")); err != nil {
		t.Fatal(err)
	}
	if _, err := hal.Recover(t.Context(), port, j); !errors.Is(err, hal.ErrGone) || j.Open != nil {
		t.Errorf("%v, %v", err, j.Open)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "proc/irq/41/smp_affinity_list")); err != nil || strings.TrimSpace(string(b)) == "0" {
		t.Errorf("interrupt 41 is %q, %v", b, err)
	}
}

func TestANumberOfQueuesDisturbsTheirSteering(t *testing.T) {
	all := profiles(t)
	virt := slices.IndexFunc(all, func(b boards.Board) bool { return b.ID == "qemu-virt" })
	port := linux.NewPort(open(t, play(t, haltest.Tree(&all[virt], 2))))
	var got []string
	for _, x := range port.Beside(hal.Target{Kind: hal.ChannelsOf, Name: "wan"}) {
		got = append(got, x.String())
	}
	want := "wan irq 40 affinity, wan irq 41 affinity, wan rx-0 rps_cpus, wan rx-1 rps_cpus, wan tx-0 xps_cpus, wan tx-1 xps_cpus"
	if strings.Join(got, ", ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	if got := port.Beside(hal.Target{Kind: hal.RPSCPUs, Name: "wan"}); got != nil {
		t.Errorf("a queue's steering disturbs %v", got)
	}
}

// A witness sees where packets come in, and not by which queue: with a queue that goes elsewhere it
// proves nothing, and its word must not undo the change.
func TestTheWitnessIsBelievedWhenAllQueuesAreSteered(t *testing.T) {
	all := profiles(t)
	with := slices.IndexFunc(all, func(b boards.Board) bool { return len(b.NIC) > 0 })
	r := open(t, play(t, haltest.Tree(&all[with], 2)))
	port := linux.NewPort(r)
	nics := r.Probe().NICs.Value
	target := hal.Target{Kind: hal.RPSCPUs, Name: nics[0].Name}
	hears := map[int]int{1: 64}
	port.Witness = func(context.Context, string) (map[int]int, error) { return hears, nil }
	judge := func(queue int, want hal.Result) {
		t.Helper()
		target.Index = queue
		if err := port.Write(t.Context(), target, "0"); err != nil {
			t.Fatal(err)
		}
		if got, why := port.Effect(t.Context(), target, "0"); got != want {
			t.Errorf("queue %d, heard on %v: %s: %s", queue, hears, got, why)
		}
	}
	judge(0, hal.AcceptedUnverified)
	judge(1, hal.FailedTo)
	hears = map[int]int{0: 64}
	judge(1, hal.Applied)
}
