package main

import (
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// table is the figures, as Markdown.
type table struct {
	head string
	rows []string
}

func newTable(o options) *table {
	commit := "unknown commit"
	if b, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		commit = strings.TrimSpace(string(b))
	}
	return &table{head: fmt.Sprintf(`# Figures
`+"`make bench`"+` on %s, commit %s, %s: %d processes on one machine, fsync on, clients on the same cores.

| what | target | measured | |
|---|---|---|---|
`, time.Now().UTC().Format(time.DateOnly), commit, machine(), o.boxes)}
}

func (t *table) addText(what, target, measured string, ok bool) {
	verdict := "met"
	switch {
	case target == "":
		verdict = ""
	case !ok:
		verdict = "**missed**"
	}
	t.rows = append(t.rows, fmt.Sprintf("| %s | %s | %s | %s |\n", what, target, measured, verdict))
	progress("%s: %s %s", what, measured, verdict)
}

func (t *table) add(what, target, format string, value float64, ok bool) {
	t.addText(what, target, fmt.Sprintf(format, value), ok)
}

func (t *table) String() string { return t.head + strings.Join(t.rows, "") }
