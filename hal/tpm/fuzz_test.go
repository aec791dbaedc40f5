package tpm

import (
	"bytes"
	"testing"
)

// Whatever lies on the disk, reading it ends, and what is taken is written back as it was.
func FuzzBlob(f *testing.F) {
	good := blob{pcrs: []uint{0, 7, 23}, root: []byte("name"), public: []byte("public"), private: []byte("private")}
	f.Add(good.encode())
	f.Add([]byte(blobMagic))
	f.Add(append(good.encode(), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decode(data)
		if err == nil && !bytes.Equal(b.encode(), data) {
			t.Fatalf("%x is read as %x", data, b.encode())
		}
	})
}
