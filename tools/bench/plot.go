package main

import (
	"errors"
	"flag"
	"os"
	"strings"

	"github.com/holdfast-edge/holdfast/tools/bench/result"
)

// plot draws the rows of files: bench plot -o FILE.svg FILE.json...
func plot() error {
	out := flag.String("o", "", "the SVG `file` to write")
	title := flag.String("title", "Latency against rate", "what stands above it")
	loads := flag.String("loads", "put-", "only loads whose name begins with one of `these`")
	flag.Parse()
	if *out == "" || flag.NArg() == 0 {
		return errors.New("it is bench plot -o FILE.svg FILE.json and more files")
	}
	all := new(result.File)
	for _, name := range flag.Args() {
		f, err := result.Read(name)
		if err != nil {
			return err
		}
		all.Rows = append(all.Rows, f.Rows...)
	}
	svg, err := result.Plot(all, *title, strings.Split(*loads, ","))
	if err != nil {
		return err
	}
	return os.WriteFile(*out, svg, 0o644)
}
