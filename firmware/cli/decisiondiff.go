package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// printWritten prints what a decision does to a document. Of a list of boxes it is what differs, worked out here from the two: who approves
// reads that, whatever the decision says of itself.
func printWritten(w io.Writer, x *api.DecisionDocument) error {
	if _, err := fmt.Fprintf(w, "\ndocument %s\n", plain(x.Key)); err != nil {
		return err
	}
	if x.Key == coord.DocMembers {
		var now, next coord.Members
		if json.Unmarshal(x.Now, &now) == nil && json.Unmarshal(x.Next, &next) == nil {
			for _, line := range listChanges(&now, &next) {
				if _, err := fmt.Fprintf(w, "  %s\n", plain(line)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, side := range []struct {
		what string
		is   []byte
	}{{"is", x.Now}, {"would be", x.Next}} {
		text := "(none)"
		if side.is != nil {
			text = plain(string(side.is))
		}
		if _, err := fmt.Fprintf(w, "  %s: %s\n", side.what, text); err != nil {
			return err
		}
	}
	return nil
}

// listChanges says how next differs from now, a line each.
func listChanges(now, next *coord.Members) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if now.Site != next.Site {
		say("site: %v would be %v", now.Site, next.Site)
	}
	say("epoch: %d would be %d", now.Epoch, next.Epoch)
	for i := range now.List {
		b := &now.List[i]
		if next.Index(b.ID) >= 0 {
			continue
		}
		// Of a place whose box goes and another comes, both are named in one line.
		if i < len(next.List) && now.Index(next.List[i].ID) < 0 {
			c := &next.List[i]
			say("%s %v goes, and in its place comes %s %v", b.Name, b.ID, c.Name, c.ID)
			lines = append(lines, entryChanges(b, c)...)
			continue
		}
		say("%s %v goes", b.Name, b.ID)
	}
	for i := range next.List {
		b := &next.List[i]
		at := now.Index(b.ID)
		switch {
		case at >= 0:
			if at != i && len(now.List) == len(next.List) {
				say("%s %v: place %d would be %d", b.Name, b.ID, at, i)
			}
			lines = append(lines, entryChanges(&now.List[at], b)...)
		case i >= len(now.List) || next.Index(now.List[i].ID) >= 0:
			say("%s %v comes", b.Name, b.ID)
			lines = append(lines, entryChanges(&coord.Member{ID: b.ID, Name: b.Name}, b)...)
		}
	}
	if len(lines) == 1 {
		say("no box changes")
	}
	return lines
}

func entryChanges(was, is *coord.Member) (lines []string) {
	for _, f := range []struct{ name, was, is string }{
		{"name", was.Name, is.Name},
		{"peer", was.Peer, is.Peer},
		{"client", was.Client, is.Client},
		{"native", was.Native, is.Native},
		{"console", was.Console, is.Console},
	} {
		if f.was != f.is {
			lines = append(lines, fmt.Sprintf("%s %v: %s %s would be %s", is.Name, is.ID, f.name, some(f.was), some(f.is)))
		}
	}
	return lines
}

func some(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
