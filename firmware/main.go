// Holdfast coordinates the boxes of an edge site, even when some of them lie. This is its one
// program: firmware on a box (`holdfast run`), a whole site to try (`holdfast dev`), and the
// command line of both.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/holdfast-edge/holdfast/firmware/cli"
	"github.com/holdfast-edge/holdfast/firmware/supervise"
	"github.com/holdfast-edge/holdfast/hal/linux"
)

// Set by the linker (see Makefile).
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	// The kernel starts the program of an initial RAM disk as /init. Process 1 of a container has another name.
	if os.Getpid() == 1 && filepath.Base(os.Args[0]) == "init" {
		supervise.Main(version)
	}
	if len(os.Args) > 1 && os.Args[1] == "run" {
		linux.Patient() // before there is anything that a new start could lose
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(cli.Run(ctx, cli.Build{Version: version, Commit: commit}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
