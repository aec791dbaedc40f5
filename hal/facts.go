// Package hal is the vocabulary of the hardware below Holdfast, and what is decided about it:
// which facts a machine has (Facts), what should be changed and why (MakePlan), and how a plan is
// applied so that it can be undone (Apply, Recover, Undo). It does no I/O: hal/linux reads the
// facts and implements Port and Journal, hal/haltest plays machines back.
//
// What it promises: no value is written before the old one is durable in the journal; what was
// written is judged by its effect and not by the kernel's saying yes; and whatever cannot be had
// is answered with the reason.
package hal

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-edge/holdfast/boards"
	"periph.io/x/conn/v3/gpio"
)

// Errors of this package.
var (
	// ErrFormat says that a text is not what the kernel documents for its place.
	ErrFormat = errors.New("unexpected format")
	// ErrPending says that an earlier plan was neither committed nor put back: Recover comes first.
	ErrPending = errors.New("an earlier plan is still open")
	// ErrGone says that the thing a value belongs to is not there any more, or never was.
	ErrGone = errors.New("not there")
	// ErrRolledBack says that a plan was put back, and wraps why.
	ErrRolledBack = errors.New("rolled back")
)

// State is how a part of the machine answered.
type State string

// The states of a part.
const (
	Loaded  State = "loaded"  // the facts are there
	Skipped State = "skipped" // the machine does not have it, or does not say it
	Failed  State = "failed"  // it has it and reading went wrong
)

// Status is how a part answered, and why when it is not Loaded.
type Status struct {
	State State  `json:"state"`
	Why   string `json:"why,omitempty"`
}

// Skip is the status of a part that is not there.
func Skip(format string, args ...any) Status { return Status{Skipped, fmt.Sprintf(format, args...)} }

// Fail is the status of a part that could not be read.
func Fail(err error) Status { return Status{Failed, err.Error()} }

// Answer is a fact with its status: Value means something only when State is Loaded.
type Answer[T any] struct {
	Status
	Value T `json:"value,omitzero"`
}

// Load is the answer that has a value.
func Load[T any](v T) Answer[T] { return Answer[T]{Status{State: Loaded}, v} }

// Facts is what a machine says about itself at one moment.
type Facts struct {
	Kernel     string            `json:"kernel"`
	Machine    boards.Machine    `json:"machine"`
	Model      string            `json:"model,omitempty"`
	Topology   Answer[Topology]  `json:"topology"`
	NICs       Answer[[]NIC]     `json:"nics"`
	Memory     Answer[Memory]    `json:"memory"`
	Pins       Answer[[]Line]    `json:"pins"`
	LEDs       Answer[[]LED]     `json:"leds"`
	Thermal    Answer[[]Thermal] `json:"thermal"`
	Watchdog   Answer[Watchdog]  `json:"watchdog"`
	RTC        Answer[RTC]       `json:"rtc"`
	Irqbalance int               `json:"irqbalance,omitempty"` // its process ID, 0 when it does not run
}

// Topology is the machine's CPUs.
type Topology struct {
	CPUs      []CPU `json:"cpus"`       // ascending by ID, offline ones too
	Packages  int   `json:"packages"`   // of the online CPUs
	Clusters  int   `json:"clusters"`   // of the online CPUs; 0 where the kernel does not know them
	LineBytes int   `json:"line_bytes"` // of the first data cache; 0 where nobody says
}

// CPU is one logical CPU. What the kernel does not say is -1 (numbers of groups) or 0.
type CPU struct {
	ID       int     `json:"id"`
	Package  int     `json:"package"`
	Cluster  int     `json:"cluster"`
	Core     int     `json:"core"`
	Threads  CPUs    `json:"threads,omitempty"`  // of the same core
	Capacity int     `json:"capacity,omitempty"` // 1024 is the machine's largest
	MIDR     MIDR    `json:"midr,omitempty"`
	Model    string  `json:"model,omitempty"` // of /proc/cpuinfo, amd64 only
	Online   bool    `json:"online"`
	Isolated bool    `json:"isolated,omitempty"` // isolcpus: the scheduler puts nothing here
	Caches   []Cache `json:"caches,omitempty"`
}

// Cache is one cache as a CPU sees it.
type Cache struct {
	Level     int    `json:"level"`
	Type      string `json:"type"` // Data, Instruction, Unified
	Bytes     int    `json:"bytes"`
	LineBytes int    `json:"line_bytes"`
	Shared    CPUs   `json:"shared"`
}

// Online are the CPUs that run.
func (t *Topology) Online() CPUs {
	var c CPUs
	for _, cpu := range t.CPUs {
		if cpu.Online {
			c = append(c, cpu.ID)
		}
	}
	return c
}

// CPU returns the CPU with this number, nil if there is none.
func (t *Topology) CPU(id int) *CPU {
	for i := range t.CPUs {
		if t.CPUs[i].ID == id {
			return &t.CPUs[i]
		}
	}
	return nil
}

// NIC is one network interface. Its MAC address is deliberately not here: these facts are logged.
type NIC struct {
	Name    string `json:"name"`
	Index   int    `json:"index"`
	Driver  string `json:"driver,omitempty"`
	Bus     string `json:"bus,omitempty"`  // the parent device: 0004:41:00.0, fe1c0000.ethernet; "" for virtual ones
	Port    int    `json:"port,omitempty"` // dev_port
	Kind    string `json:"kind"`           // physical, virtual, loopback
	Up      bool   `json:"up"`             // operstate
	Mbps    int    `json:"mbps,omitempty"`
	MTU     int    `json:"mtu"`
	RX      []RX   `json:"rx"`
	TX      []TX   `json:"tx"`
	IRQs    []IRQ  `json:"irqs,omitempty"`
	IRQsWhy string `json:"irqs_why,omitempty"` // why there are none

	Channels     Answer[Channels]     `json:"channels"`
	Rings        Answer[Rings]        `json:"rings"`
	Coalesce     Answer[Coalesce]     `json:"coalesce"`
	RSS          Answer[RSS]          `json:"rss"`
	Features     Answer[[]string]     `json:"features"` // active offloads
	Timestamping Answer[Timestamping] `json:"timestamping"`
}

// RX is a receive queue's software steering (Documentation/networking/scaling.rst).
type RX struct {
	RPS   CPUs `json:"rps,omitempty"`
	Flows int  `json:"flows,omitempty"` // rps_flow_cnt
}

// TX is a send queue's software steering.
type TX struct {
	XPS    CPUs   `json:"xps,omitempty"`
	XPSWhy string `json:"xps_why,omitempty"` // why there is none: a device with one queue has no XPS
}

// IRQ is one interrupt of a device.
type IRQ struct {
	Number    int    `json:"number"`
	Name      string `json:"name"` // the action's, as in /proc/interrupts
	Affinity  CPUs   `json:"affinity"`
	Effective CPUs   `json:"effective,omitempty"` // where it really goes
	// Pinned says that the kernel takes no affinity for it from user space (managed or per-CPU),
	// which newer kernels show by a read-only file.
	Pinned bool    `json:"pinned,omitempty"`
	Count  []Tally `json:"count,omitempty"`
}

// Tally is how many interrupts a CPU has served.
type Tally struct {
	CPU int    `json:"cpu"`
	N   uint64 `json:"n"`
}

// Channels are the hardware queues in use and the most the device has (ethtool -l).
type Channels struct {
	RX          int `json:"rx"`
	TX          int `json:"tx"`
	Combined    int `json:"combined"`
	RXMax       int `json:"rx_max"`
	TXMax       int `json:"tx_max"`
	CombinedMax int `json:"combined_max"`
}

// Rings are the descriptors per queue (ethtool -g).
type Rings struct {
	RX    int `json:"rx"`
	TX    int `json:"tx"`
	RXMax int `json:"rx_max"`
	TXMax int `json:"tx_max"`
}

// Coalesce is how long and for how many frames an interrupt waits (ethtool -c).
type Coalesce struct {
	RXMicros   int  `json:"rx_us"`
	RXFrames   int  `json:"rx_frames"`
	TXMicros   int  `json:"tx_us"`
	TXFrames   int  `json:"tx_frames"`
	AdaptiveRX bool `json:"adaptive_rx"`
	AdaptiveTX bool `json:"adaptive_tx"`
}

// RSS is how the hardware spreads flows over queues (ethtool -x).
type RSS struct {
	HashFunc uint32 `json:"hash_func"` // ETH_RSS_HASH_*: bit 0 Toeplitz, 1 XOR, 2 CRC32
	Table    []int  `json:"table"`     // queue by hash
	KeyBytes int    `json:"key_bytes"`
}

// Timestamping is what the device can stamp (ethtool -T). PHC is -1 without a hardware clock:
// then hardware flags are accepted and do nothing.
type Timestamping struct {
	Modes []string `json:"modes"`
	PHC   int      `json:"phc"`
}

// Memory is how memory is paged.
type Memory struct {
	PageBytes  int     `json:"page_bytes"`
	TotalBytes uint64  `json:"total_bytes"`
	HugeBytes  []int   `json:"huge_bytes,omitempty"` // sizes of explicit huge pages
	THP        string  `json:"thp,omitempty"`        // always, madvise, never
	Blocks     []Block `json:"blocks,omitempty"`
}

// Block is a block device's read-ahead, and its wear if it tells.
type Block struct {
	Name         string `json:"name"`
	ReadAheadKiB int    `json:"read_ahead_kib"`
	// WearTenths is how many tenths of its rated life an eMMC has begun to use, 11 when it is over (JEDEC eMMC 5.1,
	// DEVICE_LIFE_TIME_EST); 0: it does not say.
	WearTenths int `json:"wear_tenths,omitempty"`
}

// Line is a GPIO line.
type Line struct {
	Chip   string `json:"chip"`  // gpiochip0
	Label  string `json:"label"` // the chip's label
	Offset int    `json:"offset"`
	Name   string `json:"name,omitempty"`
	User   string `json:"user,omitempty"` // who holds it
}

// LED is a light of the LED class.
type LED struct {
	Name    string `json:"name"`
	Max     int    `json:"max"` // brightness
	Trigger string `json:"trigger,omitempty"`
}

// Thermal is a temperature with its trip points, in thousandths of a degree Celsius.
type Thermal struct {
	Name  string `json:"name"` // the zone's type, or hwmon's name
	Milli int    `json:"milli_c"`
	Trips []Trip `json:"trips,omitempty"`
}

// Trip is a temperature at which the kernel does something.
type Trip struct {
	Type  string `json:"type"` // passive, active, hot, critical
	Milli int    `json:"milli_c"`
}

// Watchdog is the hardware watchdog as sysfs shows it: reading it arms nothing.
type Watchdog struct {
	Name       string `json:"name"` // watchdog0
	Identity   string `json:"identity"`
	State      string `json:"state"` // active, inactive
	TimeoutSec int    `json:"timeout_s"`
	MaxSec     int    `json:"max_s,omitempty"` // 0 when the driver does not say
	NoWayOut   bool   `json:"nowayout"`        // once armed it cannot be disarmed
}

// RTC is the battery-backed clock.
type RTC struct {
	Name   string    `json:"name"`
	Driver string    `json:"driver"`
	Time   time.Time `json:"time"` // UTC; zero when the clock does not run
}

// Dog is an armed watchdog.
type Dog interface {
	// Kick says that the program is alive.
	Kick() error
	// Disarm stops the watchdog and closes it. Without it the machine resets.
	Disarm() error
}

// Pins gives pins by role. A pin is the caller's until its Halt.
type Pins interface {
	ByRole(role string) (gpio.PinIO, error)
}

// Event says that something changed that a plan may depend on.
type Event struct {
	Kind string // link-up, link-down, link-gone, cpu-online, cpu-offline, device
	Name string // eth0, cpu3
}
