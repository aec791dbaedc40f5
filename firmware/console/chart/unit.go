package chart

import (
	"math"
	"strconv"
)

// Unit is what values are of; it is how they are written.
type Unit string

// The units that the console has.
const (
	None      Unit = ""
	Seconds   Unit = "s"
	Bytes     Unit = "B"
	BytesRate Unit = "B/s"
	Rate      Unit = "/s"
	Ratio     Unit = "%" // 1 is 100 %
	Celsius   Unit = "°C"
	Joules    Unit = "J"
)

// Text writes a value with three digits that count and its unit.
func (u Unit) Text(v float64) string { return u.write(v, v, 3) }

// Tick writes a value of an axis whose greatest is top, so that all labels of the axis have the same prefix.
func (u Unit) Tick(v, top float64) string { return u.write(v, top, 0) }

// write writes v with the prefix that fits scale; digits 0: as many as a round value needs.
func (u Unit) write(v, scale float64, digits int) string {
	if !valid(v) {
		return "none"
	}
	unit := string(u)
	factor := 1.0
	switch size := math.Abs(scale); u {
	case Seconds:
		factor, unit = pick(size, []step{{1e-6, 1e6, "µs"}, {1e-3, 1e6, "µs"}, {1, 1e3, "ms"}, {120, 1, "s"}, {2 * 3600, 1. / 60, "min"}, {2 * 86400, 1. / 3600, "h"}, {math.Inf(1), 1. / 86400, "d"}})
	case Bytes, BytesRate:
		factor, unit = pick(size, []step{{1 << 10, 1, "B"}, {1 << 20, 1. / (1 << 10), "KiB"}, {1 << 30, 1. / (1 << 20), "MiB"}, {1 << 40, 1. / (1 << 30), "GiB"}, {math.Inf(1), 1. / (1 << 40), "TiB"}})
		if u == BytesRate {
			unit += "/s"
		}
	case Ratio:
		factor = 100
	default:
		factor, unit = pick(size, []step{{1e4, 1, ""}, {1e6, 1e-3, "k"}, {1e9, 1e-6, "M"}, {math.Inf(1), 1e-9, "G"}})
		unit += string(u)
	}
	text := decimal(v*factor, digits)
	if unit == "" || unit == "k" || unit == "M" || unit == "G" || u == Rate {
		return text + unit
	}
	return text + "\u202f" + unit
}

// step says that values below it are written times factor, with a prefix.
type step struct {
	below, factor float64
	name          string
}

func pick(size float64, steps []step) (float64, string) {
	for _, s := range steps {
		if size < s.below {
			return s.factor, s.name
		}
	}
	last := steps[len(steps)-1]
	return last.factor, last.name
}

// decimal writes v with so many digits that count, and no zeros at the end of a fraction.
func decimal(v float64, digits int) string {
	if digits == 0 {
		return strconv.FormatFloat(math.Round(v*1e4)/1e4, 'f', -1, 64)
	}
	if v == 0 {
		return "0"
	}
	after := digits - 1 - int(math.Floor(math.Log10(math.Abs(v))))
	after = min(max(after, 0), 6)
	p := math.Pow(10, float64(after))
	return strconv.FormatFloat(math.Round(v*p)/p, 'f', -1, 64)
}
