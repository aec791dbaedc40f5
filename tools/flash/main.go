// Command flash makes a disk image and, when a device is named, writes it there: it is `holdfast image build` and `holdfast flash` in one
// program, for a laptop that has nothing but a checkout.
//
//	go run ./tools/flash -profile generic-arm64 -program bin/holdfast-linux-arm64 -o holdfast.img
//	go run ./tools/flash -write /dev/sdb holdfast.img.zst
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/holdfast-edge/holdfast/firmware/cli"
)

// version is set by the linker (see Makefile).
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args := append([]string{"image", "build"}, os.Args[1:]...)
	if len(os.Args) == 4 && os.Args[1] == "-write" {
		args = []string{"flash", os.Args[3], os.Args[2]}
	}
	code := cli.Run(ctx, cli.Build{Version: version}, args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
