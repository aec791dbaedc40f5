package console

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
	"github.com/holdfast-edge/holdfast/hal"
)

// fakeMachine is hardware that a test sets.
type fakeMachine struct {
	facts *hal.Facts
	err   error
	asked int
	used  uint64 // of 10 GiB, beside six
	dir   string // of crash reports
}

func (m *fakeMachine) Crashes() ([]crash.Report, error)         { return crash.List(m.dir) }
func (m *fakeMachine) Crash(file string) (*crash.Report, error) { return crash.Read(m.dir, file) }

func (m *fakeMachine) Facts() (*hal.Facts, error) { m.asked++; return m.facts, m.err }

func (m *fakeMachine) Disk() (Disk, error) {
	return Disk{Path: "/data", Total: 10 << 30, Free: 4<<30 - m.used}, m.err
}

func oddMachine() *fakeMachine {
	return &fakeMachine{facts: &hal.Facts{
		Model: "<b>ROCK</b> 5B", Kernel: "6.1",
		Topology: hal.Load(hal.Topology{CPUs: []hal.CPU{{ID: 0, Online: true}, {ID: 1, Online: true}}, Clusters: 2}),
		Memory:   hal.Load(hal.Memory{TotalBytes: 4 << 30, Blocks: []hal.Block{{Name: "mmcblk0", WearTenths: 3}, {Name: "sda"}}}),
		NICs: hal.Load([]hal.NIC{
			{Name: "eth<0>", Kind: "physical", Driver: "stmmac", Up: true, Mbps: 1000, RX: make([]hal.RX, 2), TX: make([]hal.TX, 1), IRQs: []hal.IRQ{{Affinity: hal.CPUs{0, 1}, Effective: hal.CPUs{1}}}},
			{Name: "lo", Kind: "loopback", IRQsWhy: "it has none of its own"},
		}),
		Thermal: hal.Load([]hal.Thermal{{Name: "soc", Milli: 48250, Trips: []hal.Trip{{Type: "passive", Milli: 75000}, {Type: "critical", Milli: 115000}}}}),
	}}
}

func TestTheOverviewSaysWhenTheDiskIsNearlyFull(t *testing.T) {
	m := oddMachine()
	c := newConsole(t, servingSite(), func(cfg *Config) { cfg.Machine = m })
	const short = "The disk of this box has only"
	if text := textOf(get(t, c, "/").Body.String()); strings.Contains(text, short) {
		t.Errorf("4 of 10 GiB are free: %s", text)
	}
	m.used = 4<<30 - 900<<20
	text := textOf(get(t, newConsole(t, servingSite(), func(cfg *Config) { cfg.Machine = m }), "/").Body.String())
	if !strings.Contains(text, short) || !strings.Contains(text, "Make space on this box") {
		t.Errorf("900 MiB are free: %s", text)
	}
}

func TestTheMachineIsShownAsItSaysItIs(t *testing.T) {
	m := oddMachine()
	c := newConsole(t, servingSite(), func(cfg *Config) { cfg.Machine = m })
	html := get(t, c, "/boxes").Body.String()
	text := textOf(html)
	for _, want := range []string{
		"&lt;b&gt;ROCK&lt;/b&gt; 5B", "Linux 6.1", "2, online 0-1, in 2 clusters", "4 GiB", "mmcblk0: 20 to 30 % of its rated life used", "4 GiB free of 10 GiB",
		"soc", "48.3 °C", "critical at 115 °C", "eth&lt;0&gt; up stmmac 1000 Mbit/s 2 in, 1 out 1", "lo down loopback",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	get(t, c, "/boxes")
	if m.asked != 1 {
		t.Errorf("the machine was asked %d times within %v", m.asked, factsFor)
	}
}

func TestWhyABoxEndedIsShownAndItsReportIsForWhoMay(t *testing.T) {
	m := oddMachine()
	m.dir = t.TempDir()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := crash.Save(m.dir, &crash.Report{At: at, How: "exit status <2>", After: 90 * time.Minute, Version: "v9", Text: []byte("panic: <the reason>")}); err != nil {
		t.Fatal(err)
	}
	c := newConsole(t, servingSite(), func(cfg *Config) { cfg.Machine = m })
	if text := textOf(get(t, c, "/boxes").Body.String()); !strings.Contains(text, "2026-01-02 03:04:05 UTC: exit status &lt;2&gt;, after 1h30m") {
		t.Error(text)
	}
	var list api.Crashes
	getJSON(t, c, "/api/v1/crashes", 200, &list)
	if len(list.Crashes) != 1 || !list.Crashes[0].At.Equal(at) || list.Crashes[0].After != 90*time.Minute {
		t.Fatalf("%+v", list)
	}
	path := "/api/v1/crashes/" + list.Crashes[0].File
	if w := getOn(t, c, path, "unix"); w.Code != 200 || w.Body.String() != "panic: <the reason>" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := get(t, c, path); w.Code != 401 {
		t.Errorf("an open console shows it to everybody: %d", w.Code)
	}
	for _, file := range []string{"nosuch.txt", "..%2F..%2Fbox.key"} {
		if w := getOn(t, c, "/api/v1/crashes/"+file, "unix"); w.Code != 404 {
			t.Errorf("%s: %d", file, w.Code)
		}
	}
}

func TestAMachineThatSaysNothingIsNoFailure(t *testing.T) {
	for name, m := range map[string]*fakeMachine{
		"nothing": {facts: &hal.Facts{NICs: hal.Answer[[]hal.NIC]{Status: hal.Skip("no sysfs")}}}, "an error": {err: errors.New("<no> sysfs")},
	} {
		c := newConsole(t, servingSite(), func(cfg *Config) { cfg.Machine = m })
		w := get(t, c, "/boxes")
		if w.Code != 200 || !strings.Contains(textOf(w.Body.String()), "no") || strings.Contains(w.Body.String(), "<no>") {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if w := get(t, newConsole(t, servingSite()), "/boxes"); w.Code != 200 || strings.Contains(w.Body.String(), "This machine") {
		t.Error("a machine that nobody asks is shown")
	}
}

func TestLinksShowTheirRoundTripAndWhatTheyLost(t *testing.T) {
	s := servingSite()
	s.view.Members[1].Silences, s.view.Members[1].Stalls, s.view.Members[1].Bulk = 17, 5, 3<<20
	s.view.Members[1].Suspect, s.view.Members[1].Since = 2, time.Unix(1e9, 0)
	text := textOf(sectionOf(get(t, newConsole(t, s), "/boxes").Body.String(), "links"))
	for _, want := range []string{"box-1 up 2 false statements 350µs", "17 5", "3 MiB", "2001-09-09 01:46:40 UTC", "box-3 down"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

func TestABoxIsAwayLateSilentOrTwiceThereAndSaidToBe(t *testing.T) {
	v := servingSite().view
	v.Members[0].Height, v.Height = 5000, 5000
	v.Members[1].Height, v.Members[2].Height = 4990, 100
	v.Members[2].VotesFrom = 0
	list := standings(&v, false)
	for i, want := range []string{"up", "up", "late by 4\u202f900 blocks", "away"} {
		if list[i].State != want {
			t.Errorf("box-%d is %q, want %q", i, list[i].State, want)
		}
	}
	v.Members[2].VotesFrom, v.Members[1].Twins = 1e9, 1
	list = standings(&v, false)
	if list[1].State != "on two machines" || list[2].State != "does not vote yet" {
		t.Errorf("%q and %q", list[1].State, list[2].State)
	}
}

func TestSitesOfAnySizeAreDrawn(t *testing.T) {
	for _, n := range []int{0, 1, 2, 4, 7, 13, 64} {
		v := servingSite().view
		for len(v.Members) < n {
			v.Members = append(v.Members, site.MemberView{})
		}
		v.Members, v.N, v.Quorum = v.Members[:n], n, n*2/3+1
		text := string(siteMap(&v, standings(&v, false))) + string(quorumBar(n, n, v.Quorum))
		if strings.Contains(text, "NaN") || strings.Count(text, `class="node`) != n {
			t.Errorf("%d boxes: %s", n, text)
		}
	}
}
