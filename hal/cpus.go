package hal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// cpuMax bounds CPU numbers, so that a list from a file cannot ask for much memory. Linux is
// built for at most 8192 (CONFIG_NR_CPUS, MAXSMP).
const cpuMax = 8192

// CPUs is a set of CPU numbers, ascending, without duplicates.
type CPUs []int

// NewCPUs returns the set of these numbers, in its own memory.
func NewCPUs(n ...int) CPUs {
	c := slices.Clone(n)
	slices.Sort(c)
	return CPUs(slices.Compact(c))
}

// ParseList reads the kernel's list format, "0-3,8" or "" (Documentation/admin-guide/cputopology.rst).
func ParseList(s string) (CPUs, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, nil
	}
	if len(s) > 8*cpuMax {
		return nil, fmt.Errorf("hal: CPU list: %w: %d bytes", ErrFormat, len(s))
	}
	var set CPUs
	for part := range strings.SplitSeq(s, ",") {
		a, b, isRange := strings.Cut(part, "-")
		lo, err := cpuNumber(a)
		if err != nil {
			return nil, err
		}
		hi := lo
		if isRange {
			if hi, err = cpuNumber(b); err != nil {
				return nil, err
			}
		}
		// The kernel writes lists in ascending order; so that overlaps cannot grow the set, ask for it.
		if hi < lo || len(set) > 0 && lo <= set[len(set)-1] {
			return nil, fmt.Errorf("hal: CPU list %.40q: %w: not ascending", s, ErrFormat)
		}
		for c := lo; c <= hi; c++ {
			set = append(set, c)
		}
	}
	return set, nil
}

func cpuNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n >= cpuMax || s[0] == '+' {
		return 0, fmt.Errorf("hal: CPU number %.20q: %w", s, ErrFormat)
	}
	return int(n), nil
}

// ParseMask reads the kernel's mask format: groups of up to eight hexadecimal digits, the
// highest first, with commas between them: "ff,00000000".
func ParseMask(s string) (CPUs, error) {
	s = strings.TrimSpace(s)
	groups := strings.Split(s, ",")
	if len(s) > cpuMax/32*9 {
		return nil, fmt.Errorf("hal: CPU mask: %w: %d bytes", ErrFormat, len(s))
	}
	var set CPUs
	slices.Reverse(groups)
	for i, g := range groups {
		bits, err := strconv.ParseUint(g, 16, 32)
		if err != nil || len(g) > 8 || g[0] == '+' {
			return nil, fmt.Errorf("hal: CPU mask %.40q: %w", s, ErrFormat)
		}
		for b := range 32 {
			if bits&(1<<b) != 0 {
				set = append(set, 32*i+b)
			}
		}
	}
	return set, nil
}

// List is the set as ParseList reads it.
func (c CPUs) List() string {
	var w strings.Builder
	for i := 0; i < len(c); {
		j := i
		for j+1 < len(c) && c[j+1] == c[j]+1 {
			j++
		}
		if w.Len() > 0 {
			w.WriteByte(',')
		}
		w.WriteString(strconv.Itoa(c[i]))
		if j > i {
			w.WriteByte('-')
			w.WriteString(strconv.Itoa(c[j]))
		}
		i = j + 1
	}
	return w.String()
}

// String is List, or "none".
func (c CPUs) String() string {
	if len(c) == 0 {
		return "none"
	}
	return c.List()
}

// MarshalText is List.
func (c CPUs) MarshalText() ([]byte, error) { return []byte(c.List()), nil }

// UnmarshalText is ParseList.
func (c *CPUs) UnmarshalText(b []byte) (err error) {
	*c, err = ParseList(string(b))
	return err
}

// Mask is the set as ParseMask reads it, "0" for the empty set.
func (c CPUs) Mask() string {
	if len(c) == 0 {
		return "0"
	}
	words := make([]uint32, c[len(c)-1]/32+1)
	for _, n := range c {
		words[n/32] |= 1 << (n % 32)
	}
	slices.Reverse(words)
	var w strings.Builder
	w.WriteString(strconv.FormatUint(uint64(words[0]), 16))
	for _, bits := range words[1:] {
		fmt.Fprintf(&w, ",%08x", bits)
	}
	return w.String()
}

// Has says whether n is in the set.
func (c CPUs) Has(n int) bool {
	_, ok := slices.BinarySearch(c, n)
	return ok
}

// Without returns what is in c and not in d, in its own memory.
func (c CPUs) Without(d CPUs) CPUs {
	return slices.DeleteFunc(slices.Clone(c), d.Has)
}

// Within says whether all of c is in d.
func (c CPUs) Within(d CPUs) bool { return len(c.Without(d)) == 0 }
