package image

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// archived is one file, or a folder if body is nil, of an initramfs.
type archived struct {
	name string // without a leading slash
	mode uint32 // permissions
	body []byte
	// major is that of a device for characters, 0 for none.
	major, minor int
}

const (
	cpioFolder = 0o040000
	cpioFile   = 0o100000
	cpioDevice = 0o020000
)

// cpio writes files, and the folders above them, as an archive of the form "newc" (Linux, driver-api/early-userspace/buffer-format):
// for each a head of 110 ASCII characters, the name with a NUL, and the body, the last two padded to 4 bytes. Numbers of inodes count from 1
// and times are seconds, so that the same files give the same bytes.
func cpio(files []archived, seconds int64) []byte {
	var b bytes.Buffer
	inode := 0
	put := func(name string, mode uint32, body []byte, major, minor int) {
		inode++
		links := 1
		if mode&cpioFolder != 0 {
			links = 2
		}
		b.WriteString("070701")
		//                          inode        mode       uid gid links        mtime         size  dev dev rdev rdev       name  check
		for _, v := range []int{inode, int(mode), 0, 0, links, int(seconds), len(body), 0, 0, major, minor, len(name) + 1, 0} {
			fmt.Fprintf(&b, "%08X", v)
		}
		b.WriteString(name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.Write(body)
		b.Write(make([]byte, -b.Len()&3))
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(x, y archived) int { return strings.Compare(x.name, y.name) })
	made := map[string]bool{".": true}
	folder := func(name string) {
		if !made[name] {
			made[name] = true
			put(name, cpioFolder|0o755, nil, 0, 0)
		}
	}
	for _, f := range files {
		var above []string
		for dir := path.Dir(f.name); dir != "."; dir = path.Dir(dir) {
			above = append(above, dir)
		}
		for _, dir := range slices.Backward(above) {
			folder(dir)
		}
		switch {
		case f.major != 0:
			put(f.name, cpioDevice|f.mode, nil, f.major, f.minor)
		case f.body == nil:
			folder(f.name)
		default:
			put(f.name, cpioFile|f.mode, f.body, 0, 0)
		}
	}
	put("TRAILER!!!", 0, nil, 0, 0)
	return b.Bytes()
}
