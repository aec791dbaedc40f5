// Package tpmtest runs TPMs in software (swtpm) for tests: each has its own seeds, so two of them are two machines.
package tpmtest

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// startMax is how long swtpm may take to make its seeds and its socket.
const startMax = 20 * time.Second

// Start runs a new TPM until the test ends or stop is called, and gives its socket. The test is skipped when swtpm is not
// installed (`make deps` does it).
func Start(tb testing.TB) (path string, stop func()) {
	tb.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		tb.Skip("swtpm is not installed: run make deps")
	}
	// Not tb.TempDir: a socket's name has at most 107 bytes.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		tb.Fatal(err)
	}
	path = filepath.Join(dir, "socket")
	ctx, cancel := context.WithCancel(context.Background())
	said := new(bytes.Buffer)
	cmd := exec.CommandContext(ctx, program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+path,
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop = func() { cancel(); <-ended }
	tb.Cleanup(func() { stop(); os.RemoveAll(dir) })
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	late := time.After(startMax)
	for {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return path, stop
		}
		select {
		case <-look.C:
		case <-ended:
			tb.Fatalf("swtpm ended: %s", said)
		case <-late:
			tb.Fatal("swtpm does not start")
		}
	}
}
