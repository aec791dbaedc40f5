package update

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/firmware/slots"
)

// Errors.
var (
	// ErrContent says that what came is not what the manifest says.
	ErrContent = errors.New("not what its manifest says")
	// ErrNoKey says that the site trusts no key with a name.
	ErrNoKey = errors.New("the site trusts no key")
	// ErrBusy says that an update is under way on this box.
	ErrBusy = errors.New("an update is under way on this box")
	// ErrCannot says that this box cannot do it now; the text says why.
	ErrCannot = errors.New("cannot be done now")
)

// parts are a bundle's files, in their order.
func parts(h *release.Head) []part {
	return []part{{slots.Kernel, &h.Kernel}, {slots.Initrd, &h.Initrd}}
}

type part struct {
	name string
	file *release.File
}

// prepare makes a slot ready to take a bundle, and gives how many bytes behind its head are there and good. What was there of another one
// is not taken for it: the head is written first, and tells whose files they are.
func prepare(e *slots.ESP, s slots.Slot, h *release.Head) (have int64, err error) {
	if err := e.Clear(s); err != nil {
		return 0, err
	}
	old, err := e.ReadManifest(s)
	if err == nil {
		switch p, err := release.Peek(old); {
		case err != nil || p.ID() != h.ID():
		case bytes.Equal(old, h.Bytes()):
			return verified(e, s, h)
		default: // signed with another key, or torn behind what is signed
			if err := writeHead(e, s, h); err != nil {
				return 0, err
			}
			return verified(e, s, h)
		}
	}
	for _, name := range []string{slots.Kernel, slots.Initrd} {
		if err := stage(e, s, name, func(t *slots.Staged) error { return t.Truncate() }); err != nil {
			return 0, err
		}
	}
	return 0, writeHead(e, s, h)
}

func writeHead(e *slots.ESP, s slots.Slot, h *release.Head) error {
	return stage(e, s, slots.Manifest, func(t *slots.Staged) error {
		if err := t.Truncate(); err != nil {
			return err
		}
		if _, err := t.Write(h.Bytes()); err != nil {
			return err
		}
		return t.Sync()
	})
}

func stage(e *slots.ESP, s slots.Slot, name string, fn func(*slots.Staged) error) error {
	t, err := e.Stage(s, name)
	if err != nil {
		return err
	}
	return errors.Join(fn(t), t.Close())
}

// verified gives how many bytes of a bundle behind its head are in the files of a slot and good, from the first on: whole chunks.
func verified(e *slots.ESP, s slots.Slot, h *release.Head) (have int64, err error) {
	buf := make([]byte, release.ChunkBytes)
	for _, p := range parts(h) {
		f, err := e.File(s, p.name)
		if err != nil {
			return have, nil // not there yet
		}
		n, err := f.Size()
		good := err == nil && n <= p.file.Bytes
		var at int64
		for i := 0; good && at < p.file.Bytes; i++ {
			chunk := buf[:min(release.ChunkBytes, p.file.Bytes-at)]
			if n, err := f.ReadAt(chunk, at); n < len(chunk) && err != nil || sha256.Sum256(chunk) != p.file.Chunks[i] {
				break
			}
			at += int64(len(chunk))
		}
		have += at
		if err := f.Close(); err != nil {
			return 0, err
		}
		if at < p.file.Bytes {
			break
		}
	}
	return have, nil
}

// whole says whether a slot's files are all of a bundle.
func whole(e *slots.ESP, s slots.Slot, h *release.Head) bool {
	have, err := verified(e, s, h)
	return err == nil && have == h.Kernel.Bytes+h.Initrd.Bytes
}

// receive writes a bundle into a slot, from what comes from from, which begins at byte at behind the head. Each chunk is verified before it is
// written; told hears how many bytes are there. It needs prepare, and at as prepare gave it.
// Errors: ErrContent, ctx's, the reader's and the disk's.
func receive(ctx context.Context, e *slots.ESP, s slots.Slot, h *release.Head, at int64, from io.Reader, told func(have int64)) error {
	buf, begin := make([]byte, release.ChunkBytes), int64(0)
	for _, p := range parts(h) {
		end := begin + p.file.Bytes
		if at >= end {
			begin = end
			continue
		}
		err := stage(e, s, p.name, func(t *slots.Staged) error {
			if t.Size() > p.file.Bytes { // a part of another bundle
				if err := t.Truncate(); err != nil {
					return err
				}
			}
			t.Resume(at - begin)
			for i := int(t.Size() / release.ChunkBytes); t.Size() < p.file.Bytes; i++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				chunk := buf[:min(release.ChunkBytes, p.file.Bytes-t.Size())]
				if _, err := io.ReadFull(from, chunk); err != nil {
					return fmt.Errorf("update: the bundle broke off after %d of %d bytes: %w", begin+t.Size(), h.Kernel.Bytes+h.Initrd.Bytes, err)
				}
				if sha256.Sum256(chunk) != p.file.Chunks[i] {
					return fmt.Errorf("update: %w: %s from byte %d on", ErrContent, p.name, t.Size())
				}
				if _, err := t.Write(chunk); err != nil {
					return err
				}
				told(begin + t.Size())
			}
			return t.Sync()
		})
		if err != nil {
			return err
		}
		begin, at = end, end
	}
	return nil
}

// bundleOf is the bundle in a slot, nil when there is none whose manifest can be read.
func bundleOf(e *slots.ESP, s slots.Slot) *release.Head {
	b, err := e.ReadManifest(s)
	if err != nil {
		return nil
	}
	h, err := release.Peek(b)
	if err != nil {
		return nil
	}
	return h
}

// Write makes a bundle: its files are read twice. Errors: those of coord/release and of the files.
func Write(w io.Writer, h *release.Head, kernel, initrd io.Reader) error {
	if _, err := w.Write(h.Bytes()); err != nil {
		return err
	}
	for _, f := range []struct {
		from io.Reader
		is   *release.File
	}{{kernel, &h.Kernel}, {initrd, &h.Initrd}} {
		sum := sha256.New()
		if n, err := io.Copy(io.MultiWriter(w, sum), f.from); err != nil {
			return err
		} else if got := coord.Digest(sum.Sum(nil)); n != f.is.Bytes || got != f.is.SHA256 {
			return fmt.Errorf("update: %w: a file changed while the bundle was written", ErrContent)
		}
	}
	return nil
}
