package dev

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/holdfast-edge/holdfast/firmware/config"
)

// roleVariable makes the test program play another part: "box" is a box that only says
// that it serves; "dev" is a `holdfast dev` in a process of its own.
const roleVariable = "HOLDFAST_TEST_ROLE"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 4 && os.Args[1] == "run":
		os.Exit(fakeBox(os.Args[3]))
	case os.Getenv(roleVariable) == "dev":
		os.Exit(devProcess(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// fakeBox serves /readyz where its configuration says, until SIGTERM. A file "deaf" in its
// directory makes it ignore SIGTERM, a file "sick" makes it exit at once.
func fakeBox(file string) int {
	c, err := config.Load(file)
	if err != nil {
		return fail(err)
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, "sick")); err == nil {
		return 1
	}
	term := make(chan os.Signal, 1)
	if _, err := os.Stat(filepath.Join(c.DataDir, "deaf")); err == nil {
		signal.Ignore(syscall.SIGTERM)
	} else {
		signal.Notify(term, syscall.SIGTERM)
	}
	l, err := net.Listen("tcp", c.Console.Listen)
	if err != nil {
		return fail(err)
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ready") }))
	}()
	<-term
	return 0
}

// devProcess runs a site of two fake boxes and prints a line when it serves.
func devProcess(dir, port string) int {
	base, err := strconv.Atoi(port)
	if err != nil {
		return fail(err)
	}
	o := options(dir, base)
	o.Boxes = 2
	o.Serving = func(context.Context, string) error { fmt.Println("serves"); return nil }
	if err := Run(context.Background(), o); err != nil {
		return fail(err)
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func options(dir string, base int) Options {
	return Options{
		Dir: dir, ConsolePort: base, ClientPort: base + 40, PeerPort: base + 20, ReadyFile: filepath.Join(dir, "ready.json"),
		Program: os.Args[0], Out: io.Discard, Err: os.Stderr, Logger: slog.New(slog.DiscardHandler),
	}
}

// freePorts finds a run of ports that nobody uses: 10 consoles, 10 peers, then clients.
func freePorts(t *testing.T) int {
	t.Helper()
	for base := 12000 + os.Getpid()%100*150; base < 32000; base += 150 {
		o := options(t.TempDir(), base)
		boxes, err := plan(&o, 4)
		if err == nil && checkPorts(t.Context(), boxes) == nil {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}
