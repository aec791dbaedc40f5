package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written as "16MiB", "64KiB", "2GiB" or a plain number.
type Size int64

type unit struct {
	suffix string
	shift  uint
}

// units are what a Size may be written in, largest first.
func units() []unit { return []unit{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}} }

// UnmarshalText reads what String writes.
func (s *Size) UnmarshalText(text []byte) error {
	number, shift := strings.TrimSpace(string(text)), uint(0)
	for _, u := range units() {
		if head, ok := strings.CutSuffix(number, u.suffix); ok {
			number, shift = strings.TrimSpace(head), u.shift
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return fmt.Errorf("%w: %q is not a size such as \"16MiB\"", ErrValue, text)
	}
	*s = Size(n << shift)
	return nil
}

// MarshalText is String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String uses the largest unit that leaves a whole number.
func (s Size) String() string {
	for _, u := range units() {
		if s != 0 && s%(1<<u.shift) == 0 {
			return strconv.FormatInt(int64(s)>>u.shift, 10) + u.suffix
		}
	}
	return "0B"
}

// Duration is a time.Duration, written as "250ms".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%w: %q is not a duration such as \"250ms\"", ErrValue, text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText is what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
