package hal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// Pattern is how a region will be read.
type Pattern string

// The patterns.
const (
	Sequential Pattern = "sequential" // front to back, again and again
	Random     Pattern = "random"     // anywhere, again and again
	Strided    Pattern = "strided"    // in steps larger than a cache line
	Once       Pattern = "once"       // front to back, and then never again
)

// Region is what a pattern is about: memory, or a file, or the device under it. Unset parts are
// left alone.
type Region struct {
	Mem    []byte  // page-aligned, from mmap; owned by the caller and only advised on here
	File   uintptr // a file descriptor, 0 for none
	Length int64   // of the file's part from its start, 0 for all
	Block  string  // a block device's name, for its read-ahead
}

// Advice is one step towards a pattern.
type Advice struct {
	Call   string // madvise, fadvise
	Value  string // sequential, random, hugepage, noreuse...
	Reason string
}

// HugePageBytes is the size of a transparent huge page: what a page full of 8-byte entries maps, 2 MiB with pages of
// 4 KiB, 32 MiB with 16 KiB (Raspberry Pi 5), 512 MiB with 64 KiB. 2 MiB where the page's size is not known.
func (m *Memory) HugePageBytes() int {
	if m.PageBytes == 0 {
		return 2 << 20
	}
	return m.PageBytes * (m.PageBytes / 8)
}

// hugePages is the note about huge pages, and the Value of their Advice.
const hugePages, hugePage = "huge pages", "hugepage"

// Advices says which steps a pattern means for a region, which changes of the whole machine it
// would take (they belong into a plan, which can be undone), and what it cannot mean.
func Advices(p Pattern, r Region, m *Memory) (steps []Advice, changes []Change, notes []Note) {
	type step struct{ mem, file, why string }
	does := map[Pattern]step{
		Sequential: {"sequential", "sequential", "the kernel reads ahead twice as far and drops pages behind"},
		Random:     {"random", "random", "reading ahead would fetch what nobody asks for"},
		Strided:    {"normal", "random", "each step is its own page: reading ahead in the file does not pay"},
		Once:       {"sequential", "noreuse", "the pages will not be wanted again"},
	}
	s, ok := does[p]
	if !ok {
		return nil, nil, []Note{{string(p), "is no pattern"}}
	}
	if len(r.Mem) > 0 {
		steps = append(steps, Advice{"madvise", s.mem, s.why})
		switch {
		case p == Once:
			notes = append(notes, Note{hugePages, "memory used once pays for clearing them and does not get it back"})
		case len(r.Mem) < m.HugePageBytes():
			notes = append(notes, Note{hugePages, fmt.Sprintf("%d KiB are less than one, which has %d KiB here", len(r.Mem)>>10, m.HugePageBytes()>>10)})
		case m.THP == "":
			notes = append(notes, Note{hugePages, "the kernel has no transparent ones"})
		default:
			const why = "a large table misses the TLB less: random gather took half the time"
			steps = append(steps, Advice{"madvise", hugePage, why})
			if m.THP == "never" {
				changes = append(changes, Change{Target{Kind: THP}, m.THP, "madvise", why, Safe})
			}
		}
	}
	if r.File != 0 {
		steps = append(steps, Advice{"fadvise", s.file, s.why})
	}
	for _, b := range m.Blocks {
		kib := map[Pattern]string{Sequential: "1024", Once: "1024", Random: "16", Strided: "16"}[p]
		if old := strconv.Itoa(b.ReadAheadKiB); b.Name == r.Block && old != kib {
			changes = append(changes, Change{Target{Kind: ReadAhead, Name: b.Name}, old, kib, s.why, Safe})
		}
	}
	notes = append(notes, Note{"layout", map[Pattern]string{
		Sequential: "keep records in columns: the prefetcher follows a column",
		Random:     "keep what is read together in one cache line",
		Strided:    "turn the stride into a column: no prefetcher follows steps over a page's end",
		Once:       "stream it in blocks that fit the second cache",
	}[p]})
	return steps, changes, notes
}

// AdviseOutcome is what became of one step.
type AdviseOutcome struct {
	Advice Advice        `json:"advice"`
	Result Result        `json:"result"`
	Why    string        `json:"why,omitempty"`
	Errno  syscall.Errno `json:"errno,omitempty"`
}

// Adviser takes one step; hal/linux has the real one.
type Adviser interface {
	Advise(r Region, a Advice) error
}

// Advise carries out a pattern's steps for a region and answers for each; the changes that
// Advices names are the caller's to plan. The kernel gives no way to see what became of a hint,
// so what it took is AcceptedUnverified. Huge pages that memory does not get, and the hardware
// prefetcher's switch, are answered for too.
func Advise(port Adviser, p Pattern, r Region, m *Memory, cpu *CPU) []AdviseOutcome {
	steps, _, notes := Advices(p, r, m)
	out := make([]AdviseOutcome, 0, len(steps)+2)
	for _, a := range steps {
		o := AdviseOutcome{Advice: a, Result: AcceptedUnverified, Why: "a hint: the kernel does not say what it made of it"}
		if err := port.Advise(r, a); err != nil {
			o.Result, o.Why = FailedTo, err.Error()
			errors.As(err, &o.Errno)
			if errors.Is(err, errors.ErrUnsupported) || o.Errno == syscall.EINVAL {
				o.Result = Unsupported
			}
		}
		out = append(out, o)
	}
	for _, n := range notes {
		if n.About == hugePages {
			out = append(out, AdviseOutcome{Advice: Advice{Call: "madvise", Value: hugePage}, Result: Unsupported, Why: n.Why})
		}
	}
	return append(out, AdviseOutcome{Advice: Advice{Call: "hardware prefetcher", Value: string(p)}, Result: Unsupported, Why: PrefetcherWhy(cpu)})
}

// PrefetcherWhy says why user space cannot switch this core's hardware prefetcher.
func PrefetcherWhy(cpu *CPU) string {
	switch m := cpu.MIDR; {
	case m == 0 && strings.Contains(cpu.Model, "Intel"):
		return "the switch is MSR 0x1A4, which user space reaches only through /dev/cpu/*/msr, as root and with the msr module, for all programs of the machine"
	case m == 0 && cpu.Model != "":
		return "the switch is a model-specific register (MSR 0xC0000108 on AMD), which user space reaches only through /dev/cpu/*/msr, as root, for all programs of the machine"
	case m.Implementer() == 0x41 && m.Part() == 0xd08:
		return "Cortex-A72 has it in CPUACTLR_EL1[56] and CPUECTLR_EL1[33:32]; both are written at EL1 at most where EL3 allows it (ACTLR_EL3, Arm TRM 100095 4.3 and 6.4.9), user space runs at EL0"
	case m != 0:
		return fmt.Sprintf("%s keeps it in an implementation-defined EL1 register that firmware at EL3 gates; user space runs at EL0", m)
	}
	return "it is not known what core this is"
}
