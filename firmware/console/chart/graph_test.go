package chart

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// randomGraph has edges of every length, some of which lead nowhere or upwards.
func randomGraph(seed uint64) *Graph {
	r := rand.New(rand.NewPCG(seed, 1))
	g := &Graph{ID: "g", Title: "t", About: "a"}
	for i := range 1 + r.IntN(40) {
		g.Nodes = append(g.Nodes, Node{ID: fmt.Sprint(i), Rank: r.IntN(9) * 2, Label: strings.Repeat("long ", r.IntN(9)), Note: "n", Link: "#" + fmt.Sprint(i)})
	}
	for range r.IntN(80) {
		g.Edges = append(g.Edges, Edge{From: fmt.Sprint(r.IntN(41)), To: fmt.Sprint(r.IntN(41)), Class: "x"})
	}
	return g
}

func TestNodesNeverLieOverEachOtherAndEdgesPassBetweenThem(t *testing.T) {
	for seed := range uint64(200) {
		g := randomGraph(seed)
		layers, ways := g.layers()
		arrange(layers)
		width := place(layers)
		nodes := 0
		for _, layer := range layers {
			for i, s := range layer {
				if s.node != nil {
					nodes++
				}
				if s.x < graphMargin-.01 || s.x+s.w > width-graphMargin+.01 {
					t.Fatalf("seed %d: a spot from %v to %v in a drawing of %v", seed, s.x, s.x+s.w, width)
				}
				if i > 0 && layer[i-1].x+layer[i-1].w > s.x {
					t.Fatalf("seed %d: two spots overlap", seed)
				}
			}
		}
		if nodes != len(g.Nodes) {
			t.Fatalf("seed %d: %d nodes of %d", seed, nodes, len(g.Nodes))
		}
		for _, w := range ways {
			for i := 1; i < len(w.spots); i++ {
				if w.spots[i].rank != w.spots[i-1].rank+1 {
					t.Fatalf("seed %d: an edge jumps over a layer, and what is there", seed)
				}
			}
		}
	}
}

func TestAGraphIsTheSameEachTimeAndWellFormed(t *testing.T) {
	for seed := range uint64(20) {
		text := string(randomGraph(seed).SVG())
		if text != string(randomGraph(seed).SVG()) {
			t.Fatalf("seed %d: drawn in two ways", seed)
		}
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

func TestWhatAGraphSaysIsNoMarkup(t *testing.T) {
	g := &Graph{ID: "g", Title: "<t>", Nodes: []Node{{ID: "1", Label: `"><script>`, Note: "&", Link: `javascript:"`}}}
	if text := string(g.SVG()); strings.Contains(text, "<script") || strings.Contains(text, "<t>") || strings.Contains(text, `:"`) {
		t.Error(text)
	}
}
