package debian

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/therootcompany/xz"
)

const (
	arMagic       = "!<arch>\n"
	arHeaderBytes = 60
	// fileBytesMax bounds one file of a package: an arm64 kernel has 44 MB.
	fileBytesMax = 256 << 20
	// takenBytesMax bounds all files that are taken out of one.
	takenBytesMax = 512 << 20
	xzDictMax     = 64 << 20 // xz -9 has 64 MiB
)

// Files takes out of a package (deb(5), format 2.0 with data.tar.xz) the regular files that want asks for, by their path without a
// leading slash. Errors: ErrPackage, and r's.
// Newest is the latest time that one of them has: when the package was built.
func Files(ctx context.Context, r io.Reader, want func(name string) bool) (taken map[string][]byte, newest time.Time, err error) {
	data, err := member(bufio.NewReaderSize(r, 1<<20), "data.tar.xz")
	if err != nil {
		return nil, newest, err
	}
	x, err := xz.NewReader(data, xzDictMax)
	if err != nil {
		return nil, newest, fmt.Errorf("%w: %w", ErrPackage, err)
	}
	taken = map[string][]byte{}
	total := int64(0)
	for t := tar.NewReader(bufio.NewReaderSize(x, 1<<20)); ; {
		if err := ctx.Err(); err != nil {
			return nil, newest, err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return taken, newest, nil
		}
		if err != nil {
			return nil, newest, fmt.Errorf("%w: %w", ErrPackage, err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if h.Typeflag != tar.TypeReg || !want(name) {
			continue
		}
		if total += h.Size; h.Size > fileBytesMax || total > takenBytesMax {
			return nil, newest, fmt.Errorf("%w: %s is too large", ErrPackage, name)
		}
		body := make([]byte, h.Size)
		if _, err := io.ReadFull(t, body); err != nil {
			return nil, newest, fmt.Errorf("%w: %s: %w", ErrPackage, name, err)
		}
		taken[name] = body
		if h.ModTime.After(newest) {
			newest = h.ModTime
		}
	}
}

// member finds a member of an ar archive: each has a head of 60 ASCII characters (name 16, time 12, owner 6, group 6, mode 8, size
// 10, end 2) and begins at an even byte.
func member(r *bufio.Reader, name string) (io.Reader, error) {
	var magic [len(arMagic)]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil || string(magic[:]) != arMagic {
		return nil, fmt.Errorf("%w: not an ar archive", ErrPackage)
	}
	for {
		var h [arHeaderBytes]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return nil, fmt.Errorf("%w: no %s: %w", ErrPackage, name, err)
		}
		size, err := strconv.ParseInt(string(bytes.TrimRight(h[48:58], " ")), 10, 64)
		if err != nil || size < 0 || size > packageBytesMax || h[58] != '`' || h[59] != '\n' {
			return nil, fmt.Errorf("%w: bad head in the ar archive", ErrPackage)
		}
		if strings.TrimRight(string(h[:16]), " /") == name {
			return io.LimitReader(r, size), nil
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPackage, err)
		}
	}
}
