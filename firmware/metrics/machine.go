package metrics

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
)

// machine reads what the kernel says of the box's hardware, as OpenTelemetry names it (semantic conventions, system and hardware metrics). What a
// board does not have, or does not tell, is not there.
type machine struct {
	root, data string // of /proc and /sys; the data directory
	scalars    map[string]*prometheus.Desc
}

// What is read of the machine: names with the labels that each has.
var machineMetrics = []struct {
	name, help string
	labels     []string
}{
	{"hw_temperature_celsius", "Temperature of a thermal zone.", []string{"hw_name"}},
	{"hw_energy_joules_total", "Energy that a part of the board has used, where the board can tell (powercap).", []string{"hw_name"}},
	{"hw_power_watts", "Power that a sensor measures (hwmon).", []string{"hw_name"}},
	{"system_cpu_time_seconds_total", "Time of all CPUs, by what they did.", []string{"cpu_mode"}},
	{"system_memory_limit_bytes", "Memory of the machine.", nil},
	{"system_memory_available_bytes", "Memory that programs can still get.", nil},
	{"system_filesystem_limit_bytes", "Size of the file system of the data directory.", nil},
	{"system_filesystem_available_bytes", "Space there that the box can still use.", nil},
	{"system_disk_io_bytes_total", "Bytes of a disk.", []string{"system_device", "disk_io_direction"}},
	{"system_disk_operation_time_seconds_total", "Time that a disk's operations took.", []string{"system_device", "disk_io_direction"}},
	{"system_network_io_bytes_total", "Bytes of a network interface.", []string{"network_interface_name", "network_io_direction"}},
	{"system_network_packets_dropped_total", "Frames that a network interface dropped.", []string{"network_interface_name", "network_io_direction"}},
	{"system_network_errors_total", "Frames of a network interface that were bad.", []string{"network_interface_name", "network_io_direction"}},
	{"system_network_up", "1 if the network interface has a link.", []string{"network_interface_name"}},
}

const (
	// devicesMax bounds the zones, disks and interfaces that are read of each kind: a board has less than ten.
	devicesMax = 32
	// sectorBytes is the unit of /proc/diskstats, whatever the disk has (Documentation/admin-guide/iostats.rst).
	sectorBytes = 512
	// userHertz is the unit of /proc/stat, USER_HZ: 100 on all that Linux runs on here.
	userHertz = 100
	// textBytesMax bounds a file of /proc or /sys.
	textBytesMax = 64 << 10
)

func newMachine(root, data string) *machine {
	m := &machine{root: root, data: data, scalars: map[string]*prometheus.Desc{}}
	for _, d := range machineMetrics {
		m.scalars[d.name] = prometheus.NewDesc(d.name, d.help, d.labels, nil)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *machine) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.scalars {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *machine) Collect(ch chan<- prometheus.Metric) {
	send := func(name string, v float64, labels ...string) {
		kind := prometheus.GaugeValue
		if strings.HasSuffix(name, "_total") {
			kind = prometheus.CounterValue
		}
		for i := range labels {
			labels[i] = strings.ToValidUTF8(labels[i], "?")
		}
		if x, err := prometheus.NewConstMetric(m.scalars[name], kind, v, labels...); err == nil {
			ch <- x
		}
	}
	m.heat(send)
	m.cpu(send)
	m.memory(send)
	m.disks(send)
	m.links(send)
}

type sender = func(name string, v float64, labels ...string)

func (m *machine) text(path ...string) string {
	f, err := os.Open(filepath.Join(append([]string{m.root}, path...)...))
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, textBytesMax)
	n := 0
	for n < len(b) {
		k, err := f.Read(b[n:])
		if n += k; err != nil {
			break
		}
	}
	return string(bytes.TrimSpace(b[:n]))
}

func (m *machine) number(path ...string) (float64, bool) {
	v, err := strconv.ParseFloat(m.text(path...), 64)
	return v, err == nil
}

// each calls fn for what a directory has, at most devicesMax.
func (m *machine) each(dir string, fn func(name string)) {
	list, err := os.ReadDir(filepath.Join(m.root, dir))
	if err != nil {
		return
	}
	for _, e := range list[:min(len(list), devicesMax)] {
		fn(e.Name())
	}
}

// heat is temperature, energy and power. Zones of one type are told apart by their number, as hal/linux does by place.
func (m *machine) heat(send sender) {
	m.each("sys/class/thermal", func(zone string) {
		if v, ok := m.number("sys/class/thermal", zone, "temp"); ok {
			send("hw_temperature_celsius", v/1e3, m.text("sys/class/thermal", zone, "type")+" "+strings.TrimPrefix(zone, "thermal_zone"))
		}
	})
	m.each("sys/class/powercap", func(zone string) {
		if v, ok := m.number("sys/class/powercap", zone, "energy_uj"); ok {
			send("hw_energy_joules_total", v/1e6, m.text("sys/class/powercap", zone, "name")+" "+zone)
		}
	})
	m.each("sys/class/hwmon", func(mon string) {
		if v, ok := m.number("sys/class/hwmon", mon, "power1_input"); ok {
			send("hw_power_watts", v/1e6, m.text("sys/class/hwmon", mon, "name")+" "+mon)
		}
	})
}

func (m *machine) cpu(send sender) {
	line, _, _ := strings.Cut(m.text("proc/stat"), "\n")
	f := strings.Fields(line)
	for i, mode := range []string{"user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal"} {
		if len(f) <= i+1 || f[0] != "cpu" {
			return
		}
		if v, err := strconv.ParseFloat(f[i+1], 64); err == nil {
			send("system_cpu_time_seconds_total", v/userHertz, mode)
		}
	}
}

func (m *machine) memory(send sender) {
	for line := range strings.Lines(m.text("proc/meminfo")) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		v, err := strconv.ParseFloat(f[1], 64)
		switch {
		case err != nil:
		case f[0] == "MemTotal:":
			send("system_memory_limit_bytes", v*1024)
		case f[0] == "MemAvailable:":
			send("system_memory_available_bytes", v*1024)
		}
	}
	var s syscall.Statfs_t
	if syscall.Statfs(m.data, &s) == nil {
		send("system_filesystem_limit_bytes", float64(s.Blocks)*float64(s.Bsize))
		send("system_filesystem_available_bytes", float64(s.Bavail)*float64(s.Bsize))
	}
}

// disks is whole disks: what is below /sys/block. Times are milliseconds.
func (m *machine) disks(send sender) {
	m.each("sys/block", func(disk string) {
		if strings.HasPrefix(disk, "loop") || strings.HasPrefix(disk, "ram") {
			return
		}
		f := strings.Fields(m.text("sys/block", disk, "stat"))
		if len(f) < 8 {
			return
		}
		for i, direction := range []string{"read", "write"} {
			sectors, err := strconv.ParseFloat(f[4*i+2], 64)
			millis, err2 := strconv.ParseFloat(f[4*i+3], 64)
			if err == nil && err2 == nil {
				send("system_disk_io_bytes_total", sectors*sectorBytes, disk, direction)
				send("system_disk_operation_time_seconds_total", millis/1e3, disk, direction)
			}
		}
	})
}

func (m *machine) links(send sender) {
	m.each("sys/class/net", func(nic string) {
		if up := m.text("sys/class/net", nic, "operstate"); up != "" {
			send("system_network_up", yes(up == "up"), nic)
		}
		for _, d := range []struct{ short, long string }{{"rx", "receive"}, {"tx", "transmit"}} {
			for file, name := range map[string]string{
				"_bytes": "system_network_io_bytes_total", "_dropped": "system_network_packets_dropped_total", "_errors": "system_network_errors_total",
			} {
				if v, ok := m.number("sys/class/net", nic, "statistics", d.short+file); ok {
					send(name, v, nic, d.long)
				}
			}
		}
	})
}
