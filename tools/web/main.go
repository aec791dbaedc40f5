// Web makes the console's script and style out of their sources: TypeScript and CSS in firmware/console/web become one
// minified file each in firmware/console/dist, with a hash of the content in the name, so that browsers may keep them for
// ever. The result is committed and embedded; who builds Holdfast needs neither this program nor Node.
//
//	web          build
//	web -check   fail when dist is not what the sources give
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/evanw/esbuild/pkg/api"
)

// gzipBytesMax is what a browser may have to load before the console works: 60 kB are allowed, and a phone next to a box
// over a bad link is better served with less.
const gzipBytesMax = 30 << 10

func main() {
	check := flag.Bool("check", false, "compare with dist instead of writing it")
	root := flag.String("console", "firmware/console", "the console's `folder`")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	files, err := build(filepath.Join(root, "web"))
	if err != nil {
		return err
	}
	if err := weigh(files); err != nil {
		return err
	}
	dist := filepath.Join(root, "dist")
	if check {
		return compare(dist, files)
	}
	return write(dist, files)
}

// build gives the files of dist by name.
func build(web string) (map[string][]byte, error) {
	result := api.Build(api.BuildOptions{
		EntryPoints: []string{filepath.Join(web, "app.ts"), filepath.Join(web, "app.css"), filepath.Join(web, "icon.svg")},
		Bundle:      true, Outdir: "dist", EntryNames: "[name]-[hash]", Write: false,
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true, Charset: api.CharsetUTF8, LegalComments: api.LegalCommentsNone,
		Loader: map[string]api.Loader{".svg": api.LoaderCopy}, Format: api.FormatIIFE, Engines: []api.Engine{{Name: api.EngineChrome, Version: "109"}, {Name: api.EngineFirefox, Version: "115"}, {Name: api.EngineSafari, Version: "16"}},
	})
	var failed []error
	for _, m := range slices.Concat(result.Errors, result.Warnings) {
		where := ""
		if m.Location != nil {
			where = fmt.Sprintf("%s:%d: ", m.Location.File, m.Location.Line)
		}
		failed = append(failed, errors.New(where+m.Text))
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	files := map[string][]byte{}
	for _, f := range result.OutputFiles {
		files[filepath.Base(f.Path)] = f.Contents
	}
	return files, nil
}

// weigh fails when a browser would have too much to load.
func weigh(files map[string][]byte) error {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := z.Write(files[name]); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		fmt.Printf("%s: %d bytes, %d gzipped\n", name, len(files[name]), b.Len())
		total += b.Len()
	}
	if total > gzipBytesMax {
		return fmt.Errorf("%d bytes gzipped, more than %d", total, gzipBytesMax)
	}
	return nil
}

func compare(dist string, files map[string][]byte) error {
	have, err := os.ReadDir(dist)
	if err != nil {
		return err
	}
	same := len(have) == len(files)
	for name, text := range files {
		b, err := os.ReadFile(filepath.Join(dist, name))
		same = same && err == nil && bytes.Equal(b, text)
	}
	if !same {
		return fmt.Errorf("%s is not what the sources give: run `make web`", dist)
	}
	return nil
}

func write(dist string, files map[string][]byte) error {
	if err := os.RemoveAll(dist); err != nil {
		return err
	}
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dist, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
