package main

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
)

// file is one file of an initramfs.
type file struct {
	name string // without a leading /
	mode uint32 // permissions
	body []byte
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
)

// writeInitramfs writes files, and the folders they are in, as a cpio archive of the form "newc"
// (Documentation/driver-api/early-userspace/buffer-format.rst): for each a head of 110 ASCII
// characters, the name with a NUL, and the body, the last two padded to 4 bytes.
func writeInitramfs(w io.Writer, files []file) error {
	made := map[string]bool{".": true}
	inode := 0
	put := func(name string, mode uint32, body []byte) error {
		inode++
		var b bytes.Buffer
		b.WriteString("070701")
		links := 1
		if mode&modeDir == modeDir {
			links = 2
		}
		//                        inode        mode       uid gid links mtime size  dev dev rdev rdev name              check
		for _, v := range []int{inode, int(mode), 0, 0, links, 0, len(body), 0, 0, 0, 0, len(name) + 1, 0} {
			fmt.Fprintf(&b, "%08X", v)
		}
		b.WriteString(name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.Write(body)
		b.Write(make([]byte, -b.Len()&3))
		_, err := w.Write(b.Bytes())
		return err
	}
	for _, f := range files {
		var above []string
		for dir := path.Dir(f.name); !made[dir]; dir = path.Dir(dir) {
			made[dir] = true
			above = append(above, dir)
		}
		for _, dir := range slices.Backward(above) {
			if err := put(dir, modeDir|0o755, nil); err != nil {
				return err
			}
		}
		if err := put(f.name, modeFile|f.mode, f.body); err != nil {
			return err
		}
	}
	return put("TRAILER!!!", 0, nil)
}
