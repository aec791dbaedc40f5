package linux_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/haltest"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
)

const interrupts = `           CPU0       CPU2
 24:          1          0  IO-APIC   5-edge      ACPI:Ged
 38:          0      16642 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
 41:         12          3     GICv2 189 Level     eth0, eth1
NMI:          0          0   Non-maskable interrupts
ERR:          0
`

func TestInterruptsAreReadAsTheKernelWritesThem(t *testing.T) {
	got, err := linux.Interrupts(interrupts)
	want := []linux.Interrupt{
		{Number: 24, Name: "ACPI:Ged", Count: []hal.Tally{{CPU: 0, N: 1}, {CPU: 2}}},
		{Number: 38, Name: "virtio2-input.0", Count: []hal.Tally{{CPU: 0}, {CPU: 2, N: 16642}}},
		{Number: 41, Name: "eth0, eth1", Count: []hal.Tally{{CPU: 0, N: 12}, {CPU: 2, N: 3}}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, s := range []string{"", "CPU0 CPUx\n", " CPU0 CPU1\n 4: 1\n", " CPU0\n 4: x chip 1 a\n", "hello\n"} {
		if _, err := linux.Interrupts(s); !errors.Is(err, hal.ErrFormat) {
			t.Errorf("%q: %v, want ErrFormat", s, err)
		}
	}
}

func TestADeviceTreesListIsReadToItsEnd(t *testing.T) {
	got, err := linux.Strings([]byte("radxa,rock-5b\x00rockchip,rk3588\x00"))
	if err != nil || !slices.Equal(got, []string{"radxa,rock-5b", "rockchip,rk3588"}) {
		t.Errorf("%q, %v", got, err)
	}
	for _, s := range []string{"radxa", strings.Repeat("x", 1<<17) + "\x00"} {
		if _, err := linux.Strings([]byte(s)); !errors.Is(err, hal.ErrFormat) {
			t.Errorf("%.20q: %v, want ErrFormat", s, err)
		}
	}
}

func TestUeventsSayWhatCameAndWent(t *testing.T) {
	for s, want := range map[string]hal.Event{
		"offline@/devices/system/cpu/cpu3\x00ACTION=offline\x00SUBSYSTEM=cpu\x00":          {Kind: "cpu-offline", Name: "cpu3"},
		"online@/devices/system/cpu/cpu3\x00ACTION=online\x00SUBSYSTEM=cpu\x00":            {Kind: "cpu-online", Name: "cpu3"},
		"add@/devices/pci0000:00/0000:00:03.0/net/eth1\x00ACTION=add\x00SUBSYSTEM=net\x00": {Kind: "device-add", Name: "eth1"},
	} {
		if e, ok := linux.Uevent([]byte(s)); !ok || e != want {
			t.Errorf("%q: %+v, %v", s, e, ok)
		}
	}
	for _, s := range []string{"", "libudev\x00", "change@/devices/x\x00SUBSYSTEM=block\x00", "add@/x\x00" + strings.Repeat("A", 1<<14)} {
		if e, ok := linux.Uevent([]byte(s)); ok {
			t.Errorf("%.20q: %+v", s, e)
		}
	}
}

func FuzzInterrupts(f *testing.F) {
	f.Add(interrupts)
	f.Fuzz(func(t *testing.T, s string) {
		all, err := linux.Interrupts(s)
		if err != nil {
			return
		}
		for _, i := range all {
			if len(i.Count) == 0 || i.Number < 0 || len(i.Count) != len(all[0].Count) {
				t.Errorf("%q: %+v", s, i)
			}
			if q, _ := (hal.IRQ{Name: i.Name}).Queue("eth0"); q < 0 {
				t.Errorf("%q: queue %d", i.Name, q)
			}
		}
	})
}

func FuzzStrings(f *testing.F) {
	f.Add([]byte("a\x00b\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := linux.Strings(b)
		if err == nil && len(s) > 0 && strings.Join(s, "\x00")+"\x00" != string(b) {
			t.Errorf("%q: %q", b, s)
		}
	})
}

func FuzzUevent(f *testing.F) {
	f.Add([]byte("online@/devices/system/cpu/cpu3\x00SUBSYSTEM=cpu\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := linux.Uevent(b); ok && (e.Kind == "" || strings.Contains(e.Name, "/") && e.Name != "/") {
			t.Errorf("%q: %+v", b, e)
		}
	})
}

// A whole machine of arbitrary files must not stop the probe.
func FuzzProbe(f *testing.F) {
	bs, err := boards.All()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("0-1", "0x00000000410fd083", interrupts, []byte("a,b\x00"), "1", "[x]")
	f.Add("0-8191", "0x0", " CPU8191\n1: 1", []byte{0}, "9223372036854775807", "vendor_id : x\nMemTotal: 1 kB")
	f.Add("0", "", "", []byte(nil), "-1", "MemTotal: 1 kB\nprocessor : 99999999\nCPU implementer : 0x41")
	dir := f.TempDir()
	if err := haltest.Play(haltest.Tree(&bs[0], 1), dir); err != nil {
		f.Fatal(err)
	}
	for _, d := range []string{"sys/firmware/devicetree/base", "sys/devices/system/cpu/cpu0/regs/identification", "sys/class/thermal/thermal_zone0", "sys/class/net/x/queues/rx-0", "sys/class/net/x/device/msi_irqs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	r, err := linux.Open(dir, nil)
	if err != nil {
		f.Fatal(err)
	}
	defer r.Close()
	f.Fuzz(func(t *testing.T, list, midr, ints string, compatible []byte, number, choice string) {
		for name, b := range map[string][]byte{
			"sys/devices/system/cpu/online": []byte(list), "sys/devices/system/cpu/isolated": []byte(list),
			"sys/devices/system/cpu/cpu0/regs/identification/midr_el1": []byte(midr), "proc/interrupts": []byte(ints),
			"sys/firmware/devicetree/base/compatible": compatible, "sys/devices/system/cpu/cpu0/topology/cluster_id": []byte(number),
			"sys/devices/system/cpu/cpu0/cpu_capacity": []byte(number), "sys/kernel/mm/transparent_hugepage/enabled": []byte(choice),
			"sys/kernel/mm/transparent_hugepage/hpage_pmd_size": []byte(number), "proc/meminfo": []byte(choice), "proc/cpuinfo": []byte(choice),
			"sys/class/thermal/thermal_zone0/temp": []byte(number), "sys/class/net/x/ifindex": []byte(number), "sys/class/net/x/queues/rx-0/rps_cpus": []byte(list),
		} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		facts := r.Probe()
		if b, why, err := boards.Find(bs, facts.Machine); err == nil {
			_ = hal.MakePlan(facts, &b, why, hal.Options{Only: []string{"x"}, Channels: true})
		}
	})
}

func TestTheJournalSurvivesAndRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	j, err := linux.NewJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := j.Pending(); p != nil || err != nil {
		t.Fatalf("a new journal: %v, %v", p, err)
	}
	one := hal.Entry{Target: hal.Target{Kind: hal.THP}, Old: "always"}
	two := hal.Entry{Target: hal.Target{Kind: hal.IRQAffinity, Name: "eth0", Index: 3}, Old: "0-1"}
	for _, step := range []struct {
		open, want []hal.Entry
	}{
		{[]hal.Entry{one}, []hal.Entry{one}},
		{[]hal.Entry{{Target: one.Target, Old: "never"}, two}, []hal.Entry{one, two}},
	} {
		if err := j.Begin(step.open); err != nil {
			t.Fatal(err)
		}
		again, err := linux.NewJournal(dir) // as after a restart
		if err != nil {
			t.Fatal(err)
		}
		if p, err := again.Pending(); err != nil || !slices.Equal(p, step.open) {
			t.Errorf("open: %v, %v", p, err)
		}
		if err := j.Commit(); err != nil {
			t.Fatal(err)
		}
		if p, err := again.Pending(); p != nil || err != nil {
			t.Errorf("open after the commit: %v, %v", p, err)
		}
		if c, err := again.Committed(); err != nil || !slices.Equal(c, step.want) {
			t.Errorf("committed: %v, %v", c, err)
		}
	}
	if err := j.Clear(); err != nil {
		t.Fatal(err)
	}
	if c, err := j.Committed(); c != nil || err != nil {
		t.Errorf("cleared: %v, %v", c, err)
	}
	for _, damage := range []string{"", "[", "{}", "{\"boot\":\"x\",\"entries\":[{\"target\":1}]}", strings.Repeat(" ", 2<<20)} {
		if err := os.WriteFile(filepath.Join(dir, "open.json"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Pending(); !errors.Is(err, hal.ErrFormat) || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%.10q: %v, want ErrFormat and what to do", damage, err)
		}
		if _, err := hal.Apply(t.Context(), &haltest.Port{}, &hal.Plan{}, j, nil); err == nil {
			t.Errorf("%.10q: a plan was applied over it", damage)
		}
	}
}

// What could not be read back is not written: the plan ends before its first change.
func TestAJournalThatWouldBeTooLongIsRefused(t *testing.T) {
	j, err := linux.NewJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	old := []hal.Entry{{Target: hal.Target{Kind: hal.THP}, Old: strings.Repeat("x", 2<<20)}}
	if err := j.Begin(old); err == nil {
		t.Error("2 MiB were taken")
	}
	if p, err := j.Pending(); p != nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
}

// After a restart of the machine its interrupts may have other numbers: old values would go to
// other devices.
func TestAJournalOfAnotherBootIsEmpty(t *testing.T) {
	dir := t.TempDir()
	j, err := linux.NewJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Begin([]hal.Entry{{Target: hal.Target{Kind: hal.THP}, Old: "always"}}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "open.json")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || !strings.Contains(string(text), strings.TrimSpace(string(boot))) {
		t.Fatalf("the file does not name this boot: %s, %v", text, err)
	}
	other := strings.ReplaceAll(string(text), strings.TrimSpace(string(boot)), "00000000-0000-4000-8000-000000000000")
	if err := os.WriteFile(name, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	port := &haltest.Port{Values: map[hal.Target]string{{Kind: hal.THP}: "never"}}
	if old, err := hal.Recover(t.Context(), port, j); old != nil || err != nil || len(port.Written) != 0 {
		t.Errorf("recovered %v, %v, written %v", old, err, port.Written)
	}
}

func TestALightIsFoundByItsRoleAndGivenBack(t *testing.T) {
	for _, b := range profiles(t) {
		if b.ID != "rock-5b" {
			continue
		}
		dir := play(t, haltest.Tree(&b, 1))
		at := filepath.Join(dir, "sys/class/leds", b.LED["status"].Names[0])
		read := func(name string) string {
			s, err := os.ReadFile(filepath.Join(at, name))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(s))
		}
		for _, name := range []string{"delay_on", "delay_off"} { // the timer trigger makes them
			if err := os.WriteFile(filepath.Join(at, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		r := open(t, dir)
		write := func(name, v string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(at, name), []byte(v+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		// A light with a trigger that has settings of its own gets them back.
		was := read("trigger")
		write("trigger", "none heartbeat [timer]")
		write("delay_on", "30")
		write("delay_off", "70")
		timer, err := r.LED(b.LED["status"])
		if err != nil {
			t.Fatal(err)
		}
		if err := timer.Blink(time.Second, time.Second); err != nil || read("delay_on") != "1000" {
			t.Errorf("blink: %v", err)
		}
		if err := timer.Release(); err != nil || read("trigger") != "timer" || read("delay_on") != "30" || read("delay_off") != "70" {
			t.Errorf("released: %v, %s %s %s", err, read("trigger"), read("delay_on"), read("delay_off"))
		}
		write("trigger", was)
		l, err := r.LED(b.LED["status"])
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Set(true); err != nil || read("brightness") != "1" || read("trigger") != "none" {
			t.Errorf("on: %v, %s, %s", err, read("brightness"), read("trigger"))
		}
		if err := l.Blink(100*time.Millisecond, time.Second); err != nil || read("trigger") != "timer" || read("delay_on") != "100" || read("delay_off") != "1000" {
			t.Errorf("blink: %v", err)
		}
		if err := l.Release(); err != nil || read("trigger") != "heartbeat" {
			t.Errorf("released: %v, %s", err, read("trigger"))
		}
		if _, err := r.LED(boards.LED{Names: []string{"none"}}); !errors.Is(err, hal.ErrGone) {
			t.Errorf("a light that is not there: %v", err)
		}
	}
}

// A file in place of the device answers no ioctl, so Arm fails after it has opened it: what
// counts is that it does not leave an armed watchdog behind.
func TestAWatchdogThatCannotBeSetIsDisarmed(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	dev := filepath.Join(dir, "dev/watchdog0")
	if err := os.WriteFile(dev, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir)
	if _, _, err := r.Arm(hal.Watchdog{Name: "watchdog0", State: "inactive"}, time.Minute); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("got %v, want ENOTTY", err)
	}
	if b, err := os.ReadFile(dev); err != nil || string(b) != "V" {
		t.Errorf("written %q, %v; want the magic character last", b, err)
	}
	if err := os.WriteFile(dev, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Arm(hal.Watchdog{Name: "watchdog0", State: "active"}, time.Minute); !errors.Is(err, unix.EBUSY) {
		t.Errorf("an active one: %v, want EBUSY", err)
	}
	if b, err := os.ReadFile(dev); err != nil || len(b) != 0 {
		t.Errorf("an active one was opened: %q, %v", b, err)
	}
}

func TestAPinThatIsNotThereSaysSo(t *testing.T) {
	for _, b := range profiles(t) {
		pins := linux.NewPins(open(t, play(t, haltest.Tree(&b, 1))), &b)
		for _, role := range []string{"setup", "nonsense"} {
			if p, err := pins.ByRole(role); !errors.Is(err, hal.ErrGone) {
				t.Errorf("%s %s: %v, %v", b.ID, role, p, err)
			}
		}
	}
}

var _ gpio.PinIO = (*linux.Pin)(nil)
