package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
)

// Probe reads everything. It writes nothing and opens no device that reacts to being opened.
// Each part has its own status; there is no error of the whole.
func (r *Root) Probe() *hal.Facts {
	f := &hal.Facts{Kernel: r.word("proc/sys/kernel/osrelease"), Irqbalance: r.process("irqbalance")}
	f.Machine, f.Model = r.machine()
	f.Topology = r.topology()
	f.NICs = r.nics()
	f.Memory = r.memory()
	f.Pins = r.lines()
	f.LEDs = r.leds()
	f.Thermal = r.thermal()
	f.Watchdog = r.watchdog()
	f.RTC = r.rtc()
	return f
}

// answer is what a list of facts answers: Skipped when it is empty.
func answer[T any](list []T, none string) hal.Answer[[]T] {
	if len(list) == 0 {
		return hal.Answer[[]T]{Status: hal.Skip("%s", none)}
	}
	return hal.Load(list)
}

// process is the ID of the first process with this name, 0 if there is none.
func (r *Root) process(name string) int {
	for _, p := range r.names("proc") {
		pid, err := strconv.Atoi(p)
		if err != nil {
			continue
		}
		comm := path.Join("proc", p, "comm")
		if b, err := r.untraced(comm); err == nil && strings.TrimSpace(string(b)) == name {
			r.trace(comm)
			return pid
		}
	}
	return 0
}

// machine says what the device tree and DMI call the machine, and its model's name for people.
func (r *Root) machine() (boards.Machine, string) {
	// /proc/device-tree is an absolute link to this place.
	const base = "sys/firmware/devicetree/base/"
	m := boards.Machine{Arch: r.arch()}
	if b, err := r.bytes(base + "compatible"); err == nil {
		m.Compatible, _ = Strings(b)
	}
	const dmi = "sys/class/dmi/id/"
	m.DMI = boards.DMI{Vendor: r.word(dmi + "sys_vendor"), Product: r.word(dmi + "product_name"), Board: r.word(dmi + "board_name")}
	model := strings.TrimRight(r.word(base+"model"), "\x00")
	if model == "" {
		model = m.DMI.String()
	}
	return m, model
}

// arch is the machine's GOARCH: our own, or for a tree what its cpuinfo looks like.
func (r *Root) arch() string {
	if r.Live() {
		return runtime.GOARCH
	}
	if s := r.word("proc/cpuinfo"); strings.Contains(s, "vendor_id") {
		return "amd64"
	}
	return "arm64"
}

// propertyBytesMax bounds a device-tree property; compatible lists have some hundred bytes.
const propertyBytesMax = 64 << 10

// Strings reads a device-tree property that is a list of strings, each with a NUL behind it
// (Devicetree Specification 2.2.4, stringlist).
func Strings(b []byte) ([]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) > propertyBytesMax || b[len(b)-1] != 0 {
		return nil, fmt.Errorf("linux: string list: %w", hal.ErrFormat)
	}
	return strings.Split(string(b[:len(b)-1]), "\x00"), nil
}

const cpuDir = "sys/devices/system/cpu/"

func (r *Root) topology() hal.Answer[hal.Topology] {
	type topology = hal.Answer[hal.Topology]
	online, err := r.cpus(cpuDir + "online")
	if err != nil {
		online = nil // old kernels have no list, only a file per CPU
	}
	isolated, _ := r.cpus(cpuDir + "isolated")
	info := cpuinfo(r.word("proc/cpuinfo"))
	var t hal.Topology
	packages, clusters := map[int]bool{}, map[[2]int]bool{}
	for _, name := range r.names(cpuDir[:len(cpuDir)-1]) {
		digits, isCPU := strings.CutPrefix(name, "cpu")
		id, err := strconv.Atoi(digits)
		if !isCPU || err != nil {
			continue
		}
		c := r.cpu(id, info[id])
		c.Isolated = isolated.Has(id)
		c.Online = online.Has(id) || online == nil && r.number(cpuDir+name+"/online", 1) == 1
		t.CPUs = append(t.CPUs, c)
		if c.Online {
			packages[c.Package] = true
			if c.Cluster >= 0 {
				clusters[[2]int{c.Package, c.Cluster}] = true
			}
		}
		for _, cache := range c.Caches {
			if t.LineBytes == 0 && cache.Level == 1 && cache.Type != "Instruction" {
				t.LineBytes = cache.LineBytes
			}
		}
	}
	if len(t.CPUs) == 0 {
		return topology{Status: hal.Fail(fmt.Errorf("no CPU in %s", cpuDir))}
	}
	t.Packages, t.Clusters = len(packages), len(clusters)
	if t.LineBytes == 0 { // device trees without cache nodes leave sysfs without them too
		if b, err := r.bytes("sys/firmware/devicetree/base/cpus/cpu@0/d-cache-line-size"); err == nil && len(b) == 4 {
			t.LineBytes = int(binary.BigEndian.Uint32(b))
		}
	}
	return hal.Load(t)
}

func (r *Root) cpu(id int, info map[string]string) hal.CPU {
	dir := fmt.Sprintf("%scpu%d/", cpuDir, id)
	c := hal.CPU{
		ID:       id,
		Package:  r.number(dir+"topology/physical_package_id", -1),
		Cluster:  r.number(dir+"topology/cluster_id", -1),
		Core:     r.number(dir+"topology/core_id", -1),
		Capacity: r.number(dir+"cpu_capacity", 0),
		Model:    info["model name"],
	}
	if c.Cluster == 1<<16-1 { // acpi: the firmware does not say (65535 on amd64 guests)
		c.Cluster = -1
	}
	c.Threads, _ = r.cpus(dir + "topology/thread_siblings_list")
	if m, err := hal.ParseMIDR(r.word(dir + "regs/identification/midr_el1")); err == nil {
		c.MIDR = m
	} else if imp, err := strconv.ParseUint(info["CPU implementer"], 0, 8); err == nil {
		if part, err := strconv.ParseUint(info["CPU part"], 0, 12); err == nil {
			c.MIDR = hal.NewMIDR(int(imp), int(part))
		}
	}
	for _, name := range r.names(dir + "cache") {
		if !strings.HasPrefix(name, "index") {
			continue
		}
		at := dir + "cache/" + name + "/"
		cache := hal.Cache{Level: r.number(at+"level", 0), Type: r.word(at + "type"), LineBytes: r.number(at+"coherency_line_size", 0)}
		if kib, ok := strings.CutSuffix(r.word(at+"size"), "K"); ok {
			n, _ := strconv.Atoi(kib)
			cache.Bytes = n << 10
		}
		cache.Shared, _ = r.cpus(at + "shared_cpu_list")
		if cache.Shared == nil {
			if m, err := r.text(at + "shared_cpu_map"); err == nil {
				cache.Shared, _ = hal.ParseMask(m)
			}
		}
		c.Caches = append(c.Caches, cache)
	}
	return c
}

// cpuinfo reads /proc/cpuinfo: the fields of each processor. Some arm64 kernels put the fields
// that all share behind the last one; those are nobody's.
func cpuinfo(s string) map[int]map[string]string {
	all := map[int]map[string]string{}
	var now map[string]string
	for line := range strings.Lines(s) {
		key, value, ok := strings.Cut(line, ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok {
			now = nil
			continue
		}
		if key == "processor" {
			if id, err := strconv.Atoi(value); err == nil && id >= 0 && len(all) < entriesMax {
				now = map[string]string{}
				all[id] = now
			}
		} else if now != nil {
			now[key] = value
		}
	}
	return all
}

func (r *Root) memory() hal.Answer[hal.Memory] {
	var m hal.Memory
	for line := range strings.Lines(r.word("proc/meminfo")) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 48)
			if err == nil {
				m.TotalBytes = kib << 10
			}
		}
	}
	if m.TotalBytes == 0 {
		return hal.Answer[hal.Memory]{Status: hal.Fail(errors.New("proc/meminfo says no MemTotal"))}
	}
	const thp = "sys/kernel/mm/transparent_hugepage/"
	m.THP = selected(r.word(thp + "enabled"))
	for _, name := range r.names("sys/kernel/mm/hugepages") {
		if kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "hugepages-"), "kB")); err == nil {
			m.HugeBytes = append(m.HugeBytes, kib<<10)
		}
	}
	if r.Live() {
		m.PageBytes = os.Getpagesize()
	} else if pmd := r.number(thp+"hpage_pmd_size", 0); pmd > 0 {
		// One page of entries of 8 bytes: a huge page is page * page/8.
		for m.PageBytes = 4096; m.PageBytes*m.PageBytes/8 < pmd && m.PageBytes < 64<<10; { // arm64 knows 4, 16 and 64 KiB
			m.PageBytes *= 2
		}
	}
	for _, name := range r.names("sys/block") {
		if kib := r.number("sys/block/"+name+"/queue/read_ahead_kb", -1); kib >= 0 {
			m.Blocks = append(m.Blocks, hal.Block{Name: name, ReadAheadKiB: kib, WearTenths: r.wear(name)})
		}
	}
	return hal.Load(m)
}

// wear is the worse of the two estimates that an eMMC gives of its life: of its fast cells, and of the others.
func (r *Root) wear(name string) (tenths int) {
	for word := range strings.FieldsSeq(r.word("sys/block/" + name + "/device/life_time")) {
		if n, err := strconv.ParseUint(word, 0, 8); err == nil && n <= 11 {
			tenths = max(tenths, int(n))
		}
	}
	return tenths
}

// selected is the choice in brackets: "always [madvise] never".
func selected(s string) string {
	_, rest, _ := strings.Cut(s, "[")
	choice, _, ok := strings.Cut(rest, "]")
	if !ok {
		return ""
	}
	return choice
}

func (r *Root) leds() hal.Answer[[]hal.LED] {
	var all []hal.LED
	for _, name := range r.names("sys/class/leds") {
		at := "sys/class/leds/" + name + "/"
		all = append(all, hal.LED{Name: name, Max: r.number(at+"max_brightness", 0), Trigger: selected(r.word(at + "trigger"))})
	}
	return answer(all, "the kernel has no LED")
}

func (r *Root) thermal() hal.Answer[[]hal.Thermal] {
	var all []hal.Thermal
	for _, name := range r.names("sys/class/thermal") {
		at := "sys/class/thermal/" + name + "/"
		milli, err := strconv.Atoi(r.word(at + "temp"))
		if !strings.HasPrefix(name, "thermal_zone") || err != nil {
			continue // a cooling device, or a zone that is switched off
		}
		t := hal.Thermal{Name: r.word(at + "type"), Milli: milli}
		for i := range 32 {
			trip := fmt.Sprintf("%strip_point_%d_", at, i)
			if !r.exists(trip + "type") {
				break
			}
			t.Trips = append(t.Trips, hal.Trip{Type: r.word(trip + "type"), Milli: r.number(trip+"temp", 0)})
		}
		all = append(all, t)
	}
	for _, name := range r.names("sys/class/hwmon") {
		at := "sys/class/hwmon/" + name + "/"
		if milli, err := strconv.Atoi(r.word(at + "temp1_input")); err == nil {
			all = append(all, hal.Thermal{Name: "hwmon " + r.word(at+"name"), Milli: milli})
		}
	}
	return answer(all, "the kernel has no thermal zone and no temperature sensor")
}

func (r *Root) watchdog() hal.Answer[hal.Watchdog] {
	names := r.names("sys/class/watchdog")
	if len(names) == 0 {
		return hal.Answer[hal.Watchdog]{Status: hal.Skip("the kernel has no watchdog")}
	}
	at := "sys/class/watchdog/" + names[0] + "/"
	if !r.exists(at + "identity") {
		return hal.Answer[hal.Watchdog]{Status: hal.Skip("%s: the kernel was built without CONFIG_WATCHDOG_SYSFS, and opening the device would arm it", names[0])}
	}
	return hal.Load(hal.Watchdog{
		Name:       names[0],
		Identity:   r.word(at + "identity"),
		State:      r.word(at + "state"),
		TimeoutSec: r.number(at+"timeout", 0),
		MaxSec:     r.number(at+"max_timeout", 0),
		NoWayOut:   r.word(at+"nowayout") == "1",
	})
}

func (r *Root) rtc() hal.Answer[hal.RTC] {
	names := r.names("sys/class/rtc")
	if len(names) == 0 {
		return hal.Answer[hal.RTC]{Status: hal.Skip("the kernel has no real-time clock")}
	}
	at := "sys/class/rtc/" + names[0] + "/"
	c := hal.RTC{Name: names[0], Driver: r.word(at + "name")}
	if sec, err := strconv.ParseInt(r.word(at+"since_epoch"), 10, 48); err == nil {
		c.Time = time.Unix(sec, 0).UTC()
	}
	return hal.Load(c)
}
