package hal

import (
	"fmt"
	"strings"
)

// Kind is what a change is about; it fixes how a value is written.
type Kind string

// The kinds of change. CPU sets are written as ParseList reads them, whatever the kernel's file wants.
const (
	IRQAffinity Kind = "irq-affinity" // Name: the interface, Index: the interrupt; a CPU set
	RPSCPUs     Kind = "rps-cpus"     // Name: the interface, Index: the receive queue; a CPU set, "" is off
	XPSCPUs     Kind = "xps-cpus"     // Name: the interface, Index: the send queue; a CPU set, "" is off
	ChannelsOf  Kind = "channels"     // Name: the interface; "rx 1 tx 1 combined 0"
	RingsOf     Kind = "rings"        // Name: the interface; "rx 256 tx 256", descriptors
	CoalesceOf  Kind = "coalesce"     // Name: the interface; "rx-usecs 50 tx-usecs 50"
	THP         Kind = "thp"          // the machine; always, madvise or never
	ReadAhead   Kind = "read-ahead"   // Name: the block device; KiB
)

// Target is the place of one value.
type Target struct {
	Kind  Kind   `json:"kind"`
	Name  string `json:"name,omitempty"`
	Index int    `json:"index,omitempty"`
}

// String is for people: "eth0 irq 41 affinity".
func (t Target) String() string {
	switch t.Kind {
	case IRQAffinity:
		return fmt.Sprintf("%s irq %d affinity", t.Name, t.Index)
	case RPSCPUs:
		return fmt.Sprintf("%s rx-%d rps_cpus", t.Name, t.Index)
	case XPSCPUs:
		return fmt.Sprintf("%s tx-%d xps_cpus", t.Name, t.Index)
	}
	return strings.TrimSpace(t.Name + " " + string(t.Kind))
}

// Risk is what a change can do to a machine that nobody attends.
type Risk string

// The risks.
const (
	Safe  Risk = "safe"  // it cannot cut the machine off
	Risky Risk = "risky" // it resets a link or may cut it; if it fails, the whole plan is put back
)

// Change is one value to write.
type Change struct {
	Target Target `json:"target"`
	Old    string `json:"old"`
	Want   string `json:"want"`
	Reason string `json:"reason"` // one sentence
	Risk   Risk   `json:"risk"`
}

// Note says why something was left alone, in one sentence.
type Note struct {
	About string `json:"about"`
	Why   string `json:"why"`
}

// Assignment is which CPUs do what. The sets may overlap on a machine with few CPUs.
type Assignment struct {
	Loop         CPUs   `json:"loop"`         // the hot loops, one each
	Receive      CPUs   `json:"receive"`      // interrupts of receive queues
	Housekeeping CPUs   `json:"housekeeping"` // everything else
	Why          string `json:"why"`
}

// Plan is what to change, in order, and why the rest stays.
type Plan struct {
	Board    string     `json:"board"`
	BoardWhy string     `json:"board_why"`
	Assign   Assignment `json:"assign"`
	Changes  []Change   `json:"changes"`
	Notes    []Note     `json:"notes"`
}

func (p *Plan) note(about, format string, args ...any) {
	p.Notes = append(p.Notes, Note{about, fmt.Sprintf(format, args...)})
}

// change adds a change, or a note when the value is wanted already.
func (p *Plan) change(t Target, old, want string, risk Risk, format string, args ...any) {
	if old == want {
		p.note(t.String(), "is %s already", said(want))
		return
	}
	p.Changes = append(p.Changes, Change{t, old, want, fmt.Sprintf(format, args...), risk})
}

// String is the plan for a person: every line a change or a reason.
func (p *Plan) String() string {
	var w strings.Builder
	fmt.Fprintf(&w, "board %s: %s\n", p.Board, p.BoardWhy)
	fmt.Fprintf(&w, "loop %s, receive %s, housekeeping %s: %s\n", p.Assign.Loop, p.Assign.Receive, p.Assign.Housekeeping, p.Assign.Why)
	for _, c := range p.Changes {
		fmt.Fprintf(&w, "change %s: %s -> %s (%s): %s\n", c.Target, said(c.Old), said(c.Want), c.Risk, c.Reason)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&w, "leave %s: %s\n", n.About, n.Why)
	}
	return w.String()
}

func said(v string) string {
	if v == "" {
		return "none"
	}
	return v
}
