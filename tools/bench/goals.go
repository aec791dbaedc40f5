package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/result"
)

// goals are figures beside what they should be.
type goals struct{ rows []string }

func (g *goals) add(what, goal, seen string, met bool) {
	verdict := "met"
	if !met {
		verdict = "**missed**"
	}
	g.rows = append(g.rows, fmt.Sprintf("| %s | %s | %s | %s |\n", what, goal, seen, verdict))
	progress("%s: %s (%s): %s", what, seen, goal, verdict)
}

func (g *goals) table() string {
	if len(g.rows) == 0 {
		return ""
	}
	return "\n| goal | | seen | |\n|---|---|---|---|\n" + strings.Join(g.rows, "")
}

// loads holds the rows of four near boxes against the goals for them.
func (g *goals) loads(f *result.File) {
	for _, x := range []struct {
		load, what string
		of         result.Figure
		goal       float64
	}{
		{"put-1", "1 client", result.P50, 1.6},
		{"put-64", "64 clients", result.Rate, 16_000},
		{"put-64", "64 clients", result.P99, 10},
		{"put-256", "256 clients", result.Rate, 50_000},
		{"put-256", "256 clients", result.P99, 15},
		{"put-256", "256 clients", result.CPU, 30},
		{"put-256", "256 clients", result.Disk, 3},
		{"put-256/16", "256 clients over 16 connections", result.Rate, 50_000},
		{"put-256/16", "256 clients over 16 connections", result.P99, 15},
		{"put-256/16", "256 clients over 16 connections", result.CPU, 30},
		{"batches", "batches of 100x100 B, text", result.Rate, 280_000},
		{"batches", "batches of 100x100 B, text", result.CPU, 5.5},
		{"batches-random", "batches of 100x100 B, random", result.Rate, 200_000},
	} {
		s := f.Find(result.Key{System: "holdfast-4", Load: x.load})
		if s == nil {
			continue
		}
		m := s.Of(x.of.Of).Median
		sign, met := ">=", m >= x.goal
		if x.of.Less {
			sign, met = "<=", m <= x.goal
		}
		g.add(x.what+": "+x.of.Name, fmt.Sprintf("%s %g", sign, x.goal), fmt.Sprintf(x.of.Form, m), met)
	}
}

func round(d time.Duration) time.Duration {
	if d > 100*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}
