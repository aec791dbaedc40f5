package kmod

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// errModule says that a file is no kernel module.
var errModule = errors.New("not a kernel module")

// infoBytesMax bounds what a module says of itself: a driver of many cards has some 100 KiB.
const infoBytesMax = 4 << 20

// modinfo is what a module says of itself: "key=value" strings, each ended by a NUL, in its section .modinfo
// (linux/moduleparam.h).
func modinfo(r io.ReaderAt) (map[string][]string, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errModule, err)
	}
	s := f.Section(".modinfo")
	if s == nil || s.Size > infoBytesMax {
		return nil, errModule
	}
	b, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errModule, err)
	}
	info := map[string][]string{}
	for kv := range strings.SplitSeq(string(b), "\x00") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			info[k] = append(info[k], v)
		}
	}
	return info, nil
}
