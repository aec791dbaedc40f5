package console

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/console/chart"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
	"github.com/holdfast-edge/holdfast/hal"
)

// factsFor is how long what the machine says of itself is shown before it is asked again: reading it opens some hundred files.
const factsFor = 10 * time.Second

// Disk is the file system that the box's data are on.
type Disk struct {
	Path        string
	Total, Free uint64 // bytes
}

// diskShort is the share of a disk below which its box should be looked after; the rule HoldfastDiskNearlyFull has the same.
const diskShort = 0.1

// Short says that there is less than a tenth left.
func (d Disk) Short() bool { return float64(d.Free) < diskShort*float64(d.Total) }

// Machine is what the console asks about the hardware below the box.
type Machine interface {
	// Facts reads what the machine says of itself. It may take some tens of milliseconds.
	Facts() (*hal.Facts, error)
	// Disk is where the box keeps its data.
	Disk() (Disk, error)
	// Crashes are the reports of ends of the box's program that nobody asked for, the newest first, without their text.
	Crashes() ([]crash.Report, error)
	// Crash is one of them with its text. Errors: crash.ErrUnknown.
	Crash(file string) (*crash.Report, error)
}

// boxesPage is what the page of boxes shows.
type boxesPage struct {
	Members []standing
	Machine *machineView // nil: nobody asks the machine
}

type machineView struct {
	Facts       *hal.Facts
	Problem     string
	CPUs        string
	Memory      string
	Disk        string
	DiskUse     template.HTML
	Heat        template.HTML
	HeatWhy     string
	NICs        []nicRow
	NICsWhy     string
	Wear        []string
	Watchdog    string
	Clock       string
	DiskProblem string
	Crashes     []crash.Report
	CrashesWhy  string
}

type nicRow struct {
	Name, State, Driver, Speed, Queues, CPUs, Steering string
	Up                                                 bool
}

func (c *Console) boxesData(l *look) (any, error) {
	d := &boxesPage{Members: standings(l.View, c.cfg.Secure)}
	if c.cfg.Machine != nil {
		d.Machine = c.machine.get(c.cfg.Machine)
	}
	return d, nil
}

// machineCache shares what the machine says among viewers.
type machineCache struct {
	mu   sync.Mutex
	at   time.Time
	view *machineView
}

func (m *machineCache) get(from Machine) *machineView {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.view == nil || time.Since(m.at) >= factsFor {
		m.view, m.at = viewMachine(from), time.Now()
	}
	return m.view
}

func viewMachine(from Machine) *machineView {
	v := &machineView{}
	if disk, err := from.Disk(); err != nil {
		v.DiskProblem = err.Error()
	} else if disk.Total > 0 {
		used := disk.Total - min(disk.Free, disk.Total)
		v.Disk = fmt.Sprintf("%s free of %s", chart.Bytes.Text(float64(disk.Free)), chart.Bytes.Text(float64(disk.Total)))
		bars := chart.Bars{Title: "Disk", About: disk.Path, Unit: chart.Ratio, Full: 1, Bars: []chart.Bar{{Name: "in use", Value: float64(used) / float64(disk.Total), Note: v.Disk}}}
		v.DiskUse = bars.HTML()
	}
	var err error
	if v.Crashes, err = from.Crashes(); err != nil {
		v.CrashesWhy = err.Error()
	}
	f, err := from.Facts()
	if err != nil {
		v.Problem = err.Error()
		return v
	}
	v.Facts = f
	if f.Topology.State == hal.Loaded {
		t := &f.Topology.Value
		v.CPUs = fmt.Sprintf("%d, online %s", len(t.CPUs), t.Online())
		if t.Clusters > 1 {
			v.CPUs += fmt.Sprintf(", in %d clusters", t.Clusters)
		}
	}
	if f.Memory.State == hal.Loaded {
		v.Memory = chart.Bytes.Text(float64(f.Memory.Value.TotalBytes))
		for _, b := range f.Memory.Value.Blocks {
			if b.WearTenths > 0 {
				v.Wear = append(v.Wear, fmt.Sprintf("%s: %s", b.Name, wearText(b.WearTenths)))
			}
		}
	}
	v.heat(f)
	if f.Watchdog.State == hal.Loaded {
		w := &f.Watchdog.Value
		v.Watchdog = fmt.Sprintf("%s, %s, %d s", first(w.Identity, w.Name), w.State, w.TimeoutSec)
	}
	if f.RTC.State == hal.Loaded {
		v.Clock = f.RTC.Value.Driver
	}
	v.NICsWhy = f.NICs.Why
	for i := range f.NICs.Value {
		v.NICs = append(v.NICs, nicOf(&f.NICs.Value[i]))
	}
	return v
}

// wearText says what JEDEC's life time estimate means (eMMC 5.1, EXT_CSD 268 and 269): tenths of the life that are used.
func wearText(tenths int) string {
	if tenths > 10 {
		return "its rated life is over: replace it"
	}
	return fmt.Sprintf("%d to %d %% of its rated life used", (tenths-1)*10, tenths*10)
}

func (v *machineView) heat(f *hal.Facts) {
	if v.HeatWhy = f.Thermal.Why; f.Thermal.State != hal.Loaded {
		return
	}
	bars := chart.Bars{Title: "Temperature", About: "against the trip point at which the kernel acts", Unit: chart.Celsius}
	for i := range f.Thermal.Value {
		t := &f.Thermal.Value[i]
		bar := chart.Bar{Name: t.Name, Value: float64(t.Milli) / 1000}
		for _, trip := range t.Trips {
			bars.Full = max(bars.Full, float64(trip.Milli)/1000)
			if bar.Note == "" || trip.Type == "critical" {
				bar.Note = trip.Type + " at " + chart.Celsius.Text(float64(trip.Milli)/1000)
			}
		}
		bars.Bars = append(bars.Bars, bar)
	}
	bars.Full = max(bars.Full, 100)
	v.Heat = bars.HTML()
}

func nicOf(n *hal.NIC) nicRow {
	row := nicRow{Name: n.Name, Up: n.Up, State: map[bool]string{true: "up", false: "down"}[n.Up], Driver: first(n.Driver, n.Kind), Queues: fmt.Sprintf("%d in, %d out", len(n.RX), len(n.TX)), CPUs: n.IRQsWhy}
	if n.Mbps > 0 {
		row.Speed = fmt.Sprintf("%d Mbit/s", n.Mbps)
	}
	var where []string
	for i := range n.IRQs {
		at := n.IRQs[i].Effective
		if len(at) == 0 {
			at = n.IRQs[i].Affinity
		}
		where = append(where, at.List())
	}
	if len(where) > 0 {
		row.CPUs = strings.Join(slices.Compact(where), " · ")
	}
	var steer []string
	for _, q := range n.RX {
		if len(q.RPS) > 0 {
			steer = append(steer, q.RPS.List())
		}
	}
	row.Steering = strings.Join(slices.Compact(steer), " · ")
	return row
}
