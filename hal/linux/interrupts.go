package linux

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/hal"
)

// Interrupt is a line of /proc/interrupts that has a number.
type Interrupt struct {
	Number int
	Name   string      // the last word: the action, or the actions joined by ", "
	Count  []hal.Tally // the CPUs in the order of the columns, online ones only
}

// Interrupts reads /proc/interrupts (man 5 proc): a head with the online CPUs, then per interrupt
// its number, a count for each CPU, the chip, the hardware's number and the actions. Lines
// without a number, the architecture's own interrupts, are left out.
func Interrupts(s string) ([]Interrupt, error) {
	head, rest, _ := strings.Cut(s, "\n")
	var cpus []int
	for w := range strings.FieldsSeq(head) {
		digits, ok := strings.CutPrefix(w, "CPU")
		n, err := strconv.ParseUint(digits, 10, 16)
		if !ok || err != nil {
			return nil, fmt.Errorf("linux: interrupts: %w: head %.60q", hal.ErrFormat, head)
		}
		cpus = append(cpus, int(n))
	}
	if len(cpus) == 0 {
		return nil, fmt.Errorf("linux: interrupts: %w: no CPU", hal.ErrFormat)
	}
	var all []Interrupt
	for line := range strings.Lines(rest) {
		label, fields, ok := strings.Cut(line, ":")
		number, err := strconv.ParseUint(strings.TrimSpace(label), 10, 31)
		if !ok || err != nil {
			continue
		}
		i := Interrupt{Number: int(number)}
		words := strings.Fields(fields)
		if len(words) < len(cpus) {
			return nil, fmt.Errorf("linux: interrupts: %w: line %.60q", hal.ErrFormat, line)
		}
		for k, cpu := range cpus {
			n, err := strconv.ParseUint(words[k], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("linux: interrupts: %w: line %.60q", hal.ErrFormat, line)
			}
			i.Count = append(i.Count, hal.Tally{CPU: cpu, N: n})
		}
		// The chip's name may have spaces in front of the hardware's number; actions that share
		// a line are joined by ", ", so the last words that end in a comma belong together.
		if words = words[len(cpus):]; len(words) > 0 {
			at := len(words) - 1
			for at > 0 && strings.HasSuffix(words[at-1], ",") {
				at--
			}
			i.Name = strings.Join(words[at:], " ")
		}
		all = append(all, i)
	}
	return all, nil
}
