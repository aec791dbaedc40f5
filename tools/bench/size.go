package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// size builds the arm64 program as it is flashed and weighs it.
func size(ctx context.Context, g *goals) error {
	progress("size")
	if out, err := exec.CommandContext(ctx, "make", "--no-print-directory", "arm64").CombinedOutput(); err != nil {
		return fmt.Errorf("make arm64: %w\n%s", err, out)
	}
	st, err := os.Stat("bin/holdfast-linux-arm64")
	if err != nil {
		return err
	}
	g.add("stripped arm64 program", "<= 20 MB", fmt.Sprintf("%.1f MB", float64(st.Size())/1e6), st.Size() <= 20e6)
	return nil
}
