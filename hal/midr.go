package hal

import (
	"fmt"
	"strconv"
	"strings"
)

// MIDR is the main ID register of an Arm core (Arm ARM, MIDR_EL1): what the core is, whatever
// the firmware calls it. 0 where there is none, as on amd64.
//
//	31      24 23    20 19  16 15     4 3      0
//	implementer variant  arch  part     revision
type MIDR uint64

// ParseMIDR reads regs/identification/midr_el1: "0x00000000410fd083".
func ParseMIDR(s string) (MIDR, error) {
	digits, ok := strings.CutPrefix(strings.TrimSpace(s), "0x")
	v, err := strconv.ParseUint(digits, 16, 64)
	if err != nil || !ok || len(digits) > 16 || v>>32 != 0 {
		return 0, fmt.Errorf("hal: MIDR %.40q: %w", s, ErrFormat)
	}
	return MIDR(v), nil
}

// NewMIDR is the register of a core of revision 0 with these two fields, as /proc/cpuinfo gives them.
func NewMIDR(implementer, part int) MIDR {
	return MIDR(uint64(implementer&0xff)<<24 | 0xf<<16 | uint64(part&0xfff)<<4)
}

// Implementer is who designed the core: 0x41 is Arm.
func (m MIDR) Implementer() int { return int(m>>24) & 0xff }

// Part is the implementer's number for the core.
func (m MIDR) Part() int { return int(m>>4) & 0xfff }

// implementers and parts are from Linux, arch/arm64/include/asm/cputype.h.
var implementers = map[int]string{
	0x41: "Arm", 0x42: "Broadcom", 0x43: "Cavium", 0x46: "Fujitsu", 0x48: "HiSilicon",
	0x4e: "NVIDIA", 0x50: "APM", 0x51: "Qualcomm", 0x61: "Apple", 0x6d: "Microsoft", 0xc0: "Ampere",
}

var parts = map[int]string{
	0x41_d02: "Cortex-A34", 0x41_d03: "Cortex-A53", 0x41_d04: "Cortex-A35", 0x41_d05: "Cortex-A55",
	0x41_d07: "Cortex-A57", 0x41_d08: "Cortex-A72", 0x41_d09: "Cortex-A73", 0x41_d0a: "Cortex-A75",
	0x41_d0b: "Cortex-A76", 0x41_d0c: "Neoverse-N1", 0x41_d0d: "Cortex-A77", 0x41_d0e: "Cortex-A76AE",
	0x41_d40: "Neoverse-V1", 0x41_d41: "Cortex-A78", 0x41_d42: "Cortex-A78AE", 0x41_d44: "Cortex-X1",
	0x41_d46: "Cortex-A510", 0x41_d47: "Cortex-A710", 0x41_d48: "Cortex-X2", 0x41_d49: "Neoverse-N2",
	0x41_d4b: "Cortex-A78C", 0x41_d4d: "Cortex-A715", 0x41_d4e: "Cortex-X3", 0x41_d4f: "Neoverse-V2",
	0x41_d80: "Cortex-A520", 0x41_d81: "Cortex-A720", 0x41_d82: "Cortex-X4", 0x41_d83: "Neoverse-V3AE",
	0x41_d84: "Neoverse-V3", 0x41_d85: "Cortex-X925", 0x41_d87: "Cortex-A725", 0x41_d8e: "Neoverse-N3",
	0x48_d01: "TSV110", 0xc0_ac3: "AmpereOne",
}

// String names the core: "Arm Cortex-A72"; numbers for what it does not know.
func (m MIDR) String() string {
	if m == 0 {
		return "no MIDR"
	}
	who, ok := implementers[m.Implementer()]
	if !ok {
		who = fmt.Sprintf("implementer 0x%02x", m.Implementer())
	}
	part, ok := parts[m.Implementer()<<12|m.Part()]
	if !ok {
		part = fmt.Sprintf("part 0x%03x", m.Part())
	}
	return who + " " + part
}
