package slots

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A parcel is what stands for the kernel in a release for a board whose loader wants more than a kernel: device trees, overlays and the
// firmware that the next stage is. It is a tar archive (ustar) of plain files, at most one folder deep, in the order of their names; the slot has it as
// its kernel, so that the signed manifest covers all of it, and Commit unpacks it beside itself.

const (
	parcelFilesMax = 2048
	// parcelFileBytesMax bounds one file: a kernel that is not compressed has 46 MB.
	parcelFileBytesMax = 80 << 20
)

// ErrParcel says that a file is no parcel, or not one that may be unpacked.
var ErrParcel = errors.New("slots: not a parcel of boot files")

var parcelName = regexp.MustCompile(`^(?:[A-Za-z0-9_][A-Za-z0-9+_-]{0,31}/)?[A-Za-z0-9_][A-Za-z0-9+._-]{0,63}$`)

// reserved are the names in a slot that are not a parcel's.
func reserved(name string) bool {
	return slices.Contains([]string{Kernel, Initrd, Manifest, reasonFile, CmdlineFile, MarkFile}, strings.ToLower(name))
}

// WriteParcel packs files. The same files make the same bytes. Errors: ErrParcel, for names that ReadParcel would not take.
func WriteParcel(w io.Writer, files map[string][]byte) error {
	t := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		b := files[name]
		if err := checkParcel(name, int64(len(b))); err != nil {
			return err
		}
		err := t.WriteHeader(&tar.Header{Name: name, Size: int64(len(b)), Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR})
		if err == nil {
			_, err = t.Write(b)
		}
		if err != nil {
			return fmt.Errorf("slots: parcel: %s: %w", name, err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("slots: parcel: %w", err)
	}
	return nil
}

func checkParcel(name string, size int64) error {
	if !parcelName.MatchString(name) || reserved(name) || size < 0 || size > parcelFileBytesMax {
		return fmt.Errorf("%w: %.100q of %d bytes", ErrParcel, name, size)
	}
	return nil
}

// ReadParcel gives each file of a parcel of size bytes to each, which owns its body. One without config.txt is none: the loader would not take the
// slot. Errors: ErrParcel, each's and the reader's.
func ReadParcel(r io.ReaderAt, size int64, each func(name string, body []byte) error) error {
	t, seen, configured := tar.NewReader(io.NewSectionReader(r, 0, size)), map[string]bool{}, false
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrParcel, err)
		}
		if err := checkParcel(h.Name, h.Size); err != nil {
			return err
		}
		// FAT does not tell capitals from small letters.
		lower := strings.ToLower(h.Name)
		if h.Typeflag != tar.TypeReg || h.Size > size || seen[lower] || len(seen) == parcelFilesMax {
			return fmt.Errorf("%w: %.100q twice, no plain file, or one too many", ErrParcel, h.Name)
		}
		seen[lower] = true
		configured = configured || h.Name == ConfigFile
		var b bytes.Buffer
		if _, err := io.Copy(&b, t); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrParcel, h.Name, err)
		}
		if err := each(h.Name, b.Bytes()); err != nil {
			return err
		}
	}
	if !configured {
		return fmt.Errorf("%w: it has no %s", ErrParcel, ConfigFile)
	}
	return nil
}
