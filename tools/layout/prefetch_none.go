//go:build !amd64 && !arm64

package main

import "unsafe"

const prefetches = false

func prefetch(unsafe.Pointer) {}
