package chart

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a graph: what fits into a page. What is beyond is left out, and its table says so.
const (
	graphNodesMax = 120
	graphEdgesMax = 400
	graphRanksMax = 64
	sweeps        = 6 // over the layers; crossings hardly become fewer after four
)

// Sizes of a graph's drawing, in CSS pixels: it is not stretched.
const (
	nodeWidth, nodeHeight = 176, 46
	nodeGapX, nodeGapY    = 18, 40
	laneWidth             = 14 // of an edge on its way through a layer
	labelMax              = 20 // characters that fit into a node
	graphMargin           = 6
)

// Node is one box of a Graph.
type Node struct {
	ID string
	// Rank is its layer, from the top; an edge leads to a higher one.
	Rank int
	// Label and Note are its two lines.
	Label, Note string
	// Class says what kind it is: a letter or two, of the style.
	Class string
	// Link is where it leads, such as its row of a table.
	Link string
}

// Edge leads from a node to another.
type Edge struct{ From, To, Class, Label string }

// Graph is things and what they depend on, in layers from the top down. Its drawing is for who sees it; who does not has the
// caller's table, to whose rows the nodes link.
type Graph struct {
	ID, Title, About string
	Nodes            []Node
	Edges            []Edge
}

// spot is a node or a place where an edge passes a layer.
type spot struct {
	node     *Node
	rank     int
	at       int // in its layer
	x, w     float64
	up, down []*spot
}

// SVG draws the graph. It is the same for the same graph.
func (g *Graph) SVG() template.HTML {
	layers, ways := g.layers()
	arrange(layers)
	width := place(layers)
	height := float64(len(layers))*(nodeHeight+nodeGapY) - nodeGapY + 2*graphMargin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="graph" width="%s" height="%s" viewBox="0 0 %s %s" role="group" aria-labelledby="%s-t"><title id="%s-t">%s</title>`,
		num(width), num(height), num(width), num(height), esc(g.ID), esc(g.ID), esc(g.Title+". "+g.About))
	for _, w := range ways {
		fmt.Fprintf(&b, `<path class="edge %s" d="%s"><title>%s</title></path>`, esc(w.edge.Class), w.path(), esc(w.edge.Label))
	}
	for _, layer := range layers {
		for _, s := range layer {
			if s.node == nil {
				continue
			}
			n := s.node
			fmt.Fprintf(&b, `<a class="node %s" href="%s"><rect x="%s" y="%s" width="%d" height="%d" rx="7"/><text x="%s" y="%s">%s</text> <text class="note" x="%s" y="%s">%s</text></a>`,
				esc(n.Class), esc(n.Link), num(s.x), num(s.top()), nodeWidth, nodeHeight,
				num(s.x+10), num(s.top()+19), esc(short(n.Label)), num(s.x+10), num(s.top()+36), esc(short(n.Note)))
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // every text in it was escaped
}

func short(s string) string {
	if utf8.RuneCountInString(s) <= labelMax {
		return s
	}
	return string([]rune(s)[:labelMax-1]) + "…"
}

func (s *spot) top() float64    { return graphMargin + float64(s.rank)*(nodeHeight+nodeGapY) }
func (s *spot) middle() float64 { return s.x + s.w/2 }

// way is an edge with the spots that it passes.
type way struct {
	edge  *Edge
	spots []*spot
}

func (w *way) path() string {
	var b strings.Builder
	from := w.spots[0]
	fmt.Fprintf(&b, "M%s %s", num(from.middle()), num(from.top()+nodeHeight))
	for _, to := range w.spots[1:] {
		y0, y1 := from.top()+nodeHeight, to.top()
		bend := (y0 + y1) / 2
		fmt.Fprintf(&b, "C%s %s %s %s %s %s", num(from.middle()), num(bend), num(to.middle()), num(bend), num(to.middle()), num(y1))
		if to.node == nil {
			fmt.Fprintf(&b, "V%s", num(to.top()+nodeHeight))
		}
		from = to
	}
	return b.String()
}

// layers puts the nodes, and what long edges pass, into layers without gaps. Edges to or from what is not there, or upwards, are left out.
func (g *Graph) layers() ([][]*spot, []*way) {
	nodes := g.Nodes[:min(len(g.Nodes), graphNodesMax)]
	var ranks []int
	for i := range nodes {
		ranks = append(ranks, nodes[i].Rank)
	}
	slices.Sort(ranks)
	ranks = slices.Compact(ranks)
	ranks = ranks[:min(len(ranks), graphRanksMax)]
	layers := make([][]*spot, len(ranks))
	byID := map[string]*spot{}
	put := func(s *spot) *spot {
		s.at = len(layers[s.rank])
		layers[s.rank] = append(layers[s.rank], s)
		return s
	}
	for i := range nodes {
		if r, ok := slices.BinarySearch(ranks, nodes[i].Rank); ok && byID[nodes[i].ID] == nil {
			byID[nodes[i].ID] = put(&spot{node: &nodes[i], rank: r, w: nodeWidth})
		}
	}
	var ways []*way
	for i := range g.Edges[:min(len(g.Edges), graphEdgesMax)] {
		e := &g.Edges[i]
		from, to := byID[e.From], byID[e.To]
		if from == nil || to == nil || from.rank >= to.rank {
			continue
		}
		w := &way{e, []*spot{from}}
		for r, last := from.rank+1, from; r <= to.rank; r++ {
			next := to
			if r < to.rank {
				next = put(&spot{rank: r, w: laneWidth})
			}
			last.down, next.up = append(last.down, next), append(next.up, last)
			w.spots, last = append(w.spots, next), next
		}
		ways = append(ways, w)
	}
	return layers, ways
}

// arrange orders each layer by the mean place of its neighbours in the one before, down and up in turn (Sugiyama, Tagawa and Toda, 1981).
func arrange(layers [][]*spot) {
	for n := range sweeps {
		for i := range layers {
			layer, near := layers[i], func(s *spot) []*spot { return s.up }
			if n%2 == 1 {
				layer, near = layers[len(layers)-1-i], func(s *spot) []*spot { return s.down }
			}
			mean := map[*spot]float64{}
			for _, s := range layer {
				mean[s] = float64(s.at)
				if list := near(s); len(list) > 0 {
					sum := 0
					for _, x := range list {
						sum += x.at
					}
					mean[s] = float64(sum) / float64(len(list))
				}
			}
			slices.SortStableFunc(layer, func(a, b *spot) int { return cmp.Compare(mean[a], mean[b]) })
			for k, s := range layer {
				s.at = k
			}
		}
	}
}

// place gives each spot its x, and gives the width of the whole: layers are centred, then spots move towards their neighbours as far as
// the next one leaves room.
func place(layers [][]*spot) float64 {
	widest := 0.0
	for _, layer := range layers {
		widest = max(widest, extent(layer))
	}
	for _, layer := range layers {
		x := (widest - extent(layer)) / 2
		for _, s := range layer {
			s.x = x
			x += s.w + nodeGapX
		}
	}
	for n := range sweeps {
		for i := range layers {
			layer := layers[i]
			if n%2 == 1 {
				layer = layers[len(layers)-1-i]
			}
			for k, s := range layer {
				low, high := 0.0, widest-s.w
				if k > 0 {
					low = layer[k-1].x + layer[k-1].w + nodeGapX
				}
				if k+1 < len(layer) {
					high = layer[k+1].x - nodeGapX - s.w
				}
				near := append(slices.Clip(s.up), s.down...)
				if len(near) == 0 {
					continue
				}
				sum := 0.0
				for _, x := range near {
					sum += x.middle()
				}
				s.x = max(low, min(sum/float64(len(near))-s.w/2, high))
			}
		}
	}
	for _, layer := range layers {
		for _, s := range layer {
			s.x += graphMargin
		}
	}
	return widest + 2*graphMargin
}

func extent(layer []*spot) float64 {
	sum := 0.0
	for _, s := range layer {
		sum += s.w + nodeGapX
	}
	return max(sum-nodeGapX, 0)
}
