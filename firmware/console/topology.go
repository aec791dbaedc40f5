package console

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
)

// The drawing of a site: its boxes on an ellipse, this one at the top.
const (
	mapWidth, mapHeight = 420, 250
	mapRadiusX          = 140
	mapRadiusY          = 82
	mapBox              = 15 // radius of a box
	// mapNamesMax is how many boxes have room for what is written at their links.
	mapNamesMax = 7
)

// standing is a member as people see it.
type standing struct {
	site.MemberView
	Leader bool
	// Mood is ok, warn or bad, and State says in a word or three why.
	Mood, State string
	// Behind is how many blocks it lags, as far as that is more than its last word is old.
	Behind uint64
	RTT    string
	// SilentAfter is for how long it may say nothing.
	SilentAfter string
	URL         string
}

// standings are the members of v.
func standings(v *site.View, secure bool) []standing {
	list := make([]standing, len(v.Members))
	for i := range v.Members {
		m := standing{MemberView: v.Members[i], Leader: v.Members[i].ID == v.Leader, Mood: "ok", State: "up", URL: consoleURL(v.Members[i].Console, secure)}
		if m.Up && !m.Self && v.Members[i].RTT > 0 {
			m.RTT = rttText(v.Members[i].RTT)
		}
		if v.Members[i].Timeout > 0 {
			m.SilentAfter = rttText(v.Members[i].Timeout)
		}
		m.Behind = site.Late(v.Taken, v.Height, v.Blocks, &v.Members[i])
		switch {
		case !m.Up:
			m.Mood, m.State = "bad", "away"
		case m.Twins > 0:
			m.Mood, m.State = "bad", "on two machines"
		case m.VotesFrom > v.Round:
			m.Mood, m.State = "warn", "does not vote yet"
		case m.Behind > 0:
			m.Mood, m.State = "warn", "late by "+countText(m.Behind)+" blocks"
		}
		list[i] = m
	}
	return list
}

func rttText(d time.Duration) string {
	if d >= 10*time.Millisecond {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

// siteMap draws the members, the links of this box, and who leads. A reader who does not see it has the table of boxes.
func siteMap(v *site.View, list []standing) template.HTML {
	if len(list) == 0 {
		return ""
	}
	self := 0
	for i := range list {
		if list[i].Self {
			self = i
		}
	}
	type point struct{ x, y float64 }
	at := make([]point, len(list))
	for i := range list {
		a := 2*math.Pi*float64(i-self)/float64(len(list)) - math.Pi/2
		at[i] = point{mapWidth/2 + mapRadiusX*math.Cos(a), mapHeight/2 - 6 + mapRadiusY*math.Sin(a)}
	}
	if len(list) == 1 {
		at[0].y = mapHeight / 2
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="map" viewBox="0 0 %d %d" role="img" aria-label="%s">`, mapWidth, mapHeight, template.HTMLEscapeString(mapLabel(v, list)))
	for i := range list {
		for k := range i { // who hears whom is known only of this box's own links; the others are there all the same
			if i != self && k != self {
				fmt.Fprintf(&b, `<line class="link far" x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f"/>`, at[i].x, at[i].y, at[k].x, at[k].y)
			}
		}
	}
	for i := range list {
		if i == self {
			continue
		}
		fmt.Fprintf(&b, `<line class="link %s" x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f"/>`, map[bool]string{true: "up", false: "down"}[list[i].Up], at[self].x, at[self].y, at[i].x, at[i].y)
	}
	for i := range list {
		m := &list[i]
		if i != self && m.RTT != "" && len(list) <= mapNamesMax {
			fmt.Fprintf(&b, `<text class="rtt" x="%.0f" y="%.0f">%s</text>`, at[self].x+(at[i].x-at[self].x)*.55, at[self].y+(at[i].y-at[self].y)*.55+4, template.HTMLEscapeString(m.RTT))
		}
		if m.Leader {
			fmt.Fprintf(&b, `<circle class="leads" cx="%.0f" cy="%.0f" r="%d"/>`, at[i].x, at[i].y, mapBox+5)
		}
		fmt.Fprintf(&b, `<circle class="node %s" cx="%.0f" cy="%.0f" r="%d"/>`, m.Mood, at[i].x, at[i].y, mapBox)
		sign := map[string]string{"ok": "M-5 .5l3.5 3.5L5-4", "warn": "M0-6v6.5M0 5v.1", "bad": "M-4.5-4.5l9 9M4.5-4.5l-9 9"}[m.Mood]
		fmt.Fprintf(&b, `<path class="sign" transform="translate(%.0f %.0f)" d="%s"/>`, at[i].x, at[i].y, sign)
		below := at[i].y + mapBox + 16
		if i == self && len(list) > 1 {
			below = at[i].y - mapBox - 9
		}
		name := memberName(&m.MemberView)
		if m.Leader {
			name += " · leads"
		} else if m.Mood != "ok" {
			name += " · " + m.State
		}
		fmt.Fprintf(&b, `<text class="name" x="%.0f" y="%.0f">%s</text>`, at[i].x, below, template.HTMLEscapeString(clip(name, 30)))
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // every text in it was escaped
}

// mapLabel says what the drawing shows.
func mapLabel(v *site.View, list []standing) string {
	up := 0
	var not []string
	for i := range list {
		if list[i].Up {
			up++
		}
		if list[i].Mood != "ok" {
			not = append(not, memberName(&list[i].MemberView)+" is "+list[i].State)
		}
	}
	text := fmt.Sprintf("%d of %d boxes are up, %d are needed; %s leads", up, v.N, v.Quorum, nameOf(v, v.Leader))
	if len(not) > 0 {
		text += "; " + strings.Join(not, ", ")
	}
	return text + "."
}

// quorumBar draws how many boxes are up and how many must be.
func quorumBar(up, n, quorum int) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="quorum" viewBox="0 0 %d 22" preserveAspectRatio="none" aria-hidden="true">`, n*20)
	for i := range n {
		what := "gone"
		if i < up {
			what = map[bool]string{true: "ok", false: "bad"}[up >= quorum]
		}
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="4" width="18" height="14"/>`, what, i*20+1)
	}
	fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="0" y2="22"/></svg>`, quorum*20, quorum*20)
	return template.HTML(b.String()) // numbers alone
}

// clip shortens a text to so many characters.
func clip(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
