//go:build amd64 || arm64

package main

import "unsafe"

// prefetches says that prefetch does something here.
const prefetches = true

// prefetch asks for p's line in the first-level cache (PREFETCHT0, PRFM PLDL1KEEP).
//
//go:noescape
func prefetch(p unsafe.Pointer)
