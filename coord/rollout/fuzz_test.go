package rollout

import (
	"bytes"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

func FuzzParse(f *testing.F) {
	p, err := New(nil, &coord.Members{List: []coord.Member{{ID: coord.BoxID{1}, Name: "box-0"}}}, coord.Digest{1}, "1.2", "http://x/y", RulesDefault, 7)
	if err != nil {
		f.Fatal(err)
	}
	b, err := p.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		again, err := p.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is read, and written %q: %v", b, again, err)
		}
		ms := &coord.Members{}
		p.Next(coord.BoxID{1}, ms, Facts{})
		for _, w := range []What{Pause, Resume, Undo, Pass, Begin, Well, Fail, Late, Removed} {
			_, _ = p.Apply(Event{What: w, Box: coord.BoxID{1}}, Site{Members: ms}) // must not panic
		}
	})
}
