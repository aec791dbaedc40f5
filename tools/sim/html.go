package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/sim"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

const (
	laneHeight = 44.0
	pageWidth  = 1400.0
	margin     = 70.0
)

type picture struct {
	Title, Fail, Plan string
	Width, Height     float64
	Lanes             []lane
	Boxes             []rect
	Marks             []mark
	Ticks             []tick
	Lines             []sim.Entry
}

type lane struct {
	Y    float64
	Name string
}

type rect struct {
	X, Y, W, H  float64
	Class, Tell string
}

type mark struct {
	X, Y        float64
	Class, Tell string
}

type tick struct {
	X    float64
	Text string
}

// draw writes a page without anything from outside: a lane for each box over time.
func draw(dir string, o sim.Options, r sim.Report, lines []sim.Entry) (string, error) {
	p := &picture{
		Title: fmt.Sprintf("seed %d, %d boxes, term of %d rounds", o.Seed, o.N, r.Options.Term), Fail: r.Fail,
		Plan: r.Options.Plan.String(), Lines: lines, Width: pageWidth,
	}
	end, machines := time.Millisecond, o.N
	for _, e := range lines {
		end, machines = max(end, e.At), max(machines, e.Box+1)
	}
	x := func(at time.Duration) float64 {
		return margin + (pageWidth-2*margin)*float64(min(at, end))/float64(end)
	}
	y := func(box int) float64 { return 40 + laneHeight*float64(box+1) }
	p.Height = y(machines) + 20
	p.Lanes = append(p.Lanes, lane{y(-1), "network"})
	who := map[int]string{}
	for _, l := range r.Options.Plan.Liars {
		who[l.Box] = " " + string(l.Kind)
	}
	for _, b := range r.Options.Plan.Weak {
		who[b] = " weak"
	}
	for i := range machines {
		p.Lanes = append(p.Lanes, lane{y(i), fmt.Sprintf("box %d%s", i, who[i])})
	}
	for _, f := range r.Options.Plan.Faults {
		if f.At > end {
			continue
		}
		lane, class := f.Box, "fault"
		if f.Sides != nil || f.Box < 0 {
			lane, class = -1, "net"
		}
		w := max(x(f.At+f.For)-x(f.At), 2)
		p.Boxes = append(p.Boxes, rect{x(f.At), y(lane) - 18, w, 10, class, f.String()})
	}
	p.lives(lines, machines, end, x, y)
	for _, e := range lines {
		class := map[string]string{"install": "install", "stuck": "bad", "FAILED": "bad", "final": "final", "heal": "heal"}[e.Kind]
		if e.Kind == "vote" {
			class, _, _ = strings.Cut(e.Text, " ")
		}
		if class != "" {
			p.Marks = append(p.Marks, mark{x(e.At), y(e.Box), class, e.String()})
		}
	}
	for i := range 11 {
		at := end * time.Duration(i) / 10
		p.Ticks = append(p.Ticks, tick{x(at), fmt.Sprintf("%.2f s", at.Seconds())})
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	name := filepath.Join(dir, fmt.Sprintf("sim-seed-%d.html", o.Seed))
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	if err := page.Execute(f, p); err != nil {
		f.Close()
		return "", err
	}
	return name, f.Close()
}

// lives draws when each box was up.
func (p *picture) lives(lines []sim.Entry, machines int, end time.Duration, x func(time.Duration) float64, y func(int) float64) {
	since := make([]time.Duration, machines)
	up := make([]bool, machines)
	bar := func(b int, to time.Duration) {
		p.Boxes = append(p.Boxes, rect{x(since[b]), y(b) - 5, max(x(to)-x(since[b]), 1), 10, "up", fmt.Sprintf("box %d is up", b)})
	}
	for _, e := range lines {
		switch {
		case e.Kind == "start":
			since[e.Box], up[e.Box] = e.At, true
		case e.Kind == "down" && up[e.Box]:
			bar(e.Box, e.At)
			up[e.Box] = false
		}
	}
	for b := range machines {
		if up[b] {
			bar(b, end)
		}
	}
}
