package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const corePackage = "github.com/holdfast-edge/holdfast/coord/bft"

// statements prints how many percent of coord/bft's statements ran, from the directory that a program built with
// -cover left behind (GOCOVERDIR). It needs the go command.
func statements(w io.Writer, dir string, list bool) error {
	profile := filepath.Join(dir, "profile")
	if out, err := exec.Command("go", "tool", "covdata", "textfmt", "-pkg="+corePackage, "-i="+dir, "-o="+profile).CombinedOutput(); err != nil {
		return fmt.Errorf("go tool covdata: %w: %s", err, out)
	}
	f, err := os.Open(profile)
	if err != nil {
		return err
	}
	defer f.Close()
	total, ran := 0, 0
	var rest []string
	for s := bufio.NewScanner(f); s.Scan(); {
		// file.go:12.2,14.3 2 1: where, how many statements, whether they ran
		where, numbers, ok := strings.Cut(s.Text(), " ")
		var n, hits int
		if _, err := fmt.Sscan(numbers, &n, &hits); !ok || err != nil {
			continue
		}
		total += n
		if hits > 0 {
			ran += n
		} else {
			rest = append(rest, where)
		}
	}
	if list {
		slices.Sort(rest)
		for _, r := range rest {
			fmt.Fprintln(w, "  did not run:", r)
		}
	}
	if total == 0 {
		return fmt.Errorf("%s has nothing about %s", dir, corePackage)
	}
	_, err = fmt.Fprintf(w, "  statements of coord/bft that ran: %.1f %% (%d of %d)\n", 100*float64(ran)/float64(total), ran, total)
	return err
}
