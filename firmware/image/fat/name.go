package fat

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// shortName is the name of eight and three capitals that every file has: the name itself where it is one, also in small letters (loaders that know
// short names only find it, as those of Raspberry Pi), else its beginning with a number, as NAME~1.EXT.
func shortName(name string, taken map[[11]byte]bool) (s [11]byte, err error) {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	if plain(strings.ToUpper(base), 8) && (ext == "" && !strings.Contains(name, ".") || plain(strings.ToUpper(ext), 3)) {
		copy(s[:], fmt.Sprintf("%-8s%-3s", strings.ToUpper(base), strings.ToUpper(ext)))
		if taken[s] {
			return s, fmt.Errorf("%w: %q is there twice", ErrName, name)
		}
		return s, nil
	}
	base, ext = squeeze(base), squeeze(ext)
	for i := 1; i < 1_000_000; i++ {
		tail := fmt.Sprintf("~%d", i)
		copy(s[:], fmt.Sprintf("%-8s%-3s", base[:min(len(base), 8-len(tail))]+tail, ext[:min(len(ext), 3)]))
		if !taken[s] {
			return s, nil
		}
	}
	return s, fmt.Errorf("%w: no short name is left for %q", ErrName, name)
}

// plain says that s can stand in a short name as it is.
func plain(s string, most int) bool {
	return s != "" && len(s) <= most && strings.IndexFunc(s, func(r rune) bool { return !shortRune(r) }) < 0
}

func shortRune(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'()-@^_`{}~", r)
}

// squeeze leaves of s what can stand in a short name.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case shortRune(r):
			return r
		case r == '.' || r == ' ':
			return -1
		}
		return '_'
	}, strings.ToUpper(s))
}

// longEntries is how many entries the long form of a name takes: none where the short one is the name.
func longEntries(name string, short [11]byte) int {
	s := strings.TrimRight(string(short[:8]), " ")
	if ext := strings.TrimRight(string(short[8:]), " "); ext != "" {
		s += "." + ext
	}
	if s == name {
		return 0
	}
	return (len(utf16.Encode([]rune(name))) + unitsPerEntry - 1) / unitsPerEntry
}

// longName is the entries that stand in front of the short one: 13 UTF-16 units each, the last part of the name first.
func longName(name string, short [11]byte) []byte {
	n := longEntries(name, short)
	if n == 0 {
		return nil
	}
	units := utf16.Encode([]rune(name))
	if len(units)%unitsPerEntry != 0 {
		units = append(units, 0)
	}
	for len(units)%unitsPerEntry != 0 {
		units = append(units, 0xFFFF)
	}
	var sum byte
	for _, c := range short {
		sum = sum<<7 | sum>>1
		sum += c
	}
	var all []byte
	for i := n; i > 0; i-- {
		b := make([]byte, entryBytes)
		b[0] = byte(i)
		if i == n {
			b[0] |= lastLong
		}
		b[11], b[13] = attrLong, sum
		for j, u := range units[(i-1)*unitsPerEntry : i*unitsPerEntry] {
			at := 1 + 2*j
			switch {
			case j >= 11:
				at = 28 + 2*(j-11)
			case j >= 5:
				at = 14 + 2*(j-5)
			}
			binary.LittleEndian.PutUint16(b[at:], u)
		}
		all = append(all, b...)
	}
	return all
}
