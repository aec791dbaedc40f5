package boards

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Check says whether a profile can be: names and roles that exist, numbers in range, and for
// every fact a source. The error names the fact.
func (b *Board) Check() error {
	bad := func(fact, format string, args ...any) error {
		return fmt.Errorf("boards: %w: %s: %s", ErrValue, fact, fmt.Sprintf(format, args...))
	}
	if b.ID == "" || b.Name == "" {
		return bad("id", "a profile has an id and a name")
	}
	if !slices.Contains([]string{"arm64", "amd64"}, b.Arch) {
		return bad("arch", "%q is neither arm64 nor amd64", b.Arch)
	}
	if n := b.CacheLineBytes; n < 16 || n > 256 || n&(n-1) != 0 {
		return bad("cache_line_bytes", "%d is no power of two from 16 to 256", n)
	}
	if len(b.Match.Compatible)+len(b.Match.DMI) == 0 && !b.Match.Generic {
		return bad("match", "nothing to recognise the board by")
	}
	for _, c := range b.Match.Compatible {
		if !strings.Contains(c, ",") || strings.Contains(strings.TrimSuffix(c, "*"), "*") {
			return bad("match.compatible", "%q is not vendor,board with at most a * at its end", c)
		}
	}
	if slices.Contains(b.Match.DMI, (DMI{})) {
		return bad("match.dmi", "an entry with all fields empty")
	}
	for name, c := range b.CPU {
		if c.Implementer < 1 || c.Implementer > 0xff || c.Part < 1 || c.Part > 0xfff || c.Count < 1 || c.Count > 1024 || c.Capacity < 0 || c.Capacity > 1024 {
			return bad("cpu."+name, "implementer 0x%x part 0x%x count %d capacity %d", c.Implementer, c.Part, c.Count, c.Capacity)
		}
	}
	for role, classes := range map[string][]string{"loop": b.Roles.Loop, "receive": b.Roles.Receive, "housekeeping": b.Roles.Housekeeping} {
		if len(b.CPU) > 0 && len(classes) == 0 {
			return bad("roles."+role, "no class, and the board has classes")
		}
		for _, c := range classes {
			if _, ok := b.CPU[c]; !ok {
				return bad("roles."+role, "there is no class %q", c)
			}
		}
	}
	if err := b.checkPorts(bad); err != nil {
		return err
	}
	if w := b.Watchdog; w != nil && (w.Driver == "" || w.TimeoutMaxSec < 1 || w.TimeoutMaxSec > 1<<16) {
		return bad("watchdog", "driver %q, timeout %d s", w.Driver, w.TimeoutMaxSec)
	}
	if t := b.Thermal; t != nil && (t.Zone == "" || t.ThrottleC < 40 || t.CriticalC <= t.ThrottleC || t.CriticalC > 150) {
		return bad("thermal", "zone %q, throttle %d, critical %d", t.Zone, t.ThrottleC, t.CriticalC)
	}
	if b.RTC != nil && b.RTC.Driver == "" {
		return bad("rtc", "no driver")
	}
	if b.Budget.MemoryMiB < 32 || b.Budget.CPUShare < 1 || b.Budget.CPUShare > 100 {
		return bad("budget", "%d MiB, %d percent", b.Budget.MemoryMiB, b.Budget.CPUShare)
	}
	return b.checkProvenance(bad)
}

func (b *Board) checkPorts(bad func(string, string, ...any) error) error {
	at := map[string]string{}
	for name, n := range b.NIC {
		where := fmt.Sprintf("%s#%d", n.Bus, n.Port)
		switch {
		case !slices.Contains([]string{"wan", "lan"}, n.Role):
			return bad("nic."+name, "role %q is neither wan nor lan", n.Role)
		case n.Bus == "" || n.Driver == "" || n.Port < 0 || n.QueuesMax < 0:
			return bad("nic."+name, "bus %q, driver %q, port %d, queues %d", n.Bus, n.Driver, n.Port, n.QueuesMax)
		case !slices.Contains([]string{"yes", "no", "unknown"}, n.IRQsMove):
			return bad("nic."+name, "irqs_move %q is not yes, no or unknown", n.IRQsMove)
		case !slices.Contains([]string{"rps", "none"}, n.Fallback):
			return bad("nic."+name, "fallback %q is neither rps nor none", n.Fallback)
		case at[where] != "":
			return bad("nic."+name, "is where %s is", at[where])
		}
		at[where] = name
	}
	for role, l := range b.LED {
		if len(l.Names) == 0 || slices.Contains(l.Names, "") {
			return bad("led."+role, "has no name")
		}
	}
	for role, p := range b.Pin {
		if (p.Line == "") == (p.Chip == "") || p.Offset < 0 || p.Offset > 1023 {
			return bad("pin."+role, "either a line's name, or a chip and an offset")
		}
	}
	return nil
}

// Facts lists the dotted paths of everything that the profile says, sorted: what needs a source.
func (b *Board) Facts() []string {
	var facts []string
	var walk func(at string, v reflect.Value)
	walk = func(at string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(at, v.Elem())
			}
		case reflect.Map:
			for _, k := range v.MapKeys() {
				walk(at+"."+k.String(), v.MapIndex(k))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("toml"), ",")
				if options == "omitempty" && v.Field(i).IsZero() {
					continue
				}
				walk(at+"."+name, v.Field(i))
			}
		default:
			facts = append(facts, strings.TrimPrefix(at, "."))
		}
	}
	v := *b
	v.Provenance = nil
	walk("", reflect.ValueOf(v))
	slices.Sort(facts)
	return slices.DeleteFunc(facts, func(f string) bool { return f == "id" || f == "name" || f == "match.generic" || f == "arch" })
}

// Source says where a fact was learned, and the text beside it; "" if nobody said.
func (b *Board) Source(fact string) (Source, string) {
	_, text := b.source(fact)
	s, note, _ := strings.Cut(text, ": ")
	return Source(s), note
}

func (b *Board) source(fact string) (key, text string) {
	for key := fact; key != ""; {
		if text, ok := b.Provenance[key]; ok {
			return key, text
		}
		key = key[:max(0, strings.LastIndexByte(key, '.'))]
	}
	return "", ""
}

func (b *Board) checkProvenance(bad func(string, string, ...any) error) error {
	used := map[string]bool{}
	for _, f := range b.Facts() {
		key, text := b.source(f)
		if key == "" {
			return bad(f, "nobody says where it was learned")
		}
		used[key] = true
		if s, _, _ := strings.Cut(text, ": "); !slices.Contains([]Source{Captured, DTB, Issue, Unverified}, Source(s)) {
			return bad(f, "%q is no source", text)
		}
	}
	for key := range b.Provenance {
		if !used[key] {
			return bad("provenance."+key, "is about no fact")
		}
	}
	return nil
}
