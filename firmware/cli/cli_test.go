package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/hal/haltest"
	"github.com/holdfast-edge/holdfast/hal/work"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"holdfast": func() {
			os.Exit(Run(context.Background(), Build{"v0.0.0-test", "abc"}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// TestCommandLine runs the scripts of testdata: what a person types and what they are told.
//
// Beside testscript's own commands there are `exits N COMMAND...`, which wants this exit code,
// and `oneline`, which wants that the last command said one line on standard error and nothing else.
// $PORT is a port that is in use while the script runs.
func TestCommandLine(t *testing.T) {
	trace, err := filepath.Abs("../../testdata/traces/web07.trace.xz")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			var lc net.ListenConfig
			l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = l.Close() })
			_, port, err := net.SplitHostPort(l.Addr().String())
			e.Setenv("PORT", port)
			e.Setenv("TRACE", trace)
			return err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "oneline": oneline, "truncate": truncate, "tree": tree,
		},
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = -1
		if _, serr := fmt.Sscanf(err.Error(), "exit status %d", &got); serr != nil {
			ts.Fatalf("%v", err)
		}
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func oneline(ts *testscript.TestScript, _ bool, _ []string) {
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("standard output is %q", out)
	}
	text := ts.ReadFile("stderr")
	if !strings.HasPrefix(text, "holdfast: ") || strings.Count(text, "\n") != 1 {
		ts.Fatalf("standard error is not one line: %q", text)
	}
}

// truncate FROM TO N copies the first N bytes.
func truncate(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data[:n], 0o600))
}

// tree BOARD DIR makes a machine that looks as the board's profile says, below DIR.
func tree(ts *testscript.TestScript, _ bool, args []string) {
	b, err := work.Board(args[0])
	ts.Check(err)
	ts.Check(os.Mkdir(ts.MkAbs(args[1]), 0o700))
	ts.Check(haltest.Play(haltest.Tree(&b, 1), ts.MkAbs(args[1])))
}

// TestEveryCommandHasHelpWithFlagsThatSayWhatTheyDo walks all commands.
func TestEveryCommandHasHelpWithFlagsThatSayWhatTheyDo(t *testing.T) {
	var walk func(path []string, list []command)
	walk = func(path []string, list []command) {
		for _, c := range list {
			words := append(append([]string(nil), path...), c.name)
			for _, args := range [][]string{append(words, "--help"), append([]string{"help"}, words...)} {
				var out, errs strings.Builder
				if code := Run(t.Context(), Build{}, args, strings.NewReader(""), &out, &errs); code != 0 || errs.Len() > 0 {
					t.Errorf("%v: exit %d, %s", args, code, errs.String())
				}
				if c.about == "" || !strings.Contains(out.String(), c.about) || !strings.Contains(out.String(), "Usage: holdfast "+strings.Join(words, " ")) {
					t.Errorf("%v: %s", args, out.String())
				}
				if c.sub == nil && c.name != "version" && c.name != "show" && !strings.Contains(out.String(), "Example") {
					t.Errorf("%v has no examples", args)
				}
			}
			walk(words, c.sub)
		}
	}
	walk(nil, commands(Build{}))
}
